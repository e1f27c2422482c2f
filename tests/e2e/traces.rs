//! Traces of rounds, taken by a collector that speaks OTLP over gRPC.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs;
use std::future::Future;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context as TaskContext, Poll};

use anyhow::{Context, Result};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::NamedService;
use tonic_prost::ProstCodec;

use crate::setting::{MINUTES, NO_NOISE, Setting, plan, refused};

/// What is looked at of `ExportTraceServiceRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct Traces {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceSpans {
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

/// Keeps what it is sent.
#[derive(Clone)]
struct Collector(Sender<Traces>);

impl NamedService for Collector {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl tower::Service<http::Request<Body>> for Collector {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let taken = self.0.clone();
        let take = tower::service_fn(move |request: tonic::Request<Traces>| {
            let _ = taken.send(request.into_inner());
            async { Ok::<_, tonic::Status>(tonic::Response::new(Empty {})) }
        });
        Box::pin(async move {
            let codec = ProstCodec::<Empty, Traces>::default();
            Ok(tonic::server::Grpc::new(codec).unary(take, request).await)
        })
    }
}

/// A collector in a thread of its own, until `stop`.
fn collect(stop: CancellationToken) -> Result<(String, Receiver<Traces>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    drop(listener);
    let (sender, receiver) = channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        let serving = tonic::transport::Server::builder()
            .add_service(Collector(sender))
            .serve_with_shutdown(address, stop.cancelled_owned());
        let _ = runtime.block_on(serving);
    });
    Ok((format!("http://{address}"), receiver))
}

fn traced_to(setting: &Setting, address: &str) -> Result<()> {
    let file = setting
        .cluster
        .coordinator_directory()
        .join("coordinator.toml");
    let text = fs::read_to_string(&file)?;
    let lines = text.lines().filter(|line| !line.starts_with("traces_to"));
    let lines = lines.collect::<Vec<_>>().join("\n");
    Ok(fs::write(
        &file,
        format!("traces_to = \"{address}\"\n{lines}\n"),
    )?)
}

#[test]
fn a_collector_gets_a_trace_of_each_round_and_holds_up_none() -> Result<()> {
    let mut setting = Setting::with_model()?;
    let stop = CancellationToken::new();
    let (address, traces) = collect(stop.clone())?;
    traced_to(&setting, &address)?;
    setting.cluster.kill_coordinator()?;
    setting.cluster.start_coordinator()?;
    setting.start_institutions(2, 4)?;
    let run = setting.start_run(&plan(2, 2, 2, "head", "", NO_NOISE))?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    let mut ids = BTreeSet::new();
    for _ in 0..2 {
        let taken = traces
            .recv_timeout(MINUTES)
            .context("a trace of each round")?;
        let scopes = taken
            .resource_spans
            .into_iter()
            .flat_map(|resource| resource.scope_spans);
        let spans: Vec<Span> = scopes.flat_map(|scope| scope.spans).collect();
        // Each trains, and evaluates.
        let count = |name: &str| spans.iter().filter(|span| span.name == name).count();
        assert_eq!((count("round"), count("institution")), (1, 4), "{spans:?}");
        assert!(count("attempt") == 1 && count("aggregate") == 1 && count("evaluate") == 1);
        assert_eq!(
            spans
                .iter()
                .filter(|span| span.parent_span_id.is_empty())
                .count(),
            1
        );
        for span in &spans {
            assert!(
                span.start_time_unix_nano <= span.end_time_unix_nano,
                "{span:?}"
            );
            ids.insert(span.trace_id.clone());
        }
    }
    assert_eq!(ids.len(), 2, "a trace a round");

    // Nobody listens there any more.
    stop.cancel();
    let more = plan(2, 2, 2, "head", "", NO_NOISE).replace("\"notes\"", "\"second\"");
    let run = setting.start_run(&more)?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    setting.assert_no_errors_logged();

    setting.cluster.kill_coordinator()?;
    traced_to(&setting, "collector:4317")?;
    let said = refused(setting.cluster.coordinator_command(&["serve"])?)?;
    assert!(
        said.contains("config-invalid") && said.contains("http://HOST:PORT"),
        "{said}"
    );
    Ok(())
}
