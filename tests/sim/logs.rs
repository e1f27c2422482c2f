//! Logs: what was logged as an error on this thread, and a history that two runs of a seed tell alike.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

#[derive(Debug, Default, Clone)]
struct Errors(Arc<Mutex<Vec<String>>>);

/// The outcome of `work`, and what it logged as errors.
pub(crate) fn errors_of<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    let errors = Errors::default();
    let outcome = tracing::subscriber::with_default(errors.clone(), work);
    let found = errors
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    (outcome, found)
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}

impl Subscriber for Errors {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR && metadata.target().starts_with("fedner")
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::ERROR)
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(text.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The log with digests named in the order of their appearance, and without the lengths of
/// updates: the noise, and so the bytes of every update, come from the operating system.
pub(crate) fn anonymous(log: &[String]) -> Vec<String> {
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut line_of = |line: &String| {
        let mut out = String::new();
        let mut rest = line.as_str();
        while let Some(start) = rest.find('"') {
            let (before, after) = rest.split_at(start + 1);
            out.push_str(before);
            let end = after.find('"').unwrap_or(after.len());
            let word = &after[..end];
            if word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                let next = names.len();
                out.push('#');
                let number = names.entry(word.to_owned()).or_insert(next);
                out.push_str(&number.to_string());
            } else {
                out.push_str(word);
            }
            rest = &after[end..];
            if let Some(left) = rest.strip_prefix('"') {
                out.push('"');
                rest = left;
            }
        }
        out.push_str(rest);
        match out.split_once("\"bytes\":") {
            Some((before, after)) => {
                let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
                format!("{before}\"bytes\":…{after}")
            }
            None => out,
        }
    };
    log.iter().map(&mut line_of).collect()
}
