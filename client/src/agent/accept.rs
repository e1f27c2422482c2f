//! Whether an assignment may be taken on.

use fedner_proto::convert;
use fedner_proto::v1::Assignment;
use fedner_session::{Kind, Task};
use fedner_shared::digest::Digest;
use fedner_shared::id::RunId;
use fedner_shared::plan::Plan;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::secure::Signers;
use fedner_shared::statement::UpdateReceipt;
use fedner_shared::version::{Origin, Version};

use super::base::{Begins, Own};
use super::{Agent, Error};
use crate::state::{PlanRecord, ReceiptKind};
use crate::{consent, state};

impl Agent {
    /// The task of an assignment, or why it is declined.
    pub(super) async fn accept(
        &self,
        kind: Kind,
        assignment: &Assignment,
    ) -> Result<Result<Task, Refusal>, Error> {
        let (task, plan, version, record) = match self.verify_assignment(kind, assignment) {
            Ok(verified) => verified,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if self.environment.defences.pins
            && let Err(refusal) = self.check_base(&task, &plan, &version)?
        {
            return Ok(Err(refusal));
        }
        // A plan may be assigned that was proposed to an earlier state of this directory.
        self.store.add_plan(&record)?;
        let policy = self.policy().await?;
        if let Err(refusal) = consent::allows(&policy, &self.identity, &plan) {
            return Ok(Err(refusal));
        }
        let now = self.environment.machine.now();
        let Some(consent) = self.store.consent_in_force(&task.plan, now)? else {
            let message = format!("no consent to the plan {} is in force", plan.name);
            return Ok(Err(Refusal::new(Code::ConsentMissing, message)));
        };
        let failed = self.store.not_done(&task.plan)?;
        if failed >= policy.max_not_done {
            let message = format!(
                "{failed} attempts at the plan {} came to nothing: a person must look at the log, and \
                 grant the plan anew",
                plan.name
            );
            return Ok(Err(Refusal::new(Code::PolicyForbids, message)));
        }
        if let Some(until) = self.store.paused(now)? {
            let message = format!("this institution takes no work until {until}");
            return Ok(Err(Refusal::new(Code::InstitutionPaused, message)));
        }
        let allowed = policy.allows_declared(&plan, consent.examples);
        if let Err(refusal) = allowed.and_then(|()| policy.allows_now(now)) {
            return Ok(Err(refusal));
        }
        let settings = self.settings().await?;
        let declared = consent::check_annotation(&consent, &plan, &settings, &self.directory);
        if let Err(refusal) = declared.and_then(|()| settings.allow(&plan)) {
            return Ok(Err(refusal));
        }
        if kind == Kind::Evaluate
            && let Err(refusal) = consent::allows_evaluation(&policy, &settings, &plan)
        {
            return Ok(Err(refusal));
        }
        Ok(Ok(task))
    }

    /// The task of a training or an evaluation, with its masks agreed on where it has some.
    pub(super) async fn accept_work(
        &self,
        kind: Kind,
        assignment: &Assignment,
    ) -> Result<Result<Task, Refusal>, Error> {
        let task = match self.accept(kind, assignment).await? {
            Ok(task) => task,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let (plan, _) = self.background(&task)?;
        let agreed = self.agree_on_masks(&task, &plan, assignment).await?;
        Ok(agreed.map(|()| task))
    }

    /// Whether the version is what the plan names, or what led from there.
    fn check_base(
        &self,
        task: &Task,
        plan: &Plan,
        version: &Version,
    ) -> Result<Result<(), Refusal>, Error> {
        let mut own = Vec::new();
        for receipt in self.store.receipts()? {
            if receipt.kind == ReceiptKind::Update && receipt.is_for(&task.plan) {
                let statement: UpdateReceipt = receipt
                    .signed
                    .peek()
                    .map_err(|error| state::Error::Content(error.to_string()))?;
                let receipt = receipt.digest;
                own.push(Own { receipt, statement });
            }
        }
        let begins = Begins {
            plan,
            run: task.run.as_str(),
            version,
            manifest: task.manifest,
            before: match task.kind {
                Kind::Train => task.round,
                Kind::Evaluate => task.round.saturating_add(1),
            },
            institution: &self.identity.institution,
        };
        Ok(begins.check(&own))
    }

    pub(super) fn verify_assignment(
        &self,
        kind: Kind,
        assignment: &Assignment,
    ) -> Result<(Task, Plan, Version, PlanRecord), Refusal> {
        let signed = convert::signed("plan", assignment.plan.clone())?;
        let plan = self.verify_plan(&signed)?;
        let (digest, mut version) = convert::version_from_record(&assignment.version)?;
        show_own_part(&mut version, &assignment.participant)?;
        check_version(&version, &plan)?;
        let (round, attempt) = (assignment.round, assignment.attempt);
        if plan.only_evaluates() && kind == Kind::Train {
            let message = format!(
                "training is assigned: the plan {} only evaluates",
                plan.name
            );
            return Err(Refusal::new(Code::RequestInvalid, message));
        }
        let rounds = plan.first_round()..=plan.last_round();
        if !rounds.contains(&round) {
            let (first, last) = rounds.into_inner();
            let message = format!("round {round} is assigned: the plan has {first} to {last}");
            return Err(Refusal::new(Code::RequestInvalid, message));
        }
        if !(1..=plan.cohort.max_attempts).contains(&attempt) {
            let message = format!(
                "attempt {attempt} is assigned: the plan has 1 to {}",
                plan.cohort.max_attempts
            );
            return Err(Refusal::new(Code::RequestInvalid, message));
        }
        let run: RunId = convert::parsed("run", &assignment.run)?;
        let manifest = convert::digest("manifest", &assignment.manifest)?;
        let task = Task {
            kind,
            run,
            plan: plan.digest(),
            round,
            attempt,
            version: digest,
            record: assignment.version.clone(),
            manifest,
        };
        let known = PlanRecord {
            digest: task.plan,
            run: task.run.clone(),
            plan: plan.clone(),
            signed,
            dimension: 0,
            memory: 0,
            roster: Signers::new(),
            proposed: self.environment.machine.now(),
        };
        Ok((task, plan, version, known))
    }

    /// The plan and the version of a task that was accepted before.
    pub(super) fn background(&self, task: &Task) -> Result<(Plan, Version), Error> {
        let lost = |what: &str, digest: &Digest| {
            let message = format!("the {what} {digest} of {task} is gone");
            Error::Consent(consent::Error::Refused(Refusal::new(
                Code::StateInvalid,
                message,
            )))
        };
        let plan = self
            .store
            .plan(&task.plan)?
            .ok_or_else(|| lost("plan", &task.plan))?;
        let (_, version) = convert::version_from_record(&task.record)
            .map_err(|_| lost("version", &task.version))?;
        Ok((plan.plan, version))
    }
}

/// Puts what is said of the institution's own part beside its digest in the record; the check of what a round
/// begins with compares the two.
fn show_own_part(version: &mut Version, participant: &str) -> Result<(), Refusal> {
    if participant.is_empty() {
        return Ok(());
    }
    let own = serde_json::from_str(participant).map_err(|error| {
        let message = format!("`participant` is none: {error}");
        Refusal::new(Code::RequestInvalid, message)
    })?;
    if let Origin::Round(round) = &mut version.origin
        && !round.sealed.is_empty()
    {
        round.participants = vec![own];
    }
    Ok(())
}

fn check_version(version: &Version, plan: &Plan) -> Result<(), Refusal> {
    if version.labels == plan.labels {
        return Ok(());
    }
    let message = format!(
        "the version {} has the labels {:?}: the plan {} has {:?}",
        version.name, version.labels, plan.name, plan.labels
    );
    Err(Refusal::new(Code::LabelsMismatch, message))
}
