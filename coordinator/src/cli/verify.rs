//! `verify`: everything in the directory that has a digest or a signature.

mod events;

use std::collections::BTreeSet;

use clap::Args;
use fedner_host::output::Output;
use fedner_shared::audit::AuditReport;
use fedner_shared::digest::Digest;
use fedner_shared::history::{Seen, Tree};
use fedner_shared::keys::verify_by_any;
use fedner_shared::plan::Plan;
use fedner_shared::refusal::Code;
use fedner_shared::secure::{
    SecureKeys, SecureSet, SecureShares, SecureStep, SecureUnmasking, Transcript,
};
use fedner_shared::sign::{PublicKey, Signed};
use fedner_shared::statement::{Consent, EvaluationReceipt, UpdateReceipt};
use fedner_shared::version::{Round, Version};
use serde::Serialize;

use super::failed::Failed;
use super::serve::plan_keys;
use crate::blobs::Blobs;
use crate::config::{Config, Paths};
use crate::engine::secure::verify_transcript;
use crate::store::{HistorySeen, Place, StatementKind, Store, StoredStatement};

#[derive(Debug, Args)]
pub(super) struct Arguments {}

#[derive(Serialize, Default)]
struct Verdict {
    events: u64,
    versions: usize,
    objects: usize,
    statements: usize,
    /// Institutions whose signature stands under a part of the events.
    countersigned: usize,
    plans: usize,
    /// Versions of which something was let go on purpose, and what.
    pruned: Vec<String>,
    problems: Vec<String>,
}

pub(super) async fn run(_: Arguments, paths: &Paths, output: &Output) -> Result<(), Failed> {
    let config = Config::read(paths)?;
    let fault = Failed::from;
    let mut store = Store::look_at(&Place::from_config(paths, &config)?)?;
    let operators = plan_keys(paths, &mut store)?;
    let blobs = Blobs::from_config(paths, &config).await?;
    let mut verdict = Verdict::default();

    if let Err(error) = store.check_pages() {
        verdict.problems.push(error.to_string());
    }
    match store.read(|tx| tx.verify_chain()) {
        Ok(events) => verdict.events = events,
        Err(error) => verdict.problems.push(format!("audit chain: {error}")),
    }
    let digests = store.read(|tx| tx.versions()).map_err(fault)?;
    let pruned = store.read(|tx| tx.pruned()).map_err(fault)?;
    let mut objects = BTreeSet::new();
    for digest in &digests {
        let version = store.read(|tx| tx.version(*digest)).map_err(fault)?;
        if let Some(version) = version {
            check_version(*digest, &version, &digests, &mut verdict);
            let plan = version.round().map(|round| round.plan);
            let plan = plan.map(|plan| store.read(|tx| tx.plan(plan)));
            if let Some(plan) = plan.transpose().map_err(fault)? {
                check_rule(&version, plan, &operators, &mut verdict);
            }
            let pruned = pruned.get(digest).copied();
            let text = pruned.map(|pruned| format!("{}: {pruned}", version.name));
            verdict.pruned.extend(text);
            if pruned.is_none() {
                check_unmasking(&blobs, &version, &mut verdict).await;
            }
            objects.extend(version.kept(pruned));
        }
    }
    verdict.versions = digests.len();
    for digest in &objects {
        check_object(&blobs, *digest, &mut verdict).await;
    }
    verdict.objects = objects.len();
    for statement in store.read(|tx| tx.statements()).map_err(fault)? {
        verdict.statements += 1;
        if let Err(problem) = check_statement(&statement) {
            verdict.problems.push(format!(
                "statement {} of {}: {problem}",
                statement.digest.short(),
                statement.author
            ));
        }
    }
    for run in store.read(|tx| tx.runs()).map_err(fault)? {
        verdict.plans += 1;
        let signed = store.read(|tx| tx.plan(run.plan_digest)).map_err(fault)?;
        let sound = signed.is_some_and(|signed| {
            verify_by_any::<Plan>(&signed, &operators).is_ok_and(|plan| plan == run.plan)
        });
        if !sound {
            verdict.problems.push(format!(
                "run {}: its plan is not the one the operator signed",
                run.id
            ));
        }
    }
    match store.read(events::disagreements) {
        Ok(problems) => verdict.problems.extend(problems),
        Err(error) => verdict.problems.push(format!("events: {error}")),
    }
    let (digests, seen) = store
        .read(|tx| Ok((tx.entry_digests(1)?, tx.histories_seen()?)))
        .map_err(fault)?;
    verdict.countersigned = seen.len();
    let recorded: Tree = digests.into_iter().collect();
    for seen in &seen {
        if let Err(problem) = check_seen(seen, &recorded) {
            let author = &seen.institution;
            verdict
                .problems
                .push(format!("history that {author} countersigned: {problem}"));
        }
    }
    output.data(&verdict, render)?;
    match verdict.problems.len() {
        0 => Ok(()),
        count => Err(Failed::refuse(
            Code::StateInvalid,
            format!("{count} problems were found"),
        )),
    }
}

