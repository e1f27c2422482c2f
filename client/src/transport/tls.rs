//! TLS settings: 1.3 only, and no other roots than the coordinator's own authorities.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use super::Error;
use super::pinned::PinnedAuthority;
use super::shown::Showing;

/// What mutual TLS needs. It never shows its key in `Debug`.
#[derive(Clone)]
pub struct TlsIdentity {
    pub key_pem: Zeroizing<String>,
    pub certificate_pem: String,
    pub authority_pem: String,
}

impl std::fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsIdentity")
            .field("certificate_pem", &self.certificate_pem)
            .finish_non_exhaustive()
    }
}

/// For everything after enrolment: the roots are the authority of the enrolment, and those that came after it.
pub(super) fn mutual(identity: &TlsIdentity) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(identity.authority_pem.as_bytes()) {
        roots.add(authority.map_err(setup)?).map_err(setup)?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
    let verifier = verifier.build().map_err(setup)?;
    let chain = vec![certificate(&identity.certificate_pem)?];
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).map_err(setup)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Showing(verifier)))
        .with_client_auth_cert(chain, key)
        .map_err(setup)?;
    speak_h2(&mut config);
    Ok(config)
}

/// For enrolment: the root is whatever certificate of the server's chain has this SHA-256.
pub(super) fn pinned(authority_sha256: [u8; 32]) -> Result<ClientConfig, Error> {
    let verifier: Arc<dyn ServerCertVerifier> =
        Arc::new(PinnedAuthority::new(authority_sha256, provider()));
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Showing(verifier)))
        .with_no_client_auth();
    speak_h2(&mut config);
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn speak_h2(config: &mut ClientConfig) {
    config.alpn_protocols = vec![b"h2".to_vec()];
}

fn certificate(pem: &str) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(setup)
}

fn setup(error: impl ToString) -> Error {
    Error::Setup(error.to_string())
}
