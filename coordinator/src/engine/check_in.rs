//! Check-in: what an institution is to do, one thing at a time.

use std::sync::Arc;
use std::time::Duration;

use fedner_round::{Assignment, Input, Later, Run, TaskKind};
use fedner_shared::digest::Digest;
use fedner_shared::id::{InstitutionId, RunId};
use fedner_shared::refusal::Code;
use fedner_shared::secure::{Signers, Told};
use fedner_shared::sign::{PublicKey, Signed};
use fedner_shared::statement::{Consent, EvaluationReceipt, UpdateReceipt};
use fedner_shared::time::Time;
use tokio::sync::watch;

use super::statements::Vouched;
use super::{Engine, Failure};
use crate::store::StatementKind;

/// What a check-in is answered with.
#[derive(Debug, Clone)]
pub enum Todo {
    /// Show this plan to the institution's people.
    Propose {
        run: RunId,
        plan: Arc<Signed>,
        dimension: u64,
        /// Where updates are masked: who may take part.
        roster: Signers,
    },
    Work {
        run: RunId,
        plan: Arc<Signed>,
        assignment: Assignment,
        /// Canonical JSON of the version, as everybody may read it.
        record: String,
        /// The same of the institution's own part in it, where the record hides it.
        participant: String,
        manifest: Digest,
        /// Where updates are masked: what was said in the attempt.
        secure: Option<Box<Told>>,
    },
}

/// What a check-in says.
#[derive(Debug, Clone)]
pub struct CheckIn {
    pub institution: InstitutionId,
    pub known_plans: Vec<Digest>,
    /// Those that are new, verified.
    pub consents: Vec<Vouched<Consent>>,
    /// From when on it takes something on.
    pub later: Option<Later>,
    pub software: String,
    /// By a command that takes no work.
    pub looks: bool,
}

/// What is needed before a check-in is answered.
#[derive(Debug)]
pub struct Opened {
    pub waiter: watch::Receiver<u64>,
    pub longest_wait: Duration,
    /// Of the institution.
    pub key: PublicKey,
    /// The consents that are news to a run, by their place among those that were given.
    pub news: Vec<usize>,
}

/// Beyond one for each run, so many consents may be given: to runs that the coordinator no longer knows.
const MORE_CONSENTS: usize = 16;

impl Engine {
    /// Sorts out which of the consents, given as statement and plan, are to be verified.
    pub fn open_check_in(
        &mut self,
        institution: &InstitutionId,
        consents: &[(Digest, Digest)],
    ) -> Result<Opened, Failure> {
        let most = self.runs.len() + MORE_CONSENTS;
        if consents.len() > most {
            let message = format!(
                "{} consents are given: expected at most {most}, one for each run",
                consents.len()
            );
            return Err(Failure::refuse(Code::ConsentInvalid, message));
        }
        let mut news = Vec::new();
        for (place, (statement, plan)) in consents.iter().enumerate() {
            // Consents outlive their runs; an old one is no fault.
            let open = |run: &&Run| run.plan_digest == *plan && !run.phase.is_end();
            let Some(run) = self.runs.iter().find(open) else {
                continue;
            };
            let granted = run.members.get(institution);
            let granted = granted.and_then(|member| member.consent.as_ref());
            let known = granted.is_some_and(|granted| granted.statement == *statement);
            // Each counts once: one that was revoked or replaced does not come back.
            if !known && !self.store.read(|tx| tx.has_statement(*statement))? {
                news.push(place);
            }
        }
        Ok(Opened {
            waiter: self.waiter(institution),
            longest_wait: self.longest_wait(institution),
            key: self.signing_key(institution)?,
            news,
        })
    }

    /// What the institution is to do now. Its presence and its consents are noted.
    pub fn check_in(&mut self, check_in: &CheckIn) -> Result<Option<Todo>, Failure> {
        if check_in.looks {
            return Ok(None);
        }
        self.note_software(&check_in.institution, &check_in.software);
        self.note_presence(&check_in.institution)?;
        self.note_later(&check_in.institution, check_in.later)?;
        for consent in &check_in.consents {
            self.note_consent(&check_in.institution, consent)?;
        }
        self.next_todo(&check_in.institution, &check_in.known_plans)
    }