fn check_version(digest: Digest, version: &Version, known: &[Digest], verdict: &mut Verdict) {
    if version.digest() != digest {
        verdict.problems.push(format!(
            "version {}: its record has another digest",
            version.name
        ));
    }
    let shows_all = |round: &Round| {
        let counted = round.sealed.is_empty() || round.sealed.len() == round.participants.len();
        counted && round.shows_what_it_seals()
    };
    if !version.round().is_none_or(shows_all) {
        verdict.problems.push(format!(
            "version {}: its participants are not those that it seals",
            version.name
        ));
    }
    if version
        .parent
        .is_some_and(|parent| !known.contains(&parent))
    {
        verdict
            .problems
            .push(format!("version {}: its parent is missing", version.name));
    }
}

/// Whether the version came about by the rule that its plan says.
fn check_rule(
    version: &Version,
    plan: Option<Signed>,
    operators: &[PublicKey],
    verdict: &mut Verdict,
) {
    let Some(round) = version.round() else {
        return;
    };
    let plan = plan.and_then(|signed| verify_by_any::<Plan>(&signed, operators).ok());
    let problem = match plan {
        None => "the plan of its round is missing or not signed by the operator".to_owned(),
        Some(plan) if plan.rule() != round.rule => {
            format!(
                "it came about by {}: its plan says {}",
                round.rule,
                plan.rule()
            )
        }
        Some(_) => return,
    };
    let name = &version.name;
    verdict.problems.push(format!("version {name}: {problem}"));
}

/// Whether the members of a masked sum signed everything that took its masks off, and one set.
async fn check_unmasking(blobs: &Blobs, version: &Version, verdict: &mut Verdict) {
    let Some(round) = version.round() else {
        return;
    };
    let Some(digest) = round.unmasking else {
        return;
    };
    let checked = async {
        let bytes = blobs.read(digest).await.map_err(|e| e.to_string())?;
        let transcript: Transcript = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
        let (of, parent) = (&transcript.of, version.parent);
        let same = (&of.run, of.plan, of.round, of.attempt)
            == (&round.run, round.plan, round.round, round.attempt);
        if !same || Some(of.base) != parent {
            return Err("what unmasks it is of another attempt".to_owned());
        }
        let updates = round.participants.iter();
        let updates: Vec<_> = updates.map(|one| one.institution.clone()).collect();
        let dealt = verify_transcript(&transcript, &updates).map_err(|e| e.to_string())?;
        let opened = dealt.opening(&updates, &transcript.unmaskings);
        opened.map(drop).map_err(|e| e.to_string())
    };
    if let Err(problem) = checked.await {
        let name = &version.name;
        verdict.problems.push(format!("version {name}: {problem}"));
    }
}

async fn check_object(blobs: &Blobs, digest: Digest, verdict: &mut Verdict) {
    let found = match blobs.open_file(digest).await {
        Ok(file) => tokio::task::spawn_blocking(move || Digest::of_reader(file)).await,
        Err(error) => {
            verdict
                .problems
                .push(format!("object {}: {error}", digest.short()));
            return;
        }
    };
    match found {
        Ok(Ok(found)) if found == digest => {}
        Ok(Ok(found)) => verdict.problems.push(format!(
            "object {}: its bytes have the digest {}",
            digest.short(),
            found.short()
        )),
        Ok(Err(error)) => verdict
            .problems
            .push(format!("object {}: {error}", digest.short())),
        Err(error) => verdict
            .problems
            .push(format!("object {}: {error}", digest.short())),
    }
}

