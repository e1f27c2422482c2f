//! What can be wrong with a training, and the code that tells it.

use std::path::PathBuf;

use fedner_model::corpus;
use fedner_shared::checkpoint;
use fedner_shared::refusal::{Code, Refusal};

use crate::dp_sgd;
use crate::egress;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Corpus(#[from] corpus::Error),
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    #[error(transparent)]
    Model(#[from] fedner_model::Error),
    #[error(transparent)]
    Private(#[from] dp_sgd::Error),
    #[error("{} cannot be read: {source}", file.display())]
    Read {
        file: PathBuf,
        source: std::io::Error,
    },
    #[error("a model file cannot be read: {0}")]
    Blob(#[from] std::io::Error),
    #[error("a worker thread failed: {0}")]
    Worker(#[from] tokio::task::JoinError),
}

impl Error {
    pub fn refusal(&self) -> Option<Refusal> {
        let code = match self {
            Self::Refused(refusal) => return Some(refusal.clone()),
            Self::Corpus(error) => code_of_corpus(error),
            Self::Checkpoint(_) | Self::Read { .. } => Code::CheckpointInvalid,
            Self::Model(error) => return Some(Refusal::new(code_of(error)?, error.to_string())),
            Self::Private(dp_sgd::Error::Sum(_) | dp_sgd::Error::Share(_)) => Code::PlanInvalid,
            Self::Private(dp_sgd::Error::Random(_)) | Self::Blob(_) | Self::Worker(_) => {
                return None;
            }
        };
        Some(Refusal::new(code, self.to_string()))
    }
}

impl Error {
    /// Whether it can depend on private text. All that does is told as one code.
    pub fn is_of_text(&self) -> bool {
        use fedner_model::Error as M;
        match self {
            Self::Corpus(_) => true,
            Self::Refused(refusal) => egress::told(refusal.code) == Code::NotDone,
            Self::Model(error) => match error {
                M::Encode { .. }
                | M::Vocabulary { .. }
                | M::Length { .. }
                | M::NoUnit { .. }
                | M::UnknownTag { .. }
                | M::EmptyCorpus
                | M::NotFinite { .. } => true,
                M::Checkpoint(_)
                | M::Tokenizer(_)
                | M::Device(_)
                | M::Unfit(_)
                | M::PrivateCrf
                | M::OtherTraining { .. }
                | M::Tags { .. }
                | M::NoHead
                | M::Window { .. }
                | M::Mechanism(_)
                | M::Tensor(_)
                | M::Threads(_)
                | M::Adapters { .. }
                | M::Head { .. }
                | M::Keep { .. }
                | M::Stopped { .. } => false,
            },
            Self::Checkpoint(_)
            | Self::Private(_)
            | Self::Read { .. }
            | Self::Blob(_)
            | Self::Worker(_) => false,
        }
    }

    /// Whether it is a fault of this machine alone, such as a full disk, so that the same work is
    /// begun again. A panic is not: text may have caused it.
    pub fn is_ours(&self) -> bool {
        use fedner_model::Error as M;
        match self {
            Self::Blob(_) | Self::Read { .. } | Self::Private(dp_sgd::Error::Random(_)) => true,
            Self::Model(error) => matches!(error, M::Keep { .. } | M::Stopped { .. }),
            Self::Refused(_)
            | Self::Corpus(_)
            | Self::Checkpoint(_)
            | Self::Private(dp_sgd::Error::Sum(_) | dp_sgd::Error::Share(_))
            | Self::Worker(_) => false,
        }
    }

    /// What it is called here; a fault of ours has no name of its own.
    pub fn code(&self) -> Code {
        self.refusal().map_or(Code::NotDone, |refusal| refusal.code)
    }

    /// What may stand in a log: a code and a place, never text.
    pub fn cause(&self) -> String {
        let code = self
            .refusal()
            .map_or("internal", |refusal| refusal.code.as_str());
        match self {
            Self::Corpus(corpus::Error::Line { problem, .. }) => {
                format!("{code} in {}, line {}", problem.file, problem.line)
            }
            Self::Corpus(corpus::Error::Labels { file, line, .. }) => {
                format!("{code} in {file}, line {line}")
            }
            Self::Model(
                fedner_model::Error::NoUnit { line, .. }
                | fedner_model::Error::UnknownTag { line, .. },
            ) => format!("{code}, line {line}"),
            Self::Worker(_) => "a worker thread panicked".to_owned(),
            Self::Refused(_)
            | Self::Corpus(_)
            | Self::Checkpoint(_)
            | Self::Model(_)
            | Self::Private(_)
            | Self::Read { .. }
            | Self::Blob(_) => code.to_owned(),
        }
    }
}

/// The code of what is wrong with a corpus.
pub fn code_of_corpus(error: &corpus::Error) -> Code {
    match error {
        corpus::Error::Labels { .. } => Code::LabelsMismatch,
        corpus::Error::Line { problem, .. } => code_of_problem(problem),
        corpus::Error::Read { .. } => Code::CorpusInvalid,
        corpus::Error::Tokenize(_) => Code::CheckpointInvalid,
    }
}

/// The code of one problem: that which the user can decide about has its own.
pub fn code_of_problem(problem: &corpus::Problem) -> Code {
    match problem.code {
        corpus::TAG_SEQUENCE => Code::CorpusTags,
        corpus::NOT_ANNOTATED => Code::LabelsMismatch,
        _ => Code::CorpusInvalid,
    }
}

fn code_of(error: &fedner_model::Error) -> Option<Code> {
    use fedner_model::Error;
    Some(match error {
        Error::Checkpoint(_)
        | Error::Tokenizer(_)
        | Error::Encode { .. }
        | Error::Vocabulary { .. } => Code::CheckpointInvalid,
        Error::Device(_) => Code::DeviceUnknown,
        Error::Unfit(_) | Error::PrivateCrf => Code::PlanInvalid,
        Error::NoUnit { .. } => Code::CorpusInvalid,
        Error::OtherTraining { .. } => Code::StateInvalid,
        Error::Tags { .. } | Error::NoHead | Error::UnknownTag { .. } => Code::LabelsMismatch,
        Error::Window { .. } => Code::RequestInvalid,
        Error::EmptyCorpus => Code::CorpusEmpty,
        Error::NotFinite { .. } => Code::NotFinite,
        // Sentences are cut to windows beforehand; a longer one is our own fault.
        Error::Length { .. }
        | Error::Mechanism(_)
        | Error::Tensor(_)
        | Error::Threads(_)
        | Error::Adapters { .. }
        | Error::Head { .. }
        | Error::Keep { .. }
        | Error::Stopped { .. } => return None,
    })
}