    /// The ledger entries that the institution's receipts named last, by which it can tell whether its
    /// ledger is whole. What was refused or cut off was paid for too.
    pub fn ledger_heads(&mut self, institution: &InstitutionId) -> Result<Vec<Digest>, Failure> {
        let (mut heads, update, counts) = self.store.read(|tx| {
            let of = |kind| tx.newest_statement(institution, kind);
            let (update, counts) = (of(StatementKind::Update)?, of(StatementKind::Evaluation)?);
            Ok((tx.ledger_heads(institution)?, update, counts))
        })?;
        // Those of receipts that older programs took.
        let update = update.and_then(|signed| signed.peek::<UpdateReceipt>().ok()?.ledger_head);
        let counts = counts.and_then(|signed| {
            let receipt = signed.peek::<EvaluationReceipt>().ok()?;
            Some(receipt.noise?.ledger_head)
        });
        for head in update.into_iter().chain(counts) {
            if !heads.contains(&head) {
                heads.push(head);
            }
        }
        Ok(heads)
    }

    /// Keeps the head that a receipt names, before anything else is made of it.
    pub fn note_ledger_head(
        &mut self,
        institution: &InstitutionId,
        head: Option<Digest>,
    ) -> Result<(), Failure> {
        let Some(head) = head else {
            return Ok(());
        };
        if self
            .store
            .read(|tx| tx.ledger_heads(institution))?
            .contains(&head)
        {
            return Ok(());
        }
        self.store.transact("note ledger head", |tx| {
            tx.put_ledger_head(institution, head)?;
            Ok(())
        })
    }

    fn note_later(
        &mut self,
        institution: &InstitutionId,
        later: Option<Later>,
    ) -> Result<(), Failure> {
        match later.filter(|later| later.from > self.now()) {
            Some(later) => self.later.insert(institution.clone(), later),
            None => self.later.remove(institution),
        };
        for id in self.runs_of(institution) {
            let run = self.require(&id)?;
            let member = run.members.get(institution);
            if member.is_some_and(|member| member.is_news(later)) {
                let institution = institution.clone();
                self.step(&id, Input::Announced { institution, later })?;
            }
        }
        Ok(())
    }

    /// A sign of life.
    pub fn note_presence(&mut self, institution: &InstitutionId) -> Result<(), Failure> {
        self.arrivals.forget(institution);
        self.seen.insert(institution.clone(), self.now());
        self.keep_presence(institution)?;
        for id in self.runs_of(institution) {
            self.step(
                &id,
                Input::Seen {
                    institution: institution.clone(),
                },
            )?;
        }
        Ok(())
    }

    /// The plans of runs under way that the institution is a member of.
    pub fn plans_under_way(&self, institution: &InstitutionId) -> Vec<Digest> {
        let of = |run: &&Run| !run.phase.is_end() && run.members.contains(institution);
        self.runs
            .iter()
            .filter(of)
            .map(|run| run.plan_digest)
            .collect()
    }

    pub(super) fn runs_of(&self, institution: &InstitutionId) -> Vec<RunId> {
        let of = |run: &&Run| !run.phase.is_end() && run.members.contains(institution);
        self.runs
            .iter()
            .filter(of)
            .map(|run| run.id.clone())
            .collect()
    }

    fn note_consent(
        &mut self,
        caller: &InstitutionId,
        consent: &Vouched<Consent>,
    ) -> Result<(), Failure> {
        let plan = consent.said.plan;
        let run = self
            .runs
            .iter()
            .find(|run| run.plan_digest == plan && !run.phase.is_end());
        let Some(id) = run.map(|run| run.id.clone()) else {
            return Ok(());
        };
        let statement = self.statement(StatementKind::Consent, caller, consent)?;
        if self.store.read(|tx| tx.has_statement(statement.digest))? {
            return Ok(());
        }
        let input = Input::Joined {
            consent: consent.said.clone(),
            statement: statement.digest,
        };
        self.step_with("accept consent", &id, input, |tx| {
            tx.put_statement(&statement)
        })
    }

