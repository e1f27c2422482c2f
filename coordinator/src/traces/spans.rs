//! What happened in a round as spans: the round, its attempts, what each institution did in them, the sum and the
//! evaluation.

use std::collections::HashMap;

use fedner_shared::event::{Entry, Event};
use fedner_shared::id::{InstitutionId, RunId};
use fedner_shared::time::Time;

use super::proto::{KeyValue, Span, SpanStatus};

/// The spans of a round, of all whose events `entries` are in their order. The same events give the same spans.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the others begin and end nothing"
)]
pub(super) fn of_round(run: &RunId, entries: &[Entry]) -> Vec<Span> {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
        return Vec::new();
    };
    let Event::RoundStarted { round, .. } = &first.event else {
        return Vec::new();
    };
    let mut trace = Trace {
        id: blake3::hash(format!("{run} {round} {}", first.sequence).as_bytes()).as_bytes()[..16]
            .to_vec(),
        about: vec![
            KeyValue::text("fedner.run", run),
            KeyValue::number("fedner.round", u64::from(*round)),
        ],
        spans: Vec::new(),
        open: HashMap::new(),
    };
    let root = trace.open("round", first.time, None);
    let mut attempt = root;
    // The attempt or the evaluation that institutions are at work on.
    let mut within = root;
    for entry in entries {
        let at = entry.time;
        match &entry.event {
            Event::RoundStarted {
                attempt: number,
                participants,
                ..
            } => {
                attempt = trace.open("attempt", at, Some(root));
                within = attempt;
                trace.say(
                    attempt,
                    KeyValue::number("fedner.attempt", u64::from(*number)),
                );
                trace.say(
                    attempt,
                    KeyValue::number("fedner.participants", participants.len() as u64),
                );
            }
            Event::AssignmentTaken { institution, .. } => {
                let work = trace.open("institution", at, Some(within));
                trace.say(work, KeyValue::text("fedner.institution", institution));
                trace.open.insert(institution.clone(), work);
            }
            Event::UpdateAccepted {
                institution, bytes, ..
            } => {
                if let Some(work) = trace.open.remove(institution) {
                    trace.say(work, KeyValue::number("fedner.update.bytes", *bytes));
                    trace.close(work, at);
                }
            }
            Event::Declined {
                institution, code, ..
            } => {
                if let Some(work) = trace.open.remove(institution) {
                    trace.fail(work, code.as_str());
                    trace.close(work, at);
                }
            }
            Event::RoundClosed { updates, .. } => {
                trace.say(attempt, KeyValue::number("fedner.updates", *updates as u64));
                trace.close(attempt, at);
                trace.open("aggregate", at, Some(root));
            }
            Event::RoundRepeated { reason, .. } => {
                trace.fail(attempt, reason);
                trace.close(attempt, at);
            }
            Event::VersionPublished { version, .. } => {
                trace.say(root, KeyValue::text("fedner.version", version));
                trace.close_named("aggregate", at);
                within = trace.open("evaluate", at, Some(root));
            }
            Event::Evaluated { institution, .. } => {
                if let Some(work) = trace.open.remove(institution) {
                    trace.close(work, at);
                }
            }
            Event::RoundFinished { .. } => trace.close_named("evaluate", at),
            Event::RunFailed { reason } => trace.fail(root, reason),
            Event::RunCancelled => trace.fail(root, "the run was cancelled"),
            _ => {}
        }
    }
    trace.finish(last.time)
}

struct Trace {
    id: Vec<u8>,
    /// What every span is about.
    about: Vec<KeyValue>,
    spans: Vec<Span>,
    /// The spans of those at work, as places in `spans`.
    open: HashMap<InstitutionId, usize>,
}

impl Trace {
    fn open(&mut self, name: &str, at: Time, parent: Option<usize>) -> usize {
        let place = self.spans.len();
        let seed = [&self.id[..], &place.to_le_bytes()].concat();
        let parent = parent.map(|parent| self.spans[parent].own_id.clone());
        self.spans.push(Span {
            trace_id: self.id.clone(),
            own_id: blake3::hash(&seed).as_bytes()[..8].to_vec(),
            parent_id: parent.unwrap_or_default(),
            name: name.to_owned(),
            kind: 1,
            start_time_unix_nano: nanos(at),
            end_time_unix_nano: 0,
            attributes: self.about.clone(),
            status: None,
        });
        place
    }

    fn say(&mut self, place: usize, what: KeyValue) {
        self.spans[place].attributes.push(what);
    }

    fn fail(&mut self, place: usize, message: &str) {
        let message = message.to_owned();
        self.spans[place].status = Some(SpanStatus { message, code: 2 });
    }

    fn close(&mut self, place: usize, at: Time) {
        self.spans[place].end_time_unix_nano = nanos(at);
    }

