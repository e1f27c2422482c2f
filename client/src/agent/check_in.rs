//! Asking what is to be done, and considering plans.

use std::time::Duration;

use fedner_proto::convert;
use fedner_proto::v1::{Assignment, Proposal};
use fedner_session::{Before, Input, Kind, Release, Task};
use fedner_shared::digest::Digest;
use fedner_shared::id::RunId;
use fedner_shared::plan::Plan;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::sign::{self, Signed};

use super::heartbeat::Beat;
use super::{Agent, Error};
use crate::SOFTWARE;
use crate::config::{ConsentMode, Directory};
use crate::state::{PlanRecord, Standing, Store};
use crate::transport::{POLL, Says, Todo};
use crate::{consent, egress};

/// How soon a consent that is granted or revoked by a command is acted upon.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// So many plans that nobody has decided on are kept.
const MOST_UNDECIDED: usize = 100;
/// With more than so many, each further one is waited for so long.
const MANY_UNDECIDED: usize = 20;
const MANY_WAIT: Duration = Duration::from_secs(1);
/// The coordinator should not ask again at once for what was declined.
pub(super) const DECLINED: Duration = Duration::from_secs(5);

impl Agent {
    /// Checks in, and takes on what is asked for if it may be done.
    pub(super) async fn check_in(&mut self) -> Result<(), Error> {
        self.forget_training();
        self.grant_by_policy().await?;
        let mut known: Vec<_> = self.store.plans()?.iter().map(|plan| plan.digest).collect();
        known.extend(&self.turned_down);
        let consents: Vec<Signed> = self
            .store
            .consents_in_force(self.environment.machine.now())?
            .into_iter()
            .map(|record| record.signed)
            .collect();
        let told = self.said_back()?;
        let later = self.later().await?;
        // Whether features are needed still is asked before a long poll.
        let short = !self.asked && self.directory.features().exists();
        self.asked = short;
        let says = Says {
            poll: if short { Duration::ZERO } else { POLL },
            known: &known,
            consents: &consents,
            told,
            later,
            under_way: &self.under_way,
        };
        let answer = tokio::select! {
            biased;
            answer = self.coordinator.check_in(says) => answer?,
            // A person changed the consents or the policy: it is acted upon at once.
            changed = changed_outside(&self.store, &self.directory) => return changed,
            () = self.forget_trainings() => return Ok(()),
        };
        self.heard();
        self.learn(answer.trust.as_ref())?;
        self.note_history(&answer)?;
        self.forget_features(&answer)?;
        if answer.protocol >= super::tidy::TELLS {
            self.store.forget_secure_attempts(&answer.under_way)?;
        }
        self.under_way.clone_from(&answer.under_way);
        let last = self.last_model.take();
        self.last_model = last.filter(|last| self.under_way.contains(&last.plan));
        self.compare_ledger(answer.ledger_heads)?;
        match answer.todo {
            Todo::Nothing => Ok(()),
            Todo::Consider(proposal) => self.consider(proposal).await,
            Todo::Do(kind, assignment) => self.take_on(kind, assignment).await,
            Todo::Step(step) => self.take_step(step).await,
        }
    }

    /// Compares the ledger with the coordinator's receipts before anything is begun or gone on with
    /// after a start: the directory may be an old copy, which knows less than was spent.
    pub(super) async fn compare_at_start(&mut self) -> Result<(), Error> {
        let says = Says {
            told: self.said_back()?,
            later: self.later().await?,
            ..Says::default()
        };
        let answer = self.coordinator.check_in(says).await?;
        self.learn(answer.trust.as_ref())?;
        self.note_history(&answer)?;
        self.compare_ledger(answer.ledger_heads)
    }

    fn compare_ledger(&mut self, heads: Vec<Digest>) -> Result<(), Error> {
        if heads != self.compared {
            let behind = egress::check_heads(&self.store, &heads)?;
            behind.map_err(consent::Error::Refused)?;
        }
        self.compared = heads;
        self.started = true;
        Ok(())
    }

