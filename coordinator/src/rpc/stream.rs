//! Objects as streams of chunks.

use std::pin::Pin;

use fedner_proto::{CHUNK_BYTES, v1};
use fedner_shared::digest::Digest;
use fedner_shared::refusal::{Code, Refusal};
use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::gate::status;
use super::ration::STALLED;
use crate::blobs::Blobs;
use crate::door::Stream as Place;
use crate::observe;

pub(super) type Chunks = Pin<Box<dyn Stream<Item = Result<v1::Chunk, Status>> + Send>>;

/// The object from byte `offset` on, until `cut`. A slow reader holds back the reading, not the memory.
pub(super) async fn object<C: Cut>(
    blobs: &Blobs,
    digest: Digest,
    offset: u64,
    place: Place,
    cut: impl Future<Output = C> + Send + 'static,
) -> Result<Chunks, Status> {
    let found = blobs.read_from(digest, offset).await;
    let (length, mut reading) = found.map_err(|error| {
        if error.is_missing() {
            return status(Refusal::new(
                Code::BlobUnknown,
                format!("there is no object {digest}"),
            ));
        }
        status(error)
    })?;
    if offset > length {
        let message = format!("the stream begins at byte {offset}: the object has {length}");
        return Err(status(Refusal::new(Code::TransferOffset, message)));
    }
    let (sender, receiver) = mpsc::channel(2);
    let last = sender.clone();
    let sending = async move {
        while let Some(chunk) = reading.next(CHUNK_BYTES).await.transpose() {
            let chunk = chunk.map_err(status);
            let failed = chunk.is_err();
            let chunk = chunk.map(|data| {
                observe::count_downloaded(data.len() as u64);
                v1::Chunk { data }
            });
            // A reader that takes nothing for so long is gone; it may come back for the rest.
            match tokio::time::timeout(STALLED, sender.send(chunk)).await {
                Ok(Ok(())) if !failed => {}
                _ => return,
            }
        }
    };
    tokio::spawn(async move {
        let _place = place;
        tokio::select! {
            biased;
            () = sending => {}
            why = cut => {
                let _ = tokio::time::timeout(STALLED, last.send(Err(why.status()))).await;
            }
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

/// Why a stream was cut.
pub(super) trait Cut: Send + 'static {
    fn status(self) -> Status;
}

/// A newer stream took its place.
impl Cut for () {
    fn status(self) -> Status {
        Status::aborted("another stream of yours took this one's place")
    }
}

impl Cut for Status {
    fn status(self) -> Status {
        self
    }
}
