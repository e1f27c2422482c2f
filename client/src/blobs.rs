//! Files named by their digest: model versions that arrive, updates that leave.

mod sealed;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fedner_host::crash;
use fedner_host::files;
use fedner_host::machine::Machine;
use fedner_host::machine::ThisMachine;
use fedner_shared::digest::Digest;
use fedner_shared::seal::StorageKey;

pub use sealed::Content;
use sealed::Sealing;

/// The folder of blobs. A blob is written under another name, made durable, and then renamed, so
/// that a file with a digest for a name is whole.
#[derive(Debug, Clone)]
pub struct Blobs {
    directory: PathBuf,
    machine: Arc<dyn Machine>,
    /// With which what is created here is sealed.
    key: Option<StorageKey>,
}

impl Blobs {
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        files::create_private_dir(&directory)?;
        Ok(Self {
            directory,
            machine: Arc::new(ThisMachine),
            key: None,
        })
    }

    /// The same folder, in which what is created from now on is sealed.
    #[must_use]
    pub fn sealed(self, key: StorageKey) -> Self {
        Self {
            key: Some(key),
            ..self
        }
    }

    /// The same folder, on that machine's disk.
    #[must_use]
    pub fn with_machine(self, machine: Arc<dyn Machine>) -> Self {
        Self { machine, ..self }
    }

    pub fn contains(&self, digest: &Digest) -> bool {
        self.path(digest).is_file() || self.sealed_path(digest).is_file()
    }

    /// The contents, after their digest was found to be right. A damaged blob is removed, so that
    /// it is fetched again.
    pub fn read(&self, digest: &Digest) -> io::Result<Vec<u8>> {
        let path = self.path(digest);
        let contents = fs::read(&path)?;
        let found = Digest::of(&contents);
        if found == *digest {
            return Ok(contents);
        }
        fs::remove_file(&path)?;
        let message = format!("{} is damaged: its digest is {found}", path.display());
        Err(io::Error::new(io::ErrorKind::InvalidData, message))
    }

    /// The bytes of a blob, for reading.
    pub fn file(&self, digest: &Digest) -> io::Result<Content> {
        match (&self.key, File::open(self.sealed_path(digest))) {
            (Some(key), Ok(file)) => Content::sealed(file, key),
            (None, _) | (_, Err(_)) => File::open(self.path(digest)).map(Content::plain),
        }
    }

    /// Stores what `write` writes; answers with its digest and length.
    pub fn create<E: From<io::Error>>(
        &self,
        write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<(Digest, u64), E> {
        let temporary = tempfile::Builder::new()
            .prefix("new-")
            .suffix(".part")
            .tempfile_in(&self.directory)?;
        let file = BufWriter::with_capacity(1 << 18, temporary.as_file());
        let (digest, length) = if let Some(key) = &self.key {
            let mut writer = Hashing::new(Sealing::new(file, key)?);
            write(&mut writer)?;
            let (sealing, digest, length) = writer.end();
            sealing.finish()?;
            (digest, length)
        } else {
            let mut writer = Hashing::new(file);
            write(&mut writer)?;
            let (mut file, digest, length) = writer.end();
            file.flush()?;
            (digest, length)
        };
        let path = match &self.key {
            Some(_) => self.sealed_path(&digest),
            None => self.path(&digest),
        };
        temporary.as_file().sync_all()?;
        self.machine.before_write("keep blob")?;
        crash::point("before rename", "update");
        temporary.persist(path).map_err(|error| error.error)?;
        files::sync_dir(&self.directory)?;
        crash::point("after rename", "update");
        self.machine.after_write("keep blob")?;
        Ok((digest, length))
    }

    /// A download under way. Waits until an earlier one of the same blob has written its last
    /// byte.
    pub fn part(&self, digest: &Digest) -> io::Result<Part> {
        let path = self.path(digest).with_extension("part");
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).read(true).open(&path)?;
        file.lock()?;
        let mut hasher = Box::new(blake3::Hasher::new());
        hasher.update_reader(&file)?;
        Ok(Part {
            length: hasher.count(),
            hasher,
            file,
            path,
            whole: self.path(digest),
            digest: *digest,
            machine: self.machine.clone(),
        })
    }

    pub fn remove(&self, digest: &Digest) -> io::Result<()> {
        for path in [self.path(digest), self.sealed_path(digest)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Removes every blob that is not in `keep`, and what is left of broken-off writing.
    pub fn retain(&self, keep: &BTreeSet<Digest>) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let digest = stem.and_then(|stem| stem.parse::<Digest>().ok());
            if !digest.is_some_and(|digest| keep.contains(&digest)) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.to_string())
    }

    /// The file in which the blob lies.
    pub fn place(&self, digest: &Digest) -> PathBuf {
        let sealed = self.sealed_path(digest);
        if sealed.is_file() {
            sealed
        } else {
            self.path(digest)
        }
    }

    fn sealed_path(&self, digest: &Digest) -> PathBuf {
        self.path(digest).with_extension("sealed")
    }
}

