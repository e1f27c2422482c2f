//! Whether the events say what the signed statements, records and states say that they stand for.
//!
//! The chain of digests shows that no event was changed by itself. Whoever holds the database can compute a chain
//! anew; the statements of others it cannot.

use std::collections::{BTreeMap, BTreeSet};

use fedner_shared::digest::Digest;
use fedner_shared::event::{Entry, Event};
use fedner_shared::id::{InstitutionId, RunId, VersionName};
use fedner_shared::keys::Succession;
use fedner_shared::secure::SecureStep;
use fedner_shared::sign::Signed;
use fedner_shared::state::InstitutionState;
use fedner_shared::statement::{Consent, EvaluationReceipt, UpdateReceipt};
use fedner_shared::version::Pruned;

use crate::store::{Error, StatementKind, StoredStatement, Tx};

/// Entries read at a time.
const PAGE: usize = 1000;

/// An update by round, attempt, institution and digest of its bytes.
type UpdateKey = (RunId, u32, u32, InstitutionId, Digest);
type EvaluationKey = (RunId, u32, InstitutionId);

/// What events must agree with.
struct Known {
    consents: BTreeMap<Digest, (InstitutionId, Consent)>,
    updates: BTreeMap<UpdateKey, UpdateReceipt>,
    evaluations: BTreeMap<EvaluationKey, EvaluationReceipt>,
    reports: BTreeMap<Digest, InstitutionId>,
    /// Of secure aggregations.
    steps: BTreeMap<Digest, (InstitutionId, SecureStep)>,
    /// By digest, whether the key that gives way signed it.
    successions: BTreeMap<Digest, Option<Succession>>,
    states: BTreeMap<InstitutionId, InstitutionState>,
    /// What events say was let go of.
    pruned: BTreeMap<VersionName, Pruned>,
    /// Of the statements above, those that an event was found for.
    told: BTreeSet<Digest>,
    told_updates: BTreeSet<UpdateKey>,
    told_evaluations: BTreeSet<EvaluationKey>,
}

/// Every disagreement, in words.
pub(super) fn disagreements(tx: &Tx<'_>) -> Result<Vec<String>, Error> {
    let mut known = Known::new(tx.statements()?, &tx.all_successions()?);
    let mut problems = Vec::new();
    let mut next = 1;
    loop {
        let page = tx.events(None, next, PAGE)?;
        let Some(last) = page.last() else {
            break;
        };
        next = last.sequence + 1;
        for entry in &page {
            if let Some(problem) = known.check(tx, entry)? {
                problems.push(format!("event {}: {problem}", entry.sequence));
            }
        }
    }
    problems.extend(known.untold());
    problems.extend(known.pruned_otherwise(tx)?);
    for institution in tx.institutions()? {
        let told = known.states.get(&institution.name);
        if told != Some(&institution.state) {
            problems.push(format!(
                "institution {} is {}: the events leave it {}",
                institution.name,
                institution.state.as_str(),
                told.map_or("unknown", |state| state.as_str())
            ));
        }
    }
    for digest in tx.versions()? {
        let round = tx.version(digest)?.and_then(|version| {
            let round = version.round().cloned()?;
            Some((version.name, round))
        });
        let Some((name, round)) = round else {
            continue;
        };
        for participant in &round.participants {
            let key = (
                round.run.clone(),
                round.round,
                round.attempt,
                participant.institution.clone(),
                participant.update,
            );
            if !known.told_updates.contains(&key) {
                problems.push(format!(
                    "version {name}: no event tells of the update of {}",
                    participant.institution
                ));
            }
        }
    }
    Ok(problems)
}

/// A succession by its digest, if the key that gives way signed it.
fn succession(signed: &Signed) -> (Digest, Option<Succession>) {
    let said = signed.peek::<Succession>().ok();
    let signed_by_old = said.filter(|said| signed.verify::<Succession>(&said.old).is_ok());
    (signed.digest(), signed_by_old)
}

impl Known {
    fn new(statements: Vec<StoredStatement>, successions: &[Signed]) -> Self {
        let mut known = Self {
            consents: BTreeMap::new(),
            updates: BTreeMap::new(),
            evaluations: BTreeMap::new(),
            reports: BTreeMap::new(),
            steps: BTreeMap::new(),
            successions: successions.iter().map(succession).collect(),
            states: BTreeMap::new(),
            pruned: BTreeMap::new(),
            told: BTreeSet::new(),
            told_updates: BTreeSet::new(),
            told_evaluations: BTreeSet::new(),
        };
        for statement in statements {
            // What cannot be read or verified is a problem of its own, which is told elsewhere.
            known.add(statement);
        }
        known
    }

