//! The server of a page: which paths there are, how many may connect, and how long one may take.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::guard::{self, Guard, refused};
use crate::patient::Patient;

/// Connections at the same time; further ones wait.
const CONNECTIONS: usize = 128;
/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(10);
/// How long requests that are there may take when a service is to end.
const GRACE: Duration = Duration::from_secs(20);
/// The largest body; a form has a few hundred bytes.
const BODY_BYTES: usize = 16 << 10;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// Takes a port of loopback; 0 for any.
pub async fn bind(port: u16) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves `pages`, whose paths stand behind the key, until `stop`.
pub async fn serve(
    listener: TcpListener,
    guard: Arc<Guard>,
    pages: Router,
    stop: CancellationToken,
) {
    accept(listener, site(guard, pages), stop, Duration::ZERO).await;
}

/// Serves the text that `figures` makes at `/metrics`, without a key, to whoever asks for this machine by its own
/// name: a name that someone else has bound to loopback is refused.
pub async fn serve_figures(
    listener: TcpListener,
    figures: impl Fn() -> String + Clone + Send + Sync + 'static,
    stop: CancellationToken,
) {
    let Ok(address) = listener.local_addr() else {
        return;
    };
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    let show = move || async move { (kind, figures()) };
    let pages = Router::new().route("/metrics", get(show));
    let pages = pages.layer(from_fn_with_state(address, guard::watch_name));
    accept(listener, pages, stop, Duration::ZERO).await;
}

/// Serves what programs ask, without a key, until `stop`; what was asked by then is answered. With `address`, only
/// those that ask for this machine by its own name.
pub async fn serve_program(
    listener: TcpListener,
    mut paths: Router,
    address: Option<SocketAddr>,
    stop: CancellationToken,
) {
    if let Some(address) = address {
        paths = paths.layer(from_fn_with_state(address, guard::watch_name));
    }
    accept(listener, paths, stop, GRACE).await;
}

/// Ends with its last connection, `grace` after `stop` at the latest.
async fn accept(listener: TcpListener, pages: Router, stop: CancellationToken, grace: Duration) {
    let service = TowerToHyperService::new(pages);
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            break;
        };
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let stream = match stream {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("a connection could not be taken: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (service, stop) = (service.clone(), stop.clone());
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD);
            let connection = http.serve_connection(TokioIo::new(Patient::new(stream)), service);
            let mut connection = pin!(connection);
            // How a browser ends a connection is its own affair.
            tokio::select! {
                _ = connection.as_mut() => {}
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = tokio::time::timeout(grace, connection).await;
                }
            }
            drop(place);
        });
    }
    drop(listener);
    // All places are free once the last connection has ended.
    let _ = tokio::time::timeout(grace, room.acquire_many(CONNECTIONS as u32)).await;
}

/// Everything that is answered, with the guard around it.
fn site(guard: Arc<Guard>, pages: Router) -> Router {
    let assets = Router::new()
        .route(
            "/style.css",
            get(async || asset("text/css; charset=utf-8", STYLE)),
        )
        .route(
            "/script.js",
            get(async || asset("text/javascript; charset=utf-8", SCRIPT)),
        );
    let inner = assets
        .merge(pages)
        .fallback(|| async { refused(StatusCode::NOT_FOUND, "there is no such page") });
    let inner = tower::ServiceBuilder::new()
        .layer(from_fn_with_state(Arc::clone(&guard), guard::unlock))
        .service(inner);
    Router::new()
        .route("/open/{word}", get(guard::open))
        // Not a nested route: a page sees its own parameters only.
        .fallback_service(inner)
        .with_state(Arc::clone(&guard))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(from_fn_with_state(guard, guard::watch))
}

fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "private, max-age=3600"),
    ];
    (headers, text)
}