fn check_statement(statement: &StoredStatement) -> Result<(), fedner_shared::sign::Error> {
    let StoredStatement {
        kind, key, signed, ..
    } = statement;
    match kind {
        StatementKind::Consent => signed.verify::<Consent>(key).map(drop),
        StatementKind::Update => signed.verify::<UpdateReceipt>(key).map(drop),
        StatementKind::Evaluation => signed.verify::<EvaluationReceipt>(key).map(drop),
        StatementKind::Audit => signed.verify::<AuditReport>(key).map(drop),
        StatementKind::Secure(SecureStep::Keys) => signed.verify::<SecureKeys>(key).map(drop),
        StatementKind::Secure(SecureStep::Shares) => signed.verify::<SecureShares>(key).map(drop),
        StatementKind::Secure(SecureStep::Consistency) => signed.verify::<SecureSet>(key).map(drop),
        StatementKind::Secure(SecureStep::Unmasking) => {
            signed.verify::<SecureUnmasking>(key).map(drop)
        }
    }
}

/// The events begin with those that an institution has signed for.
fn check_seen(seen: &HistorySeen, recorded: &Tree) -> Result<(), String> {
    let said: Seen = seen
        .signed
        .verify(&seen.key)
        .map_err(|error| error.to_string())?;
    if said.institution != seen.institution {
        return Err(format!("it is signed by {}", said.institution));
    }
    match recorded.root(said.size) {
        Some(root) if root == said.root => Ok(()),
        Some(_) => Err(format!(
            "the first {} events are not those that it was shown: they were rewritten",
            said.size
        )),
        None => Err(format!(
            "it was shown {} events, of which {} are left: the others were taken away",
            said.size,
            recorded.size()
        )),
    }
}

fn render(verdict: &Verdict) -> String {
    let mut lines = vec![format!(
        "checked {} events, {} versions, {} objects, {} signed statements, {} plans",
        verdict.events, verdict.versions, verdict.objects, verdict.statements, verdict.plans
    )];
    if !verdict.pruned.is_empty() {
        lines.push(format!(
            "pruned on purpose, and not looked for: {}",
            verdict.pruned.join(", ")
        ));
    }
    lines.extend(
        verdict
            .problems
            .iter()
            .map(|problem| format!("PROBLEM: {problem}")),
    );
    if verdict.problems.is_empty() {
        lines.push("everything is as it was signed".to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use fedner_shared::sign::{SecretKey, Signed};
    use fedner_shared::time::Time;

    use super::*;

    #[test]
    fn a_countersigned_history_shows_what_was_rewritten_or_taken_away() {
        let digests = |size: u64, text: &str| {
            (0..size)
                .map(|number| Digest::of(format!("{text} {number}").as_bytes()))
                .collect::<Vec<_>>()
        };
        let tree = |events: Vec<Digest>| events.into_iter().collect::<Tree>();
        let key = SecretKey::from_seed([1; 32]);
        let said = Seen {
            institution: "anna".parse().expect("name"),
            size: 5,
            root: tree(digests(5, "event")).root(5).expect("root"),
            at: Time::from_millis(0),
        };
        let seen = |signer: &SecretKey| HistorySeen {
            institution: said.institution.clone(),
            size: said.size,
            key: key.public(),
            signed: Signed::new(&said, signer),
        };
        let check = |events: Vec<Digest>| check_seen(&seen(&key), &tree(events));
        check(digests(5, "event")).expect("as it was");
        check(digests(9, "event")).expect("grown");
        let said = check(digests(9, "other")).expect_err("rewritten");
        assert!(said.contains("rewritten"), "{said}");
        let said = check(digests(4, "event")).expect_err("truncated");
        assert!(said.contains("taken away"), "{said}");
        let forged = seen(&SecretKey::from_seed([2; 32]));
        assert!(check_seen(&forged, &tree(digests(5, "event"))).is_err());
    }
}
