//! Objects as streams of chunks.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};

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
    let (sender, receiver) = mpsc::channel(1);
    let last = sender.clone();
    let under_way = UnderWay::new();
    let sending = async move {
        let _under_way = under_way;
        let piece = || piece(UNDER_WAY.load(Ordering::Relaxed));
        while let Some(chunk) = reading.next(piece()).await.transpose() {
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

/// Bytes that all streams together have read ahead, some times over: each has so much of them as there are others.
const READ_AHEAD: usize = 32 << 20;
/// What a stream reads at a time at least.
const LEAST_PIECE: usize = 16 << 10;

/// Streams of objects in this process.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// One of them, until it is dropped.
struct UnderWay;

impl UnderWay {
    fn new() -> Self {
        UNDER_WAY.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many bytes to read next, beside so many streams.
fn piece(streams: usize) -> usize {
    (READ_AHEAD / streams.max(1)).clamp(LEAST_PIECE, CHUNK_BYTES)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_streams_read_whole_chunks_and_a_thousand_little_at_a_time() {
        assert_eq!(piece(1), CHUNK_BYTES);
        assert_eq!(piece(128), CHUNK_BYTES);
        assert!(1000 * piece(1000) <= READ_AHEAD);
        assert_eq!(piece(1_000_000), LEAST_PIECE);
    }
}
