//! The naive reference: who sent what in the open attempt, what was summed, what was paid for.
//!
//! It reads what the coordinator and the institutions made durable, never what they hold in
//! memory, and follows the events one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fedner_client::egress;
use fedner_client::state::{ReceiptKind, Store as SiteStore};
use fedner_privacy::ledger::{Entry as LedgerEntry, Stage};
use fedner_round::{Phase, Run};
use fedner_shared::digest::Digest;
use fedner_shared::event::{Entry, Event, Judgement};
use fedner_shared::figures::Cause;
use fedner_shared::id::{InstitutionId, RunId};
use fedner_shared::plan::{DecidedBy, OnRegression, Plan, Unit, Weighting};
use fedner_shared::refusal::Code;
use fedner_shared::statement::UpdateReceipt;
use fedner_shared::time::Time;
use fedner_shared::version::{Origin, Version};

use crate::naive;
use crate::objects::SimObjects;
use crate::place::Place;
use crate::secure::{self, Masked};

/// Bytes that a run's state may take, and that each member may add to it. An update is never in it.
const RUN_BYTES: usize = 3000;
const MEMBER_BYTES: usize = 1500;

/// An attempt at a round, as its events tell it.
#[derive(Debug, Default)]
struct Attempt {
    base: Option<Digest>,
    began: Option<Time>,
    number: (u32, u32),
    open: BTreeMap<InstitutionId, Digest>,
    closed: bool,
    /// It closed with too few updates, and the round is recruited for again.
    repeated: bool,
    /// A member was taken out of its masked sum, which nobody can do: nothing may come of it.
    void: bool,
}

/// What has happened so far.
#[derive(Debug, Default)]
pub(crate) struct Model {
    /// The newest event followed, and its digest.
    sequence: u64,
    previous: Option<Digest>,
    attempts: BTreeMap<RunId, Attempt>,
    /// Where each update was summed.
    counted: BTreeMap<Digest, (RunId, u32)>,
    published: BTreeMap<(RunId, u32), Digest>,
    /// What the next round of each run must start from: the newest version, or the champion where its
    /// gate went back to that.
    stands: BTreeMap<RunId, Digest>,
    /// The last version of each run that passed its gate.
    champions: BTreeMap<RunId, Digest>,
    consents: BTreeSet<(RunId, Digest)>,
    /// The largest ε that the coordinator was told of each run by each institution.
    told: BTreeMap<(RunId, InstitutionId), f64>,
    /// What paid for the updates of each institution that were taken.
    taken: BTreeMap<InstitutionId, BTreeSet<Digest>>,
    /// By how much the coordinator's clock was set back altogether.
    pub(crate) set_back: Duration,
    /// What nothing may be left of.
    pub(crate) forged: BTreeSet<Digest>,
    /// Ledgers are looked at in the end only.
    pub(crate) patient: bool,
    /// What is under masks, and what was said of it.
    pub(crate) masked: Masked,
    pub(crate) unmasked: usize,
    /// The events, as two runs of one seed must both tell them.
    pub(crate) log: Vec<String>,
}

impl Model {
    /// Follows what is new, and checks what must hold at every moment.
    pub(crate) fn look(&mut self, place: &mut Place, objects: &SimObjects) -> Result<()> {
        let entries = place.events_from(self.sequence + 1)?;
        let news = !entries.is_empty();
        for entry in entries {
            let text = format!("at event {} ({})", entry.sequence, entry.event.kind());
            self.follow(entry, place, objects).context(text)?;
        }
        for run in place.runs()? {
            check_run(&run).with_context(|| format!("run {}", run.id))?;
        }
        let outbox = place.outbox()?;
        let runs: BTreeSet<_> = outbox.iter().map(|pending| &pending.run).collect();
        ensure!(runs.len() == outbox.len(), "a run has two sums under way");
        if news && !self.patient {
            self.check_ledgers(place)?;
        }
        self.check_staging(place)
    }

