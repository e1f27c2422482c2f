//! A request that is a stream of lines, each answered in its turn while others come.
//!
//! Nothing is held but what waits: a reader that stops makes the writer wait, and is let go after a while.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use fedner_shared::refusal::{Code, Refusal};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::Site;
use super::answer::Said;
use super::engine::{Failure, LONGEST, Waiting, size};
use super::texts::{PATIENCE, check_length};

/// Lines of one stream that wait for their answers.
const OPEN: usize = 256;
/// Answers that wait for their reader.
const UNREAD: usize = 16;
/// The longest line: a longest text as JSON may spell it.
const LINE: usize = 2 * LONGEST;
/// Text of one stream that waits for its answers, in bytes: a reader that stops is not to take others' room.
const OWN: usize = LONGEST;
/// The longest name of a line.
const NAME: usize = 256;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// Given back with the answer.
    #[serde(default)]
    id: Option<Value>,
    text: String,
}

/// A line on its way to its answer.
enum Pending {
    Asked(Option<Value>, Waiting, OwnedSemaphorePermit),
    Refused(Option<Value>, Refusal),
}

pub(super) fn predict(site: Site, request: Request) -> Response {
    let (pending, waiting) = mpsc::channel(OPEN);
    let (answers, answered) = mpsc::channel(UNREAD);
    tokio::spawn(read(site, request.into_body(), pending));
    tokio::spawn(write(waiting, answers));
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (kind, Body::from_stream(ReceiverStream::new(answered))).into_response()
}

async fn read(site: Site, body: Body, pending: mpsc::Sender<Pending>) {
    let mut body = body.into_data_stream();
    let mut line = Vec::new();
    let own = Arc::new(Semaphore::new(OWN));
    loop {
        let part = match timeout(PATIENCE, body.next()).await {
            Ok(Some(Ok(part))) => part,
            // The last line may lack its end.
            Ok(None) => {
                ask((&site, &own), &line, &pending).await;
                return;
            }
            Ok(Some(Err(_))) => return,
            Err(_) => {
                let refusal = Refusal::new(Code::RequestSlow, "the stream has come to a halt");
                let _ = pending.send(Pending::Refused(None, refusal)).await;
                return;
            }
        };
        let mut rest = &part[..];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            if !ask((&site, &own), &line, &pending).await {
                return;
            }
            line.clear();
        }
        line.extend_from_slice(rest);
        if line.len() > LINE {
            let message = format!("a line has more than {LINE} bytes");
            let refusal = Refusal::new(Code::TextTooLong, message);
            let _ = pending.send(Pending::Refused(None, refusal)).await;
            return;
        }
    }
}

/// Whether anybody waits for answers still.
async fn ask(
    (site, own): (&Site, &Arc<Semaphore>),
    line: &[u8],
    pending: &mpsc::Sender<Pending>,
) -> bool {
    if line.trim_ascii().is_empty() {
        return !pending.is_closed();
    }
    let next = match serde_json::from_slice::<Line>(line) {
        Err(error) => {
            let message = format!("the line is no request: {error}");
            Pending::Refused(None, Refusal::new(Code::RequestInvalid, message))
        }
        Ok(Line { id, .. }) if !id.as_ref().is_none_or(is_name) => {
            let message = format!("`id` is no number or string of at most {NAME} bytes");
            Pending::Refused(None, Refusal::new(Code::RequestInvalid, message))
        }
        Ok(Line { id, text }) => {
            if let Err(refusal) = check_length(&text) {
                Pending::Refused(id, refusal)
            } else {
                let Some(own) = own_place(own, &text).await else {
                    return false;
                };
                match site.engine.take(text).await {
                    Some(waiting) => Pending::Asked(id, waiting, own),
                    None => return false,
                }
            }
        }
    };
    pending.send(next).await.is_ok()
}

async fn own_place(own: &Arc<Semaphore>, text: &str) -> Option<OwnedSemaphorePermit> {
    let size = u32::try_from(size(text)).ok()?;
    Arc::clone(own).acquire_many_owned(size).await.ok()
}

fn is_name(id: &Value) -> bool {
    id.is_number() || id.as_str().is_some_and(|name| name.len() <= NAME)
}

async fn write(
    mut waiting: mpsc::Receiver<Pending>,
    answers: mpsc::Sender<Result<Bytes, io::Error>>,
) {
    while let Some(next) = waiting.recv().await {
        let said = match next {
            Pending::Refused(id, refusal) => Said::of(id, Err(Failure::Refused(refusal))),
            Pending::Asked(id, mut waiting, _own) => {
                let outcome = tokio::select! {
                    outcome = waiting.outcome() => outcome,
                    () = answers.closed() => return,
                };
                Said::of(id, outcome)
            }
        };
        // Strings and numbers alone: nothing here can fail to become JSON.
        let said = serde_json::to_string(&said).unwrap_or_default() + "\n";
        if answers.send(Ok(said.into())).await.is_err() {
            return;
        }
    }
}
