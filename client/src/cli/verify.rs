//! `verify`: a coordinator's history against what this institution kept of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use fedner_shared::digest::Digest;
use fedner_shared::event::Event;
use fedner_shared::history::{Export, Head, Tree};
use fedner_shared::id::{InstitutionId, RunId};
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::sign::Signed;
use fedner_shared::statement::UpdateReceipt;
use serde::Serialize;

use super::Context;
use crate::identity::Identity;
use crate::state::{Receipt, ReceiptKind, Store};

/// Compare a coordinator's history with the heads, receipts and consents kept here
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What the coordinator's `institution history` wrote
    history: PathBuf,
}

#[derive(Debug, Serialize)]
struct Verdict {
    events: usize,
    /// Those that are about this institution.
    own: usize,
    receipts: usize,
    problems: Vec<String>,
}

/// What is kept here.
struct Kept {
    institution: InstitutionId,
    heads: Vec<Signed>,
    receipts: Vec<Receipt>,
    consents: BTreeSet<Digest>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let file = &arguments.history;
    let unreadable = |error: &dyn std::fmt::Display| {
        Refusal::new(Code::RequestInvalid, format!("{}: {error}", file.display()))
    };
    let text = std::fs::read_to_string(file).map_err(|error| unreadable(&error))?;
    let export: Export = serde_json::from_str(&text).map_err(|error| unreadable(&error))?;
    let directory = context.directory()?;
    let settings = directory.settings()?;
    let identity = Identity::load(&directory.identity(), settings.institution)?;
    let store = Store::open(&directory.database())?;
    let history = store.history()?;
    // Those that were replaced by a contradicting one bear the coordinator's signature all the same.
    let earlier = history
        .contradictions
        .into_iter()
        .filter_map(|found| found.kept);
    let kept = Kept {
        institution: identity.institution.clone(),
        heads: earlier.chain(history.newest).collect(),
        receipts: store.receipts()?,
        consents: store.consent_digests()?.into_iter().collect(),
    };
    let verdict = Verdict {
        events: export.digests.len(),
        own: export.entries.len(),
        receipts: kept.receipts.len(),
        problems: kept.problems(&export),
    };
    context.output.data(&verdict, |verdict| {
        if verdict.problems.is_empty() {
            format!(
                "{} events, {} of them about this institution, and {} receipts: they agree",
                verdict.events, verdict.own, verdict.receipts
            )
        } else {
            verdict.problems.join("\n")
        }
    })?;
    match verdict.problems.into_iter().next() {
        Some(problem) => Err(Refusal::new(Code::HistoryRewritten, problem).into()),
        None => Ok(ExitCode::SUCCESS),
    }
}

impl Kept {
    fn problems(&self, export: &Export) -> Vec<String> {
        let mut problems = Vec::new();
        if export.institution != self.institution {
            problems.push(format!("the history is for {}", export.institution));
            return problems;
        }
        let tree: Tree = export.digests.iter().copied().collect();
        problems.extend(self.heads.iter().filter_map(|head| wrong_head(head, &tree)));
        for entry in &export.entries {
            let place = usize::try_from(entry.sequence.saturating_sub(1)).unwrap_or(usize::MAX);
            if export.digests.get(place) != Some(&entry.digest()) {
                let number = entry.sequence;
                problems.push(format!("event {number} is not the one in the history"));
            }
        }
        problems.extend(self.disagreements(export));
        problems
    }

