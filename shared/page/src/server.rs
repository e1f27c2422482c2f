//! The server of a page: which paths there are, how many may connect, and how long one may take.

use std::net::{Ipv4Addr, SocketAddr};
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
    accept(listener, site(guard, pages), stop).await;
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
    let pages = Router::new()
        .route("/metrics", get(show))
        .layer(from_fn_with_state(address, guard::watch_name));
    accept(listener, pages, stop).await;
}

async fn accept(listener: TcpListener, pages: Router, stop: CancellationToken) {
    let service = TowerToHyperService::new(pages);
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
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
            // How a browser ends a connection is its own affair.
            tokio::select! {
                _ = connection => {}
                () = stop.cancelled() => {}
            }
            drop(place);
        });
    }
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
