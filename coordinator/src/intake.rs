//! Uploads: from the network to a verified object.
//!
//! Bytes are appended to a staging file named by the digest that the receipt announces, so that
//! an upload goes on at the byte where it was cut, also after a restart. They are digested and
//! checked as they come: values out of range end the stream at once. Only when all bytes are
//! there, and sound, does the run hear of the update.

mod upload_slots;
mod writer;

use fedner_host::crash;
use fedner_host::machine::on_disk;
use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::statement::UpdateReceipt;
use fedner_shared::update::BLOCK;
use std::path::Path;

use tokio_util::sync::CancellationToken;

use crate::blobs::{self, Blobs};
use crate::engine::runs::Awaited;
use crate::engine::statements::Vouched;
use crate::engine::{Failure, Handle};
use crate::observe;
use upload_slots::UploadSlots;
use writer::{UploadSpec, Writer};

/// Unfinished updates of one institution that are kept.
const UNFINISHED: usize = 2;

/// Files of updates that nobody awaits any more.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    pub removed: usize,
    /// Those of streams that have yet to notice it.
    pub busy: usize,
}

/// Receives updates. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Intake {
    engine: Handle,
    blobs: Blobs,
    lines: UploadSlots,
}

/// An upload that is receiving bytes.
#[derive(Debug)]
pub struct Upload {
    intake: Intake,
    receipt: Vouched<UpdateReceipt>,
    writer: Writer,
    received: u64,
    cut: CancellationToken,
}

impl Intake {
    pub fn new(engine: Handle, blobs: Blobs) -> Self {
        Self {
            engine,
            blobs,
            lines: UploadSlots::default(),
        }
    }

    /// How many bytes of the object have arrived. A stream that `caller` left behind in a broken
    /// connection is cut, so that the number is final and a new stream may go on from it.
    pub async fn offset(&self, caller: &InstitutionId, digest: Digest) -> Result<u64, Failure> {
        let _line = self.lines.take_over(caller, digest).await?;
        self.staged(caller, digest).await
    }

    async fn staged(&self, owner: &InstitutionId, digest: Digest) -> Result<u64, Failure> {
        let path = self.blobs.staging_path(owner, digest);
        match on_disk(move || std::fs::metadata(path)).await {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(blobs::Error::Staging(error).into()),
        }
    }

    /// Begins or continues the upload that a verified receipt announces.
    pub async fn begin(
        &self,
        vouched: Vouched<UpdateReceipt>,
        offset: u64,
    ) -> Result<Upload, Failure> {
        let receipt = vouched.said.clone();
        let announced = receipt.clone();
        let Awaited {
            dimension,
            bound,
            squared_bound,
            zeros,
            masked,
        } = self
            .engine
            .call(move |engine| engine.check_update(&announced))
            .await?;
        let largest = masked.map_or_else(
            || largest_encoding(dimension),
            |width| width.bytes(dimension),
        );
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
        self.make_room(&receipt).await?;
        let present = self.staged(&receipt.institution, receipt.blob).await?;
        if present != offset {
            let message = format!("the stream begins at byte {offset}: expected {present}");
            return Err(Refusal::new(Code::TransferOffset, message).into());
        }
        let form = UploadSpec {
            path: self.blobs.staging_path(&receipt.institution, receipt.blob),
            digest: receipt.blob,
            bytes: receipt.bytes,
            dimension,
            bound,
            squared_bound,
            zeros,
            masked,
            machine: self.engine.machine().clone(),
        };
        Ok(Upload {
            intake: self.clone(),
            receipt: vouched,
            cut: line.cut(),
            writer: Writer::start(form, line),
            received: offset,
        })
    }

    /// An institution's unfinished updates are as many as its uploads may be: of the others, the oldest go.
    async fn make_room(&self, receipt: &UpdateReceipt) -> Result<(), Failure> {
        let folder = self.blobs.staging_folder(&receipt.institution);
        let keep = self.blobs.staging_path(&receipt.institution, receipt.blob);
        let lines = self.lines.clone();
        let made = on_disk(move || {
            std::fs::create_dir_all(&folder)?;
            let mut others = Vec::new();
            for entry in std::fs::read_dir(&folder)? {
                let entry = entry?;
                if entry.path() != keep {
                    others.push((entry.metadata()?.modified()?, entry.path()));
                }
            }
            others.sort();
            let more = others.len().saturating_sub(UNFINISHED - 1);
            for (_, path) in others.into_iter().take(more) {
                let digest = digest_of(&path);
                lines.while_idle(|busy| {
                    if digest.is_none_or(|digest| !busy.contains(&digest)) {
                        writer::remove(&path);
                    }
                });
            }
            Ok(())
        });
        Ok(made.await.map_err(blobs::Error::Staging)?)
    }

    /// Removes what lies unfinished of institutions from which no update is awaited any more.
    pub async fn sweep(&self) -> Result<Swept, Failure> {
        let awaited = self
            .engine
            .call(|engine| Ok(engine.awaited_uploads()))
            .await?;
        let (staging, lines) = (self.blobs.staging().to_owned(), self.lines.clone());
        let swept = on_disk(move || {
            let mut swept = Swept::default();
            for entry in std::fs::read_dir(&staging)? {
                let path = entry?.path();
                let name = path
                    .file_name()
                    .and_then(|name| name.to_str())
                    .unwrap_or_default();
                let owner = name.parse::<InstitutionId>().ok();
                // Before there were folders of institutions, unfinished updates lay beside each other.
                let stray = path.is_file() && digest_of(&path).is_some();
                if stray {
                    writer::remove(&path);
                    swept.removed += 1;
                }
                if !path.is_dir() || owner.is_none_or(|owner| awaited.contains(&owner)) {
                    continue;
                }
                for file in std::fs::read_dir(&path)? {
                    let file = file?.path();
                    let digest = digest_of(&file);
                    lines.while_idle(|busy| {
                        if digest.is_none_or(|digest| !busy.contains(&digest)) {
                            writer::remove(&file);
                            swept.removed += 1;
                        } else {
                            swept.busy += 1;
                        }
                    });
                }
            }
            Ok(swept)
        });
        Ok(swept.await.map_err(blobs::Error::Staging)?)
    }
}

/// The digest in the name of a staging file.
fn digest_of(path: &Path) -> Option<Digest> {
    let name = path.file_name()?.to_str()?;
    name.strip_suffix(".part")?.parse().ok()
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
            receipt: vouched,
            writer,
            received,
            ..
        } = self;
        let receipt = &vouched.said;
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
        let path = intake.blobs.staging_path(&receipt.institution, digest);
        let new = intake.blobs.put_file(digest, &path).await?;
        let accepted = intake
            .engine
            .call(move |engine| {
                let accepted = engine.accept_update(&vouched);
                // What is refused at the last moment takes no room, unless somebody else needs it.
                let needed = accepted.is_ok() || engine.needed_objects()?.contains(&digest);
                Ok((accepted, needed))
            })
            .await;
        crash::point("before removal", "staging file");
        writer::remove(&path);
        let (accepted, needed) = accepted?;
        if new && !needed {
            intake.blobs.remove(digest).await?;
        }
        accepted
    }
}

/// Bytes of an update whose every value takes 32 bits.
fn largest_encoding(dimension: usize) -> u64 {
    16 + dimension.div_ceil(BLOCK) as u64 + 4 * dimension as u64
}
