//! Large objects by digest: models and updates.
//!
//! An object is first written to a local staging file, then, once its digest has been verified,
//! put into the object store. What is in the store is never changed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fedner_shared::digest::Digest;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{GetResultPayload, ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart};
use tokio::io::AsyncReadExt;

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
            Self::Staging(error) => error.kind() == io::ErrorKind::StorageFull,
            Self::Store { source, .. } => source.to_string().contains("No space left"),
            Self::Url { .. } | Self::Open(_) | Self::Corrupt { .. } => false,
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
    staging: PathBuf,
}

impl Blobs {
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
        std::fs::create_dir_all(&root)?;
        std::fs::create_dir_all(staging)?;
        let store = LocalFileSystem::new_with_prefix(root)
            .map_err(Error::Open)?
            .with_fsync(true);
        Ok(Self {
            store: Arc::new(store),
            staging: staging.to_owned(),
        })
    }

    /// Where an object of that digest is gathered before it is verified.
    pub fn staging_path(&self, digest: Digest) -> PathBuf {
        self.staging.join(format!("{digest}.part"))
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

    /// Stores bytes; their digest names them.
    pub async fn put(&self, bytes: Vec<u8>) -> Result<Digest, Error> {
        let digest = Digest::of(&bytes);
        let payload = PutPayload::from(bytes);
        self.store
            .put(&location(digest), payload)
            .await
            .map_err(|source| Error::Store { digest, source })?;
        Ok(digest)
    }

    /// Stores the file at `path`, whose digest has been verified to be `digest`.
    pub async fn put_file(&self, digest: Digest, path: &Path) -> Result<(), Error> {
        if self.contains(digest).await? {
            return Ok(());
        }
        let failed = |source| Error::Store { digest, source };
        let upload = self
            .store
            .put_multipart(&location(digest))
            .await
            .map_err(failed)?;
        let mut writer = WriteMultipart::new(upload);
        let mut file = tokio::fs::File::open(path).await?;
        let mut buffer = vec![0u8; 1 << 20];
        loop {
            let count = file.read(&mut buffer).await?;
            if count == 0 {
                break;
            }
            writer.wait_for_capacity(4).await.map_err(failed)?;
            writer.write(&buffer[..count]);
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
        Ok(bytes.to_vec())
    }
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
        let path = blobs.staging_path(other);
        std::fs::write(&path, b"other").expect("stage");
        blobs.put_file(other, &path).await.expect("put file");
        assert_eq!(
            Digest::of_reader(blobs.open_file(other).await.expect("open")).expect("read"),
            other
        );
        assert!(Blobs::open(folder.path(), Some("s3://b"), folder.path()).is_err());
    }
}
