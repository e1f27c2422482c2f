//! The staging file of an upload: bytes are digested, checked and written as they come.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fedner_host::machine::Machine;
use fedner_host::machine::begin;
use fedner_secagg::Width;
use fedner_shared::digest::Digest;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::update::{self, Checker};
use tokio::task::JoinHandle;

use super::upload_slots::UploadSlot;
use crate::blobs;
use crate::engine::{Failure, Fault};

const READ: usize = 1 << 18;

/// What the bytes must be.
#[derive(Debug)]
pub(super) struct UploadSpec {
    pub(super) path: PathBuf,
    pub(super) digest: Digest,
    pub(super) bytes: u64,
    pub(super) dimension: usize,
    pub(super) bound: i64,
    pub(super) squared_bound: u128,
    pub(super) zeros: Vec<Range<usize>>,
    pub(super) masked: Option<Width>,
    pub(super) machine: Arc<dyn Machine>,
}

/// One chunk is worked on while the next comes over the network, and no more than that.
#[derive(Debug)]
pub(super) struct Writer {
    /// Taken for good when it fails.
    work: Option<JoinHandle<Result<Staged, Failure>>>,
}

impl Writer {
    /// Goes on with what lies at the path. The line is held until the last byte is written.
    pub(super) fn start(form: UploadSpec, line: UploadSlot) -> Self {
        Self {
            work: Some(begin(move || Staged::open(form, line))),
        }
    }

    pub(super) async fn write(&mut self, bytes: Vec<u8>) -> Result<(), Failure> {
        let staged = self.settle().await?;
        self.work = Some(begin(move || staged.append(&bytes)));
        Ok(())
    }

    /// No more bytes come: the line, once what came is written and, if it is all, found sound.
    pub(super) async fn finish(mut self) -> Result<UploadSlot, Failure> {
        let staged = self.settle().await?;
        begin(move || staged.finish()).await?
    }

    async fn settle(&mut self) -> Result<Staged, Failure> {
        match self.work.take() {
            Some(work) => work.await?,
            None => Err(Fault::Stopped.into()),
        }
    }
}

/// What is known of the bytes so far.
#[derive(Debug)]
struct Staged {
    form: UploadSpec,
    line: UploadSlot,
    file: File,
    length: u64,
    /// Whether a part of it came in an earlier stream.
    resumed: bool,
    hasher: blake3::Hasher,
    checker: Sound,
}

impl Staged {
    fn open(form: UploadSpec, line: UploadSlot) -> Result<Self, Failure> {
        let mut options = OpenOptions::new();
        options.create(true).append(true).read(true);
        let mut staged = Self {
            file: options.open(&form.path).map_err(blobs::Error::Staging)?,
            line,
            length: 0,
            resumed: false,
            hasher: blake3::Hasher::new(),
            checker: Sound::new(&form),
            form,
        };
        let present = staged.file.metadata().map_err(blobs::Error::Staging)?;
        let mut buffer = vec![0; READ.min(present.len() as usize)];
        loop {
            let count = staged.file.read(&mut buffer);
            let count = count.map_err(blobs::Error::Staging)?;
            if count == 0 {
                return Ok(staged);
            }
            staged.resumed = true;
            staged.check(&buffer[..count])?;
        }
    }

    fn append(mut self, bytes: &[u8]) -> Result<Self, Failure> {
        self.check(bytes)?;
        self.write(bytes).map_err(blobs::Error::Staging)?;
        Ok(self)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let machine = &self.form.machine;
        machine.before_write("append to upload")?;
        self.file.write_all(bytes)?;
        machine.after_write("append to upload")
    }

    fn check(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.length += bytes.len() as u64;
        if self.length > self.form.bytes {
            let message = format!(
                "the stream goes on after {} bytes, which were announced",
                self.form.bytes
            );
            return Err(self.refuse(Code::TransferSize, message));
        }
        self.hasher.update(bytes);
        let checked = self.checker.push(bytes);
        checked.map_err(|unsound| unsound.refuse(self.resumed, &self.form.path))
    }

    fn finish(self) -> Result<UploadSlot, Failure> {
        if self.length < self.form.bytes {
            return Ok(self.line);
        }
        let found = Digest::from_bytes(*self.hasher.finalize().as_bytes());
        let expected = self.form.digest;
        if found != expected {
            let message = format!("the bytes have the digest {found}: expected {expected}");
            return Err(self.refuse(Code::UpdateDigest, message));
        }
        let checked = self.checker.finish();
        checked.map_err(|unsound| unsound.refuse(self.resumed, &self.form.path))?;
        Ok(self.line)
    }

    /// Nothing is kept of what is refused.
    fn refuse(&self, code: Code, message: String) -> Failure {
        remove(&self.form.path);
        Refusal::new(code, message).into()
    }
}

/// What the bytes are checked for as they come.
#[derive(Debug)]
enum Sound {
    /// Form, range and norm of the values.
    Open(Box<Checker>),
    /// Form alone: the values are under masks.
    Masked(fedner_secagg::Checker),
}

/// What is wrong with the bytes.
#[derive(Debug)]
struct Unsound {
    code: Code,
    message: String,
}

impl Sound {
    fn new(form: &UploadSpec) -> Self {
        if let Some(width) = form.masked {
            return Self::Masked(fedner_secagg::Checker::new(form.dimension, width));
        }
        let checker = Checker::new(form.dimension, form.bound, form.squared_bound);
        Self::Open(Box::new(checker.with_zeros(form.zeros.clone())))
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Unsound> {
        match self {
            Self::Open(checker) => checker.push(bytes).map_err(Unsound::from),
            Self::Masked(checker) => checker.push(bytes).map_err(Unsound::from),
        }
    }

    fn finish(self) -> Result<(), Unsound> {
        match self {
            Self::Open(checker) => checker.finish().map_err(Unsound::from),
            Self::Masked(checker) => checker.finish().map_err(Unsound::from),
        }
    }
}

impl From<update::Error> for Unsound {
    fn from(error: update::Error) -> Self {
        Self {
            code: code_of(&error),
            message: error.to_string(),
        }
    }
}

impl From<fedner_secagg::Error> for Unsound {
    fn from(error: fedner_secagg::Error) -> Self {
        Self {
            code: Code::UpdateFormat,
            message: error.to_string(),
        }
    }
}

impl Unsound {
    /// Bytes that lay on this disk may have suffered there. When they come again in one stream it shows whose fault it
    /// is. Nothing is kept of them.
    fn refuse(self, resumed: bool, path: &Path) -> Failure {
        remove(path);
        let code = if resumed {
            Code::UpdateDigest
        } else {
            self.code
        };
        Refusal::new(code, self.message).into()
    }
}

fn code_of(error: &update::Error) -> Code {
    match error {
        update::Error::Dimension { .. } => Code::UpdateShape,
        update::Error::Range { .. } => Code::UpdateRange,
        update::Error::Norm { .. } => Code::UpdateNorm,
        update::Error::Magic(_)
        | update::Error::Block(_)
        | update::Error::Width { .. }
        | update::Error::Padding { .. }
        | update::Error::Truncated { .. }
        | update::Error::Trailing
        | update::Error::Io(_) => Code::UpdateFormat,
    }
}

/// Removes a staging file that is of no more use.
pub(super) fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "cannot remove a staging file");
        }
        Ok(()) | Err(_) => {}
    }
}
