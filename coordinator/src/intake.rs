//! Uploads: from the network to a verified object.
//!
//! Bytes are appended to a staging file named by the digest that the receipt announces, so that
//! an upload goes on at the byte where it was cut, also after a restart. They are digested and
//! checked as they come: values out of range end the stream at once. Only when all bytes are
//! there, and sound, does the run hear of the update.

mod lines;
mod writer;

use fedner_shared::crash;
use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::sign::Signed;
use fedner_shared::statement::UpdateReceipt;
use fedner_shared::update::BLOCK;
use tokio_util::sync::CancellationToken;

use crate::blobs::{self, Blobs};
use crate::engine::runs::Awaited;
use crate::engine::{Failure, Handle};
use crate::machine::on_disk;
use crate::observe;
use lines::Lines;
use writer::{Form, Writer};

/// Receives updates. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Intake {
    engine: Handle,
    blobs: Blobs,
    lines: Lines,
}

/// An upload that is receiving bytes.
#[derive(Debug)]
pub struct Upload {
    intake: Intake,
    signed: Signed,
    receipt: UpdateReceipt,
    writer: Writer,
    received: u64,
    cut: CancellationToken,
}

impl Intake {
    pub fn new(engine: Handle, blobs: Blobs) -> Self {
        Self {
            engine,
            blobs,
            lines: Lines::default(),
        }
    }

    /// How many bytes of the object have arrived. A stream that `caller` left behind in a broken
    /// connection is cut, so that the number is final and a new stream may go on from it.
    pub async fn offset(&self, caller: &InstitutionId, digest: Digest) -> Result<u64, Failure> {
        let _line = self.lines.take_over(caller, digest).await?;
        self.staged(digest).await
    }

    async fn staged(&self, digest: Digest) -> Result<u64, Failure> {
        let path = self.blobs.staging_path(digest);
        match on_disk(move || std::fs::metadata(path)).await {
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
        let Awaited {
            dimension,
            bound,
            squared_bound,
        } = self
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
        let line = self
            .lines
            .take_over(&receipt.institution, receipt.blob)
            .await?;
        let present = self.staged(receipt.blob).await?;
        if present != offset {
            let message = format!("the stream begins at byte {offset}: expected {present}");
            return Err(Refusal::new(Code::TransferOffset, message).into());
        }
        let form = Form {
            path: self.blobs.staging_path(receipt.blob),
            digest: receipt.blob,
            bytes: receipt.bytes,
            dimension,
            bound,
            squared_bound,
            machine: self.engine.machine().clone(),
        };
        Ok(Upload {
            intake: self.clone(),
            signed,
            receipt,
            cut: line.cut(),
            writer: Writer::start(form, line),
            received: offset,
        })
    }
}

impl Upload {
    /// Done when another stream of the same sender takes this one's place.
    pub fn superseded(&self) -> impl Future<Output = ()> + use<> {
        self.cut.clone().cancelled_owned()
    }

    /// Takes the next bytes; waits where they come faster than they can be written.
    pub async fn write(&mut self, bytes: Vec<u8>) -> Result<(), Failure> {
        let count = bytes.len() as u64;
        self.received += count;
        self.writer.write(bytes).await?;
        observe::count_uploaded(count);
        Ok(())
    }

    /// The stream has ended. Bytes of a cut stream stay, for the next one to go on from.
    pub async fn finish(self) -> Result<(), Failure> {
        let Self {
            intake,
            signed,
            receipt,
            writer,
            received,
            ..
        } = self;
        // Held until the staging file is gone, so that no other stream meets it half removed.
        let _line = writer.finish().await?;
        if received < receipt.bytes {
            let message = format!(
                "the stream ends after {received} bytes: expected {}",
                receipt.bytes
            );
            return Err(Refusal::new(Code::TransferSize, message).into());
        }
        let digest = receipt.blob;
        let path = intake.blobs.staging_path(digest);
        intake.blobs.put_file(digest, &path).await?;
        let accepted = intake
            .engine
            .call(move |engine| engine.accept_update(signed, receipt))
            .await;
        crash::point("before removal", "staging file");
        writer::remove(&path);
        accepted
    }
}

/// Bytes of an update whose every value takes 32 bits.
fn largest_encoding(dimension: usize) -> u64 {
    16 + dimension.div_ceil(BLOCK) as u64 + 4 * dimension as u64
}
