//! How processes of one federation know each other: TLS 1.3, in which both ends show a certificate of the authority
//! that only a process has. It is made anew for each connection, so nothing of it has to be kept or renewed.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::authority::{PROCESS, Role};
use crate::identity::Caller;
use crate::keys::{self, Keys};
use crate::tls;

/// What both ends show, and whom they trust.
struct Shown {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    trusted: Arc<RootCertStore>,
}

impl Shown {
    fn new(keys: &Keys) -> Result<Self, keys::Error> {
        let (identity, authorities) = keys.process()?;
        let pem = |error| keys::Error::Tls(tls::Error::Pem(error));
        let mut trusted = RootCertStore::empty();
        for authority in authorities {
            let der = CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes());
            trusted.add(der.map_err(pem)?).map_err(tls::Error::Config)?;
        }
        let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes());
        Ok(Self {
            chain: vec![certificate.map_err(pem)?],
            key: PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(pem)?,
            trusted: Arc::new(trusted),
        })
    }
}

/// For one connection that another process begins.
pub(super) fn server(keys: &Keys) -> Result<ServerConfig, keys::Error> {
    let shown = Shown::new(keys)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(shown.trusted, provider.clone())
        .build()
        .map_err(tls::Error::Verifier)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls::Error::Config)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(shown.chain, shown.key)
        .map_err(tls::Error::Config)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// For one connection to another process, and the name that it must show.
pub(super) fn client(keys: &Keys) -> Result<(ClientConfig, ServerName<'static>), keys::Error> {
    let shown = Shown::new(keys)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls::Error::Config)?
        .with_root_certificates(shown.trusted)
        .with_client_auth_cert(shown.chain, shown.key)
        .map_err(tls::Error::Config)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from(PROCESS).map_err(|_| tls::Error::Name)?;
    Ok((config, name))
}

/// Whether a certificate that TLS has verified is a process's, and not that of an institution or a person.
pub(super) fn is_process(certificate: Option<&CertificateDer<'_>>) -> bool {
    let caller = certificate.and_then(|der| Caller::of_certificate(der).ok());
    caller.is_some_and(|caller| caller.role == Role::Coordinator)
}
