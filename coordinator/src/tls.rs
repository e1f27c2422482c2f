//! TLS 1.3 for the listening socket. There is no plaintext mode.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use fedner_host::machine::Machine as _;
use fedner_host::machine::ThisMachine;
use fedner_shared::refusal::Code;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::authority::{Authority, Identity};
use crate::door::{Activity, Door, Guest, Place};
use crate::identity::Caller;
use crate::{observe, proxied};

/// A peer that cannot finish a handshake in this time is not one.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Every connection has a number of its own.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
/// How often a connection is looked at: whether it is used, and its certificate still holds.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the TLS configuration is not accepted: {0}")]
    Config(#[from] rustls::Error),
    #[error("a certificate or key in PEM cannot be read: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    #[error("client certificates cannot be verified: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("the name of a process is not a name")]
    Name,
}

/// TLS 1.3 only. A client certificate is verified where one is given; enrolment has none, and
/// every other call asks for it. The first of the authorities is the one that `server` is of.
pub fn server_config(authorities: &[&Authority], server: &Identity) -> Result<ServerConfig, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    let mut chain = vec![CertificateDer::from_pem_slice(
        server.certificate.as_bytes(),
    )?];
    for authority in authorities {
        let authority = CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes())?;
        // It is sent too, if it is the server's: an enrolling client knows its fingerprint only.
        if chain.len() == 1 {
            chain.push(authority.clone());
        }
        roots.add(authority)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes())?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// What is known of the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    pub address: SocketAddr,
    /// Verified by TLS; DER.
    pub certificate: Option<Vec<u8>>,
    pub guest: Arc<Guest>,
    pub(crate) activity: Arc<Activity>,
    /// Cancelled when the connection is closed.
    gone: CancellationToken,
    /// Cancelled when it is to be closed.
    cut: CancellationToken,
    /// Of no other connection.
    number: u64,
}

impl Peer {
    pub fn new(address: SocketAddr, certificate: Option<Vec<u8>>, guest: Arc<Guest>) -> Self {
        Self {
            address,
            certificate,
            guest,
            activity: Activity::new(),
            gone: CancellationToken::new(),
            cut: CancellationToken::new(),
            number: CONNECTIONS.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Which connection it is, and what is cancelled when that is closed.
    pub fn connection(&self) -> (u64, &CancellationToken) {
        (self.number, &self.gone)
    }

    /// The same, of a connection that this token closes.
    #[must_use]
    fn closed_by(self, cut: CancellationToken) -> Self {
        Self { cut, ..self }
    }

    /// Closes the connection.
    pub(crate) fn cut(&self) {
        self.cut.cancel();
    }

    /// Says that the connection is closed when dropped.
    pub fn close_guard(&self) -> DropGuard {
        self.gone.clone().drop_guard()
    }
}

/// An accepted connection.
#[derive(Debug)]
pub struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    /// Resolves when the connection is to be closed.
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Tells the watch that the connection is gone.
    _gone: DropGuard,
    _place: Place,
}

/// The next connection; `None` after `stop`.
pub(crate) async fn next_connection(
    listener: &TcpListener,
    stop: &CancellationToken,
) -> Option<(TcpStream, SocketAddr)> {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return None,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => return Some(accepted),
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to be free.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Accepts connections until `stop`, as many as the door has places for; handshakes run beside each other. Each
/// has the configuration of the moment.
pub fn accept(
    (listener, balancers): (TcpListener, Vec<IpAddr>),
    config: watch::Receiver<Arc<ServerConfig>>,
    door: Arc<Door>,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Some((stream, address)) = next_connection(&listener, &stop).await {
            let acceptor = TlsAcceptor::from(config.borrow().clone());
            let (sender, door) = (sender.clone(), door.clone());
            if balancers.contains(&address.ip().to_canonical()) {
                tokio::spawn(async move {
                    if let Some((stream, address)) = behind(stream, address).await
                        && let Some(place) = door.enter(address.ip()).await
                    {
                        greet(acceptor, stream, address, place, door, sender).await;
                    }
                });
                continue;
            }
            let Some(place) = door.enter(address.ip()).await else {
                continue;
            };
            tokio::spawn(greet(acceptor, stream, address, place, door, sender));
        }
    });
    ReceiverStream::new(receiver)
}

/// Whom a balancer passes on.
async fn behind(mut stream: TcpStream, balancer: SocketAddr) -> Option<(TcpStream, SocketAddr)> {
    let header = proxied::header(&mut stream);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, header).await {
        Ok(Ok(caller)) => Some((stream, caller.unwrap_or(balancer))),
        Ok(Err(error)) => {
            tracing::debug!(%balancer, %error, "a balancer did not say for whom it speaks");
            None
        }
        Err(_) => None,
    }
}

/// The handshake of one connection, which is then served.
async fn greet(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
    place: Place,
    door: Arc<Door>,
    sender: mpsc::Sender<io::Result<Connection>>,
) {
    let cut = place.cut();
    let connection = tokio::select! {
        biased;
        () = cut.cancelled() => None,
        connection = handshake(&acceptor, stream, address, place, &door) => connection,
    };
    if let Some(connection) = connection {
        let _ = sender.send(Ok(connection)).await;
    }
}

/// Closes a connection that nobody uses, or whose certificate has run out.
async fn look_after(peer: Peer, door: Arc<Door>, cut: CancellationToken) {
    let certificate = peer.certificate.as_deref();
    let caller = certificate.and_then(|der| Caller::of_certificate(der).ok());
    let known = caller.is_some();
    loop {
        tokio::select! {
            biased;
            () = peer.gone.cancelled() => return,
            () = cut.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if let Some(caller) = &caller
            && let Err(refusal) = caller.check_expiry(ThisMachine.now())
        {
            observe::count_refusal(refusal.code);
            tracing::info!(code = %refusal.code, message = %refusal.message, "closed a connection");
            break;
        }
        let unused = peer.activity.idle().is_some_and(|idle| {
            let limits = door.limits();
            let patience = if known && idle.used {
                limits.idle()
            } else {
                limits.first_request()
            };
            idle.since.elapsed() >= patience
        });
        if unused {
            observe::count_unused();
            break;
        }
    }
    cut.cancel();
}

async fn handshake(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
    mut place: Place,
    door: &Arc<Door>,
) -> Option<Connection> {
    let _ = stream.set_nodelay(true);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates();
            let certificate = certificates
                .and_then(|chain| chain.first())
                .map(|der| der.to_vec());
            if let Some(certificate) = &certificate {
                place.show(certificate);
            }
            let peer = Peer::new(address, certificate, place.guest()).closed_by(place.cut());
            let (cut, gone) = (place.cut(), peer.close_guard());
            let watching = look_after(peer.clone(), door.clone(), cut.clone());
            tokio::spawn(watching);
            Some(Connection {
                stream,
                peer,
                cut: Box::pin(cut.cancelled_owned()),
                _gone: gone,
                _place: place,
            })
        }
        Ok(Err(error)) => {
            let ours = error
                .get_ref()
                .and_then(|e| e.downcast_ref::<rustls::Error>());
            if let Some(rustls::Error::InvalidCertificate(reason)) = ours {
                observe::count_refusal(Code::CertificateUntrusted);
                tracing::info!(%address, ?reason, code = %Code::CertificateUntrusted, "refused a client certificate");
            } else {
                tracing::debug!(%address, %error, "a handshake failed");
            }
            None
        }
        Err(_) => {
            tracing::debug!(%address, "a handshake took too long");
            None
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
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
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
