//! Uploads that go on at the byte where they were cut.

use std::io::{Seek, SeekFrom};

use fedner_proto::CHUNK_BYTES;
use fedner_proto::convert;
use fedner_proto::v1::upload_request::Part;
use fedner_proto::v1::{UploadOffsetRequest, UploadRequest, UploadStart};
use fedner_shared::refusal::Code;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{CALL, Coordinator, Error};
use crate::egress::Released;

/// Chunks read ahead of the network.
const AHEAD: usize = 4;

impl Coordinator {
    /// Sends an update that passed the egress gate, from `offset` on.
    pub async fn upload(&self, released: &Released, offset: u64) -> Result<(), Error> {
        let offset = offset.min(released.bytes());
        let mut file = released.open()?;
        file.seek(SeekFrom::Start(offset))?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        let start = UploadStart {
            receipt: Some(convert::signed_to_wire(released.receipt())),
            offset,
        };
        let reader = tokio::spawn(async move {
            let message = |part| UploadRequest { part: Some(part) };
            if sender.send(message(Part::Start(start))).await.is_err() {
                return Ok(());
            }
            let mut file = tokio::fs::File::from_std(file);
            loop {
                let mut data = Vec::with_capacity(CHUNK_BYTES);
                (&mut file)
                    .take(CHUNK_BYTES as u64)
                    .read_to_end(&mut data)
                    .await?;
                if data.is_empty() || sender.send(message(Part::Data(data))).await.is_err() {
                    return std::io::Result::Ok(());
                }
            }
        });
        let mut client = self.federation();
        let answer = client.upload(ReceiverStream::new(receiver)).await;
        reader.abort();
        match answer {
            Ok(_) => Ok(()),
            Err(status) => Err(self.fault(&status)),
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
