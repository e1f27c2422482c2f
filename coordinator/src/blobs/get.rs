//! Reading objects: from a folder, from a bucket, or from a local copy.

use std::fs::File;
use std::io::{self, Read};

use bytes::Bytes;
use fedner_host::machine::on_disk;
use fedner_shared::digest::Digest;
use object_store::{GetResultPayload, ObjectStoreExt};
use tempfile::NamedTempFile;

use super::{Blobs, Error, Reading, Verified, location};

impl Blobs {
    pub async fn contains(&self, digest: Digest) -> Result<bool, Error> {
        match self.store.head(&location(digest)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(source) => Err(Error::Store { digest, source }),
        }
    }

    /// How many bytes an object has.
    pub async fn length(&self, digest: Digest) -> Result<u64, Error> {
        if let Some(copy) = self.cache.as_ref().and_then(|cache| cache.get(digest)) {
            return Ok(copy.bytes);
        }
        let found = self.store.head(&location(digest)).await;
        let meta = found.map_err(|source| Error::Store { digest, source })?;
        Ok(meta.size)
    }

    /// The object as a local file; from a store elsewhere it is fetched into the staging folder.
    pub async fn open_file(&self, digest: Digest) -> Result<File, Error> {
        if let Some((_, file)) = self.local(digest).await? {
            return Ok(file);
        }
        let failed = |source| Error::Store { digest, source };
        let result = self.store.get(&location(digest)).await.map_err(failed)?;
        if let GetResultPayload::File(file, _) = result.payload {
            return Ok(file);
        }
        let reading = Reading::of_stream(digest, result.into_stream());
        let mut file = reading
            .write_to(tempfile::tempfile_in(&self.staging)?)
            .await?;
        io::Seek::rewind(&mut file)?;
        Ok(file)
    }

    /// How many bytes the object has, and those from byte `offset` on, of which it may have none.
    pub async fn read_from(&self, digest: Digest, offset: u64) -> Result<(u64, Reading), Error> {
        if let Some((length, file)) = self.local(digest).await? {
            return Ok((length, Reading::of_file(file, offset, length)?));
        }
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

    /// The local copy of an object in a bucket, and its bytes. It is fetched where there is none. `None` where none are
    /// kept.
    async fn local(&self, digest: Digest) -> Result<Option<(u64, File)>, Error> {
        let Some(cache) = self.cache.clone() else {
            return Ok(None);
        };
        let copy = if let Some(copy) = cache.get(digest) {
            Ok(copy)
        } else {
            // What is fetched stays, also where whoever asked for it is gone.
            let (blobs, cache) = (self.clone(), cache.clone());
            let fetched = async move {
                let fetch = async { blobs.fetch(digest, cache.file()?).await };
                cache.get_or_fetch(digest, fetch).await
            };
            tokio::spawn(fetched).await.map_err(io::Error::other)?
        };
        let opened = match copy {
            Ok(copy) => on_disk(move || Ok((copy.bytes, copy.open()?))).await,
            Err(Error::Staging(error)) => Err(error),
            Err(error) => return Err(error),
        };
        match opened {
            Ok(opened) => Ok(Some(opened)),
            Err(error) => {
                // A full disk, or a hand that tidied up: the bucket has the object all the same.
                tracing::debug!(%digest, %error, "no local copy of an object");
                cache.forget(digest);
                Ok(None)
            }
        }
    }

    /// Writes an object of a bucket to the file, its digest verified.
    async fn fetch(&self, digest: Digest, file: NamedTempFile) -> Result<NamedTempFile, Error> {
        let _turn = self.transfers.acquire().await;
        let failed = |source| Error::Store { digest, source };
        let result = self.store.get(&location(digest)).await.map_err(failed)?;
        let reading = Reading::of_stream(digest, result.into_stream());
        let file = reading.write_to(file).await?;
        let verified = on_disk(move || {
            let mut copy = Verified::new(file.reopen()?, digest);
            io::copy(&mut copy, &mut io::sink()).map(|_| file)
        });
        verified.await.map_err(Error::of_read)
    }

    /// The object as [`open_file`](Self::open_file) gives it, verified while it is read.
    pub async fn open_verified(&self, digest: Digest) -> Result<Verified<File>, Error> {
        Ok(Verified::new(self.open_file(digest).await?, digest))
    }

    /// The object in memory, its digest verified; for small ones.
    pub async fn read(&self, digest: Digest) -> Result<Vec<u8>, Error> {
        let bytes = if let Some((_, mut file)) = self.local(digest).await? {
            let read = on_disk(move || {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).map(|_| bytes)
            });
            Bytes::from(read.await?)
        } else {
            let failed = |source| Error::Store { digest, source };
            let result = self.store.get(&location(digest)).await.map_err(failed)?;
            result.bytes().await.map_err(failed)?
        };
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
