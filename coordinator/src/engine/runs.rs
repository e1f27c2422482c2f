//! Runs: created, stepped, explained.

use std::collections::BTreeSet;
use std::ops::Range;

use fedner_round::{Contribution, Created, Effect, Input, Phase, Run, TaskKind, Transition};
use fedner_secagg::Width;
use fedner_shared::digest::Digest;
use fedner_shared::event::{Event, Judgement};
use fedner_shared::figures::UpdateFigures;
use fedner_shared::id::{Alias, InstitutionId, PlanName, RunId, VersionName};
use fedner_shared::plan::{MembersSee, Plan};
use fedner_shared::refusal::Code;
use fedner_shared::sign::Signed;
use fedner_shared::statement::{EvaluationReceipt, UpdateReceipt};
use fedner_shared::text;
use fedner_shared::version::{Origin, Round, Version};
use fedner_shared::view::{Explanation, RunView};

use super::statements::Vouched;
use super::{Engine, Failure, secure};
use crate::aggregate::Aggregated;
use crate::observe;
use crate::store::{Pending, StatementKind, Tx};

/// What the registry has made ready for a new run. Other runs go on meanwhile: what they may change is settled when the
/// run is created.
#[derive(Debug)]
pub struct NewRun {
    pub signed: Signed,
    pub manifest: Digest,
    pub dimension: u64,
    /// The version that the plan names.
    pub base: Digest,
    /// It, made ready for the plan, where it was not.
    pub prepared: Option<PreparedBase>,
}

/// A version to be: its name is given when the run is created.
#[derive(Debug)]
pub struct PreparedBase {
    pub origin: Origin,
    pub labels: Vec<String>,
    pub weights: Digest,
    pub frozen: Option<Digest>,
    pub config: Digest,
    pub tokenizer: Digest,
}

/// What the values of an awaited update may be, in grid steps.
#[derive(Debug, Clone)]
pub struct Awaited {
    /// d
    pub dimension: usize,
    /// The largest magnitude of each.
    pub bound: i64,
    /// The largest squared L2 norm of all.
    pub squared_bound: u128,
    /// Where it must be 0: what the plan freezes.
    pub zeros: Vec<Range<usize>>,
    /// Of masked updates, of which nothing else can be said.
    pub masked: Option<Width>,
}

/// What is to be done for a closed round.
#[derive(Debug)]
pub enum Closing {
    /// Its updates are to be measured.
    Measure,
    /// These are to become one, with these weights.
    Sum(Vec<Contribution>),
    /// Nothing: the run wants it no longer.
    Dropped,
}

impl Engine {
    /// The plan, if the operator of this coordinator signed it.
    pub fn verify_plan(&self, signed: &Signed) -> Result<Plan, Failure> {
        let plan: Plan = signed
            .verify(&self.operator_key)
            .map_err(|error| Failure::refuse(Code::PlanSignature, error.to_string()))?;
        plan.check()
            .map_err(|error| Failure::refuse(Code::PlanInvalid, error.to_string()))?;
        let digest = signed.digest();
        if self.runs.iter().any(|run| run.plan_digest == digest) {
            return Err(Failure::refuse(
                Code::RunExists,
                format!("a run of plan {} exists", digest.short()),
            ));
        }
        Ok(plan)
    }

    pub fn create_run(&mut self, new: NewRun) -> Result<RunId, Failure> {
        let NewRun {
            signed,
            manifest,
            dimension,
            base,
            prepared,
        } = new;
        // While the base was made ready, the same run may have been created, the key replaced, the base pruned.
        let plan = self.verify_plan(&signed)?;
        self.require_files(base)?;
        let prepared = match prepared {
            Some(prepared) => Some(self.name_base(&plan.name, base, prepared)?),
            None => None,
        };
        let digest = signed.digest();
        let name: String = plan.name.as_str().chars().take(50).collect();
        let id: RunId = format!("{name}.{}", &digest.short()[..8])
            .parse()
            .map_err(|error| {
                Failure::refuse(Code::PlanInvalid, format!("the plan's name: {error}"))
            })?;
        let created = Created {
            id: id.clone(),
            plan,
            plan_digest: digest,
            manifest,
            dimension,
            base: prepared.as_ref().map_or(base, Version::digest),
        };
        let mut transition = Run::create(self.now(), created);
        for earlier in &self.runs {
            transition.run.adopt_durations(earlier);
        }
        self.commit("create run", transition, |tx| {
            tx.put_plan(&signed)?;
            if let Some(version) = &prepared {
                tx.put_version(version)?;
            }
            Ok(())
        })?;
        Ok(id)
    }

