//! Uploads: from the network to a verified object.
//!
//! Bytes are appended to a staging file named by the digest that the receipt announces, so that
//! an upload goes on at the byte where it was cut, also after a restart. Only when all bytes are
//! there are digest, shape and range verified, and only then does the run hear of the update.

use std::collections::HashSet;
use std::io::BufReader;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use fedner_shared::digest::Digest;
use fedner_shared::plan::Plan;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::sign::Signed;
use fedner_shared::statement::UpdateReceipt;
use fedner_shared::update::{self, BLOCK, Decoder};
use tokio::io::AsyncWriteExt;

use crate::blobs::{self, Blobs};
use crate::engine::{Failure, Handle};
use crate::observe;

/// Receives updates. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Intake {
    engine: Handle,
    blobs: Blobs,
    /// Two streams must not write to one staging file.
    open: Arc<Mutex<HashSet<Digest>>>,
}

/// An upload that is receiving bytes.
#[derive(Debug)]
pub struct Upload {
    intake: Intake,
    signed: Signed,
    receipt: UpdateReceipt,
    plan: Plan,
    dimension: usize,
    file: tokio::fs::File,
    received: u64,
}

impl Intake {
    pub fn new(engine: Handle, blobs: Blobs) -> Self {
        Self {
            engine,
            blobs,
            open: Arc::default(),
        }
    }

    /// How many bytes of the object have arrived.
    pub async fn offset(&self, digest: Digest) -> Result<u64, Failure> {
        match tokio::fs::metadata(self.blobs.staging_path(digest)).await {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(blobs::Error::Staging(error).into()),
        }
    }

    /// Begins or continues the upload that a verified receipt announces.
    pub async fn begin(
        &self,
        signed: Signed,
        receipt: UpdateReceipt,
        offset: u64,
    ) -> Result<Upload, Failure> {
        let announced = receipt.clone();
        let (plan, dimension) = self
            .engine
            .call(move |engine| engine.check_update(&announced))
            .await?;
        let largest = largest_encoding(dimension);
        if receipt.bytes > largest {
            let message = format!(
                "the update has {} bytes: expected at most {largest}",
                receipt.bytes
            );
            return Err(Refusal::new(Code::TransferSize, message).into());
        }
        let newly = self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(receipt.blob);
        if !newly {
            return Err(Refusal::new(
                Code::TransferOffset,
                "another stream is sending this update",
            )
            .into());
        }
        let digest = receipt.blob;
        let opened = self.open_staging(digest, offset).await;
        if opened.is_err() {
            self.close(digest);
        }
        let file = opened?;
        Ok(Upload {
            intake: self.clone(),
            signed,
            receipt,
            plan,
            dimension,
            file,
            received: offset,
        })
    }

    async fn open_staging(&self, digest: Digest, offset: u64) -> Result<tokio::fs::File, Failure> {
        let present = self.offset(digest).await?;
        if present != offset {
            let message = format!("the stream begins at byte {offset}: expected {present}");
            return Err(Refusal::new(Code::TransferOffset, message).into());
        }
        let path = self.blobs.staging_path(digest);
        let file = tokio::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .await;
        Ok(file.map_err(blobs::Error::Staging)?)
    }

    fn close(&self, digest: Digest) {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&digest);
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.intake.close(self.receipt.blob);
    }
}

impl Upload {
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.received += bytes.len() as u64;
        if self.received > self.receipt.bytes {
            self.discard().await;
            let message = format!(
                "the stream goes on after {} bytes, which were announced",
                self.receipt.bytes
            );
            return Err(Refusal::new(Code::TransferSize, message).into());
        }
        self.file
            .write_all(bytes)
            .await
            .map_err(blobs::Error::Staging)?;
        observe::count_uploaded(bytes.len() as u64);
        Ok(())
    }

    /// The stream has ended. Bytes of a cut stream stay, for the next one to go on from.
    pub async fn finish(mut self) -> Result<(), Failure> {
        self.file.flush().await.map_err(blobs::Error::Staging)?;
        if self.received < self.receipt.bytes {
            let message = format!(
                "the stream ends after {} bytes: expected {}",
                self.received, self.receipt.bytes
            );
            return Err(Refusal::new(Code::TransferSize, message).into());
        }
        let path = self.intake.blobs.staging_path(self.receipt.blob);
        let (digest, plan, dimension) = (self.receipt.blob, self.plan.clone(), self.dimension);
        let staged = path.clone();
        let verdict =
            tokio::task::spawn_blocking(move || verify(&staged, digest, &plan, dimension)).await?;
        if let Err(failure) = verdict {
            self.discard().await;
            return Err(failure);
        }
        self.intake.blobs.put_file(digest, &path).await?;
        let (signed, receipt) = (self.signed.clone(), self.receipt.clone());
        let accepted = self
            .intake
            .engine
            .call(move |engine| engine.accept_update(signed, receipt))
            .await;
        self.discard().await;
        accepted
    }

    async fn discard(&self) {
        let path = self.intake.blobs.staging_path(self.receipt.blob);
        if let Err(error) = tokio::fs::remove_file(&path).await {
            tracing::warn!(%error, path = %path.display(), "cannot remove a staging file");
        }
    }
}

fn verify(path: &Path, digest: Digest, plan: &Plan, dimension: usize) -> Result<(), Failure> {
    let open = || std::fs::File::open(path).map_err(blobs::Error::Staging);
    let found = Digest::of_reader(open()?).map_err(blobs::Error::Staging)?;
    if found != digest {
        let message = format!("the bytes have the digest {found}: expected {digest}");
        return Err(Refusal::new(Code::UpdateDigest, message).into());
    }
    let reader = BufReader::with_capacity(1 << 16, open()?);
    let checked =
        Decoder::new(reader, dimension, plan.privacy.value_bound()).and_then(Decoder::check);
    checked.map_err(|error| {
        let code = match &error {
            update::Error::Dimension { .. } => Code::UpdateShape,
            update::Error::Range { .. } => Code::UpdateRange,
            update::Error::Magic(_)
            | update::Error::Block(_)
            | update::Error::Width { .. }
            | update::Error::Padding { .. }
            | update::Error::Truncated { .. }
            | update::Error::Trailing
            | update::Error::Io(_) => Code::UpdateFormat,
        };
        Refusal::new(code, error.to_string()).into()
    })
}

/// Bytes of an update whose every value takes 32 bits.
fn largest_encoding(dimension: usize) -> u64 {
    16 + dimension.div_ceil(BLOCK) as u64 + 4 * dimension as u64
}
