//! A request with one text or several, answered at once.

use std::time::Duration;

use axum::extract::Request;
use axum::http::header;
use axum::response::Response;
use fedner_shared::refusal::{Code, Refusal};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tokio_stream::StreamExt as _;

use super::answer::Said;
use super::engine::LONGEST;
use super::{Site, answer};

/// The largest body: a longest text as JSON may spell it, with some others.
const BODY: usize = 16 << 20;
/// Of a larger one so much is read and forgotten, so that who sends it hears why.
const FORGOTTEN: usize = 1 << 30;
/// Texts in one request.
const MOST: usize = 4096;
/// How long the next part of a body may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    text: Option<String>,
    texts: Option<Vec<String>>,
}

pub(super) async fn predict(site: Site, request: Request) -> Response {
    let texts = match read(request).await.and_then(|body| parsed(&body)) {
        Ok(texts) => texts,
        Err(refusal) => return answer::of(&refusal),
    };
    let (several, texts) = match texts {
        Asked {
            text: Some(text), ..
        } => (false, vec![text]),
        Asked { texts, .. } => (true, texts.unwrap_or_default()),
    };
    let mut waiting = match site.engine.offer(texts) {
        Ok(waiting) => waiting,
        Err(refusal) => return answer::of(&refusal),
    };
    let mut results = Vec::with_capacity(waiting.len());
    for waiting in &mut waiting {
        match waiting.outcome().await {
            Err(failure) => return answer::failed(&failure),
            outcome => results.push(Said::of(None, outcome)),
        }
    }
    match results.pop() {
        Some(found) if !several => answer::json(&found),
        last => {
            results.extend(last);
            answer::json(&Results { results })
        }
    }
}

#[derive(Debug, Serialize)]
struct Results {
    results: Vec<Said>,
}

fn parsed(body: &[u8]) -> Result<Asked, Refusal> {
    let invalid = |message: String| Refusal::new(Code::RequestInvalid, message);
    let asked: Asked = serde_json::from_slice(body)
        .map_err(|error| invalid(format!("the body is no request: {error}")))?;
    let texts = match (&asked.text, &asked.texts) {
        (Some(text), None) => std::slice::from_ref(text),
        (None, Some(texts)) => texts.as_slice(),
        (Some(_), Some(_)) | (None, None) => {
            let message =
                "the body has neither or both of `text` and `texts`: expected one of them";
            return Err(invalid(message.to_owned()));
        }
    };
    if texts.len() > MOST {
        let found = texts.len();
        let message = format!("the body has {found} texts: expected at most {MOST}");
        return Err(Refusal::new(Code::TextTooLong, message));
    }
    texts.iter().try_for_each(|text| check_length(text))?;
    Ok(asked)
}

pub(super) fn check_length(text: &str) -> Result<(), Refusal> {
    if text.len() <= LONGEST {
        return Ok(());
    }
    let found = text.len();
    let message = format!("a text has {found} bytes: expected at most {LONGEST}");
    Err(Refusal::new(Code::TextTooLong, message))
}

/// The whole body, which may have a size and take a while.
async fn read(request: Request) -> Result<Vec<u8>, Refusal> {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let mut body = request.into_body().into_data_stream();
    let (mut bytes, mut all) = (Vec::new(), 0_usize);
    let mut large = length.is_some_and(|length| length > BODY);
    loop {
        let part = timeout(PATIENCE, body.next()).await.map_err(|_| {
            let message = format!("the body has come to a halt after {all} bytes");
            Refusal::new(Code::RequestSlow, message)
        })?;
        let Some(part) = part else { break };
        let part = part.map_err(|error| {
            Refusal::new(Code::RequestInvalid, format!("the body broke off: {error}"))
        })?;
        all += part.len();
        large |= all > BODY;
        if large {
            bytes = Vec::new();
            if all > FORGOTTEN {
                break;
            }
        } else {
            bytes.extend_from_slice(&part);
        }
    }
    if large {
        let found = length.unwrap_or(all).max(all);
        let message = format!("the body has {found} bytes: expected at most {BODY}");
        return Err(Refusal::new(Code::TextTooLong, message));
    }
    Ok(bytes)
}
