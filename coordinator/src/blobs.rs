//! Large objects by digest: models and updates.
//!
//! An object is first written to a local staging file, then, once its digest has been verified,
//! put into the object store. What is in the store is never changed. The store is a folder, or a bucket of S3.
//! What fails elsewhere is tried again within bounds: names are digests, so an object that is put twice is put once.

mod cache;
mod get;
mod http;
mod place;
mod put;
mod reading;
mod s3;
mod trouble;
mod verified;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fedner_host::machine::blocking;
use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use fedner_shared::refusal::Code;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::sync::{RwLock, Semaphore};

use crate::config::{Config, Paths};

use cache::Cache;
use place::Place;
pub use reading::Reading;
pub use s3::Environment;
pub use verified::Verified;

/// Bytes read from a disk at a time.
const PIECE: usize = 1 << 20;

/// Objects of a bucket that are written or fetched at the same time. Others wait here, and not for a server that turns
/// them away.
const TRANSFERS: usize = 32;

/// The folder of local copies, beside those of institutions: none has such a name.
const CACHE: &str = ".cache";

/// An object that was written less long ago need not be renewed: it is kept for hours yet.
const LATELY: Duration = Duration::from_hours(1);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("object {digest} cannot be read or written: {source}")]
    Store {
        digest: Digest,
        source: object_store::Error,
    },
    #[error("blobs_url is `{url}`: expected file:FOLDER or s3://BUCKET/PREFIX")]
    Url { url: String },
    #[error("the object store cannot be used: {0}")]
    Unusable(object_store::Error),
    #[error("a staging file cannot be read or written: {0}")]
    Staging(#[from] io::Error),
    #[error("object {expected} has the digest {found}")]
    Corrupt { expected: Digest, found: Digest },
}

impl Error {
    /// Whether the disk has no room left.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Staging(error) => matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::ReadOnlyFilesystem
            ),
            Self::Store { source, .. } => source.to_string().contains("No space left"),
            Self::Url { .. } | Self::Unusable(_) | Self::Corrupt { .. } => false,
        }
    }

    /// What an operator, or time, can mend: a store elsewhere that does not answer, or not this program.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Store { source, .. } | Self::Unusable(source) => trouble::code(source),
            Self::Url { .. } => Some(Code::ConfigInvalid),
            Self::Staging(_) | Self::Corrupt { .. } => None,
        }
    }

    /// What a [`Verified`] reader says at its end, or what the disk says.
    fn of_read(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(corrupt) => corrupt,
            Err(error) => Self::Staging(error),
        }
    }

    pub fn is_missing(&self) -> bool {
        let Self::Store { source, .. } = self else {
            return false;
        };
        // Where there is no bucket the object is not known to be missing.
        matches!(source, object_store::Error::NotFound { .. }) && trouble::code(source).is_none()
    }
}

/// The object store with its staging folder. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    /// The folder of the store, where it is a local one.
    folder: Option<PathBuf>,
    staging: PathBuf,
    /// Held for reading by whoever finds an object present and will refer to it, for writing by
    /// whoever removes one.
    removing: Arc<RwLock<()>>,
    transfers: Arc<Semaphore>,
    /// Of a bucket, where the process has one.
    cache: Option<Arc<Cache>>,
}

impl Blobs {
    /// Opens the objects of the coordinator in a directory. A bucket is asked whether it is there.
    pub async fn from_config(paths: &Paths, config: &Config) -> Result<Self, Error> {
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self::at(config.blobs_url.as_deref(), paths, &environment.collect()).await
    }

    /// Opens the objects at `url`, or in the directory; the environment has the credentials of a bucket.
    pub async fn at(
        url: Option<&str>,
        paths: &Paths,
        environment: &Environment,
    ) -> Result<Self, Error> {
        let staging = paths.staging();
        match Place::of(url, paths)? {
            Place::Folder(folder) => Self::open(&folder, &staging),
            Place::Bucket(bucket) => {
                let store = bucket.open(environment).map_err(Error::Unusable)?;
                let blobs = Self::new(store, &staging)?;
                let first = blobs.store.list(None).next().await;
                first.transpose().map_err(Error::Unusable)?;
                Ok(blobs)
            }
        }
    }

