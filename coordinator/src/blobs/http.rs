//! How the object store is spoken to: HTTP/1.1 over connections that are dialled as all others are, and TLS 1.3
//! against the machine's authorities.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fedner_host::dial::{DIRECT, Dialler};
use futures::future::BoxFuture;
use http::Uri;
use http::uri::Scheme;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::observe::{self, ObjectFault};
use crate::roots;

/// An authority of the store's own, as the tools of AWS name it.
pub(super) const BUNDLE: &str = "AWS_CA_BUNDLE";
/// Where `AWS_TIMEOUT`, `AWS_READ_TIMEOUT` and `AWS_CONNECT_TIMEOUT` do not say otherwise.
const ANSWER: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(6);

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("there was no answer for {0:?}")]
    Late(Duration),
    #[error("the answer stopped for {0:?}")]
    Stopped(Duration),
}

/// Makes the clients that the object store asks for.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    bundle: Option<PathBuf>,
    tls: Arc<OnceLock<Result<TlsConnectorOf, String>>>,
}

/// A [`TlsConnector`] that can be shown.
#[derive(Clone)]
struct TlsConnectorOf(TlsConnector);

impl std::fmt::Debug for TlsConnectorOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsConnector")
    }
}

impl Connector {
    /// Trusts the authorities of the file `bundle` too.
    pub(super) fn new(bundle: Option<PathBuf>) -> Self {
        Self {
            bundle,
            tls: Arc::default(),
        }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let period = |key: ClientConfigKey, otherwise: Duration| {
            let text = options.get_config_value(&key);
            let said = text.and_then(|text| humantime::parse_duration(&text).ok());
            said.unwrap_or(otherwise)
        };
        let dial = Dial {
            bundle: self.bundle.clone(),
            tls: self.tls.clone(),
            within: period(ClientConfigKey::ConnectTimeout, CONNECT),
            plain: options
                .get_config_value(&ClientConfigKey::AllowHttp)
                .is_some_and(|allowed| allowed == "true"),
        };
        Ok(HttpClient::new(Requests {
            client: Client::builder(TokioExecutor::new()).build(dial),
            answer: period(ClientConfigKey::Timeout, ANSWER),
            silence: period(ClientConfigKey::ReadTimeout, SILENCE),
        }))
    }
}

#[derive(Debug)]
struct Requests {
    client: Client<Dial, HttpRequestBody>,
    /// For an answer's head.
    answer: Duration,
    /// Between pieces of an answer's body.
    silence: Duration,
}

#[async_trait]
impl HttpService for Requests {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = match timeout(self.answer, self.client.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                observe::count_object_fault(ObjectFault::Connection);
                // A request that was cut off may have been carried out all the same.
                let kind = if error.is_connect() {
                    HttpErrorKind::Connect
                } else {
                    HttpErrorKind::Interrupted
                };
                return Err(HttpError::new(kind, io::Error::other(chain(&error))));
            }
            Err(_) => return Err(late(Error::Late(self.answer))),
        };
        if response.status().is_server_error() {
            observe::count_object_fault(ObjectFault::Server);
        }
        let (parts, body) = response.into_parts();
        let body = HttpResponseBody::new(Answer {
            body,
            silence: self.silence,
            waiting: Box::pin(sleep(self.silence)),
        });
        Ok(HttpResponse::from_parts(parts, body))
    }
}

fn late(error: Error) -> HttpError {
    observe::count_object_fault(ObjectFault::Timeout);
    HttpError::new(HttpErrorKind::Timeout, error)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

/// The body of an answer; it fails where nothing comes for too long.
struct Answer {
    body: Incoming,
    silence: Duration,
    waiting: Pin<Box<Sleep>>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            this.waiting.as_mut().reset(Instant::now() + this.silence);
            return Poll::Ready(frame.map(|frame| {
                frame.map_err(|error| {
                    observe::count_object_fault(ObjectFault::Connection);
                    HttpError::new(HttpErrorKind::Interrupted, error)
                })
            }));
        }
        ready!(this.waiting.as_mut().poll(context));
        Poll::Ready(Some(Err(late(Error::Stopped(this.silence)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Dials the place that a request names.
#[derive(Debug, Clone)]
struct Dial {
    bundle: Option<PathBuf>,
    tls: Arc<OnceLock<Result<TlsConnectorOf, String>>>,
    within: Duration,
    /// Whether a place without TLS is dialled.
    plain: bool,
}

impl Dial {
    async fn open(self, to: Uri) -> io::Result<Wire> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
        let Some(host) = to.host() else {
            return Err(invalid(format!("`{to}` names no host")));
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let safe = to.scheme() == Some(&Scheme::HTTPS);
        if !safe && !self.plain {
            return Err(invalid(format!(
                "{to} has no TLS: AWS_ALLOW_HTTP=true allows that"
            )));
        }
        let port = to.port_u16().unwrap_or(if safe { 443 } else { 80 });
        // What has no TLS is near by: a test, or the service that hands out credentials.
        let proxy = if safe { None } else { Some(DIRECT) };
        let dialler = Dialler::new(bare, port, proxy).map_err(io::Error::other)?;
        let stream = dialler.dial().await?;
        if !safe {
            return Ok(Wire(TokioIo::new(Box::new(stream))));
        }
        let tls = self.tls.get_or_init(|| tls(self.bundle.as_deref()));
        let tls = tls.clone().map_err(invalid)?;
        let name = ServerName::try_from(bare.to_owned())
            .map_err(|error| invalid(format!("`{bare}` is no name: {error}")))?;
        let stream = tls.0.connect(name, stream).await?;
        Ok(Wire(TokioIo::new(Box::new(stream))))
    }
}

impl tower::Service<Uri> for Dial {
    type Response = Wire;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Wire>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let dial = self.clone();
        Box::pin(async move {
            let within = dial.within;
            let late = |_| io::Error::new(io::ErrorKind::TimedOut, Error::Late(within));
            timeout(within, dial.open(to)).await.map_err(late)?
        })
    }
}

fn tls(bundle: Option<&Path>) -> Result<TlsConnectorOf, String> {
    let config = roots::trusting(bundle, BUNDLE)?;
    Ok(TlsConnectorOf(TlsConnector::from(Arc::new(config))))
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection, with TLS or without.
struct Wire(TokioIo<Box<dyn Duplex>>);

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl Write for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
