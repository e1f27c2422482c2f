//! `serve`: a model behind HTTP, for programs of this machine.
//!
//! | file | what it does |
//! |---|---|
//! | `engine` | one worker that tags what requests bring, together |
//! | `texts` | a request with one text or several |
//! | `lines` | a request that is a stream of lines, answered as a stream |
//! | `answer` | refusals as HTTP |
//! | `figures` | metrics |

mod answer;
mod engine;
mod figures;
mod lines;
mod texts;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use clap::Args;
use fedner_host::output;
use fedner_host::service::{self, Word};
use fedner_host::signal::Terminate;
use fedner_page::server;
use fedner_shared::refusal::{Code, Refusal};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::engine::Engine;
use self::figures::Figures;
use super::predict::TaggingArguments;
use super::{Context, runtime};

/// What programs are told of the paths.
const OPENAPI: &str = include_str!("openapi.json");

/// Answer HTTP with the entities of texts, on this machine
///
/// `POST /v1/predict` takes a text, several, or a stream of lines, and finds what `predict` finds. `/health`,
/// `/metrics` and `/openapi.json` say the rest. Nothing is kept, and nothing leaves but answers.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    tagging: TaggingArguments,
    /// Where to listen; port 0 for any that is free
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7480")]
    listen: SocketAddr,
    /// Listen where other machines can ask. Texts travel unencrypted and everybody may ask: put a proxy with TLS and
    /// a login before it
    #[arg(long)]
    allow_others: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let address = arguments.listen;
    if !address.ip().is_loopback() && !arguments.allow_others {
        let message = format!(
            "{address} can be reached by other machines, which would send texts unencrypted: expected an address of \
             loopback, or `--allow-others` behind a proxy with TLS and a login"
        );
        return Err(Refusal::new(Code::RequestInvalid, message).into());
    }
    let tagging = arguments.tagging.open()?;
    let figures = Arc::new(Figures::default());
    let (engine, worker) = Engine::start(tagging, Arc::clone(&figures))?;
    runtime()?.block_on(serve(context, arguments, engine, figures))?;
    // The engine's last handle is gone with the server.
    worker
        .join()
        .map_err(|_| anyhow::anyhow!("the worker that tags has ended early"))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(
    context: &Context,
    arguments: &Arguments,
    engine: Engine,
    figures: Arc<Figures>,
) -> anyhow::Result<()> {
    let asked = arguments.listen;
    let listener = TcpListener::bind(asked)
        .await
        .with_context(|| format!("listen on {asked}"))?;
    let address = listener.local_addr().context("learn the port")?;
    let stop = CancellationToken::new();
    let mut terminate = Terminate::new().context("wait for signals")?;
    let state = Site { engine, figures };
    let named = (!arguments.allow_others).then_some(address);
    let serving = server::serve_program(listener, routes(state), named, stop.clone());
    // Its reader may be gone; the service goes on.
    let _ = output::raw(format!("http://{address}\n").as_bytes());
    service::notify(Word::Ready);
    let ended = async {
        terminate.received().await;
        service::notify(Word::Stopping);
        context
            .output
            .say("stopping: requests that are there are answered first");
        stop.cancel();
    };
    tokio::join!(serving, ended);
    Ok(())
}

/// What handlers share.
#[derive(Debug, Clone)]
struct Site {
    engine: Engine,
    figures: Arc<Figures>,
}

fn routes(site: Site) -> Router {
    Router::new()
        .route("/v1/predict", post(predict))
        .route(
            "/health",
            get(|| async { as_json("{\"status\":\"ok\"}\n") }),
        )
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(|| async { as_json(OPENAPI) }))
        .fallback(|| async { answer::missing() })
        .method_not_allowed_fallback(|| async { answer::method() })
        .layer(from_fn_with_state(Arc::clone(&site.figures), count))
        .with_state(site)
}

fn as_json(text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn count(State(figures): State<Arc<Figures>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    figures.answered(response.status());
    response
}

async fn metrics(State(site): State<Site>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, site.figures.text(site.engine.waiting())).into_response()
}

/// By what the body says that it is. A page in a browser cannot send either kind without asking first.
async fn predict(State(site): State<Site>, request: Request) -> Response {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    match kind {
        "application/json" => texts::predict(site, request).await,
        "application/x-ndjson" | "application/jsonl" => lines::predict(site, request),
        _ => answer::refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            &Refusal::new(
                Code::RequestInvalid,
                format!(
                    "the Content-Type is `{}`: expected application/json, or application/x-ndjson for a stream of lines",
                    kind.escape_debug()
                ),
            ),
        ),
    }
}
