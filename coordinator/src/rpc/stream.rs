//! Objects as streams of chunks.

use std::pin::Pin;

use fedner_proto::{CHUNK_BYTES, v1};
use fedner_shared::digest::Digest;
use fedner_shared::refusal::{Code, Refusal};
use futures::Stream;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::STALLED;
use super::gate::status;
use crate::blobs::Blobs;
use crate::observe;

pub(super) type Chunks = Pin<Box<dyn Stream<Item = Result<v1::Chunk, Status>> + Send>>;

/// The object from byte `offset` on. A slow reader holds back the reading, not the memory.
pub(super) async fn object(blobs: &Blobs, digest: Digest, offset: u64) -> Result<Chunks, Status> {
    let file = blobs.open_file(digest).await.map_err(|error| {
        if error.is_missing() {
            return status(Refusal::new(
                Code::BlobUnknown,
                format!("there is no object {digest}"),
            ));
        }
        status(error)
    })?;
    let mut file = tokio::fs::File::from_std(file);
    let failed = |error: std::io::Error| status(crate::blobs::Error::Staging(error));
    file.seek(std::io::SeekFrom::Start(offset))
        .await
        .map_err(failed)?;
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        loop {
            let mut data = vec![0u8; CHUNK_BYTES];
            let chunk = match fill(&mut file, &mut data).await {
                Ok(0) => return,
                Ok(count) => {
                    data.truncate(count);
                    observe::count_downloaded(count as u64);
                    Ok(v1::Chunk { data })
                }
                Err(error) => Err(status(crate::blobs::Error::Staging(error))),
            };
            // A reader that takes nothing for so long is gone; it may come back for the rest.
            match tokio::time::timeout(STALLED, sender.send(chunk)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

async fn fill(file: &mut tokio::fs::File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]).await? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}
