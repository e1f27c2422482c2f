//! Updates that wait to leave, sealed on disk: records of a fixed length, so that reading begins anywhere.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use fedner_shared::seal::{FileKey, ID, OVERHEAD, StorageKey};

/// Bytes of a record before it is sealed.
const RECORD: usize = 1 << 18;

/// Seals what is written to it.
pub(super) struct Sealing<W> {
    inner: W,
    key: FileKey,
    record: Vec<u8>,
    number: u64,
}

impl<W: Write> Sealing<W> {
    pub(super) fn new(mut inner: W, key: &StorageKey) -> io::Result<Self> {
        let id = StorageKey::new_id().map_err(io::Error::other)?;
        inner.write_all(&id)?;
        Ok(Self {
            inner,
            key: key.of_file(&id),
            record: Vec::with_capacity(RECORD + OVERHEAD),
            number: 0,
        })
    }

    fn end_record(&mut self) -> io::Result<()> {
        let sealed = self.key.seal(self.number, &mut self.record);
        sealed.map_err(io::Error::other)?;
        self.inner.write_all(&self.record)?;
        self.record.clear();
        self.number += 1;
        Ok(())
    }

    /// Writes the last record.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if !self.record.is_empty() {
            self.end_record()?;
        }
        self.inner.flush()
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(RECORD - self.record.len());
        self.record.extend_from_slice(&bytes[..count]);
        if self.record.len() == RECORD {
            self.end_record()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A blob's bytes, however they are kept.
#[derive(Debug)]
pub struct Content(Kept);

#[derive(Debug)]
enum Kept {
    Plain(File),
    Sealed {
        file: File,
        key: FileKey,
        /// Of the plain bytes.
        length: u64,
        position: u64,
        /// The record that was opened last.
        record: Option<(u64, Vec<u8>)>,
    },
}

impl Content {
    pub(super) fn plain(file: File) -> Self {
        Self(Kept::Plain(file))
    }

    pub(super) fn sealed(mut file: File, key: &StorageKey) -> io::Result<Self> {
        let mut id = [0; ID];
        file.read_exact(&mut id)?;
        let stored = file.metadata()?.len().saturating_sub(ID as u64);
        let records = stored.div_ceil((RECORD + OVERHEAD) as u64);
        Ok(Self(Kept::Sealed {
            file,
            key: key.of_file(&id),
            length: stored.saturating_sub(records * OVERHEAD as u64),
            position: 0,
            record: None,
        }))
    }
}

impl Read for Content {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Kept::Sealed {
            file,
            key,
            length,
            position,
            record,
        } = &mut self.0
        else {
            let Kept::Plain(file) = &mut self.0 else {
                return Ok(0);
            };
            return file.read(into);
        };
        if *position >= *length || into.is_empty() {
            return Ok(0);
        }
        let number = *position / RECORD as u64;
        if record.as_ref().is_none_or(|(opened, _)| *opened != number) {
            let start = ID as u64 + number * (RECORD + OVERHEAD) as u64;
            file.seek(SeekFrom::Start(start))?;
            let mut bytes = Vec::with_capacity(RECORD + OVERHEAD);
            file.take((RECORD + OVERHEAD) as u64)
                .read_to_end(&mut bytes)?;
            key.open(number, &mut bytes)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            *record = Some((number, bytes));
        }
        let Some((_, bytes)) = record else {
            return Ok(0);
        };
        let within = (*position % RECORD as u64) as usize;
        let rest = bytes.get(within..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        *position += count as u64;
        Ok(count)
    }
}

impl Content {
    /// Goes on with that byte.
    pub fn skip_to(&mut self, offset: u64) -> io::Result<()> {
        match &mut self.0 {
            Kept::Plain(file) => file.seek(SeekFrom::Start(offset)).map(drop),
            Kept::Sealed { position, .. } => {
                *position = offset;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(plain: &[u8], key: &StorageKey) -> File {
        let mut file = tempfile::tempfile().expect("file");
        let mut writer = Sealing::new(&mut file, key).expect("begun");
        writer.write_all(plain).expect("written");
        writer.finish().expect("ended");
        file.rewind().expect("to the start");
        file
    }

    #[test]
    fn it_reads_back_from_anywhere_whatever_its_length() {
        let key = StorageKey::from_bytes([1; 32]);
        for length in [
            0,
            1,
            RECORD - 1,
            RECORD,
            RECORD + 1,
            2 * RECORD,
            2 * RECORD + 7,
        ] {
            let plain: Vec<u8> = (0..length).map(|n| (n * 7 % 251) as u8).collect();
            for offset in [0, 1, length / 2, length.saturating_sub(1), length] {
                let mut content = Content::sealed(sealed(&plain, &key), &key).expect("opened");
                content.skip_to(offset as u64).expect("skipped");
                let mut read = Vec::new();
                content.read_to_end(&mut read).expect("read");
                assert_eq!(read, plain[offset.min(length)..], "{length} from {offset}");
            }
        }
    }

    #[test]
    fn it_shows_nothing_and_opens_with_its_key_alone() {
        let key = StorageKey::from_bytes([1; 32]);
        let plain = b"an update".repeat(20);
        let mut file = sealed(&plain, &key);
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("read");
        assert!(!bytes.windows(9).any(|window| window == b"an update"));
        file.rewind().expect("to the start");
        let other = StorageKey::from_bytes([2; 32]);
        let mut content = Content::sealed(file, &other).expect("opened");
        assert!(content.read_to_end(&mut Vec::new()).is_err());
    }
}
