//! Whom the coordinator trusts where it is a client of an object store or a database.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// TLS 1.3 that trusts the machine's authorities, and those in the file that `variable` names.
pub(crate) fn trusting(bundle: Option<&Path>, variable: &str) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if let Some(path) = bundle {
        let bundle = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        let bundle: Vec<CertificateDer<'_>> =
            bundle.map_err(|error| format!("{variable} cannot be read: {error}"))?;
        roots.add_parsable_certificates(bundle);
    }
    if roots.is_empty() {
        return Err(format!(
            "this machine has no certificates of authorities: install ca-certificates, or set {variable}"
        ));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
