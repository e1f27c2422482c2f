//! TCP in turmoil's network, with the caller's certificate sent ahead where TLS would prove it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use fedner_client::agent::Network;
use fedner_client::transport;
use fedner_client::transport::TlsIdentity;
use fedner_coordinator::door::Door;
use fedner_coordinator::limits::Limits;
use fedner_coordinator::tls::Peer;
use fedner_host::address::Address;
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::DropGuard;
use tonic::transport::Channel;
use tonic::transport::server::Connected;
use turmoil::net::{TcpListener, TcpStream};

use crate::machine::SimMachine;

pub(crate) const COORDINATOR: &str = "coordinator";
const PORT: u16 = 7443;
/// A caller that does not say who it is in this time is not one.
const GREETING: Duration = Duration::from_secs(10);

pub(crate) fn address() -> Address {
    Address {
        host: COORDINATOR.to_owned(),
        port: PORT,
    }
}

/// A connection that ends with the power of its machine.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    machine: Arc<SimMachine>,
    peer: Option<Peer>,
    /// Says that it is closed when dropped.
    _gone: Option<DropGuard>,
}

impl Connection {
    fn check(&self) -> io::Result<()> {
        if self.machine.is_powered() {
            return Ok(());
        }
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

/// Accepts callers until the listening task ends.
pub(crate) async fn listen(
    machine: Arc<SimMachine>,
    door: Arc<Door>,
) -> io::Result<ReceiverStream<io::Result<Connection>>> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Ok((stream, address)) = listener.accept().await {
            let (machine, sender, door) = (machine.clone(), sender.clone(), door.clone());
            tokio::spawn(async move {
                let greeting = greet(stream, address, machine, &door);
                let greeted = tokio::time::timeout(GREETING, greeting).await;
                if let Ok(Ok(connection)) = greeted {
                    let _ = sender.send(Ok(connection)).await;
                }
            });
        }
    });
    Ok(ReceiverStream::new(receiver))
}

async fn greet(
    mut stream: TcpStream,
    address: SocketAddr,
    machine: Arc<SimMachine>,
    door: &Door,
) -> io::Result<Connection> {
    let length = stream.read_u16().await?;
    let mut certificate = vec![0; length.into()];
    stream.read_exact(&mut certificate).await?;
    let guest = door.guest(&certificate);
    let peer = Peer::new(address, Some(certificate), guest);
    Ok(Connection {
        stream,
        machine,
        _gone: Some(peer.close_guard()),
        peer: Some(peer),
    })
}

/// The network as one machine sees it.
#[derive(Debug)]
pub(crate) struct SimNetwork(pub(crate) Arc<SimMachine>);

impl Network for SimNetwork {
    fn dial(
        &self,
        to: &transport::Destination,
        identity: &TlsIdentity,
    ) -> Result<Channel, transport::Error> {
        let certificate = CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes())
            .map_err(|error| transport::Error::Setup(error.to_string()))?;
        dial(to.addresses.first(), certificate.to_vec(), self.0.clone())
    }
}

/// A channel by which the holder of `certificate` (DER) calls.
pub(crate) fn dial(
    address: &Address,
    certificate: Vec<u8>,
    machine: Arc<SimMachine>,
) -> Result<Channel, transport::Error> {
    let target = address.to_string();
    let connector = tower::service_fn(move |_| {
        let (target, certificate, machine) = (target.clone(), certificate.clone(), machine.clone());
        async move {
            let mut stream = TcpStream::connect(target).await?;
            stream.write_u16(certificate.len() as u16).await?;
            stream.write_all(&certificate).await?;
            Ok::<_, io::Error>(TokioIo::new(Connection {
                stream,
                machine,
                peer: None,
                _gone: None,
            }))
        }
    });
    Ok(transport::endpoint(address)?.connect_with_connector_lazy(connector))
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let unknown = || Peer::new(nobody, None, Door::new(Limits::default()).guest(&[]));
        self.peer.clone().unwrap_or_else(unknown)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        if self.machine.is_asleep(cx.waker()) {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        if self.machine.is_asleep(cx.waker()) {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