    async fn take_on(&mut self, kind: Kind, assignment: Assignment) -> Result<(), Error> {
        match self.accept_work(kind, &assignment).await? {
            Ok(task) => {
                tracing::info!("begins {task}");
                let before = self.left_before(&task)?;
                self.beat = Beat::default();
                self.apply(Input::Assigned { task, before })
            }
            Err(refusal) => self.decline_assignment(kind, assignment, refusal).await,
        }
    }

    /// Says that what was asked for will not be done.
    pub(super) async fn decline_assignment(
        &mut self,
        kind: Kind,
        assignment: Assignment,
        refusal: Refusal,
    ) -> Result<(), Error> {
        let Assignment {
            run,
            round,
            attempt,
            ..
        } = assignment;
        tracing::warn!(
            "declines the {kind} of run {run}, round {round}: {refusal} [{}]; hint: {}",
            refusal.code,
            refusal.code.hint()
        );
        let code = refusal.code;
        self.count_refusal(code);
        let again = self.later().await?.map(|(from, _)| from);
        self.coordinator
            .decline(kind, &run, round, attempt, code, again)
            .await?;
        let task = (run, round, attempt, kind);
        if self.declined.as_ref() == Some(&task) {
            tokio::time::sleep(DECLINED).await;
        }
        self.declined = Some(task);
        Ok(())
    }

    /// What left for this very attempt before, if it is still here.
    fn left_before(&self, task: &Task) -> Result<Option<Before>, Error> {
        Ok(match task.kind {
            Kind::Train => {
                let (plan, _) = self.background(task)?;
                // A run that is tried again asks for other masks than those of what left.
                let masks = match plan.secure_aggregation {
                    Some(_) => self.store.secure_attempt(task.run.as_str())?,
                    None => None,
                };
                let sendable = |release: &Release| {
                    let under = masks.as_ref();
                    self.blobs.contains(&release.blob)
                        && under.is_none_or(|masks| masks.said.is_masked(&release.blob))
                };
                let released = self.store.released(task)?.filter(sendable);
                released.map(Before::Update)
            }
            Kind::Evaluate => self.store.counted(task)?.map(Before::Counts),
        })
    }

    /// Keeps a plan that the operator signed, for the institution's people to decide on.
    async fn consider(&mut self, proposal: Proposal) -> Result<(), Error> {
        let run = proposal.run.clone();
        let signed = convert::signed("plan", proposal.plan.clone());
        let digest = signed.map_err(consent::Error::Refused)?.digest();
        let record = match self.verify_proposal(proposal) {
            Ok(record) => record,
            Err(refusal) => return self.turn_down(&run, digest, &refusal).await,
        };
        self.store.add_plan(&record)?;
        if self.store.forget_undecided(MOST_UNDECIDED)? > MANY_UNDECIDED {
            // Nobody decides so fast; whoever signs them without end gets no more of the disk and the log.
            tokio::time::sleep(MANY_WAIT).await;
        }
        let plan = &record.plan;
        let digest = record.digest.short();
        tracing::info!(
            "the plan {} ({digest}) is proposed: {}, unit {}",
            plan.name,
            plan.work(),
            plan.privacy.unit
        );
        let policy = self.policy().await?;
        let allowed = consent::allows(&policy, &self.identity, plan);
        let settings = self.settings().await?;
        match allowed.and_then(|()| settings.allow(plan)) {
            // Fingerprints are compared once the plan is shown: until then nothing is said.
            Err(refusal) if refusal.code == Code::RosterRefused => {
                let hint = refusal.code.hint();
                tracing::warn!("{refusal} [{}]; hint: {hint}", refusal.code);
            }
            Err(refusal) => self.decline_plan(&run, &refusal).await,
            Ok(()) if policy.consent == ConsentMode::Ask => {
                tracing::info!("it waits for `fedner-client consent grant {digest}`");
            }
            Ok(()) => {}
        }
        Ok(())
    }

    /// Declines a plan that cannot be considered, and does not ask for it again: not before the next start, which
    /// may be of a newer program, and not before other keys are trusted.
    async fn turn_down(&mut self, run: &str, plan: Digest, refusal: &Refusal) -> Result<(), Error> {
        if self.turned_down.len() >= MOST_UNDECIDED {
            self.turned_down.pop_front();
            tokio::time::sleep(MANY_WAIT).await;
        }
        self.turned_down.push_back(plan);
        self.decline_plan(run, refusal).await;
        Ok(())
    }

