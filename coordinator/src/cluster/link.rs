//! The way from a process that does not lead to the one that does.
//!
//! Requests and answers pass as they come, in one HTTP/2 connection, and are not read. So long polls are held by the
//! leader and woken by it, and what a service can say needs no second form.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use fedner_proto::FRAME_BYTES;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body::Frame;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;

use super::identity;
use super::inner::{ADDRESS, CERTIFICATE, CONNECTION, CUT, NUMBER, SILENCE, WINDOW, WINDOW_OF_ALL};
use crate::authority::PROCESS;
use crate::keys::Keys;
use crate::tls::Peer;

/// A leader that does not answer in this time is not there.
const DIAL: Duration = Duration::from_secs(3);
/// Calls that callers gave up, and that the leader may still answer.
const RESETS: usize = 1 << 12;
/// What is said of a leader that cannot be reached. Clients try again.
const AWAY: &str = "the leading process cannot be reached: try again in a few seconds";

/// The way to one leader.
#[derive(Debug)]
pub struct Link {
    address: String,
    keys: Arc<Keys>,
    wire: tokio::sync::Mutex<Option<Arc<Wire>>>,
    /// Another leads since.
    over: CancellationToken,
}

/// One connection to it.
#[derive(Debug)]
struct Wire {
    sender: SendRequest<Body>,
    /// Our own callers that the leader knows of.
    callers: Mutex<HashMap<u64, Arc<OnceCell<()>>>>,
}

impl Link {
    pub(super) fn new(address: String, keys: Arc<Keys>) -> Arc<Self> {
        Arc::new(Self {
            address,
            keys,
            wire: tokio::sync::Mutex::default(),
            over: CancellationToken::new(),
        })
    }

    /// Ends what is under way: its callers ask again, and reach the next leader.
    pub(super) fn end(&self) {
        self.over.cancel();
    }

    /// Passes a request on.
    pub(super) async fn forward(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let away = || Status::unavailable(AWAY);
        let answer = tokio::select! {
            biased;
            () = self.over.cancelled() => return Err(away()),
            answer = self.ask(request) => answer?,
        };
        Ok(answer.map(|body| {
            Body::new(Passed {
                inner: Some(body),
                over: Box::pin(self.over.clone().cancelled_owned()),
            })
        }))
    }

    async fn ask(&self, request: Request<Body>) -> Result<Response<Incoming>, Status> {
        let away = |error: &dyn std::fmt::Display| {
            tracing::debug!(address = self.address, %error, "the leader cannot be reached");
            Status::unavailable(AWAY)
        };
        // It is between processes: a caller's own would pass for this process's.
        if request.uri().path() == CONNECTION {
            return Err(Status::unimplemented(""));
        }
        let peer = request.extensions().get::<Peer>().cloned();
        let peer = peer.ok_or_else(|| Status::internal("nothing is known of the caller"))?;
        let wire = self.wire().await.map_err(|error| away(&error))?;
        let known = wire.introduce(&peer, &self.over).await;
        known.map_err(|error| away(&error))?;
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().cloned();
        parts.uri = uri(path).map_err(|error| away(&error))?;
        // What a caller says of itself is not passed on.
        for name in [ADDRESS, CERTIFICATE] {
            parts.headers.remove(name);
        }
        parts.headers.insert(NUMBER, peer.connection().0.into());
        parts.extensions = http::Extensions::new();
        let wrong = Arc::default();
        let body = Body::new(Noted {
            inner: body,
            wrong: Arc::clone(&wrong),
        });
        let sent = wire
            .sender
            .clone()
            .send_request(Request::from_parts(parts, body));
        sent.await.map_err(|error| {
            // Where the caller's own message was refused here, it is told so.
            let mut wrong = wrong.lock().unwrap_or_else(PoisonError::into_inner);
            wrong.take().unwrap_or_else(|| away(&error))
        })
    }

    /// The connection, which is made where there is none.
    async fn wire(&self) -> Result<Arc<Wire>, Error> {
        let mut held = self.wire.lock().await;
        if let Some(wire) = held.as_ref().filter(|wire| !wire.sender.is_closed()) {
            return Ok(wire.clone());
        }
        let dialled = tokio::time::timeout(DIAL, self.dial()).await;
        let wire = Arc::new(dialled.map_err(|_| Error::Silent)??);
        *held = Some(wire.clone());
        Ok(wire)
    }

