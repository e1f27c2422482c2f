//! Refusals as gRPC statuses and back. Code and hint travel as metadata, and as details for tools that know those.

use fedner_shared::refusal::{Class, Code, Refusal};
use fedner_shared::text;
use tonic::{Code as GrpcCode, Status};

use super::details;

const CODE_KEY: &str = "fedner-code";
const HINT_KEY: &str = "fedner-hint";
/// Characters of a message that are taken from a peer.
const LONGEST: usize = 2000;

/// The gRPC status that tells a peer of its fault.
pub fn status_of(refusal: &Refusal) -> Status {
    let code = match refusal.code.class() {
        Class::Unauthenticated => GrpcCode::Unauthenticated,
        Class::Forbidden => GrpcCode::PermissionDenied,
        Class::Invalid => GrpcCode::InvalidArgument,
        Class::Missing => GrpcCode::NotFound,
        Class::Exists => GrpcCode::AlreadyExists,
        Class::State => GrpcCode::FailedPrecondition,
        Class::Exhausted => GrpcCode::ResourceExhausted,
    };
    let details = details::of(refusal, code);
    let mut status = Status::with_details(code, refusal.message.clone(), details.into());
    let mut put = |key: &'static str, value: &str| {
        // Metadata is ASCII; hints may hold an ε.
        let ascii: String = value
            .chars()
            .map(|c| if c.is_ascii() { c } else { '?' })
            .collect();
        if let Ok(value) = ascii.parse() {
            status.metadata_mut().insert(key, value);
        }
    };
    put(CODE_KEY, refusal.code.as_str());
    put(HINT_KEY, refusal.code.hint());
    status
}

/// The refusal in a status; `None` where the status is not one of ours: a broken connection, a
/// fault of the other side.
pub fn refusal_of(status: &Status) -> Option<Refusal> {
    let code = status.metadata().get(CODE_KEY)?.to_str().ok()?;
    // It is another machine's text, and will be shown and logged.
    let message = text::cut(status.message(), LONGEST);
    Some(Refusal::new(Code::parse(code)?, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_way_to_the_peer() {
        for code in Code::ALL {
            let refusal = Refusal::new(*code, "expected 1, found 2");
            let status = status_of(&refusal);
            assert_eq!(refusal_of(&status), Some(refusal));
            assert!(status.metadata().contains_key(HINT_KEY));
        }
        assert_eq!(refusal_of(&Status::unavailable("gone")), None);
        let attack = "\u{1b}[2J\nINFO forged\u{202e}".repeat(1000);
        let refusal = refusal_of(&status_of(&Refusal::new(Code::RoundStale, attack)));
        let message = refusal.expect("a refusal").message;
        assert!(message.len() < 10_000 && !message.contains(['\u{1b}', '\n', '\u{202e}']));
    }
}
