//! Downloads that go on at the byte where they were cut.

use std::time::Duration;

use fedner_proto::v1::DownloadRequest;
use fedner_shared::digest::Digest;
use fedner_shared::refusal::{Code, Refusal};

use super::{CALL, Coordinator, Error};
use crate::blobs::Blobs;

/// With no chunk for so long the connection counts as broken.
const SILENCE: Duration = Duration::from_mins(1);

impl Coordinator {
    /// Makes sure that the object lies in `blobs`. What arrived before an error is kept, and the
    /// next call goes on from there.
    pub async fn download(&self, digest: &Digest, blobs: &Blobs) -> Result<(), Error> {
        if blobs.contains(digest) {
            return Ok(());
        }
        let mut part = blobs.part(digest)?;
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
        loop {
            let message = tokio::time::timeout(SILENCE, stream.message())
                .await
                .map_err(|_| Error::Unreachable {
                    address: self.address.clone(),
                    reason: format!("a download was silent for {} s", SILENCE.as_secs()),
                })?;
            match message {
                Ok(Some(chunk)) => part.append(&chunk.data)?,
                Ok(None) => break,
                Err(status) => {
                    part.keep()?;
                    return Err(self.fault(&status));
                }
            }
        }
        if part.finish()? {
            return Ok(());
        }
        let message = format!("the download of {digest} has another digest; it begins again");
        Err(Error::Refused(Refusal::new(Code::UpdateDigest, message)))
    }
}