    async fn dial(&self) -> Result<Wire, Error> {
        let (config, name) = identity::client(&self.keys)?;
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW_OF_ALL)
            .max_frame_size(FRAME_BYTES)
            .max_concurrent_reset_streams(RESETS)
            .max_pending_accept_reset_streams(RESETS)
            .keep_alive_interval(SILENCE)
            .keep_alive_timeout(SILENCE)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await?;
        let over = self.over.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = over.cancelled() => {}
                ended = connection => tracing::debug!(?ended, "the connection to the leader ended"),
            }
        });
        Ok(Wire {
            sender,
            callers: Mutex::default(),
        })
    }
}

impl Wire {
    fn callers(&self) -> MutexGuard<'_, HashMap<u64, Arc<OnceCell<()>>>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the leader whose a connection is, once, and for how long it lasts.
    async fn introduce(
        self: &Arc<Self>,
        peer: &Peer,
        over: &CancellationToken,
    ) -> Result<(), Error> {
        let (number, _) = peer.connection();
        let cell = self.callers().entry(number).or_default().clone();
        let known = cell.get_or_try_init(|| self.begin(peer, over)).await;
        if known.is_err() {
            self.callers().remove(&number);
        }
        known.copied()
    }

    async fn begin(self: &Arc<Self>, peer: &Peer, over: &CancellationToken) -> Result<(), Error> {
        let (number, gone) = peer.connection();
        let mut request = Request::builder()
            .method("POST")
            .uri(uri(Some(PathAndQuery::from_static(CONNECTION)))?)
            .header(NUMBER, number)
            .header(ADDRESS, peer.address.to_string());
        if let Some(certificate) = &peer.certificate {
            request = request.header(CERTIFICATE, hex::encode(certificate));
        }
        let asked = self
            .sender
            .clone()
            .send_request(request.body(Body::empty())?);
        let answer = asked.await?;
        if answer.status() != StatusCode::OK {
            // The leader has no room for it, as this process would have none.
            peer.cut();
            return Err(Error::Refused(answer.status()));
        }
        let (wire, peer) = (self.clone(), peer.clone());
        let (gone, over) = (gone.clone(), over.clone());
        let mut lasting = answer.into_body();
        tokio::spawn(async move {
            tokio::select! {
                () = gone.cancelled() => {}
                () = over.cancelled() => {}
                said = said(&mut lasting) => {
                    if said.is_some_and(|said| said == CUT) {
                        peer.cut();
                    }
                }
            }
            wire.callers().remove(&number);
        });
        Ok(())
    }
}

/// What the leader says of a connection; `None` where it is gone itself.
async fn said(lasting: &mut Incoming) -> Option<Bytes> {
    let next = std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut *lasting), cx));
    next.await?.ok()?.into_data().ok()
}

fn uri(path: Option<PathAndQuery>) -> Result<Uri, http::Error> {
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    Uri::builder()
        .scheme("https")
        .authority(PROCESS)
        .path_and_query(path)
        .build()
}

/// Why the leader was not reached.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Keys(#[from] crate::keys::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    Request(#[from] http::Error),
    #[error("it does not answer")]
    Silent,
    #[error("it answered with {0}")]
    Refused(StatusCode),
}

/// The body of a request that is passed on. Why it broke is noted.
struct Noted {
    inner: Body,
    wrong: Arc<Mutex<Option<Status>>>,
}

impl http_body::Body for Noted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Err(status))) = &frame {
            let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
            *wrong = Some(status.clone());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

/// The body of an answer that is passed on. One that breaks ends as gRPC says that a service is away.
#[derive(Debug)]
struct Passed {
    inner: Option<Incoming>,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl http_body::Body for Passed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        let frame = match Pin::new(inner).poll_frame(cx) {
            Poll::Ready(Some(Err(_))) => None,
            Poll::Ready(Some(Ok(frame))) => return Poll::Ready(Some(Ok(frame))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => Some(()),
        };
        if frame.is_some() && self.over.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.inner = None;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("14"));
        trailers.insert("grpc-message", HeaderValue::from_static(AWAY));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Incoming::is_end_stream)
    }
}
