//! TCP and TLS beneath gRPC.

use std::io;
use std::time::Duration;

use fedner_host::address::{Address, Addresses};
use fedner_host::turn::Turn;
use fedner_proto::FRAME_BYTES;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tonic::transport::{Channel, Endpoint};

use super::Error;
use crate::config::Settings;

/// For what an endpoint without TLS takes to connect.
const CONNECT: Duration = Duration::from_secs(12);
/// Notices a peer that vanished behind a VPN or a proxy during a long poll or a transfer.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(20);
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Whom to reach, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Tried in turn.
    pub addresses: Addresses,
    /// The name that the server's certificate must have; the host of the address unless given.
    pub server_name: Option<String>,
    /// See [`Dialler`](fedner_host::dial::Dialler); the environment decides where none is given.
    pub proxy: Option<String>,
}

impl From<&Settings> for Destination {
    fn from(settings: &Settings) -> Self {
        Self {
            addresses: settings.coordinator.clone(),
            server_name: settings.server_name.clone(),
            proxy: settings.proxy.clone(),
        }
    }
}

/// A channel that connects on first use, to whichever address answers.
pub(super) fn channel(to: &Destination, config: ClientConfig) -> Result<Channel, Error> {
    let (name, proxy) = (to.server_name.as_deref(), to.proxy.as_deref());
    let turn = Turn::new(&to.addresses, name, proxy, config);
    let turn = turn.map_err(|error| Error::Setup(error.to_string()))?;
    let endpoint = endpoint(to.addresses.first())?.connect_timeout(turn.limit());
    let connector = tower::service_fn(move |_| {
        let turn = turn.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(turn.connect().await?)) }
    });
    Ok(endpoint.connect_with_connector_lazy(connector))
}

/// How gRPC is spoken to that address, whatever lies beneath.
pub fn endpoint(address: &Address) -> Result<Endpoint, Error> {
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
