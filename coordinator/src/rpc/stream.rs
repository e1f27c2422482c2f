//! Objects as streams of chunks.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;

use fedner_host::machine::on_disk;
use fedner_proto::{CHUNK_BYTES, v1};
use fedner_shared::digest::Digest;
use fedner_shared::refusal::{Code, Refusal};
use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::gate::status;
use super::ration::STALLED;
use crate::blobs::{self, Blobs};
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
    let file = blobs.open_file(digest).await.map_err(|error| {
        if error.is_missing() {
            return status(Refusal::new(
                Code::BlobUnknown,
                format!("there is no object {digest}"),
            ));
        }
        status(error)
    })?;
    let fault = |error| status(blobs::Error::Staging(error));
    let length = file.metadata().map_err(fault)?.len();
    if offset > length {
        let message = format!("the stream begins at byte {offset}: the object has {length}");
        return Err(status(Refusal::new(Code::TransferOffset, message)));
    }
    let file = Arc::new(file);
    (&*file).seek(SeekFrom::Start(offset)).map_err(fault)?;
    let mut left = length.saturating_sub(offset) as usize;
    let (sender, receiver) = mpsc::channel(2);
    let last = sender.clone();
    let sending = async move {
        while left > 0 {
            let (file, count) = (file.clone(), left.min(CHUNK_BYTES));
            left -= count;
            let chunk = match on_disk(move || next_chunk(&file, count)).await {
                Ok(data) => {
                    observe::count_downloaded(data.len() as u64);
                    Ok(v1::Chunk { data })
                }
                Err(error) => Err(fault(error)),
            };
            // A reader that takes nothing for so long is gone; it may come back for the rest.
            match tokio::time::timeout(STALLED, sender.send(chunk)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
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

fn next_chunk(mut file: &File, count: usize) -> io::Result<Vec<u8>> {
    let mut data = vec![0; count];
    file.read_exact(&mut data)?;
    Ok(data)
}
