//! Trust in a server by its authority's fingerprint, for the one call before enrolment.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};

/// Accepts a server whose chain holds the authority of that fingerprint, and verifies everything
/// else as usual against that root.
#[derive(Debug)]
pub(super) struct PinnedAuthority {
    sha256: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl PinnedAuthority {
    pub(super) fn new(sha256: [u8; 32], provider: Arc<CryptoProvider>) -> Self {
        Self { sha256, provider }
    }

    fn is_pinned(&self, certificate: &CertificateDer<'_>) -> bool {
        Sha256::digest(certificate.as_ref()).as_slice() == self.sha256
    }
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let unknown = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let authority = intermediates
            .iter()
            .find(|certificate| self.is_pinned(certificate))
            .ok_or_else(unknown)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let provider = Arc::clone(&self.provider);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::crypto::aws_lc_rs;

    use super::*;

    struct Authority {
        der: CertificateDer<'static>,
        issuer: Issuer<'static, KeyPair>,
    }

    fn authority() -> Authority {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let der = params.self_signed(&key).expect("certificate").der().clone();
        Authority {
            der,
            issuer: Issuer::new(params, key),
        }
    }

    fn leaf(authority: &Authority, name: &str) -> CertificateDer<'static> {
        let key = KeyPair::generate().expect("key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("params");
        let certificate = params.signed_by(&key, &authority.issuer).expect("signed");
        certificate.der().clone()
    }

    fn verify(
        pin: &Authority,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &str,
    ) -> Result<ServerCertVerified, Error> {
        let sha256 = Sha256::digest(pin.der.as_ref()).into();
        let verifier = PinnedAuthority::new(sha256, Arc::new(aws_lc_rs::default_provider()));
        let name = ServerName::try_from(name.to_owned()).expect("name");
        verifier.verify_server_cert(leaf, chain, &name, &[], UnixTime::now())
    }

    #[test]
    fn only_a_leaf_of_the_pinned_authority_and_of_that_name_is_trusted() {
        let (ours, theirs) = (authority(), authority());
        let good = leaf(&ours, "localhost");
        let chain = [ours.der.clone()];
        assert!(verify(&ours, &good, &chain, "localhost").is_ok());
        assert!(
            verify(&ours, &good, &chain, "elsewhere").is_err(),
            "another name"
        );
        assert!(verify(&ours, &good, &[], "localhost").is_err(), "no root");
        let forged = leaf(&theirs, "localhost");
        assert!(
            verify(&ours, &forged, &chain, "localhost").is_err(),
            "shown beside another authority's leaf"
        );
        assert!(
            verify(&theirs, &good, &chain, "localhost").is_err(),
            "another pin"
        );
        assert!(
            verify(&ours, &leaf(&ours, "127.0.0.1"), &chain, "127.0.0.1").is_ok(),
            "an IP address"
        );
    }

    #[test]
    fn the_authority_itself_is_no_server() {
        let ours = authority();
        assert!(
            verify(
                &ours,
                &ours.der,
                std::slice::from_ref(&ours.der),
                "localhost"
            )
            .is_err()
        );
    }
}
