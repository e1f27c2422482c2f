//! Local copies of objects in a bucket. Each object is fetched once, however many ask for it.
//!
//! An object never changes, so that a copy is as good. What was put is kept too: it is read next, by whoever trains on it
//! or sums it up. Copies that were not used lately give way to others. Each process begins with none.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fedner_shared::digest::Digest;
use quick_cache::sync::{Cache as Shelf, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use tempfile::{NamedTempFile, TempPath};

use super::Error;

/// What a copy takes at least: a block of the file system.
const BLOCK: u64 = 4096;
/// Copies that the shelf has room for at first; it grows.
const COPIES: usize = 1024;

/// A folder of copies.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    shelf: Shelf<Digest, Arc<Copy>, Size>,
}

/// A copy, in a file that goes with it.
#[derive(Debug)]
pub(super) struct Copy {
    path: TempPath,
    pub(super) bytes: u64,
}

impl Copy {
    pub(super) fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }
}

#[derive(Debug, Clone)]
struct Size;

impl Weighter<Digest, Arc<Copy>> for Size {
    fn weight(&self, _: &Digest, copy: &Arc<Copy>) -> u64 {
        copy.bytes.max(BLOCK)
    }
}

impl Cache {
    /// Copies of `room` bytes at most, in a folder of the cache's own. What a process before left there is removed.
    pub(super) fn open(folder: PathBuf, room: u64) -> io::Result<Self> {
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        let mut options = OptionsBuilder::new();
        options
            .estimated_items_capacity(COPIES)
            .weight_capacity(room);
        // One shard: a copy may take all the room there is.
        let options = options.shards(1).build().map_err(io::Error::other)?;
        let (hasher, lifecycle) = (DefaultHashBuilder::default(), DefaultLifecycle::default());
        Ok(Self {
            folder,
            shelf: Shelf::with_options(options, Size, hasher, lifecycle),
        })
    }

    /// A file to write a copy to.
    pub(super) fn file(&self) -> io::Result<NamedTempFile> {
        NamedTempFile::new_in(&self.folder)
    }

    pub(super) fn get(&self, digest: Digest) -> Option<Arc<Copy>> {
        self.shelf.get(&digest)
    }

    /// The copy, which `fetch` writes where there is none. Whoever asks meanwhile waits for the same one.
    pub(super) async fn get_or_fetch(
        &self,
        digest: Digest,
        fetch: impl Future<Output = Result<NamedTempFile, Error>>,
    ) -> Result<Arc<Copy>, Error> {
        let kept = async { Ok(Arc::new(Copy::of(fetch.await?.into_temp_path())?)) };
        self.shelf.get_or_insert_async(&digest, kept).await
    }

    /// Keeps bytes whose digest that is.
    pub(super) fn keep(&self, digest: Digest, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.file()?;
        file.write_all(bytes)?;
        self.shelf
            .insert(digest, Arc::new(Copy::of(file.into_temp_path())?));
        Ok(())
    }

    /// Keeps a file whose digest that is, under a name of its own: not a byte is copied, and nobody may write to it
    /// any more.
    pub(super) fn keep_file(&self, digest: Digest, path: &Path) -> io::Result<()> {
        let name = self.file()?.into_temp_path();
        fs::remove_file(&name)?;
        fs::hard_link(path, &name)?;
        self.shelf.insert(digest, Arc::new(Copy::of(name)?));
        Ok(())
    }

    /// Lets go of all but these.
    pub(super) fn keep_only(&self, kept: &BTreeSet<Digest>) {
        self.shelf.retain(|digest, _| kept.contains(digest));
    }

    pub(super) fn forget(&self, digest: Digest) {
        self.shelf.remove(&digest);
    }
}

