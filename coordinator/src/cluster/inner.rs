//! The socket for the other processes of the federation: they pass on what their callers ask.
//!
//! Whoever is not a process is sent away in the handshake. A process says once for each connection it has accepted whose
//! it is: that call lasts as long as the connection. Each request then names its connection.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use fedner_proto::FRAME_BYTES;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Bytes, Service};

use super::front::NOBODY;
use super::{Seat, identity};
use crate::door::{Door, Place};
use crate::keys::Keys;
use crate::rpc::{Rationed, Rations};
use crate::tls::{Peer, next_connection};

/// The call that says whose a connection is.
pub(super) const CONNECTION: &str = "/fedner.inner/Connection";
/// Names a connection of the other process.
pub(super) const NUMBER: &str = "fedner-connection";
/// Of that call: the caller's address, and the certificate in hexadecimal digits, where there is one.
pub(super) const ADDRESS: &str = "fedner-address";
pub(super) const CERTIFICATE: &str = "fedner-certificate";
/// Said when the connection is to be closed.
pub(super) const CUT: &[u8] = b"cut";

/// Connections of processes, those in the handshake included.
const PROCESSES: usize = 64;
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Calls at the same time: the long polls of all institutions, and a call for each of their connections.
const STREAMS: u32 = 1 << 17;
/// Calls that end before they were looked at, as those of callers that went away.
const RESETS: usize = 1 << 12;
pub(super) const WINDOW: u32 = 1 << 20;
pub(super) const WINDOW_OF_ALL: u32 = 64 << 20;
/// A process that is silent for so long is asked, and has as long to answer.
pub(super) const SILENCE: Duration = Duration::from_secs(5);

/// What is needed to answer.
#[derive(Debug, Clone)]
pub struct Inner {
    pub keys: Arc<Keys>,
    pub door: Arc<Door>,
    /// The services of this process while it leads, with their rations.
    pub services: Rationed<Local>,
}

impl Inner {
    pub fn new(keys: Arc<Keys>, door: Arc<Door>, rations: &Rations, local: Local) -> Self {
        let services = tower::Layer::layer(rations, local);
        Self {
            keys,
            door,
            services,
        }
    }

    /// Accepts connections of other processes until `stop`.
    pub async fn accept(self, listener: TcpListener, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(PROCESSES));
        while let Some((stream, address)) = next_connection(&listener, &stop).await {
            let Ok(place) = places.clone().try_acquire_owned() else {
                tracing::warn!(%address, "too many processes are connected");
                continue;
            };
            let (inner, stop) = (self.clone(), stop.clone());
            tokio::spawn(async move {
                let _place = place;
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = inner.serve(stream, address) => {}
                }
            });
        }
    }

    async fn serve(self, stream: TcpStream, address: SocketAddr) {
        let config = match identity::server(&self.keys) {
            Ok(config) => config,
            Err(error) => {
                tracing::error!(%error, "no certificate for another process");
                return;
            }
        };
        let _ = stream.set_nodelay(true);
        let accepting = TlsAcceptor::from(Arc::new(config)).accept(stream);
        let stream = match tokio::time::timeout(HANDSHAKE, accepting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::info!(%address, %error, "refused a caller that is no process");
                return;
            }
            Err(_) => return,
        };
        let shown = stream.get_ref().1.peer_certificates();
        if !identity::is_process(shown.and_then(|chain| chain.first())) {
            tracing::warn!(%address, "refused a certificate that is not a process's");
            return;
        }
        let callers = Callers::default();
        let service = service_fn(|request| {
            let (inner, callers) = (self.clone(), callers.clone());
            async move { Ok::<_, Infallible>(inner.answer(request, &callers).await) }
        });
        let serving = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_pending_accept_reset_streams(RESETS)
            .max_local_error_reset_streams(RESETS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW_OF_ALL)
            .max_frame_size(FRAME_BYTES)
            .keep_alive_interval(SILENCE)
            .keep_alive_timeout(SILENCE)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = serving.await {
            tracing::debug!(%address, %error, "the connection of another process ended");
        }
    }

    async fn answer(&self, request: Request<Incoming>, callers: &Callers) -> Response<Body> {
        if request.uri().path() == CONNECTION {
            return callers.introduce(&self.door, request.headers()).await;
        }
        let (mut parts, body) = request.into_parts();
        let number = parts.headers.remove(NUMBER);
        let peer = number.and_then(|number| callers.get(number.to_str().ok()?));
        let Some(peer) = peer else {
            return Status::unavailable("the connection has ended").into_http();
        };
        parts.extensions.insert(peer);
        let mut services = self.services.clone();
        let answered = services
            .call(Request::from_parts(parts, Body::new(body)))
            .await;
        answered.unwrap_or_else(|never| match never {})
    }
}

/// The callers of one other process, by the number of their connection.
#[derive(Debug, Clone, Default)]
struct Callers(Arc<Mutex<HashMap<String, Peer>>>);

impl Callers {
    fn inside(&self) -> MutexGuard<'_, HashMap<String, Peer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, number: &str) -> Option<Peer> {
        self.inside().get(number).cloned()
    }

    /// Lets a caller in, whom the other process has verified. The answer lasts as long as the connection.
    async fn introduce(&self, door: &Arc<Door>, headers: &HeaderMap) -> Response<Body> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let address = text(ADDRESS).and_then(|text| text.parse::<SocketAddr>().ok());
        let certificate = text(CERTIFICATE).map(hex::decode).transpose();
        let (Some(number), Some(address), Ok(certificate)) = (text(NUMBER), address, certificate)
        else {
            return status(StatusCode::BAD_REQUEST);
        };
        let Some(mut place) = door.enter(address.ip()).await else {
            return status(StatusCode::SERVICE_UNAVAILABLE);
        };
        if let Some(certificate) = &certificate {
            place.show(certificate);
        }
        let peer = Peer::new(address, certificate, place.guest());
        let body = Connected {
            cut: Some(Box::pin(place.cut().cancelled_owned())),
            _gone: peer.close_guard(),
            _place: place,
            _entry: Entry(self.clone(), number.to_owned()),
        };
        self.inside().insert(number.to_owned(), peer);
        Response::new(Body::new(body))
    }
}

fn status(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = code;
    response
}

/// A caller's entry, which goes with its connection.
#[derive(Debug)]
struct Entry(Callers, String);

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.inside().remove(&self.1);
    }
}

/// The answer that lasts as long as a connection. It is dropped when the other process ends the call, or is gone.
#[derive(Debug)]
struct Connected {
    /// Resolves when the connection is to be closed.
    cut: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    _gone: DropGuard,
    _place: Place,
    _entry: Entry,
}

impl http_body::Body for Connected {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(cut) = &mut self.cut else {
            return Poll::Ready(None);
        };
        cut.as_mut().poll(cx).map(|()| {
            self.cut = None;
            Some(Ok(Frame::data(Bytes::from_static(CUT))))
        })
    }
}

/// The services of this process, while it leads.
#[derive(Debug, Clone)]
pub struct Local(tokio::sync::watch::Receiver<Seat>);

impl Local {
    pub fn new(seat: tokio::sync::watch::Receiver<Seat>) -> Self {
        Self(seat)
    }
}

impl Service<Request<Body>> for Local {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = tonic::codegen::BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let seat = self.0.borrow().clone();
        Box::pin(async move {
            match seat {
                Seat::Leading(mut leading) => leading.routes.call(request).await,
                // A call is passed on once: processes that disagree who leads do not send it in a circle.
                Seat::Nobody | Seat::Following(_) => Ok(Status::unavailable(NOBODY).into_http()),
            }
        })
    }
}