    /// Opens the local folder `root`.
    pub fn open(root: &Path, staging: &Path) -> Result<Self, Error> {
        fs::create_dir_all(root)?;
        let store = LocalFileSystem::new_with_prefix(root)
            .map_err(Error::Unusable)?
            .with_fsync(true);
        Ok(Self {
            folder: Some(root.to_owned()),
            ..Self::new(Arc::new(store), staging)?
        })
    }

    /// Objects in that store.
    pub fn new(store: Arc<dyn ObjectStore>, staging: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(staging)?;
        Ok(Self {
            store,
            folder: None,
            staging: staging.to_owned(),
            removing: Arc::default(),
            transfers: Arc::new(Semaphore::new(TRANSFERS)),
            cache: None,
        })
    }

    /// The same with local copies of what lies in a bucket, of so many bytes at most. One process of a directory may
    /// have them. 0 is none, and a folder needs none.
    pub fn with_cache(mut self, room: u64) -> Result<Self, Error> {
        if self.folder.is_none() && room > 0 {
            self.cache = Some(Arc::new(Cache::open(self.staging.join(CACHE), room)?));
        }
        Ok(self)
    }

    /// Where an object of that digest is gathered before it is verified.
    pub fn staging_path(&self, owner: &InstitutionId, digest: Digest) -> PathBuf {
        self.staging_folder(owner).join(format!("{digest}.part"))
    }

    /// Where the unfinished updates of an institution lie.
    pub fn staging_folder(&self, owner: &InstitutionId) -> PathBuf {
        self.staging.join(owner.as_str())
    }

    pub fn staging(&self) -> &Path {
        &self.staging
    }

    /// A new file in the staging folder, removed unless it is kept.
    pub fn scratch(&self) -> Result<tempfile::NamedTempFile, Error> {
        Ok(tempfile::Builder::new()
            .prefix("scratch-")
            .tempfile_in(&self.staging)?)
    }

    /// Removes an object that was put a moment ago and is of no use after all.
    pub async fn remove(&self, digest: Digest) -> Result<(), Error> {
        let _removing = self.removing.write().await;
        let deleted = self.delete(&location(digest)).await;
        deleted.map_err(|source| Error::Store { digest, source })
    }

