//! Why a call did not succeed.

use std::error::Error as StdError;
use std::io;

use fedner_host::machine::{Machine as _, ThisMachine};
use fedner_proto::convert;
use fedner_shared::refusal::{Code, Refusal};
use rustls::{AlertDescription, CertificateError};
use tonic::{Code as GrpcCode, Status};

use super::shown::Shown;

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
        if let Some(refusal) = find::<rustls::Error>(status).and_then(|e| tls_refusal(address, e)) {
            return Self::Refused(refusal);
        }
        if let Some(refused) = find::<fedner_host::dial::Error>(status) {
            return Self::Refused(Refusal::new(Code::ProxyRefused, refused.to_string()));
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

    /// Whether another address of the coordinator may answer as it should.
    pub fn is_of_one_address(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Fault(_))
    }

    /// The code, where the coordinator or TLS refused.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(refusal) => Some(refusal.code),
            Self::Unreachable { .. } | Self::Fault(_) | Self::Setup(_) | Self::File(_) => None,
        }
    }
}

/// The error of that kind at the bottom of a status, also where it is wrapped in `io::Error`s, whose
/// `source` passes over what they hold.
fn find<'a, E: StdError + 'static>(status: &'a Status) -> Option<&'a E> {
    let mut next: Option<&'a (dyn StdError + 'static)> = status.source();
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
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
    if let Some(shown) = Shown::in_error(error) {
        return Some(shown_refusal(address, shown));
    }
    let message = match error {
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            let message =
                format!("the coordinator at {address} says that this certificate has expired");
            return Some(Refusal::new(Code::CertificateExpired, message));
        }
        rustls::Error::InvalidMessage(_) => {
            let message = format!("what answers at {address} does not speak TLS");
            return Some(Refusal::new(Code::NoTls, message));
        }
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
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

/// Each cause has a code of its own, since each is mended elsewhere.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls has many reasons, all but these about a certificate of another authority"
)]
fn shown_refusal(address: &str, shown: &Shown) -> Refusal {
    let now = ThisMachine.now();
    let Shown {
        reason,
        subject,
        issuer,
    } = shown;
    let certificate = format!("the coordinator at {address} shows a certificate of `{subject}`");
    let (code, message) = match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
            Code::ServerExpired,
            format!("{certificate} that has expired ({reason}); the clock here says {now}"),
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
            Code::ServerNotYetValid,
            format!("{certificate} that does not hold yet ({reason}); the clock here says {now}"),
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            Code::ServerName,
            format!("{certificate} that is for another name: {reason}"),
        ),
        _ => (
            Code::CertificateUntrusted,
            format!(
                "{certificate}, issued by `{issuer}` and not by the authority that was expected \
                 ({reason}): something on the way inspects TLS, or it is another server"
            ),
        ),
    };
    Refusal::new(code, message)
}

fn innermost(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut next = status.source();
    while let Some(error) = next {
        text = error.to_string();
        next = error.source();
    }
    // What a library's manual says of it helps nobody here.
    if text.contains("close_notify") {
        return "the connection was closed".to_owned();
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
    fn each_cause_of_a_failed_handshake_has_its_code() {
        let shown = |reason| {
            let shown = Shown {
                reason,
                subject: "coordinator".to_owned(),
                issuer: "authority".to_owned(),
            };
            shown_refusal("h:1", &shown).code
        };
        for (reason, code) in [
            (CertificateError::Expired, Code::ServerExpired),
            (CertificateError::NotValidYet, Code::ServerNotYetValid),
            (CertificateError::NotValidForName, Code::ServerName),
            (CertificateError::UnknownIssuer, Code::CertificateUntrusted),
            (CertificateError::BadEncoding, Code::CertificateUntrusted),
        ] {
            assert_eq!(shown(reason.clone()), code, "{reason:?}");
        }
        let plain = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        let found = Error::of_status("h:1", &status(plain));
        assert_eq!(found.code(), Some(Code::NoTls));
        let refused = fedner_host::dial::Error::Refused {
            proxy: "p:1".to_owned(),
            reason: "407".to_owned(),
        };
        let refused = Status::from_error(Box::new(io::Error::other(refused)));
        let found = Error::of_status("h:1", &refused);
        assert_eq!(found.code(), Some(Code::ProxyRefused));
    }

    #[test]
    fn what_cannot_be_reached_or_set_up_has_a_code_for_the_user_alone() {
        let unreachable = Error::Unreachable {
            address: "h:1".to_owned(),
            reason: "no route".to_owned(),
        };
        let setup = Error::Setup("no such name".to_owned());
        for (error, code) in [
            (unreachable, Code::Unreachable),
            (Error::Fault("disk".to_owned()), Code::Unreachable),
            (setup, Code::ConfigInvalid),
        ] {
            assert_eq!(error.refusal().map(|refusal| refusal.code), Some(code));
            assert_eq!(error.code(), None, "the other side refused nothing");
        }
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
