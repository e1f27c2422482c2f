//! The commands' connection to the running coordinator, with the operator's certificate.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fedner_host::dial::DIRECT;
use fedner_host::files::check_secret;
use fedner_host::machine::Machine as _;
use fedner_host::machine::ThisMachine;
use fedner_host::turn::Turn;
use fedner_proto::v1::monitoring_client::MonitoringClient;
use fedner_proto::v1::operations_client::OperationsClient;
use fedner_proto::{FRAME_BYTES, MESSAGE_BYTES};
use fedner_shared::refusal::Code;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tonic::transport::{Channel, Endpoint, Uri};
use zeroize::Zeroizing;

use super::failed::Failed;
use crate::authority::Life;
use crate::config::{Config, Paths};

/// A coordinator whose clock has jumped renews the certificate in its directory within this time.
const RENEWAL: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// With whose certificate a command connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Operator,
    Viewer,
}

impl Who {
    /// The operator where the directory has that certificate, the viewer otherwise.
    pub(super) fn present(paths: &Paths) -> Self {
        if paths.operator_certificate().exists() {
            Self::Operator
        } else {
            Self::Viewer
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Viewer => "viewer",
        }
    }

    fn certificate(self, paths: &Paths) -> PathBuf {
        match self {
            Self::Operator => paths.operator_certificate(),
            Self::Viewer => paths.viewer_certificate(),
        }
    }

    fn key(self, paths: &Paths) -> PathBuf {
        match self {
            Self::Operator => paths.operator_key(),
            Self::Viewer => paths.viewer_key(),
        }
    }
}

/// Waits where the certificate has run out and the coordinator, being at hand, renews it.
async fn await_renewal(paths: &Paths, who: Who) -> Result<(), Failed> {
    let path = who.certificate(paths);
    let began = tokio::time::Instant::now();
    loop {
        let life = fs::read_to_string(&path).map(|pem| Life::of_pem(&pem));
        // What cannot be read is told of where it is used.
        let Ok(Ok(life)) = life else {
            return Ok(());
        };
        if ThisMachine.now() < life.until {
            return Ok(());
        }
        if !paths.authority_key().exists() || began.elapsed() > RENEWAL {
            let message = format!("{} expired at {}", path.display(), life.until);
            return Err(Failed::refuse(Code::CertificateExpired, message));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Dials the coordinator that the directory belongs to.
async fn channel(paths: &Paths, who: Who) -> Result<Channel, Failed> {
    let config = Config::read(paths)?;
    await_renewal(paths, who).await?;
    // The operator's own coordinator: what the environment says of proxies is for others.
    let turn = Turn::new(
        &config.address,
        None,
        Some(DIRECT),
        client_config(paths, who)?,
    )
    .map_err(|error| Failed::refuse(Code::ConfigInvalid, error.to_string()))?;
    let endpoint = Endpoint::from_static("https://coordinator").connect_timeout(turn.limit());
    let dial = tower::service_fn(move |_: Uri| {
        let turn = turn.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(turn.connect().await?)) }
    });
    let endpoint = endpoint
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_frame_size(FRAME_BYTES);
    endpoint
        .connect_with_connector(dial)
        .await
        .map_err(|error| {
            let cause = std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), ToString::to_string);
            Failed::refuse(
                Code::Unreachable,
                format!("no coordinator answers at {}: {cause}", config.address),
            )
        })
}

fn client_config(paths: &Paths, who: Who) -> Result<ClientConfig, Failed> {
    let read = |path: std::path::PathBuf| fs::read(&path).map_err(Failed::io("read", &path));
    let pem = |error: rustls::pki_types::pem::Error| {
        Failed::refuse(
            Code::StateInvalid,
            format!("a key file is damaged: {error}"),
        )
    };
    let tls = |error: rustls::Error| Failed::refuse(Code::StateInvalid, error.to_string());
    let mut roots = RootCertStore::empty();
    let next = Some(paths.next_authority_certificate()).filter(|path| path.exists());
    for path in [paths.authority_certificate()].into_iter().chain(next) {
        // A directory that was made for an operator has all of them in one file.
        for authority in CertificateDer::pem_slice_iter(&read(path)?) {
            roots.add(authority.map_err(pem)?).map_err(tls)?;
        }
    }
    let certificate =
        CertificateDer::from_pem_slice(&read(who.certificate(paths))?).map_err(pem)?;
    check_secret(&who.key(paths))?;
    let key = Zeroizing::new(read(who.key(paths))?);
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(pem)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls)?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .map_err(tls)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

pub(super) async fn operations(paths: &Paths) -> Result<OperationsClient<Channel>, Failed> {
    let channel = channel(paths, Who::Operator).await?;
    let client = OperationsClient::new(channel).max_decoding_message_size(MESSAGE_BYTES);
    super::certificate::renew_if_due(paths, client.clone()).await;
    Ok(client)
}

pub(super) async fn monitoring(paths: &Paths) -> Result<MonitoringClient<Channel>, Failed> {
    monitoring_as(paths, Who::Operator).await
}

pub(super) async fn monitoring_as(
    paths: &Paths,
    who: Who,
) -> Result<MonitoringClient<Channel>, Failed> {
    // Lists of models grow with the history.
    let channel = channel(paths, who).await?;
    Ok(MonitoringClient::new(channel).max_decoding_message_size(64 * MESSAGE_BYTES))
}
