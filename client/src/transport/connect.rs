//! TCP and TLS beneath gRPC.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use fedner_proto::FRAME_BYTES;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use super::Error;
use crate::config::settings::host_and_port;

const CONNECT: Duration = Duration::from_secs(5);
/// Notices a peer that vanished behind a VPN or a proxy during a long poll or a transfer.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(20);
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// A channel to HOST:PORT that connects on first use.
pub(super) fn channel(address: &str, config: ClientConfig) -> Result<Channel, Error> {
    let setup = |reason: String| Error::Setup(reason);
    let (host, port) = host_and_port(address)
        .ok_or_else(|| setup(format!("`{address}` is not an address: expected HOST:PORT")))?;
    let host = host.to_owned();
    let name = ServerName::try_from(host.clone()).map_err(|e| setup(e.to_string()))?;
    let tls = TlsConnector::from(Arc::new(config));
    let connector = tower::service_fn(move |_| {
        let (host, name, tls) = (host.clone(), name.clone(), tls.clone());
        async move {
            let tcp = TcpStream::connect((host.as_str(), port)).await?;
            tcp.set_nodelay(true)?;
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