    fn close_named(&mut self, name: &str, at: Time) {
        let is_open = |span: &Span| span.name == name && span.end_time_unix_nano == 0;
        if let Some(place) = self.spans.iter().rposition(is_open) {
            self.close(place, at);
        }
    }

    /// What is open then has gone on to the end.
    fn finish(mut self, at: Time) -> Vec<Span> {
        for place in 0..self.spans.len() {
            if self.spans[place].end_time_unix_nano == 0 {
                self.close(place, at);
            }
        }
        self.spans
    }
}

fn nanos(time: Time) -> u64 {
    u64::try_from(time.as_millis())
        .unwrap_or_default()
        .saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use fedner_shared::digest::Digest;
    use fedner_shared::refusal::Code;

    use super::*;

    fn entries(events: Vec<Event>) -> Vec<Entry> {
        let entry = |(number, event)| Entry {
            sequence: number as u64 + 7,
            time: Time::from_millis(1_700_000_000_000 + number as i64 * 1000),
            previous: Digest::of(b"before"),
            run: Some("notes.1".parse().expect("name")),
            event,
        };
        events.into_iter().enumerate().map(entry).collect()
    }

    #[test]
    fn a_round_is_a_tree_of_what_happened() {
        let (anna, mercy): (InstitutionId, InstitutionId) = (
            "st-anna".parse().expect("name"),
            "mercy".parse().expect("name"),
        );
        let (round, base) = (2, Digest::of(b"base"));
        let started = |attempt| Event::RoundStarted {
            round,
            attempt,
            participants: vec![anna.clone(), mercy.clone()],
            base,
        };
        let taken = |attempt, institution: &InstitutionId| Event::AssignmentTaken {
            round,
            attempt,
            institution: institution.clone(),
        };
        let entries = entries(vec![
            started(1),
            taken(1, &anna),
            Event::Declined {
                round,
                attempt: 1,
                institution: anna.clone(),
                code: Code::NotDone,
                reason: "it could not".to_owned(),
            },
            Event::RoundRepeated {
                round,
                attempt: 1,
                reason: "too few".to_owned(),
            },
            started(2),
            taken(2, &mercy),
            Event::UpdateAccepted {
                round,
                attempt: 2,
                institution: mercy.clone(),
                update: base,
                bytes: 48,
                epsilon: None,
            },
            Event::RoundClosed {
                round,
                attempt: 2,
                updates: 1,
                missing: vec![anna.clone()],
            },
            Event::VersionPublished {
                round,
                attempt: 2,
                version: "notes@3".parse().expect("name"),
                digest: base,
                weights: base,
                seconds: 0.1,
            },
            taken(2, &mercy),
            Event::Evaluated {
                round,
                institution: mercy.clone(),
                f1: 0.5,
                precision: 0.5,
                recall: 0.5,
                support: 4,
            },
            Event::RoundFinished {
                round,
                f1: None,
                median_f1: None,
            },
        ]);
        let run = "notes.1".parse().expect("name");
        let spans = of_round(&run, &entries);
        assert_eq!(
            spans,
            of_round(&run, &entries),
            "the same events give the same"
        );
        let shown: Vec<(&str, u64, u64)> = spans
            .iter()
            .map(|span| {
                let second = |nanos: u64| nanos / 1_000_000_000 - 1_700_000_000;
                (
                    span.name.as_str(),
                    second(span.start_time_unix_nano),
                    second(span.end_time_unix_nano),
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("round", 0, 11),
                ("attempt", 0, 3),
                ("institution", 1, 2),
                ("attempt", 4, 7),
                ("institution", 5, 6),
                ("aggregate", 7, 8),
                ("evaluate", 8, 11),
                ("institution", 9, 10),
            ]
        );
        let parents: Vec<Option<usize>> = spans
            .iter()
            .map(|span| {
                spans
                    .iter()
                    .position(|other| other.own_id == span.parent_id)
            })
            .collect();
        assert_eq!(
            parents,
            [
                None,
                Some(0),
                Some(1),
                Some(0),
                Some(3),
                Some(0),
                Some(0),
                Some(6)
            ]
        );
        let failed = spans.iter().filter(|span| span.status.is_some());
        assert_eq!(failed.count(), 2);
        assert!(
            spans
                .iter()
                .all(|span| span.trace_id.len() == 16 && span.own_id.len() == 8)
        );
    }

    #[test]
    fn a_round_that_comes_to_nothing_ends_with_its_run() {
        let entries = entries(vec![
            Event::RoundStarted {
                round: 1,
                attempt: 1,
                participants: Vec::new(),
                base: Digest::of(b"base"),
            },
            Event::RunCancelled,
        ]);
        let spans = of_round(&"notes.1".parse().expect("name"), &entries);
        assert_eq!(spans.len(), 2);
        assert!(spans[0].status.is_some());
        assert!(of_round(&"notes.1".parse().expect("name"), &entries[1..]).is_empty());
    }
}