    /// What must hold once nothing moves any more.
    pub(crate) fn look_back(&self, place: &mut Place, objects: &SimObjects) -> Result<()> {
        let length = place.verify_chain()?;
        ensure!(
            length == self.sequence,
            "{length} events: {} were followed",
            self.sequence
        );
        for statement in place.statements()? {
            let digest = statement.digest;
            ensure!(
                !self.forged.contains(&digest),
                "the forged statement {digest} was kept"
            );
        }
        for forged in &self.forged {
            ensure!(
                objects.peek(*forged).is_none(),
                "the forged object {forged} was kept"
            );
        }
        secure::never_both(&place.statements()?)?;
        self.check_ledgers(place)
    }

    fn follow(&mut self, entry: Entry, place: &mut Place, objects: &SimObjects) -> Result<()> {
        ensure!(
            entry.sequence == self.sequence + 1,
            "event {} is missing",
            self.sequence + 1
        );
        if let Some(previous) = self.previous {
            ensure!(entry.previous == previous, "the chain is broken");
        }
        self.sequence = entry.sequence;
        self.previous = Some(entry.digest());
        self.log.push(format!(
            "{} {} {}",
            entry.time.as_millis(),
            entry.run.as_ref().map_or("-", RunId::as_str),
            serde_json::to_string(&entry.event)?
        ));
        let Some(run) = entry.run else { return Ok(()) };
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "what else happened changes nothing that is summed"
        )]
        match entry.event {
            Event::RoundStarted {
                round,
                attempt,
                participants,
                base,
            } => {
                let quorum = place.run(&run)?.plan.cohort.quorum;
                ensure!(
                    participants.len() >= quorum,
                    "a round began without its quorum"
                );
                let expected = self.stands.get(&run).unwrap_or(&base);
                ensure!(
                    base == *expected,
                    "a round began from {base}: expected {expected}"
                );
                self.attempts.insert(
                    run,
                    Attempt {
                        base: Some(base),
                        began: Some(entry.time),
                        number: (round, attempt),
                        ..Attempt::default()
                    },
                );
            }
            Event::Joined {
                consent,
                institution,
                ..
            } => {
                let new = self.consents.insert((run, consent));
                ensure!(new, "an old consent of {institution} undid its departure");
                ensure!(
                    !self.forged.contains(&consent),
                    "a forged consent was taken"
                );
            }
            Event::UpdateAccepted {
                round,
                attempt,
                institution,
                update,
                epsilon,
                ..
            } => {
                ensure!(!self.forged.contains(&update), "a forged update was taken");
                let open = self.attempts.entry(run.clone()).or_default();
                ensure!(
                    open.number == (round, attempt) && !open.closed,
                    "a late update was taken"
                );
                let before = open.open.insert(institution.clone(), update);
                ensure!(
                    before.is_none(),
                    "{institution} was heard twice in one attempt"
                );
                self.paid(&run, &institution, update, epsilon, place)?;
            }
            Event::Left {
                institution, code, ..
            } => {
                let excluded =
                    matches!(code, Code::InstitutionRevoked | Code::InstitutionSuspended);
                if let Some(open) = self.attempts.get_mut(&run)
                    && excluded
                    && !open.closed
                {
                    open.open.remove(&institution);
                }
            }
            Event::SetAside {
                round,
                institution,
                aside,
            } => {
                let plan = place.run(&run)?.plan;
                let by_rule = aside.cause != Cause::Operator;
                ensure!(
                    !by_rule || plan.guard.is_some_and(|guard| guard.by == DecidedBy::Rule),
                    "a member was set aside without a rule"
                );
                // While the next round recruits, the attempt known here is of the round before.
                if let Some(open) = self.attempts.get_mut(&run)
                    && open.number.0 == round
                    && aside.holds_in(round)
                {
                    let late = !by_rule && open.closed && !open.repeated;
                    ensure!(
                        !late || plan.secure_aggregation.is_some(),
                        "a member was excluded too late"
                    );
                    let summed = open.open.remove(&institution).is_some();
                    open.void |= late && summed;
                }
            }
            Event::Measured { updates, .. } => {
                let open = self.attempts.get(&run).context("no attempt was measured")?;
                ensure!(open.closed, "an open attempt was measured");
                ensure!(!open.void, "a sum with an excluded member was measured");
                let plan = place.run(&run)?.plan;
                naive::check_figures(&plan, &updates, &open.open, objects)?;
            }
            Event::RoundClosed {
                updates, missing, ..
            } => {
                self.closed_in_time(&run, updates, &missing, entry.time, place)?;
                let open = self.attempts.entry(run).or_default();
                ensure!(
                    updates == open.open.len(),
                    "{updates} updates are said to be there: {:?}",
                    open.open
                );
                open.closed = true;
            }
            Event::RoundRepeated { .. } => {
                self.attempts.entry(run).or_default().repeated = true;
            }
            Event::VersionPublished {
                round,
                attempt,
                digest,
                weights,
                ..
            } => {
                let number = (round, attempt);
                let void = self.attempts.get(&run).is_some_and(|open| open.void);
                ensure!(!void, "a sum with an excluded member was published");
                self.stands.insert(run.clone(), digest);
                self.published(&run, number, digest, weights, place, objects)?;
            }
            Event::RunCompleted { version } => {
                let plan = place.run(&run)?.plan;
                let rounds: Vec<_> = self.published.keys().filter(|(of, _)| *of == run).collect();
                ensure!(
                    rounds.len() == plan.rounds as usize,
                    "completed after {rounds:?}"
                );
                let scored = self.attempts.get(&run).filter(|_| plan.only_evaluates());
                let scored = scored.and_then(|attempt| attempt.base.as_ref());
                ensure!(
                    self.stands.get(&run).or(scored) == Some(&version),
                    "completed with another version than the last, than the champion, or than was scored"
                );
            }
            Event::Judged {
                version,
                judgement,
                champion,
                ..
            } => {
                let gate = place.run(&run)?.plan.gate;
                let gate = gate.context("a version was judged without a gate")?;
                ensure!(
                    self.stands.get(&run) == Some(&version),
                    "another version than the newest was judged"
                );
                if judgement == Judgement::Passed {
                    self.champions.insert(run.clone(), version);
                }
                let expected = self.champions.get(&run).unwrap_or(&champion);
                ensure!(champion == *expected, "another champion than passed last");
                if judgement == Judgement::Regressed && gate.on_regression == OnRegression::RollBack
                {
                    self.stands.insert(run, champion);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// An update that the coordinator has taken was debited and signed beforehand.
    fn paid(
        &mut self,
        run: &RunId,
        institution: &InstitutionId,
        update: Digest,
        epsilon: Option<f64>,
        place: &mut Place,
    ) -> Result<()> {
        // Of a copy of the directory, perhaps, that took the place of the first.
        let mut found = None;
        for site in place.directories(institution)? {
            let mut receipts = site.receipts()?.into_iter();
            let receipt = receipts.find(|receipt| receipt.blob == Some(update));
            found = found.or(receipt.map(|receipt| (site, receipt)));
        }
        let (site, receipt) = found.context("an update was taken that has no receipt")?;
        let paid = receipt.paid_by().context("an update was taken unpaid")?;
        let ledger = site.ledger()?;
        let debits = self.taken.entry(institution.clone()).or_default();
        for earlier in &*debits {
            ensure!(
                ledger.contains(earlier),
                "{institution} knows nothing of what it spent before, in {earlier}"
            );
        }
        ensure!(
            debits.insert(paid),
            "{institution} paid once for two updates"
        );
        let statement: UpdateReceipt = receipt.signed.peek()?;
        ensure!(statement.run == *run, "an update was taken in another run");
        ensure!(
            statement.epsilon_after == epsilon,
            "ε differs from the receipt"
        );
        let head = statement
            .ledger_head
            .context("the receipt names no ledger")?;
        ensure!(
            ledger.contains(&head),
            "an update was taken that was not debited"
        );
        let told = self
            .told
            .entry((run.clone(), institution.clone()))
            .or_default();
        *told = told.max(epsilon.unwrap_or_default());
        Ok(())
    }

    /// A version is the sum of the updates of its attempt, no more and no fewer, each for the
    /// first time.
    fn published(
        &mut self,
        run: &RunId,
        (round, attempt): (u32, u32),
        digest: Digest,
        weights: Digest,
        place: &mut Place,
        objects: &SimObjects,
    ) -> Result<()> {
        let version = place.version(digest)?.context("a version has no record")?;
        ensure!(
            version.weights == weights,
            "the event names other weights than the record"
        );
        let Origin::Round(of) = &version.origin else {
            bail!("a version of no round")
        };
        ensure!((of.run == *run) && (of.round, of.attempt) == (round, attempt));
        let open = self.attempts.get(run).context("a version of no attempt")?;
        ensure!(
            open.number == (round, attempt) && open.closed,
            "a version of another attempt"
        );
        ensure!(
            version.parent == open.base,
            "the version has another parent than its round's base"
        );
        let plan = place.run(run)?.plan;
        ensure!(of.plan == plan.digest(), "a version of another plan");
        ensure!(of.rule == plan.rule(), "a version of another rule");
        let summed: BTreeMap<_, _> = of
            .participants
            .iter()
            .map(|p| (p.institution.clone(), p.update))
            .collect();
        ensure!(
            summed.len() == of.participants.len(),
            "an institution was summed twice"
        );
        ensure!(
            summed.len() >= plan.cohort.quorum,
            "a version without its quorum"
        );
        ensure!(
            summed == open.open,
            "summed {summed:?}: sent {:?}",
            open.open
        );
        let state = place.run(run)?;
        let declared = of.participants.iter().map(|p| {
            let examples = state.declared(&p.institution);
            plan.weight(&p.institution, examples)
        });
        let mut expected: Vec<u32> = declared.collect();
        if plan.cohort.weighting != Weighting::Plan {
            expected = naive::shared_out(expected, plan.cohort.institutions.len());
        }
        let weights: Vec<u32> = of.participants.iter().map(|p| p.weight).collect();
        ensure!(weights == expected, "weights {weights:?}: {expected:?}");
        for update in summed.into_values() {
            let before = self.counted.insert(update, (run.clone(), round));
            ensure!(
                before.is_none(),
                "update {update} was counted before, in {before:?}"
            );
        }
        let again = self.published.insert((run.clone(), round), digest);
        ensure!(again.is_none(), "round {round} has two versions");
        self.unmasked += usize::from(of.unmasking.is_some());
        replays(&plan, &version, &self.masked, place, objects)
    }

    /// Each ledger is whole, and holds at least what the coordinator was told.
    fn check_ledgers(&self, place: &mut Place) -> Result<()> {
        for ((run, institution), told) in &self.told {
            let plan = place.run(run)?.plan;
            let mut most = 0.0_f64;
            for site in place.directories(institution)? {
                most = most.max(check_ledger(site, institution, &plan)?);
            }
            ensure!(
                most >= *told || plan.privacy.unit == Unit::None,
                "{institution} has spent {most}: the coordinator knows of {told}"
            );
        }
        Ok(())
    }

    /// An attempt comes to nothing at its deadline, or when the quorum cannot be reached any more: whoever put it off
    /// ends nothing.
    fn closed_in_time(
        &self,
        run: &RunId,
        updates: usize,
        missing: &[InstitutionId],
        at: Time,
        place: &mut Place,
    ) -> Result<()> {
        let state = place.run(run)?;
        let cohort = &state.plan.cohort;
        let stays = |name: &&InstitutionId| {
            let member = state.members.get(name);
            member.is_some_and(|member| member.left.is_none())
        };
        let open = missing.iter().filter(stays).count();
        if updates >= cohort.quorum || updates + open < cohort.quorum {
            return Ok(());
        }
        let began = self.attempts.get(run).and_then(|attempt| attempt.began);
        let began = began.context("an attempt that never began was closed")?;
        ensure!(
            at + self.set_back >= began + cohort.train_timeout(),
            "{missing:?} were still open: closed at {at}, begun at {began}"
        );
        Ok(())
    }

    /// Not a byte arrives of what has no receipt.
    fn check_staging(&self, place: &mut Place) -> Result<()> {
        for digest in place.staged()? {
            let known = self.forged.contains(&digest) || place.is_released(digest)?;
            ensure!(known, "bytes of {digest} arrived before they were paid for");
        }
        Ok(())
    }
}

/// Each update was signed after it was paid for, once; ε that the plan has cost this directory.
fn check_ledger(site: &SiteStore, institution: &InstitutionId, plan: &Plan) -> Result<f64> {
    let ledger = site.ledger()?;
    let updates = site.receipts()?;
    let updates = updates
        .iter()
        .filter(|receipt| receipt.kind == ReceiptKind::Update && receipt.is_for(&plan.digest()));
    let debits: BTreeSet<_> = ledger
        .entries()
        .iter()
        .filter(|entry| entry.stage == Stage::Debited && entry.debit.plan == plan.digest())
        .map(LedgerEntry::digest)
        .collect();
    let mut used = BTreeSet::new();
    for receipt in updates {
        let paid = receipt.paid_by().context("an update was signed unpaid")?;
        ensure!(
            debits.contains(&paid),
            "{institution} signed an update unpaid"
        );
        ensure!(
            used.insert(paid),
            "{institution} paid for two updates at once"
        );
    }
    Ok(egress::spent(&ledger, institution, plan).unwrap_or_default())
}

/// A version is what the plain average gives, and what replaying it gives.
fn replays(
    plan: &Plan,
    version: &Version,
    masked: &Masked,
    place: &mut Place,
    objects: &SimObjects,
) -> Result<()> {
    let parent = version
        .parent
        .context("a version of a round has a parent")?;
    let parent = place.version(parent)?.context("the parent has no record")?;
    let (weights, moments) = naive::aggregated(plan, version, &parent, (masked, objects))?;
    ensure!(
        Digest::of(&weights) == version.weights,
        "the version is not the average of its updates"
    );
    let recorded = version.round().and_then(|round| round.moments);
    ensure!(
        moments.map(|moments| Digest::of(&moments)) == recorded,
        "the version has other moments than its rounds lead to"
    );
    let replayed = place.replay(plan, version, &parent)?;
    ensure!(
        replayed == version.weights,
        "the version replays to another digest"
    );
    Ok(())
}

/// What must hold of a run at every moment.
fn check_run(run: &Run) -> Result<()> {
    ensure!(run.violation().is_none(), "{:?}", run.violation());
    let cohort = &run.plan.cohort;
    ensure!(
        run.members.len() == cohort.institutions.len(),
        "the cohort changed"
    );
    ensure!(
        run.attempt <= cohort.max_attempts,
        "attempt {}",
        run.attempt
    );
    ensure!(run.round <= run.plan.last_round(), "round {}", run.round);
    let size = serde_json::to_string(run)?.len();
    let most = RUN_BYTES + MEMBER_BYTES * run.members.len();
    ensure!(
        size <= most,
        "its state takes {size} bytes: expected at most {most}"
    );
    let explanation = run.explain();
    ensure!(
        !explanation.awaits.is_empty() && !explanation.then.is_empty(),
        "waits for nothing"
    );
    let waits = matches!(
        run.phase,
        Phase::Scheduled { .. }
            | Phase::Recruiting { .. }
            | Phase::Agreeing { .. }
            | Phase::Collecting { .. }
            | Phase::Evaluating { .. }
    );
    ensure!(
        explanation.until.is_some() == (waits && run.paused.is_none()),
        "{} does not say until when",
        explanation.state
    );
    Ok(())
}