    fn name_base(
        &mut self,
        model: &PlanName,
        parent: Digest,
        prepared: PreparedBase,
    ) -> Result<Version, Failure> {
        Ok(Version {
            name: self.next_name(model)?,
            parent: Some(parent),
            origin: prepared.origin,
            labels: prepared.labels,
            weights: prepared.weights,
            frozen: prepared.frozen,
            config: prepared.config,
            tokenizer: prepared.tokenizer,
            created: self.now(),
        })
    }

    /// Computes, makes durable, takes over, acts.
    pub fn step(&mut self, id: &RunId, input: Input) -> Result<(), Failure> {
        self.step_with("step run", id, input, |_| Ok(()))
    }

    /// The same, with more to write in the same transaction.
    pub(super) fn step_with(
        &mut self,
        name: &'static str,
        id: &RunId,
        input: Input,
        also: impl FnOnce(&Tx<'_>) -> Result<(), crate::store::Error>,
    ) -> Result<(), Failure> {
        let transition = self.require(id)?.step(self.now(), input)?;
        self.commit(name, transition, also)
    }

    fn commit(
        &mut self,
        name: &'static str,
        transition: Transition,
        also: impl FnOnce(&Tx<'_>) -> Result<(), crate::store::Error>,
    ) -> Result<(), Failure> {
        let durable = transition.is_durable();
        let Transition {
            run,
            events,
            effects,
            called: asked,
        } = transition;
        let id = run.id.clone();
        let place = self.runs.iter().position(|known| known.id == id);
        let before = place.map(|place| &self.runs[place]);
        let ended = run.phase.is_end() && before.is_some_and(|before| !before.phase.is_end());
        let called = if ended {
            // What was made for the run is needed no more.
            run.members.names().cloned().collect()
        } else if durable || asked {
            run.called_since(before)
        } else {
            Vec::new()
        };
        if durable {
            let now = self.machine.now();
            let written = self.written.get(&id);
            let kinds: Vec<String> = events.iter().map(Event::kind).collect();
            let newest = self.store.transact(name, |tx| {
                let mut newest = None;
                also(tx)?;
                tx.put_run(&run, written)?;
                for event in events {
                    let moved = promotion(tx, &run.plan.name, &event)?;
                    for event in std::iter::once(event).chain(moved) {
                        let entry = tx.append_event(now, Some(&run.id), event)?;
                        tracing::info!(run = %run.id, event = %entry.event.kind(), "event");
                        newest = Some(entry.sequence);
                    }
                }
                for effect in &effects {
                    tx.put_effect(&run.id, effect)?;
                }
                newest.map_or_else(|| tx.last_sequence(), Ok)
            })?;
            self.written.insert(id.clone(), run.members.clone());
            observe::count_step();
            kinds.into_iter().for_each(observe::count_event);
            self.newest.send_replace(newest);
        }
        match place {
            Some(place) => self.runs[place] = run,
            None => self.runs.push(run),
        }
        self.decided
            .extend(effects.into_iter().map(|effect| Pending {
                run: id.clone(),
                effect,
            }));
        self.wake(&called);
        Ok(())
    }

    pub(super) fn require(&self, id: &RunId) -> Result<&Run, Failure> {
        self.run(id)
            .ok_or_else(|| Failure::refuse(Code::RunUnknown, format!("there is no run `{id}`")))
    }

    /// The run by its name, or by the name of its plan where that is unambiguous.
    pub fn find_run(&self, name: &str) -> Result<RunId, Failure> {
        if let Some(run) = self.runs.iter().find(|run| run.id.as_str() == name) {
            return Ok(run.id.clone());
        }
        let mut matching = self
            .runs
            .iter()
            .filter(|run| run.plan.name.as_str() == name);
        match (matching.next(), matching.next()) {
            (Some(run), None) => Ok(run.id.clone()),
            (Some(_), Some(_)) => Err(Failure::refuse(
                Code::RunUnknown,
                format!(
                    "several runs are of plan `{}`: name one of them",
                    text::brief(name)
                ),
            )),
            (None, _) => Err(Failure::refuse(
                Code::RunUnknown,
                format!("there is no run `{}`", text::brief(name)),
            )),
        }
    }

    pub fn run_views(&self) -> Vec<RunView> {
        self.runs.iter().map(Run::view).collect()
    }

    pub fn run_view(&self, id: &RunId) -> Result<RunView, Failure> {
        Ok(self.require(id)?.view())
    }

    pub fn plan_of(&self, id: &RunId) -> Result<Plan, Failure> {
        Ok(self.require(id)?.plan.clone())
    }

    pub fn explain(&self, id: &RunId) -> Result<Explanation, Failure> {
        let run = self.require(id)?;
        let mut explanation = run.explain();
        explanation.absent.extend(run.elsewhere(self.runs.iter()));
        Ok(explanation)
    }

    /// Leaves a member out of one round; which it is.
    pub fn exclude_member(
        &mut self,
        id: &RunId,
        institution: InstitutionId,
        round: Option<u32>,
    ) -> Result<u32, Failure> {
        let run = self.require(id)?;
        let round = round.unwrap_or_else(|| run.first_open_round());
        self.step(id, Input::SetAside { institution, round })?;
        Ok(round)
    }

    /// Whether an announced update is awaited, and what its values may be.
    pub fn check_update(&mut self, update: &UpdateReceipt) -> Result<Awaited, Failure> {
        let run = self.require(&update.run)?;
        run.check_update(self.now(), update)?;
        self.check_masks(&update.run, update.masked)?;
        let run = self.require(&update.run)?;
        let dimension = run.dimension as usize;
        let declared = run.declared(&update.institution);
        Ok(Awaited {
            dimension,
            bound: run.plan.privacy.value_bound(),
            squared_bound: run.plan.squared_norm_bound(dimension, declared),
            zeros: run.plan.frozen_weights(dimension),
            masked: secure::width(&run.plan)?,
        })
    }

    /// From whom an update is awaited; in a run that pauses, later.
    pub fn awaited_uploads(&self) -> BTreeSet<InstitutionId> {
        let live = self.runs.iter().filter(|run| !run.phase.is_end());
        let awaited = live.flat_map(|run| {
            let members = run.members.iter();
            let pending = members.filter(|(name, _)| {
                let assignment = run.assignment(name);
                run.paused.is_some() || assignment.is_some_and(|a| a.task == TaskKind::Train)
            });
            pending.map(|(name, _)| name.clone())
        });
        awaited.collect()
    }

    /// The update's bytes are in the blob store, verified.
    pub fn accept_update(&mut self, update: &Vouched<UpdateReceipt>) -> Result<(), Failure> {
        let statement = self.statement(StatementKind::Update, update.author(), update)?;
        let run = update.said.run.clone();
        let input = Input::Uploaded {
            update: update.said.clone(),
            receipt: statement.digest,
        };
        self.step_with("accept update", &run, input, |tx| {
            tx.put_statement(&statement)
        })
    }

    pub fn accept_evaluation(
        &mut self,
        evaluation: &Vouched<EvaluationReceipt>,
    ) -> Result<(), Failure> {
        let author = evaluation.author();
        let statement = self.statement(StatementKind::Evaluation, author, evaluation)?;
        let EvaluationReceipt {
            run,
            version,
            scores,
            ..
        } = &evaluation.said;
        let input = Input::Evaluated {
            evaluation: evaluation.said.clone(),
        };
        self.step_with("accept evaluation", run, input, |tx| {
            tx.put_statement(&statement)?;
            tx.put_scores(*version, author, scores)
        })
    }

    /// What is to be done next for a closed round.
    pub fn closing(&mut self, id: &RunId, effect: &Effect) -> Result<Closing, Failure> {
        let run = self.require(id)?;
        let number = (effect.round, effect.attempt);
        if run.phase != Phase::Aggregating || (run.round, run.attempt) != number {
            // Cancelled meanwhile, or repeated for want of a quorum.
            self.store
                .transact("drop effect", |tx| tx.remove_effect(id, effect))?;
            return Ok(Closing::Dropped);
        }
        if run.measured == Some(number) {
            return Ok(Closing::Sum(run.weighed()));
        }
        Ok(Closing::Measure)
    }

    /// The updates of a closed round were measured.
    pub fn measured(
        &mut self,
        id: &RunId,
        effect: &Effect,
        updates: Vec<UpdateFigures>,
    ) -> Result<(), Failure> {
        let (round, attempt) = (effect.round, effect.attempt);
        // A run that was cancelled meanwhile wants no figures.
        if self.require(id)?.phase.is_end() {
            return Ok(());
        }
        let input = Input::Measured {
            round,
            attempt,
            updates,
        };
        self.step_with("measure updates", id, input, |_| Ok(()))
    }

    /// What the updates of a closed round come to has been computed: publishes it as a version.
    pub fn publish(
        &mut self,
        id: &RunId,
        effect: &Effect,
        participants: Vec<Contribution>,
        unmasking: Option<Digest>,
        sum: Aggregated,
    ) -> Result<VersionName, Failure> {
        let run = self.require(id)?.clone();
        let parent = self.version_record(effect.base)?;
        let parent = &parent.version;
        let name = self.next_name(&run.plan.name)?;
        let round = Round {
            run: id.clone(),
            plan: run.plan_digest,
            method: run.plan.method,
            round: effect.round,
            attempt: effect.attempt,
            manifest: run.manifest,
            rule: run.plan.rule(),
            moments: sum.moments,
            unmasking,
            participants,
            sealed: Vec::new(),
        };
        let version = Version {
            name: name.clone(),
            parent: Some(effect.base),
            origin: Origin::Round(match run.plan.cohort.members_see {
                MembersSee::Own => round.sealed(),
                MembersSee::All => round,
            }),
            labels: run.plan.labels.clone(),
            weights: sum.weights,
            frozen: parent.frozen,
            config: parent.config,
            tokenizer: parent.tokenizer,
            created: self.now(),
        };
        let (round, attempt) = (effect.round, effect.attempt);
        let input = Input::Published {
            round,
            attempt,
            name: name.clone(),
            version: version.digest(),
            weights: sum.weights,
        };
        // A cancelled run wants its sum no longer; the effect is done with either way.
        if run.phase.is_end() {
            self.store
                .transact("drop effect", |tx| tx.remove_effect(id, effect))?;
            return Ok(name);
        }
        self.step_with("publish version", id, input, |tx| {
            tx.put_version(&version)?;
            tx.remove_effect(id, effect)
        })?;
        Ok(name)
    }
}

/// What passed a plan's gate is its champion, what failed its challenger.
fn promotion(
    tx: &Tx<'_>,
    plan: &PlanName,
    event: &Event,
) -> Result<Option<Event>, crate::store::Error> {
    let Event::Judged {
        version: digest,
        judgement,
        ..
    } = event
    else {
        return Ok(None);
    };
    let name = match judgement {
        Judgement::Passed => "champion",
        Judgement::Regressed | Judgement::Unjudged => "challenger",
    };
    // A plan with a gate has a name that leaves room for this.
    let (Ok(alias), Some(version)) = (
        format!("{plan}.{name}").parse::<Alias>(),
        tx.version(*digest)?,
    ) else {
        return Ok(None);
    };
    tx.put_alias(&alias, *digest)?;
    Ok(Some(Event::AliasMoved {
        alias,
        version: version.name,
        digest: *digest,
    }))
}
