//! gRPC over TLS 1.3 with any certificate, or with none: what a stranger, an institution or a
//! dashboard would do without our programs.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use fedner_proto::FRAME_BYTES;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

/// Certificate and key files in PEM.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'a> {
    pub certificate: &'a Path,
    pub key: &'a Path,
}

/// Dials `address`, trusting the authority whose certificate is in the file `authority`.
pub async fn channel(
    address: &str,
    authority: &Path,
    credentials: Option<Credentials<'_>>,
) -> Result<Channel> {
    let read =
        |path: &Path| std::fs::read(path).with_context(|| format!("read {}", path.display()));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&read(authority)?)?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let mut config = match credentials {
        Some(Credentials { certificate, key }) => builder.with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(&read(certificate)?)?],
            PrivateKeyDer::from_pem_slice(&read(key)?)?,
        )?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let address = address.to_owned();
    let dial = tower::service_fn(move |_: Uri| {
        let (connector, address) = (connector.clone(), address.clone());
        async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from("127.0.0.1").map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, stream).await?))
        }
    });
    Endpoint::from_static("https://coordinator")
        .max_frame_size(FRAME_BYTES)
        .connect_with_connector(dial)
        .await
        .context("connect")
}