    /// Events without a signed statement of this institution, and statements that were taken without an event.
    fn disagreements(&self, export: &Export) -> Vec<String> {
        let mut problems = Vec::new();
        let mut updates = BTreeMap::new();
        let (mut counts, mut reports) = (BTreeSet::new(), BTreeSet::new());
        for receipt in &self.receipts {
            let asked = receipt.asked.as_ref();
            match (receipt.kind, asked) {
                (ReceiptKind::Update, Some(asked)) => {
                    if let Ok(said) = receipt.signed.peek::<UpdateReceipt>() {
                        let key = (asked.run.clone(), said.round, said.attempt, said.blob);
                        updates.insert(key, (said.bytes, said.epsilon_after));
                    }
                }
                (ReceiptKind::Evaluation, Some(asked)) => {
                    counts.insert((asked.run.clone(), asked.round));
                }
                (ReceiptKind::Audit, _) => {
                    reports.insert(receipt.digest);
                }
                (ReceiptKind::Update | ReceiptKind::Evaluation, None) => {}
            }
        }
        let (mut told, mut told_counts) = (BTreeSet::new(), BTreeSet::new());
        let mut told_reports = BTreeSet::new();
        for entry in &export.entries {
            let run = entry.run.clone();
            let wrong = own(run, &entry.event).and_then(|own| match own {
                Own::Update(key, bytes, epsilon) => {
                    let same = updates.get(&key) == Some(&(bytes, epsilon));
                    told.insert(key);
                    (!same).then_some("an update that was not signed here")
                }
                Own::Counts(key) => {
                    let known = counts.contains(&key);
                    told_counts.insert(key);
                    (!known).then_some("counts that were not signed here")
                }
                Own::Report(digest) => {
                    told_reports.insert(digest);
                    (!reports.contains(&digest)).then_some("a report that was not signed here")
                }
                Own::Consent(digest) => {
                    let known = self.consents.contains(&digest);
                    (!known).then_some("a consent that was not signed here")
                }
            });
            if let Some(what) = wrong {
                problems.push(format!("event {} tells of {what}", entry.sequence));
            }
        }
        for receipt in self
            .receipts
            .iter()
            .filter(|receipt| receipt.taken.is_some())
        {
            let asked = receipt.asked.as_ref();
            let is_told = match (receipt.kind, asked) {
                (ReceiptKind::Update, Some(asked)) => receipt.blob.is_some_and(|blob| {
                    told.contains(&(asked.run.clone(), asked.round, asked.attempt, blob))
                }),
                (ReceiptKind::Evaluation, Some(asked)) => {
                    told_counts.contains(&(asked.run.clone(), asked.round))
                }
                (ReceiptKind::Audit, _) => told_reports.contains(&receipt.digest),
                (ReceiptKind::Update | ReceiptKind::Evaluation, None) => true,
            };
            if !is_told {
                let digest = receipt.digest.short();
                problems.push(format!(
                    "no event tells of receipt {digest}, which was taken"
                ));
            }
        }
        problems
    }
}

type UpdateKey = (RunId, u32, u32, Digest);

/// What an event says that this institution signed.
enum Own {
    Update(UpdateKey, u64, Option<f64>),
    Counts((RunId, u32)),
    Report(Digest),
    Consent(Digest),
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the others stand for nothing that an institution signs"
)]
fn own(run: Option<RunId>, event: &Event) -> Option<Own> {
    match event {
        Event::UpdateAccepted {
            round,
            attempt,
            update,
            bytes,
            epsilon,
            ..
        } => Some(Own::Update(
            (run?, *round, *attempt, *update),
            *bytes,
            *epsilon,
        )),
        Event::Evaluated { round, .. } => Some(Own::Counts((run?, *round))),
        Event::AuditReported { report, .. } => Some(Own::Report(*report)),
        Event::Joined { consent, .. } => Some(Own::Consent(*consent)),
        _ => None,
    }
}

/// What is wrong with the history, by a head of it that was signed and shown here.
fn wrong_head(signed: &Signed, tree: &Tree) -> Option<String> {
    let head: Head = signed.peek().ok()?;
    match tree.root(head.size) {
        Some(root) if root == head.root => None,
        Some(_) => Some(format!(
            "the first {} events are not those that were shown at {}: they were rewritten",
            head.size, head.at
        )),
        None => Some(format!(
            "{} events were shown at {}, of which {} are left: the others were taken away",
            head.size,
            head.at,
            tree.size()
        )),
    }
}

#[cfg(test)]
mod tests {
    use fedner_shared::event::Entry;
    use fedner_shared::sign::SecretKey;
    use fedner_shared::time::Time;

    use super::*;
    use crate::state::Asked;

    fn name(text: &str) -> InstitutionId {
        text.parse().expect("name")
    }

    fn accepted(update: Digest, bytes: u64) -> Event {
        Event::UpdateAccepted {
            round: 1,
            attempt: 1,
            institution: name("anna"),
            update,
            bytes,
            epsilon: Some(1.5),
        }
    }

