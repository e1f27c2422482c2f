//! Refusals as HTTP: a status, and the code, message and hint that commands print.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use fedner_model::Entity;
use fedner_shared::refusal::{Class, Code, Refusal};
use serde::Serialize;
use serde_json::{Value, json};

use super::engine::{Failure, Outcome};

/// What is said of a text, or of a line of a stream.
#[derive(Debug, Serialize)]
pub(super) struct Said {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<Value>,
    #[serde(flatten)]
    of: Of,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Of {
    Entities(Vec<Entity>),
    Error(Value),
}

impl Said {
    pub(super) fn of(id: Option<Value>, outcome: Outcome) -> Self {
        let of = match outcome {
            Ok(prediction) => Of::Entities(prediction.entities),
            Err(Failure::Refused(refusal)) => Of::Error(error(&refusal)),
            Err(Failure::Fault) => Of::Error(fault()),
        };
        Self { id, of }
    }
}

pub(super) fn json(value: &impl Serialize) -> Response {
    // Strings and numbers alone: nothing here can fail to become JSON.
    let text = serde_json::to_string(value).unwrap_or_default();
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, text + "\n").into_response()
}

pub(super) fn refused(status: StatusCode, refusal: &Refusal) -> Response {
    let mut response = (status, json(&json!({"error": error(refusal)}))).into_response();
    if status == StatusCode::TOO_MANY_REQUESTS {
        let soon = header::HeaderValue::from_static("1");
        response.headers_mut().insert(header::RETRY_AFTER, soon);
    }
    response
}

/// The refusal with the status of its kind.
pub(super) fn of(refusal: &Refusal) -> Response {
    let status = match (refusal.code, refusal.code.class()) {
        (Code::TextTooLong, _) => StatusCode::PAYLOAD_TOO_LARGE,
        (Code::RequestSlow, _) => StatusCode::REQUEST_TIMEOUT,
        (_, Class::Exhausted) => StatusCode::TOO_MANY_REQUESTS,
        (_, Class::Missing) => StatusCode::NOT_FOUND,
        (_, Class::Invalid | Class::Exists | Class::State) => StatusCode::BAD_REQUEST,
        (_, Class::Unauthenticated | Class::Forbidden) => StatusCode::FORBIDDEN,
    };
    refused(status, refusal)
}

pub(super) fn failed(failure: &Failure) -> Response {
    match failure {
        Failure::Refused(refusal) => of(refusal),
        Failure::Fault => (
            StatusCode::INTERNAL_SERVER_ERROR,
            json(&json!({"error": fault()})),
        )
            .into_response(),
    }
}

fn error(refusal: &Refusal) -> Value {
    let Refusal { code, message } = refusal;
    json!({"code": code, "message": message, "hint": code.hint()})
}

fn fault() -> Value {
    json!({"code": "fault", "message": "the text could not be tagged", "hint": "see the log of the service"})
}

pub(super) fn missing() -> Response {
    let message = "there is no such path: expected /v1/predict, /health, /metrics or /openapi.json";
    refused(
        StatusCode::NOT_FOUND,
        &Refusal::new(Code::NothingFound, message),
    )
}

pub(super) fn method() -> Response {
    let message = "the path is asked in another way: /openapi.json says how";
    refused(
        StatusCode::METHOD_NOT_ALLOWED,
        &Refusal::new(Code::RequestInvalid, message),
    )
}