    fn next_todo(
        &mut self,
        institution: &InstitutionId,
        known_plans: &[Digest],
    ) -> Result<Option<Todo>, Failure> {
        let work = Run::next_of(self.runs.iter(), institution);
        if let Some(id) = work.map(|run| run.id.clone()) {
            self.step(
                &id,
                Input::Taken {
                    institution: institution.clone(),
                },
            )?;
            return self.work(&id, institution);
        }
        let unseen =
            |run: &&Run| run.is_shown_to(institution) && !known_plans.contains(&run.plan_digest);
        let Some(run) = self.runs.iter().find(unseen) else {
            return Ok(None);
        };
        let (id, digest, dimension) = (run.id.clone(), run.plan_digest, run.dimension);
        let roster = self.roster_of(&id)?;
        Ok(Some(Todo::Propose {
            run: id,
            plan: self.signed_plan(digest)?,
            dimension,
            roster,
        }))
    }

    fn work(&mut self, id: &RunId, institution: &InstitutionId) -> Result<Option<Todo>, Failure> {
        let run = self.require(id)?;
        let Some(assignment) = run.assignment(institution) else {
            return Ok(None);
        };
        let (manifest, plan) = (run.manifest, run.plan_digest);
        let record = self.version_record(assignment.version)?;
        let participant = record.part_of(institution);
        let record = record.public.clone();
        let plan = self.signed_plan(plan)?;
        let secure = match assignment.task {
            TaskKind::Train | TaskKind::Agree(_) => self.told_of(id)?,
            TaskKind::Evaluate => None,
        };
        Ok(Some(Todo::Work {
            run: id.clone(),
            plan,
            assignment,
            record,
            participant,
            manifest,
            secure: secure.map(Box::new),
        }))
    }

    /// Changes when there may be something to do for the institution.
    pub fn waiter(&mut self, institution: &InstitutionId) -> watch::Receiver<u64> {
        let waiter = self.waiters.entry(institution.clone());
        waiter.or_insert_with(|| watch::channel(0).0).subscribe()
    }

    pub(super) fn wake(&self, institutions: &[InstitutionId]) {
        for institution in institutions {
            if let Some(waiter) = self.waiters.get(institution) {
                waiter.send_modify(|generation| *generation += 1);
            }
        }
    }

    pub(super) fn wake_everybody(&self) {
        for waiter in self.waiters.values() {
            waiter.send_modify(|generation| *generation += 1);
        }
    }

    /// How long a check-in may be held, so that it still counts as a sign of life.
    pub fn longest_wait(&self, institution: &InstitutionId) -> Duration {
        let of = |run: &&Run| !run.phase.is_end() && run.members.contains(institution);
        let away = self
            .runs
            .iter()
            .filter(of)
            .map(|run| run.plan.cohort.away_after())
            .min();
        away.map_or(Duration::from_secs(30), |away| {
            (away / 3).min(Duration::from_secs(30))
        })
    }

    pub fn decline(
        &mut self,
        institution: InstitutionId,
        run: &RunId,
        task: TaskKind,
        (round, attempt): (u32, u32),
        (code, again): (Code, Option<Time>),
        reason: String,
    ) -> Result<(), Failure> {
        self.step(
            run,
            Input::Declined {
                institution,
                task,
                round,
                attempt,
                code,
                reason,
                again,
            },
        )
    }

    /// Whether what the institution works on is still of use; also a sign of life.
    pub fn progress(
        &mut self,
        institution: &InstitutionId,
        run: &RunId,
        round: u32,
        attempt: u32,
    ) -> Result<bool, Failure> {
        self.note_presence(institution)?;
        Ok(self.require(run)?.wants(institution, round, attempt))
    }

    /// Whether the institution has a reason to read that object: a file of the version it works on, or the weights
    /// that say what the base knew.
    pub fn may_download(
        &mut self,
        institution: &InstitutionId,
        object: Digest,
    ) -> Result<bool, Failure> {
        let open = self.runs.iter();
        let open = open.filter(|run| !run.phase.is_end() && run.members.contains(institution));
        let parents = open.clone().filter_map(|run| run.plan.weights_of_parent());
        if parents.into_iter().any(|parent| parent.digest == object) {
            return Ok(true);
        }
        let versions: Vec<Digest> = open.map(|run| run.version).collect();
        for version in versions {
            let version = self.version_record(version)?;
            if version.version.objects().any(|needed| needed == object) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