impl Copy {
    fn of(path: TempPath) -> io::Result<Self> {
        let bytes = fs::metadata(&path)?.len();
        Ok(Self { path, bytes })
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    use super::super::{Blobs, location};
    use super::*;

    const MIB: usize = 1 << 20;

    /// A bucket in memory, and objects of it with copies of so many MiB.
    struct Bench {
        folder: tempfile::TempDir,
        bucket: Arc<InMemory>,
        blobs: Blobs,
    }

    impl Bench {
        fn new(room: usize) -> Self {
            let folder = tempfile::tempdir().expect("folder");
            let bucket = Arc::new(InMemory::new());
            let blobs = Blobs::new(bucket.clone(), folder.path()).expect("open");
            let blobs = blobs.with_cache((room * MIB) as u64).expect("cache");
            Self {
                folder,
                bucket,
                blobs,
            }
        }

        /// Puts an object into the bucket behind our back.
        async fn arrives(&self, digest: Digest, bytes: &[u8]) {
            let bytes = bytes.to_vec().into();
            let put = self.bucket.put(&location(digest), bytes).await;
            put.expect("put");
        }

        /// Takes it out of the bucket: what is read after that is a copy.
        async fn is_gone(&self, digest: Digest) {
            let deleted = self.bucket.delete(&location(digest)).await;
            deleted.expect("deleted");
        }

        fn files(&self) -> Vec<PathBuf> {
            let entries = fs::read_dir(self.folder.path().join(super::super::CACHE));
            let entries = entries.expect("folder");
            entries.map(|entry| entry.expect("entry").path()).collect()
        }
    }

    async fn all(blobs: &Blobs, digest: Digest, offset: u64) -> Result<Vec<u8>, Error> {
        let (_, mut reading) = blobs.read_from(digest, offset).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = reading.next(7).await? {
            bytes.extend(piece);
        }
        Ok(bytes)
    }

    #[tokio::test]
    async fn what_was_put_or_read_is_read_without_the_bucket() {
        let bench = Bench::new(64);
        let put = bench.blobs.put(b"a version".to_vec()).await.expect("put");
        let path = bench.folder.path().join("upload");
        fs::write(&path, b"an update").expect("written");
        let update = Digest::of(b"an update");
        bench.blobs.put_file(update, &path).await.expect("put");
        fs::remove_file(&path).expect("removed");
        let read = Digest::of(b"another's");
        bench.arrives(read, b"another's").await;
        assert_eq!(
            all(&bench.blobs, read, 0).await.expect("read"),
            b"another's"
        );
        for (digest, bytes) in [
            (put, &b"a version"[..]),
            (update, b"an update"),
            (read, b"another's"),
        ] {
            bench.is_gone(digest).await;
            assert_eq!(bench.blobs.read(digest).await.expect("read"), bytes);
            assert_eq!(
                all(&bench.blobs, digest, 3).await.expect("read"),
                bytes[3..]
            );
            assert_eq!(all(&bench.blobs, digest, 20).await.expect("read"), b"");
            assert_eq!(bench.blobs.length(digest).await.expect("length"), 9);
            let file = bench.blobs.open_file(digest).await.expect("open");
            assert_eq!(Digest::of_reader(file).expect("read"), digest);
            bench.blobs.remove(digest).await.expect("removed");
            let error = bench.blobs.read(digest).await.expect_err("removed");
            assert!(error.is_missing(), "{error}");
        }
        assert_eq!(bench.files(), Vec::<PathBuf>::new());
    }

    #[tokio::test]
    async fn what_another_process_removed_has_no_copy_after_a_sweep() {
        let bench = Bench::new(64);
        let kept = bench.blobs.put(b"a version".to_vec()).await.expect("put");
        let gone = bench.blobs.put(b"an update".to_vec()).await.expect("put");
        bench.is_gone(gone).await;
        let (keep, before) = (BTreeSet::from([kept]), SystemTime::UNIX_EPOCH);
        bench.blobs.sweep(&keep, before).await.expect("swept");
        let error = bench.blobs.read(gone).await.expect_err("gone");
        assert!(error.is_missing(), "{error}");
        assert_eq!(bench.files().len(), 1);
    }

    #[tokio::test]
    async fn many_who_ask_at_once_share_one_copy() {
        let bench = Bench::new(64);
        let bytes = vec![7; 3 * MIB];
        let digest = Digest::of(&bytes);
        bench.arrives(digest, &bytes).await;
        let readers = (0..50).map(|_| {
            let blobs = bench.blobs.clone();
            tokio::spawn(async move { blobs.open_file(digest).await })
        });
        for reader in readers.collect::<Vec<_>>() {
            let file = reader.await.expect("joined").expect("open");
            assert_eq!(Digest::of_reader(file).expect("read"), digest);
        }
        assert_eq!(bench.files().len(), 1);
    }

    #[tokio::test]
    async fn copies_take_no_more_room_than_they_may_and_open_ones_stay_readable() {
        let bench = Bench::new(4);
        let mut open = Vec::new();
        for seed in 0..10_u8 {
            let bytes = vec![seed; MIB];
            let digest = bench.blobs.put(bytes).await.expect("put");
            open.push((digest, bench.blobs.open_file(digest).await.expect("open")));
            let taken = |path: &PathBuf| fs::metadata(path).expect("a file").len();
            assert!(bench.files().iter().map(taken).sum::<u64>() <= 4 << 20);
        }
        assert!(!bench.files().is_empty());
        for (digest, file) in open {
            assert_eq!(Digest::of_reader(file).expect("read"), digest);
            assert_eq!(bench.blobs.read(digest).await.expect("read").len(), MIB);
        }
        // One that is larger than all the room is read all the same.
        let bytes = vec![9; 5 * MIB];
        let digest = bench.blobs.put(bytes.clone()).await.expect("put");
        assert_eq!(bench.blobs.read(digest).await.expect("read"), bytes);
    }

    #[tokio::test]
    async fn a_copy_that_is_lost_is_fetched_anew_and_a_forged_object_leaves_none() {
        let bench = Bench::new(64);
        let digest = bench.blobs.put(b"weights".to_vec()).await.expect("put");
        for file in bench.files() {
            fs::remove_file(file).expect("removed");
        }
        for _ in 0..2 {
            assert_eq!(bench.blobs.read(digest).await.expect("read"), b"weights");
        }
        assert_eq!(bench.files().len(), 1);
        let other = Digest::of(b"as it was signed");
        bench.arrives(other, b"as it was forged").await;
        for _ in 0..2 {
            let error = bench.blobs.open_file(other).await.expect_err("forged");
            assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        }
        assert_eq!(bench.files().len(), 1);
        // A process that starts anew has none, and reads the bucket.
        let again = Blobs::new(bench.bucket.clone(), bench.folder.path()).expect("open");
        let again = again.with_cache(1 << 20).expect("cache");
        assert_eq!(bench.files(), Vec::<PathBuf>::new());
        assert_eq!(again.read(digest).await.expect("read"), b"weights");
    }
}