    async fn decline_plan(&mut self, run: &str, refusal: &Refusal) {
        let code = refusal.code;
        tracing::warn!("{refusal} [{code}]; hint: {}", code.hint());
        self.count_refusal(code);
        let declined = self.coordinator.decline(Kind::Train, run, 0, 0, code, None);
        if let Err(error) = declined.await {
            tracing::debug!("the proposal could not be declined: {error}");
        }
    }

    fn verify_proposal(&self, proposal: Proposal) -> Result<PlanRecord, Refusal> {
        let run: RunId = convert::parsed("run", &proposal.run)?;
        let signed = convert::signed("plan", proposal.plan)?;
        let plan = self.verify_plan(&signed)?;
        Ok(PlanRecord {
            digest: plan.digest(),
            run,
            plan,
            signed,
            dimension: proposal.dimension,
            memory: proposal.memory,
            roster: convert::roster("roster", &proposal.roster)?,
            proposed: self.environment.machine.now(),
        })
    }

    /// The plan, after its signature was found to be the operator's and its values sound.
    pub(super) fn verify_plan(&self, signed: &Signed) -> Result<Plan, Refusal> {
        let verified = signed.verify(&self.identity.operator);
        let plan: Plan = verified.map_err(|error| unverified(&error))?;
        plan.check()
            .map_err(|error| Refusal::new(Code::PlanInvalid, error.to_string()))?;
        if plan.digest() != signed.digest() {
            let message = format!("the plan {} is not in canonical form", plan.name);
            return Err(Refusal::new(Code::PlanInvalid, message));
        }
        Ok(plan)
    }

    /// With `consent = "auto"` every plan that the policy allows is agreed to, unless a person
    /// revoked it.
    async fn grant_by_policy(&mut self) -> Result<(), Error> {
        let policy = self.policy().await?;
        if policy.consent != ConsentMode::Auto {
            return Ok(());
        }
        let settings = self.settings().await?;
        let now = self.environment.machine.now();
        for record in self.store.plans()? {
            match self.store.standing(&record.digest, now)? {
                Standing::Granted | Standing::Revoked => continue,
                Standing::Pending | Standing::Expired => {}
            }
            let terms = consent::Terms {
                directory: &self.directory,
                settings: &settings,
                policy: &policy,
            };
            match consent::grant(&self.store, &self.identity, terms, &record, None, now) {
                Ok(consent) => {
                    tracing::info!(
                        "agrees to the plan {} by policy, with {} examples, until {}",
                        record.plan.name,
                        consent.examples,
                        consent.expires
                    );
                    if consent.annotation.is_none() && record.plan.labels.len() > 1 {
                        tracing::info!(
                            "takes its text to annotate all types of the plan {}: `fedner-client check` \
                             looks whether it does, `annotated_types` in client.toml says otherwise",
                            record.plan.name
                        );
                    }
                }
                Err(error) => {
                    if self.logged_plans.insert(record.digest) {
                        let name = &record.plan.name;
                        tracing::warn!("does not agree to the plan {name}: {error}");
                    }
                }
            }
        }
        Ok(())
    }
}

/// What the operator has signed and this program cannot read is of a newer one.
fn unverified(error: &sign::Error) -> Refusal {
    let sign::Error::Content(error) = error else {
        return Refusal::new(Code::PlanSignature, error.to_string());
    };
    let error = error.to_string();
    // What it would have known is a long list.
    let what = error.split(", expected").next().unwrap_or_default();
    let message = format!("the plan cannot be read by {SOFTWARE}: {what}");
    Refusal::new(Code::PlanTooNew, message)
}

/// Returns once another process has changed the database, or somebody the policy's file.
async fn changed_outside(store: &Store, directory: &Directory) -> Result<(), Error> {
    let file = directory.policy_file();
    let policy = || {
        let metadata = file.metadata().ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    let before = (store.outside_changes()?, policy());
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if (store.outside_changes()?, policy()) != before {
            return Ok(());
        }
    }
}