    fn add(&mut self, statement: StoredStatement) {
        let StoredStatement {
            digest,
            kind,
            author,
            key,
            signed,
        } = statement;
        match kind {
            StatementKind::Consent => {
                if let Ok(consent) = signed.verify::<Consent>(&key) {
                    self.consents.insert(digest, (author, consent));
                }
            }
            StatementKind::Update => {
                if let Ok(update) = signed.verify::<UpdateReceipt>(&key) {
                    let (round, attempt) = (update.round, update.attempt);
                    let place = (update.run.clone(), round, attempt, author, update.blob);
                    self.updates.insert(place, update);
                }
            }
            StatementKind::Evaluation => {
                if let Ok(evaluation) = signed.verify::<EvaluationReceipt>(&key) {
                    let place = (evaluation.run.clone(), evaluation.round, author);
                    self.evaluations.insert(place, evaluation);
                }
            }
            StatementKind::Audit => {
                self.reports.insert(digest, author);
            }
            StatementKind::Secure(step) => {
                self.steps.insert(digest, (author, step));
            }
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the others stand for nothing that is kept elsewhere"
    )]
    fn check(&mut self, tx: &Tx<'_>, entry: &Entry) -> Result<Option<String>, Error> {
        let problem = match &entry.event {
            Event::Joined {
                institution,
                examples,
                consent,
            } => self.joined(institution, *examples, *consent),
            Event::UpdateAccepted {
                round,
                attempt,
                institution,
                update,
                bytes,
                epsilon,
            } => entry.run.as_ref().and_then(|run| {
                let key = (run.clone(), *round, *attempt, institution.clone(), *update);
                self.updated(key, *bytes, *epsilon)
            }),
            Event::Evaluated {
                round,
                institution,
                f1,
                support,
                ..
            } => entry.run.as_ref().and_then(|run| {
                let key = (run.clone(), *round, institution.clone());
                self.evaluated(key, *f1, *support)
            }),
            Event::SecureStepTaken {
                institution,
                step,
                statement,
                ..
            } => {
                let said = self.steps.get(statement);
                (said != Some(&(institution.clone(), *step)))
                    .then(|| format!("{institution} has signed no such statement of {step}"))
            }
            Event::AuditReported {
                institution,
                report,
                ..
            } => {
                self.told.insert(*report);
                let by = self.reports.get(report);
                (by != Some(institution))
                    .then(|| format!("{institution} has signed no such report of an audit"))
            }
            Event::InstitutionEnrolled { institution }
            | Event::InstitutionReenrolled { institution, .. }
            | Event::InstitutionReinstated { institution } => {
                self.state(institution, InstitutionState::Active);
                None
            }
            Event::InstitutionSuspended { institution } => {
                self.state(institution, InstitutionState::Suspended);
                None
            }
            Event::InstitutionRevoked { institution } => {
                self.state(institution, InstitutionState::Revoked);
                None
            }
            Event::KeyReplaced {
                signs,
                new,
                succession,
            } => {
                let said = self.successions.remove(succession).flatten();
                let same = said.is_some_and(|said| said.signs == *signs && said.new == *new);
                (!same).then(|| format!("no key gave way to {new} by a signed statement"))
            }
            Event::VersionPublished {
                version,
                digest,
                weights,
                ..
            } => {
                let record = tx.version(*digest)?;
                let other = record
                    .as_ref()
                    .is_none_or(|found| found.name != *version || found.weights != *weights);
                other.then(|| format!("the record of {version} says something else"))
            }
            Event::ModelImported { version, digest } => {
                let record = tx.version(*digest)?;
                let other = record.as_ref().is_none_or(|found| found.name != *version);
                other.then(|| format!("the record of {version} says something else"))
            }
            Event::ModelsPruned {
                versions,
                updates_only,
            } => {
                let pruned = if *updates_only {
                    Pruned::Updates
                } else {
                    Pruned::Files
                };
                for version in versions {
                    let most = self.pruned.entry(version.clone()).or_insert(pruned);
                    *most = pruned.max(*most);
                }
                None
            }
            Event::RunCreated { plan, .. } => {
                let missing = tx.plan(*plan)?.is_none();
                missing.then(|| format!("there is no plan {}", plan.short()))
            }
            _ => None,
        };
        Ok(problem)
    }

    fn state(&mut self, institution: &InstitutionId, state: InstitutionState) {
        self.states.insert(institution.clone(), state);
    }

    fn joined(
        &mut self,
        institution: &InstitutionId,
        examples: u32,
        consent: Digest,
    ) -> Option<String> {
        self.told.insert(consent);
        let Some((author, said)) = self.consents.get(&consent) else {
            return Some(format!("{institution} has signed no such consent"));
        };
        if author != institution {
            return Some(format!("{author} signed the consent, not {institution}"));
        }
        (said.examples != examples).then(|| {
            let signed = said.examples;
            format!("{institution} joined with {examples} examples: it signed {signed}")
        })
    }

