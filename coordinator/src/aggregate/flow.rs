//! Reading ahead and writing behind, each on a thread of its own.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use fedner_shared::digest::Digest;

const CHUNK: usize = 1 << 18;
/// Chunks under way between two threads.
const UNDER_WAY: usize = 4;

/// A reader whose bytes another thread has read already.
pub(super) struct ReadAhead {
    chunks: Receiver<io::Result<Vec<u8>>>,
    /// Chunks to be filled again.
    empty: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

impl ReadAhead {
    pub(super) fn new<'scope, R: Read + Send + 'scope>(
        scope: &'scope Scope<'scope, '_>,
        mut reader: R,
    ) -> Self {
        let (sender, chunks) = sync_channel(UNDER_WAY);
        let (empty, recycled) = sync_channel::<Vec<u8>>(UNDER_WAY);
        scope.spawn(move || {
            loop {
                let mut chunk = recycled.try_recv().unwrap_or_default();
                chunk.resize(CHUNK, 0);
                let (last, sent) = match fill(&mut reader, &mut chunk) {
                    Ok(count) => {
                        chunk.truncate(count);
                        (count == 0, sender.send(Ok(chunk)))
                    }
                    Err(error) => (true, sender.send(Err(error))),
                };
                if last || sent.is_err() {
                    return;
                }
            }
        });
        Self {
            chunks,
            empty,
            chunk: Vec::new(),
            at: 0,
        }
    }
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            // The thread ends after an empty chunk or an error.
            let Ok(next) = self.chunks.recv() else {
                return Ok(0);
            };
            let old = std::mem::replace(&mut self.chunk, next?);
            let _ = self.empty.try_send(old);
            self.at = 0;
        }
        let count = (&self.chunk[self.at..]).read(buffer)?;
        self.at += count;
        Ok(count)
    }
}

/// Reads until `chunk` is full or the reader has ended; how many bytes there are. Whole chunks also have the length of which
/// digests are made fastest.
fn fill(reader: &mut impl Read, chunk: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < chunk.len() {
        match reader.read(&mut chunk[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// A writer that hands its bytes to a thread, which digests and writes them.
pub(super) struct WriteBehind<'scope> {
    chunks: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    /// Taken when it has been joined.
    writer: Option<ScopedJoinHandle<'scope, io::Result<Digest>>>,
}

impl<'scope> WriteBehind<'scope> {
    pub(super) fn new<W: Write + Send + 'scope>(
        scope: &'scope Scope<'scope, '_>,
        mut out: W,
    ) -> Self {
        let (chunks, receiver) = sync_channel::<Vec<u8>>(UNDER_WAY);
        let (recycled, empty) = sync_channel(UNDER_WAY);
        let writer = scope.spawn(move || {
            let mut hasher = blake3::Hasher::new();
            for chunk in receiver {
                hasher.update(&chunk);
                out.write_all(&chunk)?;
                let _ = recycled.try_send(chunk);
            }
            out.flush()?;
            Ok(Digest::from_bytes(*hasher.finalize().as_bytes()))
        });
        Self {
            chunks,
            empty,
            chunk: Vec::new(),
            writer: Some(writer),
        }
    }

    /// The digest of everything, once it is written.
    pub(super) fn finish(mut self) -> io::Result<Digest> {
        self.send()?;
        let Self { chunks, writer, .. } = self;
        drop(chunks);
        join(writer)
    }

    /// A buffer to fill and to [hand over](Self::hand_over), with anything in it.
    pub(super) fn buffer(&self) -> Vec<u8> {
        self.empty.try_recv().unwrap_or_default()
    }

    /// Writes bytes without copying them, where they are more than a few.
    pub(super) fn hand_over(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        if bytes.len() < CHUNK {
            return self.write_all(&bytes);
        }
        if !self.chunk.is_empty() {
            self.send()?;
        }
        self.pass_on(bytes)
    }

    fn send(&mut self) -> io::Result<()> {
        let mut next = self.buffer();
        next.clear();
        let full = std::mem::replace(&mut self.chunk, next);
        self.pass_on(full)
    }

    fn pass_on(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        match self.chunks.send(bytes) {
            Ok(()) => Ok(()),
            // The thread ended before its time: it knows why.
            Err(_) => join(self.writer.take()).and(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

fn join(writer: Option<ScopedJoinHandle<'_, io::Result<Digest>>>) -> io::Result<Digest> {
    let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
    let written = writer.ok_or_else(broken)?.join();
    written.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Write for WriteBehind<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..count]);
        if self.chunk.len() == CHUNK {
            self.send()?;
        }
        Ok(count)
    }

    /// Nothing is certain before [`finish`](Self::finish).
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