    /// A chain of these events, of which the institution sees its own.
    fn export(events: Vec<Event>) -> Export {
        let mut previous = Digest::from_bytes([0; 32]);
        let mut entries = Vec::new();
        for (number, event) in events.into_iter().enumerate() {
            let entry = Entry {
                sequence: number as u64 + 1,
                time: Time::from_millis(7),
                previous,
                run: Some("run-1".parse().expect("run")),
                event,
            };
            previous = entry.digest();
            entries.push(entry);
        }
        let digests = entries.iter().map(Entry::digest).collect();
        entries.retain(|entry| entry.event.is_about(&name("anna")));
        Export {
            institution: name("anna"),
            digests,
            entries,
        }
    }

    fn receipt(blob: Digest) -> Receipt {
        let said = UpdateReceipt {
            run: "run-1".parse().expect("run"),
            plan: Digest::of(b"plan"),
            round: 1,
            attempt: 1,
            institution: name("anna"),
            base: Digest::of(b"base"),
            manifest: Digest::of(b"manifest"),
            weight: 1,
            blob,
            bytes: 40,
            masked: None,
            sigma: 1.0,
            epsilon_after: Some(1.5),
            epsilon_alone: None,
            ledger_head: None,
            at: Time::from_millis(6),
        };
        let signed = Signed::new(&said, &SecretKey::from_seed([1; 32]));
        Receipt {
            digest: signed.digest(),
            kind: ReceiptKind::Update,
            asked: Some(Asked {
                plan: said.plan,
                run: said.run,
                round: 1,
                attempt: 1,
            }),
            blob: Some(blob),
            signed,
            time: Time::from_millis(6),
            note: serde_json::json!({}),
            taken: Some(Time::from_millis(8)),
        }
    }

    /// Who was shown the whole of that history.
    fn kept(shown: &Export, receipts: Vec<Receipt>) -> Kept {
        let tree: Tree = shown.digests.iter().copied().collect();
        let key = SecretKey::from_seed([2; 32]);
        let head = Head {
            size: tree.size(),
            root: tree.root(tree.size()).expect("root"),
            key: key.public(),
            at: Time::from_millis(9),
        };
        Kept {
            institution: name("anna"),
            heads: vec![Signed::new(&head, &key)],
            receipts,
            consents: BTreeSet::new(),
        }
    }

    #[test]
    fn a_rewritten_forked_or_truncated_history_is_found_and_one_that_grew_is_not() {
        let update = Digest::of(b"update");
        let events = || vec![Event::RunStarted, accepted(update, 40), Event::RunPaused];
        let shown = export(events());
        let kept = kept(&shown, vec![receipt(update)]);
        assert_eq!(kept.problems(&shown), Vec::<String>::new());
        let grown = export([events(), vec![Event::RunResumed]].concat());
        assert_eq!(kept.problems(&grown), Vec::<String>::new());
        let expect = |what: &str, export: &Export, word: &str| {
            let problems = kept.problems(export);
            assert!(
                problems.iter().any(|p| p.contains(word)),
                "{what}: {problems:?}"
            );
        };
        let start = vec![Event::RunPaused, accepted(update, 40), Event::RunPaused];
        expect("rewritten from the start", &export(start), "rewritten");
        let end = vec![Event::RunStarted, accepted(update, 40), Event::RunResumed];
        expect("forked at the end", &export(end), "rewritten");
        expect("truncated", &export(events()[..2].to_vec()), "taken away");
        let dropped = vec![Event::RunStarted, Event::RunPaused, Event::RunResumed];
        expect(
            "an update that vanished",
            &export(dropped),
            "no event tells",
        );
        let mut hidden = shown.clone();
        hidden.entries.clear();
        expect("an entry that is withheld", &hidden, "no event tells");
        let mut forged = shown.clone();
        forged.entries[0].time = Time::from_millis(1);
        expect("an entry that is another", &forged, "not the one");
        let other = export(vec![
            Event::RunStarted,
            accepted(update, 41),
            Event::RunPaused,
        ]);
        expect("another update", &other, "not signed here");
        let consent = Event::Joined {
            institution: name("anna"),
            examples: 9,
            consent: Digest::of(b"never signed"),
        };
        let joined = export([events(), vec![consent]].concat());
        expect(
            "a consent that was made up",
            &joined,
            "a consent that was not signed",
        );
    }
}
