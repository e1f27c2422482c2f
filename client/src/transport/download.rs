//! Downloads that go on at the byte where they were cut.

use std::time::Duration;

use fedner_host::machine::on_disk;
use fedner_proto::v1::{Chunk, DownloadRequest};
use fedner_shared::digest::Digest;
use fedner_shared::refusal::{Code, Refusal};
use tonic::Streaming;

use super::{CALL, Coordinator, Error};
use crate::blobs::Blobs;

/// With no chunk for so long the connection counts as broken.
const SILENCE: Duration = Duration::from_mins(1);

impl Coordinator {
    /// Makes sure that the object, of `length` bytes, lies in `blobs`. What arrived before an error is
    /// kept, and the next call goes on from there. More bytes than that are not taken.
    pub async fn download(&self, digest: &Digest, length: u64, blobs: &Blobs) -> Result<(), Error> {
        if blobs.contains(digest) {
            return Ok(());
        }
        let (folder, wanted) = (blobs.clone(), *digest);
        let part = on_disk(move || folder.part(&wanted)).await?;
        let request = DownloadRequest {
            digest: digest.as_bytes().to_vec(),
            offset: part.length(),
        };
        let mut client = self.federation();
        let opened = self.within(CALL, client.download(request)).await;
        if opened
            .as_ref()
            .is_err_and(|e| e.code() == Some(Code::TransferOffset))
        {
            // What lies here is longer than the object: it is something else.
            part.discard()?;
        }
        let mut stream = opened?;
        let mut part = part;
        loop {
            let chunk = match self.next_chunk(&mut stream).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(error) => {
                    on_disk(move || part.keep()).await?;
                    return Err(error);
                }
            };
            if part.length().saturating_add(chunk.data.len() as u64) > length {
                part.discard()?;
                let message =
                    format!("{digest} has more than the {length} bytes that the plan says");
                return Err(Error::Refused(Refusal::new(Code::BaseMismatch, message)));
            }
            part = on_disk(move || part.append(&chunk.data)).await?;
        }
        if on_disk(move || part.finish()).await? {
            return Ok(());
        }
        let message = format!("the download of {digest} has another digest; it begins again");
        Err(Error::Refused(Refusal::new(Code::UpdateDigest, message)))
    }

    async fn next_chunk(&self, stream: &mut Streaming<Chunk>) -> Result<Option<Chunk>, Error> {
        let message = tokio::time::timeout(SILENCE, stream.message())
            .await
            .map_err(|_| Error::Unreachable {
                address: self.address.clone(),
                reason: format!("a download was silent for {} s", SILENCE.as_secs()),
            })?;
        message.map_err(|status| self.fault(&status))
    }
}
