//! Traces of rounds for an OpenTelemetry collector: OTLP over gRPC.
//!
//! A trace is made of what the chain of events says of a round once it is over, and of nothing else: the work of
//! the coordinator neither waits for it nor depends on it. A collector that does not answer misses rounds.

mod proto;
mod spans;

use std::collections::HashMap;
use std::time::Duration;

use fedner_shared::event::{Entry, Event};
use fedner_shared::id::RunId;
use tokio_util::sync::CancellationToken;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use self::proto::{Exported, Traces};
use crate::engine::Handle;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// How long a collector may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Events that are read at a time.
const PAGE: usize = 500;
/// Where a round has more events, the further ones are left out.
const MOST_EVENTS: usize = 100_000;

/// The collector at `http://HOST:PORT`; what is wrong with the address otherwise.
pub fn collector(address: &str) -> Result<Endpoint, String> {
    let expected = format!("traces_to is `{address}`: expected http://HOST:PORT");
    if !address.starts_with("http://") {
        return Err(expected);
    }
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|_| expected)?;
    Ok(endpoint.timeout(PATIENCE).connect_timeout(PATIENCE))
}

/// Sends a trace of each round that ends from now on, until `stop`.
pub async fn export(engine: Handle, to: Endpoint, federation: String, stop: CancellationToken) {
    let mut client = Grpc::new(to.connect_lazy());
    let mut rounds = Rounds::default();
    let mut newest = engine.newest_event();
    let mut next = *newest.borrow() + 1;
    let mut answered = true;
    loop {
        newest.mark_unchanged();
        let page = engine.call(move |engine| engine.events(None, next, PAGE));
        let Ok(page) = page.await else { return };
        let full = page.len() == PAGE;
        for entry in page {
            next = entry.sequence + 1;
            let Some((run, round)) = rounds.take(entry) else {
                continue;
            };
            let traces = Traces::new(&federation, spans::of_round(&run, &round));
            let outcome = send(&mut client, traces).await;
            if let Err(status) = &outcome
                && answered
            {
                tracing::warn!(%run, "the collector of traces takes none: {}", status.message());
            }
            answered = outcome.is_ok();
        }
        if full {
            continue;
        }
        tokio::select! {
            changed = newest.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

async fn send(client: &mut Grpc<Channel>, traces: Traces) -> Result<(), Status> {
    let ready = client.ready().await;
    ready.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = ProstCodec::<Traces, Exported>::default();
    let path = PathAndQuery::from_static(EXPORT);
    client.unary(Request::new(traces), path, codec).await?;
    Ok(())
}

/// The events of rounds under way.
#[derive(Debug, Default)]
struct Rounds(HashMap<RunId, Vec<Entry>>);

impl Rounds {
    /// All events of a round, once the last has come. Of one that was under way before, nothing is told.
    fn take(&mut self, entry: Entry) -> Option<(RunId, Vec<Entry>)> {
        let run = entry.run.clone()?;
        let begins = matches!(&entry.event, Event::RoundStarted { .. });
        let ends = matches!(
            &entry.event,
            Event::RoundFinished { .. } | Event::RunFailed { .. } | Event::RunCancelled
        );
        if begins {
            self.0.entry(run.clone()).or_default();
        }
        let round = self.0.get_mut(&run)?;
        if round.len() < MOST_EVENTS || ends {
            round.push(entry);
        }
        if ends {
            return self.0.remove_entry(&run);
        }
        None
    }
}