/// A download under way: bytes are appended, and at the end the digest decides.
#[derive(Debug)]
pub struct Part {
    file: File,
    path: PathBuf,
    whole: PathBuf,
    digest: Digest,
    /// Boxed: it is some 2 KB, and the part moves between threads.
    hasher: Box<blake3::Hasher>,
    length: u64,
    machine: Arc<dyn Machine>,
}

impl Part {
    /// How many bytes are here already.
    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn append(mut self, bytes: &[u8]) -> io::Result<Self> {
        self.machine.before_write("append to download")?;
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        self.machine.after_write("append to download")?;
        Ok(self)
    }

    /// Keeps what is here for the next attempt.
    pub fn keep(self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Throws away what is here.
    pub fn discard(&self) -> io::Result<()> {
        self.file.set_len(0)
    }

    /// Puts the blob in its place; `false`, and nothing kept, if the digest is another.
    pub fn finish(self) -> io::Result<bool> {
        self.file.sync_all()?;
        if *self.hasher.finalize().as_bytes() != *self.digest.as_bytes() {
            fs::remove_file(&self.path)?;
            return Ok(false);
        }
        self.machine.before_write("keep download")?;
        crash::point("before rename", "download");
        fs::rename(&self.path, &self.whole)?;
        files::sync_dir(self.whole.parent().unwrap_or(Path::new(".")))?;
        crash::point("after rename", "download");
        self.machine.after_write("keep download")?;
        Ok(true)
    }
}

/// Digests and counts what passes through.
struct Hashing<W> {
    inner: W,
    hasher: blake3::Hasher,
    length: u64,
}

impl<W: Write> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: blake3::Hasher::new(),
            length: 0,
        }
    }

    fn end(self) -> (W, Digest, u64) {
        let digest = Digest::from_bytes(*self.hasher.finalize().as_bytes());
        (self.inner, digest, self.length)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let place = tempfile::tempdir().expect("directory");
        let blobs = Blobs::open(place.path().join("blobs")).expect("blobs");
        (place, blobs)
    }

    #[test]
    fn what_is_written_is_named_by_its_digest_and_damage_is_noticed() {
        let (_place, blobs) = blobs();
        let (digest, length) = blobs
            .create(|writer| writer.write_all(b"update"))
            .expect("written");
        assert_eq!((digest, length), (Digest::of(b"update"), 6));
        assert_eq!(blobs.read(&digest).expect("whole"), b"update");
        fs::write(blobs.path(&digest), b"upda").expect("damage");
        assert!(blobs.read(&digest).is_err());
        assert!(!blobs.contains(&digest), "to be fetched again");
    }

    #[test]
    fn an_update_is_sealed_on_disk_and_read_as_it_was_written() {
        let (_place, blobs) = blobs();
        let plain = blobs.clone();
        let blobs = blobs.sealed(StorageKey::from_bytes([1; 32]));
        let (digest, length) = blobs
            .create(|writer| writer.write_all(b"an update"))
            .expect("written");
        assert_eq!((digest, length), (Digest::of(b"an update"), 9));
        assert!(blobs.contains(&digest) && !blobs.path(&digest).exists());
        let read = blobs.file(&digest).and_then(Digest::of_reader);
        assert_eq!(read.expect("read"), digest);
        blobs.retain(&[digest].into()).expect("retained");
        assert!(blobs.contains(&digest));
        // One that an older version left, and one without the key.
        let (old, _) = plain
            .create(|writer| writer.write_all(b"older"))
            .expect("written");
        let read = blobs.file(&old).and_then(Digest::of_reader);
        assert_eq!(read.expect("read"), old);
        assert!(plain.file(&digest).is_err());
        blobs.remove(&digest).expect("removed");
        assert!(!blobs.contains(&digest));
    }

    #[test]
    fn a_download_goes_on_where_it_was_cut() {
        let (_place, blobs) = blobs();
        let digest = Digest::of(b"weights");
        let part = blobs.part(&digest).expect("part");
        let part = part.append(b"wei").expect("first");
        part.keep().expect("kept");
        let part = blobs.part(&digest).expect("again");
        assert_eq!(part.length(), 3);
        let part = part.append(b"ghts").expect("rest");
        assert!(part.finish().expect("finished"));
        assert_eq!(blobs.read(&digest).expect("whole"), b"weights");
    }

    #[test]
    fn other_bytes_than_those_asked_for_are_thrown_away() {
        let (_place, blobs) = blobs();
        let digest = Digest::of(b"weights");
        let part = blobs.part(&digest).expect("part");
        let part = part.append(b"malware").expect("bytes");
        assert!(!part.finish().expect("finished"));
        assert!(!blobs.contains(&digest));
        assert_eq!(blobs.part(&digest).expect("again").length(), 0);
    }

    #[test]
    fn only_what_is_kept_stays() {
        let (_place, blobs) = blobs();
        let stored = |bytes: &[u8]| {
            let bytes = bytes.to_vec();
            blobs
                .create(|writer| writer.write_all(&bytes))
                .expect("written")
                .0
        };
        let (old, new) = (stored(b"old"), stored(b"new"));
        blobs.retain(&[new].into()).expect("retained");
        assert!(!blobs.contains(&old) && blobs.contains(&new));
    }
}
