//! The coordinator's objects, in memory, on a disk that fails with its machine.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use fedner_host::machine::Machine;
use fedner_shared::digest::Digest;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use tonic::async_trait;

use crate::machine::SimMachine;

/// Whole objects or none: a put is one durable write.
#[derive(Debug)]
pub(crate) struct SimObjects {
    inner: InMemory,
    machine: Arc<SimMachine>,
}

impl SimObjects {
    pub(crate) fn new(inner: InMemory, machine: Arc<SimMachine>) -> Self {
        Self { inner, machine }
    }

    /// The object, for those who look on.
    pub(crate) fn peek(&self, digest: Digest) -> Option<Bytes> {
        let text = digest.to_string();
        let path = Path::from(format!("{}/{}", &text[..2], &text[2..]));
        let found =
            futures::executor::block_on(async { self.inner.get(&path).await?.bytes().await });
        found.ok()
    }
}

impl fmt::Display for SimObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated objects")
    }
}

fn fault(source: std::io::Error) -> object_store::Error {
    // The local store's own message for a full disk, by which it is known.
    let text = if source.kind() == std::io::ErrorKind::StorageFull {
        "No space left on device".to_owned()
    } else {
        source.to_string()
    };
    object_store::Error::Generic {
        store: "simulated",
        source: text.into(),
    }
}

#[async_trait]
impl ObjectStore for SimObjects {
    async fn put_opts(
        &self,
        at: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.machine.before_write("put object").map_err(fault)?;
        let result = self.inner.put_opts(at, payload, options).await?;
        self.machine.after_write("put object").map_err(fault)?;
        Ok(result)
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Upload {
            inner: self.inner.put_multipart_opts(at, options).await?,
            machine: self.machine.clone(),
        }))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(at, options).await
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(at, ranges).await
    }

    fn delete_stream(
        &self,
        at: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(at)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct Upload {
    inner: Box<dyn MultipartUpload>,
    machine: Arc<SimMachine>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.machine.before_write("put object").map_err(fault)?;
        let result = self.inner.complete().await?;
        self.machine.after_write("put object").map_err(fault)?;
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