    fn updated(&mut self, key: UpdateKey, bytes: u64, epsilon: Option<f64>) -> Option<String> {
        let institution = key.3.clone();
        let Some(said) = self.updates.get(&key) else {
            return Some(format!("{institution} has signed no such update"));
        };
        let same = said.bytes == bytes && said.epsilon_after == epsilon;
        self.told_updates.insert(key);
        (!same).then(|| format!("the receipt of {institution} has other bytes or another ε"))
    }

    fn evaluated(&mut self, key: EvaluationKey, f1: f64, support: u64) -> Option<String> {
        let institution = key.2.clone();
        let Some(said) = self.evaluations.get(&key) else {
            return Some(format!("{institution} has signed no such evaluation"));
        };
        let total = said.scores.total();
        // They are computed from the same counts by the same formula.
        let same = total.support() == support && total.f1().to_bits() == f1.to_bits();
        self.told_evaluations.insert(key);
        (!same).then(|| format!("the counts of {institution} come to something else"))
    }

    /// Nobody can pass off what is missing as pruned.
    fn pruned_otherwise(&self, tx: &Tx<'_>) -> Result<Vec<String>, Error> {
        let mut problems = Vec::new();
        let mut recorded = BTreeMap::new();
        for (digest, pruned) in tx.pruned()? {
            let version = tx.version(digest)?;
            recorded.extend(version.map(|version| (version.name, pruned)));
        }
        let names: BTreeSet<_> = recorded.keys().chain(self.pruned.keys()).collect();
        for name in names {
            let (found, told) = (recorded.get(name), self.pruned.get(name));
            if found != told {
                let say = |pruned: Option<&Pruned>| pruned.map_or("nothing", |p| p.as_str());
                problems.push(format!(
                    "version {name} has {} pruned: the events say {}",
                    say(found),
                    say(told)
                ));
            }
        }
        Ok(problems)
    }

