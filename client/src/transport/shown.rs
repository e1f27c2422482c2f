//! What a server showed instead of what was expected, so that people can be told.

use std::sync::Arc;

use fedner_shared::text;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

/// A certificate that was not accepted, and why.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(super) struct Shown {
    pub(super) reason: CertificateError,
    /// Whose it says it is, and who says so.
    pub(super) subject: String,
    pub(super) issuer: String,
}

impl Shown {
    fn of(certificate: &CertificateDer<'_>, reason: CertificateError) -> Self {
        let names = X509Certificate::from_der(certificate)
            .ok()
            .map(|(_, read)| {
                (
                    text::brief(&read.subject().to_string()),
                    text::brief(&read.issuer().to_string()),
                )
            });
        let unread = || "(cannot be read)".to_owned();
        let (subject, issuer) = names.unwrap_or_else(|| (unread(), unread()));
        Self {
            reason,
            subject,
            issuer,
        }
    }

    /// What lies in an error of TLS.
    pub(super) fn in_error(error: &Error) -> Option<&Self> {
        let Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) = error else {
            return None;
        };
        inner.downcast_ref()
    }
}

/// Verifies as another verifier does, and keeps what it did not accept.
#[derive(Debug)]
pub(super) struct Showing(pub(super) Arc<dyn ServerCertVerifier>);

impl ServerCertVerifier for Showing {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.0
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        verified.map_err(|error| {
            if let Error::InvalidCertificate(reason) = error {
                let shown = Arc::new(Shown::of(end_entity, reason));
                Error::InvalidCertificate(CertificateError::Other(OtherError(shown)))
            } else {
                error
            }
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
