//! Why a call did not succeed.

use std::error::Error as StdError;
use std::io;

use fedner_proto::convert;
use fedner_shared::refusal::{Code, Refusal};
use rustls::AlertDescription;
use tonic::{Code as GrpcCode, Status};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The coordinator, or TLS on either side, says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The connection cannot be made or broke; another attempt may succeed.
    #[error("the coordinator at {address} cannot be reached: {reason}")]
    Unreachable { address: String, reason: String },
    /// The coordinator has a fault of its own; another attempt may succeed.
    #[error("the coordinator has a fault: {0}")]
    Fault(String),
    /// The address or the identity cannot be used.
    #[error("the connection cannot be set up: {0}")]
    Setup(String),
    #[error("a transferred file cannot be read or written: {0}")]
    File(#[from] io::Error),
}

impl Error {
    pub(super) fn of_status(address: &str, status: &Status) -> Self {
        if let Some(refusal) = convert::refusal_of(status) {
            return Self::Refused(refusal);
        }
        if let Some(refusal) = find_tls(status).and_then(|error| tls_refusal(address, error)) {
            return Self::Refused(refusal);
        }
        let reason = innermost(status);
        match status.code() {
            GrpcCode::Internal
            | GrpcCode::DataLoss
            | GrpcCode::Unimplemented
            | GrpcCode::InvalidArgument
            | GrpcCode::PermissionDenied
            | GrpcCode::Unauthenticated
            | GrpcCode::OutOfRange
            | GrpcCode::ResourceExhausted
            | GrpcCode::NotFound
            | GrpcCode::AlreadyExists
            | GrpcCode::FailedPrecondition
            | GrpcCode::Aborted => Self::Fault(format!("{:?}: {reason}", status.code())),
            GrpcCode::Ok
            | GrpcCode::Cancelled
            | GrpcCode::Unknown
            | GrpcCode::DeadlineExceeded
            | GrpcCode::Unavailable => Self::Unreachable {
                address: address.to_owned(),
                reason,
            },
        }
    }

    /// The refusal that a user is shown; every failed call has one but a fault of our own disk.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal.clone()),
            Self::Unreachable { .. } | Self::Fault(_) => {
                Some(Refusal::new(Code::Unreachable, self.to_string()))
            }
            Self::Setup(_) => Some(Refusal::new(Code::ConfigInvalid, self.to_string())),
            Self::File(_) => None,
        }
    }

    /// The code, where the coordinator or TLS refused.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(refusal) => Some(refusal.code),
            Self::Unreachable { .. } | Self::Fault(_) | Self::Setup(_) | Self::File(_) => None,
        }
    }
}

/// The TLS error at the bottom of a status, also where it is wrapped in `io::Error`s, whose
/// `source` passes over what they hold.
fn find_tls<'a>(status: &'a Status) -> Option<&'a rustls::Error> {
    let mut next: Option<&'a (dyn StdError + 'static)> = status.source();
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls has many errors and alerts, all but these about broken connections"
)]
fn tls_refusal(address: &str, error: &rustls::Error) -> Option<Refusal> {
    let message = match error {
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied => {
                format!("the coordinator at {address} does not accept this certificate: {alert:?}")
            }
            AlertDescription::CertificateRequired => {
                let message = format!("the coordinator at {address} wants a certificate");
                return Some(Refusal::new(Code::CertificateMissing, message));
            }
            _ => return None,
        },
        rustls::Error::InvalidCertificate(reason) => format!(
            "the coordinator at {address} does not show the certificate that was expected: {reason}"
        ),
        _ => return None,
    };
    Some(Refusal::new(Code::CertificateUntrusted, message))
}

fn innermost(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut next = status.source();
    while let Some(error) = next {
        text = error.to_string();
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(error: rustls::Error) -> Status {
        let inner = io::Error::new(io::ErrorKind::InvalidData, error);
        Status::from_error(Box::new(io::Error::other(inner)))
    }

    #[test]
    fn certificate_alerts_are_found_however_deep_they_lie() {
        let found = |alert| Error::of_status("h:1", &status(rustls::Error::AlertReceived(alert)));
        let code = |alert| found(alert).code();
        assert_eq!(
            code(AlertDescription::UnknownCA),
            Some(Code::CertificateUntrusted)
        );
        assert_eq!(
            code(AlertDescription::CertificateRequired),
            Some(Code::CertificateMissing)
        );
        assert!(matches!(
            found(AlertDescription::InternalError),
            Error::Unreachable { .. }
        ));
    }

    #[test]
    fn refusals_come_through_and_faults_stay_faults() {
        let refusal = Refusal::new(Code::RoundStale, "round 1 is over");
        let error = Error::of_status("h:1", &convert::status_of(&refusal));
        assert_eq!(error.refusal(), Some(refusal));
        let fault = Error::of_status("h:1", &Status::internal("disk"));
        assert!(matches!(fault, Error::Fault(_)));
        assert_eq!(fault.code(), None);
    }
}
