//! Why a command did not succeed, and how that looks.

use std::process::ExitCode;

use fedner_host::output::Output;
use fedner_proto::convert;
use fedner_shared::refusal::{Code, Refusal};

use crate::engine::Failure;

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// Exit status 1.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Exit status 3.
    #[error("{0}")]
    Fault(String),
}

impl Failed {
    pub(super) fn fault(message: impl Into<String>) -> Self {
        Self::Fault(message.into())
    }

    pub(super) fn refuse(code: Code, message: impl Into<String>) -> Self {
        Self::Refused(Refusal::new(code, message))
    }

    /// A refusal where there is a code, else a fault.
    fn with(code: Option<Code>, message: String) -> Self {
        match code {
            Some(code) => Self::refuse(code, message),
            None => Self::fault(message),
        }
    }

    /// For input and output on files of our own.
    pub(super) fn io(verb: &str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let what = format!("cannot {verb} {}", path.display());
        move |error| Self::Fault(format!("{what}: {error}"))
    }
}

impl From<tonic::Status> for Failed {
    fn from(status: tonic::Status) -> Self {
        if let Some(refusal) = convert::refusal_of(&status) {
            return Self::Refused(refusal);
        }
        if status.code() == tonic::Code::Unavailable {
            return Self::refuse(
                Code::Unreachable,
                format!("the coordinator does not answer: {}", status.message()),
            );
        }
        Self::fault(format!("the coordinator failed: {}", status.message()))
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => Self::Refused(refusal),
            Failure::Fault(fault) => Self::fault(fault.to_string()),
        }
    }
}

impl From<crate::keys::Error> for Failed {
    fn from(error: crate::keys::Error) -> Self {
        use crate::keys::Error;
        match error {
            Error::Refused(refusal) => Self::Refused(refusal),
            Error::Authority { .. } | Error::Key { .. } => {
                Self::refuse(Code::StateInvalid, error.to_string())
            }
            Error::Store(error) => error.into(),
            Error::File { .. } | Error::Make(_) | Error::Sign(_) | Error::Tls(_) => {
                Self::fault(error.to_string())
            }
        }
    }
}

impl From<crate::store::Error> for Failed {
    fn from(error: crate::store::Error) -> Self {
        Self::with(error.code(), error.to_string())
    }
}

impl From<crate::blobs::Error> for Failed {
    fn from(error: crate::blobs::Error) -> Self {
        let damaged = matches!(error, crate::blobs::Error::Corrupt { .. }) || error.is_missing();
        if damaged {
            return Self::refuse(Code::StateInvalid, error.to_string());
        }
        Self::with(error.code(), error.to_string())
    }
}

impl From<crate::config::Error> for Failed {
    fn from(error: crate::config::Error) -> Self {
        Self::refuse(Code::ConfigInvalid, error.to_string())
    }
}

impl From<std::io::Error> for Failed {
    /// Of stdout.
    fn from(error: std::io::Error) -> Self {
        Self::fault(format!("cannot write to stdout: {error}"))
    }
}

impl Failed {
    pub(super) fn report(&self, output: &Output) -> ExitCode {
        match self {
            Self::Refused(refusal) => output.refused(refusal),
            Self::Fault(message) => output.fault(message),
        }
    }
}
