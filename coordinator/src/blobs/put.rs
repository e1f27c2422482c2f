//! Writing objects: linked into a folder, or sent to a bucket.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use fedner_host::crash;
use fedner_host::machine::{blocking, on_disk};
use fedner_shared::digest::Digest;
use object_store::{ObjectStoreExt, PutMode, PutPayload, WriteMultipart};

use super::cache::Cache;
use super::{Blobs, Error, PIECE, Standing, location};

/// Larger objects are put in parts of so many bytes, a few at the same time.
const PART: usize = 8 << 20;
const PARTS_AT_A_TIME: usize = 2;

impl Blobs {
    /// Stores bytes; their digest names them.
    pub async fn put(&self, bytes: Vec<u8>) -> Result<Digest, Error> {
        let digest = Digest::of(&bytes);
        if self.folder.is_some() && self.renew(digest).await? == Standing::Kept {
            return Ok(digest);
        }
        let bytes = Bytes::from(bytes);
        self.put_whole(digest, bytes.clone()).await?;
        self.keep(digest, move |cache| cache.keep(digest, &bytes))
            .await;
        Ok(digest)
    }

    /// Stores the file at `path`, whose digest has been verified to be `digest`. In a local store
    /// it gets a second name, and not a byte is copied: nobody may write to it any more. Tells whether it
    /// was not there before.
    pub async fn put_file(&self, digest: Digest, path: &Path) -> Result<bool, Error> {
        let Some(folder) = self.folder.clone() else {
            let new = self.copy_file(digest, path).await?;
            let path = path.to_owned();
            self.keep(digest, move |cache| cache.keep_file(digest, &path))
                .await;
            return Ok(new);
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

    /// Puts an object in one request, which is refused where it is there; then it is put once more if it may be
    /// collected any moment. Tells whether it was not there before.
    async fn put_whole(&self, digest: Digest, bytes: Bytes) -> Result<bool, Error> {
        let _turn = self.transfers.acquire().await;
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
    pub(super) async fn copy_file(&self, digest: Digest, path: &Path) -> Result<bool, Error> {
        let path = path.to_owned();
        let file = on_disk(move || File::open(path)).await?;
        if file.metadata()?.len() <= PART as u64 {
            let read = on_disk(move || {
                let mut bytes = Vec::new();
                (&file).read_to_end(&mut bytes).map(|_| bytes)
            });
            return self.put_whole(digest, read.await?.into()).await;
        }
        let _turn = self.transfers.acquire().await;
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

    /// Keeps a local copy of what was put. Where that fails, it is fetched when it is needed.
    async fn keep(
        &self,
        digest: Digest,
        keep: impl FnOnce(&Cache) -> io::Result<()> + Send + 'static,
    ) {
        let Some(cache) = self.cache.clone() else {
            return;
        };
        if cache.get(digest).is_some() {
            return;
        }
        if let Err(error) = on_disk(move || keep(&cache)).await {
            tracing::debug!(%digest, %error, "no local copy of an object");
        }
    }
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
