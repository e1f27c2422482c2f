//! Large objects by digest: models and updates.
//!
//! An object is first written to a local staging file, then, once its digest has been verified,
//! put into the object store. What is in the store is never changed. The store is a folder, or a bucket of S3.
//! What fails elsewhere is tried again within bounds: names are digests, so an object that is put twice is put once.

mod http;
mod place;
mod reading;
mod s3;
mod trouble;
mod verified;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fedner_host::crash;
use fedner_host::machine::{blocking, on_disk};
use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use fedner_shared::refusal::Code;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{
    GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload, WriteMultipart,
};
use tokio::sync::RwLock;

use crate::config::{Config, Paths};

use place::Place;
pub use reading::Reading;
pub use s3::Environment;
pub use verified::Verified;

/// Bytes read from a disk at a time.
const PIECE: usize = 1 << 20;

/// Larger objects are put in parts of so many bytes, a few at the same time.
const PART: usize = 8 << 20;
const PARTS_AT_A_TIME: usize = 2;

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
        if self.folder.is_none() || self.renew(digest).await? != Standing::Kept {
            self.put_whole(digest, bytes).await?;
        }
        Ok(digest)
    }

    /// Stores the file at `path`, whose digest has been verified to be `digest`. In a local store
    /// it gets a second name, and not a byte is copied: nobody may write to it any more. Tells whether it
    /// was not there before.
    pub async fn put_file(&self, digest: Digest, path: &Path) -> Result<bool, Error> {
        let Some(folder) = self.folder.clone() else {
            return self.copy_file(digest, path).await;
        };
        if self.renew(digest).await? == Standing::Kept {
            return Ok(false);
        }
        let file = path.to_owned();
        let linked = blocking(move || link(&folder, digest, &file));
        if linked.await.map_err(io::Error::other)?? {
            return Ok(true);
        }
        self.copy_file(digest, path).await
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

    /// Puts an object in one request, which is refused where it is there; then it is put once more if it may be
    /// collected any moment. Tells whether it was not there before.
    async fn put_whole(&self, digest: Digest, bytes: Vec<u8>) -> Result<bool, Error> {
        let (location, payload) = (location(digest), PutPayload::from(bytes));
        crash::point("before put", "object");
        let create = self
            .store
            .put_opts(&location, payload.clone(), PutMode::Create.into())
            .await;
        let new = match create {
            Ok(_) => true,
            Err(error) => {
                if !matches!(error, object_store::Error::AlreadyExists { .. }) {
                    // Its answer may have been lost, or the store knows no such condition.
                    tracing::debug!(%digest, %error, "it is asked whether an object is there");
                }
                // Not between the look and the removal of a sweep.
                let _kept = self.removing.read().await;
                let standing = self.standing(digest).await?;
                if standing != Standing::Kept {
                    let put = self.store.put(&location, payload).await;
                    put.map_err(|source| Error::Store { digest, source })?;
                }
                standing == Standing::Absent
            }
        };
        crash::point("after put", "object");
        Ok(new)
    }

    /// Copies a file into the store; whether the object was not there before.
    async fn copy_file(&self, digest: Digest, path: &Path) -> Result<bool, Error> {
        let path = path.to_owned();
        let file = on_disk(move || File::open(path)).await?;
        if file.metadata()?.len() <= PART as u64 {
            let read = on_disk(move || {
                let mut bytes = Vec::new();
                (&file).read_to_end(&mut bytes).map(|_| bytes)
            });
            return self.put_whole(digest, read.await?).await;
        }
        let standing = self.standing(digest).await?;
        if standing == Standing::Kept {
            return Ok(false);
        }
        crash::point("before put", "object");
        if let Err(error) = self.put_parts(digest, Arc::new(file)).await {
            // The answer to the last request may have been lost: then the object is there all the same.
            if self.standing(digest).await? != Standing::Kept {
                return Err(error);
            }
        }
        crash::point("after put", "object");
        Ok(standing == Standing::Absent)
    }

    /// The object is there once all parts are.
    async fn put_parts(&self, digest: Digest, file: Arc<File>) -> Result<(), Error> {
        let failed = |source| Error::Store { digest, source };
        let upload = self.store.put_multipart(&location(digest)).await;
        let mut writer = WriteMultipart::new_with_chunk_size(upload.map_err(failed)?, PART);
        let written = async {
            loop {
                let file = file.clone();
                let piece = on_disk(move || {
                    let mut piece = Vec::with_capacity(PIECE);
                    let mut some = (&*file).take(PIECE as u64);
                    some.read_to_end(&mut piece).map(|_| piece)
                });
                let piece = piece.await?;
                if piece.is_empty() {
                    return Ok(());
                }
                let room = writer.wait_for_capacity(PARTS_AT_A_TIME).await;
                room.map_err(failed)?;
                writer.write(&piece);
            }
        };
        match written.await {
            Ok(()) => writer.finish().await.map(drop).map_err(failed),
            Err(error) => {
                // Parts that stay behind are the bucket's to remove, by its own rules.
                let _ = writer.abort().await;
                Err(error)
            }
        }
    }

    /// The object as a local file; from a store elsewhere it is fetched into the staging folder.
    pub async fn open_file(&self, digest: Digest) -> Result<File, Error> {
        let failed = |source| Error::Store { digest, source };
        let result = self.store.get(&location(digest)).await.map_err(failed)?;
        if let GetResultPayload::File(file, _) = result.payload {
            return Ok(file);
        }
        let mut reading = Reading::of_stream(digest, result.into_stream());
        let mut file = tempfile::tempfile_in(&self.staging)?;
        while let Some(piece) = reading.next(PIECE).await? {
            let written = on_disk(move || io::Write::write_all(&mut file, &piece).map(|()| file));
            file = written.await?;
        }
        io::Seek::rewind(&mut file)?;
        Ok(file)
    }

    /// How many bytes the object has, and those from byte `offset` on, of which it may have none.
    pub async fn read_from(&self, digest: Digest, offset: u64) -> Result<(u64, Reading), Error> {
        let failed = |source| Error::Store { digest, source };
        if self.folder.is_none() && offset > 0 {
            let length = self.length(digest).await?;
            if offset >= length {
                return Ok((length, Reading::nothing(digest)));
            }
            let options = object_store::GetOptions {
                range: Some(object_store::GetRange::Offset(offset)),
                ..object_store::GetOptions::default()
            };
            let result = self.store.get_opts(&location(digest), options).await;
            let stream = result.map_err(failed)?.into_stream();
            return Ok((length, Reading::of_stream(digest, stream)));
        }
        let result = self.store.get(&location(digest)).await.map_err(failed)?;
        let length = result.meta.size;
        let reading = match result.payload {
            GetResultPayload::File(..) if offset >= length => Reading::nothing(digest),
            GetResultPayload::File(file, _) => Reading::of_file(file, offset, length)?,
            GetResultPayload::Stream(stream) => Reading::of_stream(digest, stream),
        };
        Ok((length, reading))
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