    /// Deletes what may be gone already. An answer that was lost is asked for once more.
    async fn delete(&self, location: &ObjectPath) -> object_store::Result<()> {
        let mut deleted = self.store.delete(location).await;
        if self.folder.is_none() && deleted.is_err() {
            deleted = self.store.delete(location).await;
        }
        if let (Some(cache), Some(digest)) = (&self.cache, digest_at(location)) {
            cache.forget(digest);
        }
        match deleted {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    /// Copies an object from another store, verified.
    pub async fn copy_from(&self, other: &Self, digest: Digest) -> Result<(), Error> {
        if self.renew(digest).await? == Standing::Kept {
            return Ok(());
        }
        let mut source = other.open_verified(digest).await?;
        let mut scratch = self.scratch()?;
        let scratch = blocking(move || io::copy(&mut source, &mut scratch).map(|_| scratch));
        let scratch = match scratch.await.map_err(io::Error::other)? {
            Ok(scratch) => scratch,
            Err(error) => return Err(Error::of_read(error)),
        };
        self.put_file(digest, scratch.path()).await.map(drop)
    }

    /// Whether the object is here; if it is kept, it is not collected for a while, so that it may be
    /// referred to.
    async fn renew(&self, digest: Digest) -> Result<Standing, Error> {
        let _kept = self.removing.read().await;
        let Some(folder) = &self.folder else {
            return self.standing(digest).await;
        };
        let path = folder.join(location(digest).as_ref());
        match File::options().append(true).open(path) {
            Ok(file) => {
                file.set_modified(SystemTime::now())?;
                Ok(Standing::Kept)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Standing::Absent),
            Err(error) => Err(error.into()),
        }
    }

    /// How an object stands in a store that cannot renew one but by writing it again.
    async fn standing(&self, digest: Digest) -> Result<Standing, Error> {
        let meta = match self.store.head(&location(digest)).await {
            Ok(meta) => meta,
            Err(object_store::Error::NotFound { .. }) => return Ok(Standing::Absent),
            Err(source) => return Err(Error::Store { digest, source }),
        };
        let lately = SystemTime::now().checked_sub(LATELY);
        let lately = millis(lately.unwrap_or(SystemTime::UNIX_EPOCH));
        Ok(if meta.last_modified.timestamp_millis() > lately {
            Standing::Kept
        } else {
            Standing::Old
        })
    }

    /// Removes the objects that are not in `keep` and were last written or renewed before
    /// `before`; how many there were.
    pub async fn sweep(&self, keep: &BTreeSet<Digest>, before: SystemTime) -> Result<usize, Error> {
        if let Some(cache) = &self.cache {
            // Another process may have removed objects of which copies are here.
            cache.keep_only(keep);
        }
        let before = millis(before);
        let is_old = |object: &ObjectMeta| object.last_modified.timestamp_millis() < before;
        let objects: Vec<ObjectMeta> = self
            .store
            .list(None)
            .try_collect()
            .await
            .map_err(Error::Unusable)?;
        let mut removed = 0;
        for object in objects.iter().filter(|object| is_old(object)) {
            let Some(digest) = digest_at(&object.location).filter(|found| !keep.contains(found))
            else {
                continue;
            };
            let _removing = self.removing.write().await;
            let failed = |source| Error::Store { digest, source };
            match self.store.head(&object.location).await {
                Ok(now) if is_old(&now) => {}
                Ok(_) | Err(object_store::Error::NotFound { .. }) => continue,
                Err(source) => return Err(failed(source)),
            }
            self.delete(&object.location).await.map_err(failed)?;
            removed += 1;
        }
        Ok(removed)
    }
}

/// How an object stands in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Absent,
    /// It may be collected any moment.
    Old,
    Kept,
}

fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as i64
}

fn digest_at(location: &ObjectPath) -> Option<Digest> {
    location.as_ref().replace('/', "").parse().ok()
}

/// Two levels, so that no folder grows too large.
fn location(digest: Digest) -> ObjectPath {
    let text = digest.to_string();
    ObjectPath::from(format!("{}/{}", &text[..2], &text[2..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn objects_are_found_by_their_digest_alone() {
        let folder = tempfile::tempdir().expect("folder");
        let blobs = Blobs::open(&folder.path().join("b"), &folder.path().join("s")).expect("open");
        let digest = blobs.put(b"weights".to_vec()).await.expect("put");
        assert_eq!(blobs.read(digest).await.expect("read"), b"weights");
        assert!(blobs.contains(digest).await.expect("head"));
        let other = Digest::of(b"other");
        assert!(!blobs.contains(other).await.expect("head"));
        assert!(blobs.read(other).await.expect_err("missing").is_missing());
        let owner = "st-anna".parse().expect("name");
        let path = blobs.staging_path(&owner, other);
        std::fs::create_dir_all(blobs.staging_folder(&owner)).expect("folder");
        std::fs::write(&path, b"other").expect("stage");
        assert!(blobs.put_file(other, &path).await.expect("put file"));
        assert!(!blobs.put_file(other, &path).await.expect("put it again"));
        let third = Digest::of(b"third");
        // The first file is an object now, by another name.
        std::fs::remove_file(&path).expect("unlink");
        std::fs::write(&path, b"third").expect("stage");
        let copied = blobs.copy_file(third, &path);
        copied.await.expect("copy file");
        assert_eq!(blobs.read(third).await.expect("read"), b"third");
        assert_eq!(
            Digest::of_reader(blobs.open_file(other).await.expect("open")).expect("read"),
            other
        );
        blobs.remove(other).await.expect("removed");
        blobs.remove(other).await.expect("is gone already");
        assert!(!blobs.contains(other).await.expect("head"));
    }
}
