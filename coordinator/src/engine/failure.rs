//! Why a request was not carried out: the peer's fault, or ours.

use fedner_round::Rejection;
use fedner_shared::refusal::{Code, Refusal};

use crate::{aggregate, authority, blobs, keys, store};

/// The answer to a request that was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The peer's fault: told to the peer, counted, nothing changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Our own fault: logged where it is answered.
    #[error(transparent)]
    Fault(#[from] Fault),
}

#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Blobs(#[from] blobs::Error),
    #[error(transparent)]
    Aggregate(#[from] aggregate::Error),
    #[error(transparent)]
    Authority(#[from] authority::Error),
    #[error(transparent)]
    Keys(keys::Error),
    #[error("the weights of a version cannot be read: {0}")]
    Checkpoint(#[from] fedner_shared::checkpoint::Error),
    #[error("a background task was cut off: {0}")]
    Task(#[from] tokio::task::JoinError),
    #[error("the coordinator is stopping")]
    Stopped,
    /// The engine goes on, and answers nothing until its store is reached.
    #[error("the store is not reached at present")]
    Away,
    #[error("the store contradicts itself: {0}")]
    Inconsistent(String),
}

impl Failure {
    /// Says in the log what a task of our own could not do. What the engine has said already is no ERROR of the task:
    /// that it has ended, or waits for its store.
    pub(crate) fn log(&self, what: &'static str) {
        if matches!(self, Self::Fault(Fault::Stopped | Fault::Away)) {
            tracing::debug!(failure = %self, "{what}");
        } else {
            tracing::error!(failure = %self, "{what}");
        }
    }
}

impl Fault {
    /// A full disk is ours to mend but worth telling the peer: it may try again later.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Store(error) => error.is_full(),
            Self::Blobs(error) => error.is_full(),
            Self::Aggregate(aggregate::Error::Io(error)) => {
                error.kind() == std::io::ErrorKind::StorageFull
            }
            Self::Aggregate(_)
            | Self::Authority(_)
            | Self::Keys(_)
            | Self::Checkpoint(_)
            | Self::Task(_)
            | Self::Stopped
            | Self::Away
            | Self::Inconsistent(_) => false,
        }
    }

    /// What somebody, or time, may mend: the request may be made again.
    pub fn passes(&self) -> bool {
        match self {
            Self::Blobs(error) => error.code().is_some(),
            Self::Store(error) => error.code().is_some(),
            Self::Aggregate(_)
            | Self::Authority(_)
            | Self::Keys(_)
            | Self::Checkpoint(_)
            | Self::Task(_)
            | Self::Stopped
            | Self::Away
            | Self::Inconsistent(_) => false,
        }
    }
}

impl From<keys::Error> for Failure {
    fn from(error: keys::Error) -> Self {
        match error {
            keys::Error::Refused(refusal) => Self::Refused(refusal),
            keys::Error::Store(error) => error.into(),
            error @ (keys::Error::File { .. }
            | keys::Error::Authority { .. }
            | keys::Error::Make(_)
            | keys::Error::Key { .. }
            | keys::Error::Sign(_)
            | keys::Error::Tls(_)) => Self::Fault(Fault::Keys(error)),
        }
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self::Refused(rejection.into())
    }
}

macro_rules! fault_from {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Fault(error.into())
            }
        })*
    };
}
fault_from!(
    store::Error,
    blobs::Error,
    aggregate::Error,
    authority::Error,
    tokio::task::JoinError
);

impl Failure {
    pub(crate) fn refuse(code: Code, message: impl Into<String>) -> Self {
        Self::Refused(Refusal::new(code, message))
    }
}
