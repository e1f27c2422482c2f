//! Large objects by digest: models and updates.
//!
//! An object is first written to a local staging file, then, once its digest has been verified,
//! put into the object store. What is in the store is never changed.

mod verified;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use fedner_host::crash;
use fedner_host::machine::{blocking, on_disk};
use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{
    GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart,
};
use tokio::sync::RwLock;

use crate::config::{Config, Paths};

pub use verified::Verified;

/// Bytes handed to the store at a time.
const PART: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("object {digest} cannot be read or written: {source}")]
    Store {
        digest: Digest,
        source: object_store::Error,
    },
    #[error("the object store is at {url}: expected a file: URL")]
    Url { url: String },
    #[error("the object store cannot be opened: {0}")]
    Open(object_store::Error),
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
            Self::Url { .. } | Self::Open(_) | Self::Corrupt { .. } => false,
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
        matches!(
            self,
            Self::Store {
                source: object_store::Error::NotFound { .. },
                ..
            }
        )
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
}

impl Blobs {
    /// Opens the objects of the coordinator in a directory.
    pub fn from_config(paths: &Paths, config: &Config) -> Result<Self, Error> {
        let url = config.blobs_url.as_deref();
        Self::open(&paths.blobs(), url, &paths.staging())
    }

    /// Opens the local folder `root`, or the store at `url` where one is given.
    pub fn open(root: &Path, url: Option<&str>, staging: &Path) -> Result<Self, Error> {
        let root = match url {
            None => root.to_owned(),
            Some(text) => match text.strip_prefix("file://") {
                Some(path) => PathBuf::from(path),
                None => {
                    return Err(Error::Url {
                        url: text.to_owned(),
                    });
                }
            },
        };
        fs::create_dir_all(&root)?;
        let store = LocalFileSystem::new_with_prefix(&root)
            .map_err(Error::Open)?
            .with_fsync(true);
        Ok(Self {
            folder: Some(root),
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
        })
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

    pub async fn contains(&self, digest: Digest) -> Result<bool, Error> {
        match self.store.head(&location(digest)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(source) => Err(Error::Store { digest, source }),
        }
    }

    /// How many bytes an object has.
    pub async fn length(&self, digest: Digest) -> Result<u64, Error> {
        let found = self.store.head(&location(digest)).await;
        let meta = found.map_err(|source| Error::Store { digest, source })?;
        Ok(meta.size)
    }

    /// Stores bytes; their digest names them.
    pub async fn put(&self, bytes: Vec<u8>) -> Result<Digest, Error> {
        let digest = Digest::of(&bytes);
        if self.renew(digest).await? {
            return Ok(digest);
        }
        let payload = PutPayload::from(bytes);
        self.store
            .put(&location(digest), payload)
            .await
            .map_err(|source| Error::Store { digest, source })?;
        Ok(digest)
    }

    /// Stores the file at `path`, whose digest has been verified to be `digest`. In a local store
    /// it gets a second name, and not a byte is copied: nobody may write to it any more. Tells whether it
    /// was not there before.
    pub async fn put_file(&self, digest: Digest, path: &Path) -> Result<bool, Error> {
        if self.renew(digest).await? {
            return Ok(false);
        }
        if let Some(folder) = self.folder.clone() {
            let path = path.to_owned();
            let linked = blocking(move || link(&folder, digest, &path));
            if linked.await.map_err(io::Error::other)?? {
                return Ok(true);
            }
        }
        self.copy_file(digest, path).await?;
        Ok(true)
    }

    /// Removes an object that was put a moment ago and is of no use after all.
    pub async fn remove(&self, digest: Digest) -> Result<(), Error> {
        let _removing = self.removing.write().await;
        match self.store.delete(&location(digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(Error::Store { digest, source }),
        }
    }

    /// Copies an object from another store, verified.
    pub async fn copy_from(&self, other: &Self, digest: Digest) -> Result<(), Error> {
        if self.renew(digest).await? {
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

    /// Whether the object is here; if it is, it is not collected for a while, so that it may be
    /// referred to.
    async fn renew(&self, digest: Digest) -> Result<bool, Error> {
        let _kept = self.removing.read().await;
        let Some(folder) = &self.folder else {
            // It is written once more, which renews it everywhere.
            return Ok(false);
        };
        let path = folder.join(location(digest).as_ref());
        match File::options().append(true).open(path) {
            Ok(file) => {
                file.set_modified(SystemTime::now())?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the objects that are not in `keep` and were last written or renewed before
    /// `before`; how many there were.
    pub async fn sweep(&self, keep: &BTreeSet<Digest>, before: SystemTime) -> Result<usize, Error> {
        let before = before.duration_since(SystemTime::UNIX_EPOCH);
        let before = before.unwrap_or_default().as_millis() as i64;
        let is_old = |object: &ObjectMeta| object.last_modified.timestamp_millis() < before;
        let objects: Vec<ObjectMeta> = self
            .store
            .list(None)
            .try_collect()
            .await
            .map_err(Error::Open)?;
        let mut removed = 0;
        for object in objects.iter().filter(|object| is_old(object)) {
            let Some(digest) = digest_at(&object.location).filter(|found| !keep.contains(found))
            else {
                continue;
            };
            let _removing = self.removing.write().await;
            let failed = |source| Error::Store { digest, source };
            let now = self.store.head(&object.location).await.map_err(failed)?;
            if is_old(&now) {
                self.store.delete(&object.location).await.map_err(failed)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    async fn copy_file(&self, digest: Digest, path: &Path) -> Result<(), Error> {
        let failed = |source| Error::Store { digest, source };
        let upload = self
            .store
            .put_multipart(&location(digest))
            .await
            .map_err(failed)?;
        let mut writer = WriteMultipart::new(upload);
        let path = path.to_owned();
        let file = Arc::new(on_disk(move || File::open(path)).await?);
        loop {
            let file = file.clone();
            let part = on_disk(move || {
                let mut part = Vec::with_capacity(PART);
                file.take(PART as u64).read_to_end(&mut part).map(|_| part)
            });
            let part = part.await?;
            if part.is_empty() {
                break;
            }
            writer.wait_for_capacity(4).await.map_err(failed)?;
            writer.write(&part);
        }
        writer.finish().await.map_err(failed)?;
        Ok(())
    }

    /// The object as a local file; from a remote store it is fetched into the staging folder.
    pub async fn open_file(&self, digest: Digest) -> Result<File, Error> {
        let failed = |source| Error::Store { digest, source };
        let result = self.store.get(&location(digest)).await.map_err(failed)?;
        if let GetResultPayload::File(file, _) = result.payload {
            return Ok(file);
        }
        let bytes = result.bytes().await.map_err(failed)?;
        let mut file = tempfile::tempfile_in(&self.staging)?;
        io::Write::write_all(&mut file, &bytes)?;
        io::Seek::rewind(&mut file)?;
        Ok(file)
    }

    /// The object as [`open_file`](Self::open_file) gives it, verified while it is read.
    pub async fn open_verified(&self, digest: Digest) -> Result<Verified<File>, Error> {
        Ok(Verified::new(self.open_file(digest).await?, digest))
    }

    /// The object in memory, its digest verified; for small ones.
    pub async fn read(&self, digest: Digest) -> Result<Vec<u8>, Error> {
        let failed = |source| Error::Store { digest, source };
        let bytes = self
            .store
            .get(&location(digest))
            .await
            .map_err(failed)?
            .bytes()
            .await
            .map_err(failed)?;
        let found = Digest::of(&bytes);
        if found != digest {
            return Err(Error::Corrupt {
                expected: digest,
                found,
            });
        }
        Ok(bytes.into())
    }
}

fn digest_at(location: &ObjectPath) -> Option<Digest> {
    location.as_ref().replace('/', "").parse().ok()
}

/// Gives the file at `path` the object's name in a local store, durably; `false` where the file
/// system cannot.
fn link(folder: &Path, digest: Digest, path: &Path) -> io::Result<bool> {
    File::open(path)?.sync_all()?;
    let name = folder.join(location(digest).as_ref());
    let parent = name.parent().unwrap_or(folder);
    if !parent.exists() {
        fs::create_dir_all(parent)?;
        File::open(folder)?.sync_all()?;
    }
    crash::point("before link", "object");
    match fs::hard_link(path, &name) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == io::ErrorKind::StorageFull => return Err(error),
        Err(_) => return Ok(false),
    }
    File::open(parent)?.sync_all()?;
    crash::point("after link", "object");
    Ok(true)
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
        let blobs =
            Blobs::open(&folder.path().join("b"), None, &folder.path().join("s")).expect("open");
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
        blobs.copy_file(third, &path).await.expect("copy file");
        assert_eq!(blobs.read(third).await.expect("read"), b"third");
        assert_eq!(
            Digest::of_reader(blobs.open_file(other).await.expect("open")).expect("read"),
            other
        );
        blobs.remove(other).await.expect("removed");
        blobs.remove(other).await.expect("is gone already");
        assert!(!blobs.contains(other).await.expect("head"));
        assert!(Blobs::open(folder.path(), Some("s3://b"), folder.path()).is_err());
    }
}
