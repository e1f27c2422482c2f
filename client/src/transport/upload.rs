//! Uploads that go on at the byte where they were cut.

use std::io::{self, Read};

use fedner_host::machine::on_disk;
use fedner_proto::CHUNK_BYTES;
use fedner_proto::convert;
use fedner_proto::v1::upload_request::Part;
use fedner_proto::v1::{UploadOffsetRequest, UploadRequest, UploadStart};
use fedner_shared::refusal::Code;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{CALL, Coordinator, Error};
use crate::blobs::Content;
use crate::egress::Released;

/// Chunks read ahead of the network.
const AHEAD: usize = 4;

impl Coordinator {
    /// Sends an update that passed the egress gate, from `offset` on.
    pub async fn upload(&self, released: &Released, offset: u64) -> Result<(), Error> {
        let offset = offset.min(released.bytes());
        let mut file = released.open()?;
        file.skip_to(offset)?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        let start = UploadStart {
            receipt: Some(convert::signed_to_wire(released.receipt())),
            offset,
        };
        let first = UploadRequest {
            part: Some(Part::Start(start)),
        };
        let reader = tokio::spawn(read_ahead(first, file, sender));
        let mut client = self.federation();
        let answer = client.upload(ReceiverStream::new(receiver)).await;
        match answer {
            Ok(_) => Ok(()),
            // A stream that ends early because the file cannot be read is a fault of ours.
            Err(status) => Err(match reader.await {
                Ok(Err(error)) => error.into(),
                Ok(Ok(())) | Err(_) => self.fault(&status),
            }),
        }
    }

    /// How many bytes of the update the coordinator has.
    pub async fn upload_offset(&self, released: &Released) -> Result<u64, Error> {
        let request = UploadOffsetRequest {
            digest: released.blob().as_bytes().to_vec(),
        };
        let mut client = self.federation();
        match self.within(CALL, client.upload_offset(request)).await {
            Ok(response) => Ok(response.offset),
            Err(error) if error.code() == Some(Code::BlobUnknown) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// Sends the file in chunks until its end, or until nobody takes them.
async fn read_ahead(
    first: UploadRequest,
    mut file: Content,
    sender: mpsc::Sender<UploadRequest>,
) -> io::Result<()> {
    let mut next = first;
    while sender.send(next).await.is_ok() {
        let read = on_disk(move || {
            let mut data = Vec::with_capacity(CHUNK_BYTES);
            file.by_ref()
                .take(CHUNK_BYTES as u64)
                .read_to_end(&mut data)?;
            Ok((file, data))
        });
        let (same, data) = read.await?;
        file = same;
        if data.is_empty() {
            break;
        }
        next = UploadRequest {
            part: Some(Part::Data(data)),
        };
    }
    Ok(())
}