    /// Statements that no event tells of.
    fn untold(&self) -> Vec<String> {
        let consents = self
            .consents
            .iter()
            .filter(|(digest, _)| !self.told.contains(*digest));
        let consents = consents.map(|(_, (author, _))| (author, "consent"));
        let updates = self
            .updates
            .keys()
            .filter(|key| !self.told_updates.contains(*key));
        let updates = updates.map(|key| (&key.3, "update"));
        let counts = self
            .evaluations
            .keys()
            .filter(|key| !self.told_evaluations.contains(*key));
        let counts = counts.map(|key| (&key.2, "evaluation"));
        let reports = self
            .reports
            .iter()
            .filter(|(digest, _)| !self.told.contains(*digest));
        let reports = reports.map(|(_, author)| (author, "report of an audit"));
        let successions = self.successions.keys();
        let successions = successions.map(|digest| {
            format!(
                "no event tells of the succession {} of a key",
                digest.short()
            )
        });
        let all = consents.chain(updates).chain(counts).chain(reports);
        all.map(|(author, what)| format!("no event tells of a signed {what} of {author}"))
            .chain(successions)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use fedner_shared::sign::SecretKey;
    use fedner_shared::time::Time;
    use fedner_shared::version::{Origin, Version};

    use super::*;
    use crate::store::{Institution, Store, fixture};

    fn anna() -> InstitutionId {
        "anna".parse().expect("name")
    }

    fn consent(key: &SecretKey, examples: u32) -> StoredStatement {
        let said = Consent {
            plan: Digest::of(b"plan"),
            institution: anna(),
            examples,
            held_out: None,
            annotation: None,
            policy: Digest::of(b"policy"),
            at: Time::from_millis(0),
            expires: Time::from_millis(9),
        };
        let signed = Signed::new(&said, key);
        StoredStatement {
            digest: signed.digest(),
            kind: StatementKind::Consent,
            author: anna(),
            key: key.public(),
            signed,
        }
    }

    fn found(state: InstitutionState, events: Vec<Event>) -> Vec<String> {
        found_with(state, events, None)
    }

    /// A store with one institution of that state, its consent to 50 examples, a version of which that is pruned, and a
    /// sound chain of those events.
    fn found_with(
        state: InstitutionState,
        events: Vec<Event>,
        pruned: Option<Pruned>,
    ) -> Vec<String> {
        let folder = tempfile::tempdir().expect("folder");
        let mut store = Store::open(&folder.path().join("s.sqlite")).expect("store");
        let key = SecretKey::from_seed([1; 32]);
        let plan = Signed::new(&fixture::plan(), &key);
        let institution = Institution {
            name: anna(),
            state,
            signing_key: key.public(),
            enrolled: Time::from_millis(0),
            certificate_expires: Time::from_millis(9),
        };
        let run = fixture::run(plan.digest());
        let written: Result<(), Error> = store.transact("test", |tx| {
            tx.put_plan(&plan)?;
            tx.put_run(&run, None)?;
            tx.put_institution(&institution, &fixture::issued("serial"))?;
            tx.put_statement(&consent(&key, 50))?;
            let version = tx.put_version(&imported())?;
            if let Some(pruned) = pruned {
                tx.put_pruned(version, pruned)?;
            }
            for event in events {
                tx.append_event(Time::from_millis(1), Some(&run.id), event)?;
            }
            Ok(())
        });
        written.expect("written");
        assert!(
            store.read(|tx| tx.verify_chain()).is_ok(),
            "the chain itself is sound"
        );
        store.read(disagreements).expect("read")
    }

    fn honest() -> Vec<Event> {
        let key = SecretKey::from_seed([1; 32]);
        vec![
            Event::InstitutionEnrolled {
                institution: anna(),
            },
            Event::Joined {
                institution: anna(),
                examples: 50,
                consent: consent(&key, 50).digest,
            },
            Event::InstitutionSuspended {
                institution: anna(),
            },
        ]
    }

    fn imported() -> Version {
        let file = Digest::of(b"file");
        Version {
            name: "base@1".parse().expect("name"),
            parent: None,
            origin: Origin::Import,
            labels: Vec::new(),
            weights: file,
            frozen: None,
            config: file,
            tokenizer: file,
            created: Time::from_millis(0),
        }
    }

    /// Whoever removes an object cannot pass that off as pruned without an event that members may have seen.
    #[test]
    fn what_counts_as_pruned_is_what_the_events_say() {
        let told = |updates_only: bool| {
            let pruned = Event::ModelsPruned {
                versions: vec![imported().name],
                updates_only,
            };
            [honest(), vec![pruned]].concat()
        };
        let suspended = InstitutionState::Suspended;
        let problems = |events, pruned| found_with(suspended, events, pruned).len();
        assert_eq!(problems(told(false), Some(Pruned::Files)), 0);
        let both = [told(true), told(false)[honest().len()..].to_vec()].concat();
        assert_eq!(
            problems(both, Some(Pruned::Files)),
            0,
            "one after the other"
        );
        assert_eq!(problems(honest(), Some(Pruned::Files)), 1, "untold");
        assert_eq!(
            problems(told(true), Some(Pruned::Files)),
            1,
            "more than told"
        );
        assert_eq!(problems(told(true), None), 1, "told and not so");
    }

    #[test]
    fn a_chain_that_was_computed_anew_is_found_by_what_others_signed() {
        let suspended = InstitutionState::Suspended;
        assert_eq!(found(suspended, honest()), Vec::<String>::new());
        let says = |events: Vec<Event>, what: &str| {
            let problems = found(suspended, events);
            assert!(
                problems.iter().any(|problem| problem.contains(what)),
                "{problems:?}"
            );
        };
        // As the attack did it: one event dropped, the numbers of another changed.
        says(
            honest()[..2].to_vec(),
            "anna is suspended: the events leave it active",
        );
        let mut events = honest();
        if let Event::Joined { examples, .. } = &mut events[1] {
            *examples = 5000;
        }
        says(events, "joined with 5000 examples: it signed 50");
        let mut events = honest();
        events.remove(1);
        says(events, "no event tells of a signed consent of anna");
        let mut events = honest();
        if let Event::Joined { consent, .. } = &mut events[1] {
            *consent = Digest::of(b"invented");
        }
        says(events, "anna has signed no such consent");
        for (event, what) in [
            (
                Event::UpdateAccepted {
                    round: 1,
                    attempt: 1,
                    institution: anna(),
                    update: Digest::of(b"update"),
                    bytes: 5,
                    epsilon: None,
                },
                "no such update",
            ),
            (
                Event::Evaluated {
                    round: 1,
                    institution: anna(),
                    f1: 1.0,
                    precision: 1.0,
                    recall: 1.0,
                    support: 7,
                },
                "no such evaluation",
            ),
            (
                Event::RunCreated {
                    plan: Digest::of(b"invented"),
                    base: Digest::of(b"base"),
                    rounds: 1,
                },
                "there is no plan",
            ),
            (
                Event::ModelImported {
                    version: "notes@1".parse().expect("name"),
                    digest: Digest::of(b"invented"),
                },
                "the record of notes@1",
            ),
        ] {
            let mut events = honest();
            events.push(event);
            says(events, what);
        }
    }
}
