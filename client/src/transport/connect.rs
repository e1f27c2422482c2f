//! TCP and TLS beneath gRPC.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use fedner_host::dial::Dialler;
use fedner_proto::FRAME_BYTES;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use super::Error;
use crate::config::Settings;
use crate::config::settings::host_and_port;

/// For all addresses of a name, a proxy and the handshake together.
const CONNECT: Duration = Duration::from_secs(12);
/// Notices a peer that vanished behind a VPN or a proxy during a long poll or a transfer.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(20);
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Whom to reach, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// HOST:PORT.
    pub address: String,
    /// The name that the server's certificate must have; the host of the address unless given.
    pub server_name: Option<String>,
    /// See [`Dialler`]; the environment decides where none is given.
    pub proxy: Option<String>,
}

impl From<&Settings> for Destination {
    fn from(settings: &Settings) -> Self {
        Self {
            address: settings.coordinator.clone(),
            server_name: settings.server_name.clone(),
            proxy: settings.proxy.clone(),
        }
    }
}

/// A channel that connects on first use.
pub(super) fn channel(to: &Destination, config: ClientConfig) -> Result<Channel, Error> {
    let setup = |reason: String| Error::Setup(reason);
    let address = &to.address;
    let (host, port) = host_and_port(address)
        .ok_or_else(|| setup(format!("`{address}` is not an address: expected HOST:PORT")))?;
    let name = to.server_name.as_deref().unwrap_or(host).to_owned();
    let name = ServerName::try_from(name).map_err(|e| setup(e.to_string()))?;
    let dialler =
        Dialler::new(host, port, to.proxy.as_deref()).map_err(|e| setup(e.to_string()))?;
    let tls = TlsConnector::from(Arc::new(config));
    let connector = tower::service_fn(move |_| {
        let (dialler, name, tls) = (dialler.clone(), name.clone(), tls.clone());
        async move {
            let tcp = dialler.dial().await?;
            let stream = tls.connect(name, tcp).await?;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    Ok(endpoint(address)?.connect_with_connector_lazy(connector))
}

/// How gRPC is spoken to HOST:PORT, whatever lies beneath.
pub fn endpoint(address: &str) -> Result<Endpoint, Error> {
    let setup = |error: tonic::transport::Error| Error::Setup(error.to_string());
    Ok(Endpoint::from_shared(format!("http://{address}"))
        .map_err(setup)?
        .user_agent(crate::SOFTWARE)
        .map_err(setup)?
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES))
}
