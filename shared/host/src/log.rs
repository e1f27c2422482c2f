//! The log, on stderr: lines for people, or JSON lines with the fields of what is worked on.

use std::fmt::{Debug, Display};
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;
use fedner_shared::text::{self, OneLine};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Span, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::machine::{Machine as _, ThisMachine};

/// How the log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    // Doc comments here would be printed with each command's help.
    #[default]
    Text,
    Json,
}

/// Whether records have the fields of what is worked on; a line for people says it in words.
static FIELDS: AtomicBool = AtomicBool::new(false);

/// A test may have started logging before: then nothing changes.
pub(crate) fn start(format: LogFormat, filter: EnvFilter) {
    let _ = match format {
        LogFormat::Text => {
            let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_writer(move || OneLine::new(io::stderr(), colour))
                .with_target(false)
                .with_ansi(colour)
                .try_init()
                .map_err(drop)
        }
        LogFormat::Json => {
            FIELDS.store(true, Ordering::Relaxed);
            let json = JsonLines(|line: &str| {
                // There is nowhere else to say that stderr fails.
                let _ = io::stderr().lock().write_all(line.as_bytes());
            });
            let log = tracing_subscriber::registry().with(filter).with(json);
            log.try_init().map_err(drop)
        }
    };
}

/// What is done for one institution.
pub fn institution(name: &impl Display) -> Span {
    if FIELDS.load(Ordering::Relaxed) {
        tracing::error_span!("institution", institution = %name)
    } else {
        Span::none()
    }
}

/// What is done in one round of a run.
pub fn round(run: &impl Display, round: u32) -> Span {
    if FIELDS.load(Ordering::Relaxed) {
        tracing::error_span!("round", run = %run, round)
    } else {
        Span::none()
    }
}

/// Each record as one line of JSON: its own fields, and those of the spans around it.
struct JsonLines<W>(W);

/// Fields by name.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl<S, W> Layer<S> for JsonLines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn(&str) + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut record = Fields::default();
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<Fields>() {
                // The innermost says it best.
                for (name, value) in &fields.0 {
                    record.0.entry(name).or_insert_with(|| value.clone());
                }
            }
        }
        event.record(&mut record);
        let about = event.metadata();
        for (name, value) in [
            ("time", now()),
            ("level", about.level().to_string().to_lowercase()),
            ("target", about.target().to_owned()),
        ] {
            record.0.insert(name.to_owned(), value.into());
        }
        let line = Value::Object(record.0).to_string();
        (self.0)(&format!("{}\n", text::json(&line)));
    }
}

/// RFC 3339 in UTC, to the millisecond.
fn now() -> String {
    let now = ThisMachine.now();
    let second = now.to_string();
    let millis = now.as_millis().rem_euclid(1000);
    format!("{}.{millis:03}Z", second.trim_end_matches('Z'))
}

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_record_has_its_own_fields_and_those_around_it_in_one_line() {
        let lines = Arc::new(Mutex::new(Vec::<String>::new()));
        let kept = Arc::clone(&lines);
        let json = JsonLines(move |line: &str| {
            kept.lock().expect("no panic").push(line.to_owned());
        });
        let log = tracing_subscriber::registry().with(json);
        tracing::subscriber::with_default(log, || {
            tracing::error_span!("outer", institution = "st-anna", round = 1).in_scope(|| {
                tracing::error_span!("inner", run = %"notes.1", round = 2).in_scope(|| {
                    let attack = "a\n\u{1b}[2J\u{202e}\"";
                    tracing::warn!(code = attack, count = 3, "refused {attack}");
                });
            });
        });
        let lines = lines.lock().expect("no panic");
        let [line] = lines.as_slice() else {
            panic!("one record: {lines:?}");
        };
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        assert!(
            !line.contains('\u{1b}') && !line.contains('\u{202e}'),
            "{line:?}"
        );
        let record: Value = serde_json::from_str(line).expect("JSON");
        for (name, value) in [
            ("level", Value::from("warn")),
            ("institution", "st-anna".into()),
            ("run", "notes.1".into()),
            ("round", 2.into()),
            ("count", 3.into()),
            ("code", "a\n\u{1b}[2J\u{202e}\"".into()),
            ("message", "refused a\n\u{1b}[2J\u{202e}\"".into()),
        ] {
            assert_eq!(record[name], value, "{line}");
        }
        assert!(record["time"].as_str().is_some_and(|time| time.len() == 24));
    }

    #[test]
    fn lines_for_people_have_no_fields_around_them() {
        assert!(institution(&"st-anna").is_none());
        assert!(round(&"notes", 3).is_none());
    }
}
