//! The steps of a secure aggregation that an institution takes beside its training.

use fedner_proto::convert;
use fedner_proto::v1::{Assignment, SecureStepAssignment};
use fedner_session::{Kind, Task};
use fedner_shared::plan::Plan;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::secure::{SecureStep, Told};

use super::{Agent, Error};
use crate::egress::{self, StepRequest};
use crate::transport;

impl Agent {
    /// Takes a step, or declines the attempt.
    pub(super) async fn take_step(&mut self, asked: SecureStepAssignment) -> Result<(), Error> {
        let assignment = asked.assignment.clone().unwrap_or_default();
        let answer = match convert::secure_step(asked.step()) {
            Ok(step) => self.answer_to(step, &assignment).await?,
            Err(refusal) => Err(refusal),
        };
        let released = match answer {
            Ok(released) => released,
            Err(refusal) => {
                return self
                    .decline_assignment(Kind::Train, assignment, refusal)
                    .await;
            }
        };
        let step = released.step();
        match self.coordinator.take_secure_step(&released).await {
            Ok(()) => {
                self.heard();
                tracing::info!(
                    "took the step {step} of round {}, run {}",
                    assignment.round,
                    assignment.run
                );
                Ok(())
            }
            // Enough others have taken it. A coordinator does not ask for it again; if one does, it waits.
            Err(transport::Error::Refused(refusal)) => {
                let late = (assignment.run, assignment.round, assignment.attempt, step);
                if refusal.code == Code::RoundStale && self.late_step.as_ref() != Some(&late) {
                    tracing::info!("the step {step} is not needed any more: {refusal}");
                    self.late_step = Some(late);
                    return Ok(());
                }
                tracing::warn!("the step {step} is not taken: {refusal} [{}]", refusal.code);
                tokio::time::sleep(super::check_in::DECLINED).await;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What leaves for a step. Keys and shares are sent only by whoever would train; what was sent under masks is
    /// unmasked whatever the hour is.
    async fn answer_to(
        &mut self,
        step: SecureStep,
        assignment: &Assignment,
    ) -> Result<Result<egress::ReleasedStep, Refusal>, Error> {
        let accepted = match step {
            SecureStep::Keys | SecureStep::Shares => self.accept(Kind::Train, assignment).await?,
            SecureStep::Consistency | SecureStep::Unmasking => self
                .verify_assignment(Kind::Train, assignment)
                .map(|(task, ..)| task),
        };
        let task = match accepted {
            Ok(task) => task,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let told = match told(assignment) {
            Ok(told) => told,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let (plan, _) = self.background(&task)?;
        let policy = self.policy().await?;
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        let request = StepRequest {
            task: &task,
            plan: &plan,
            policy: &policy,
            step,
            told: &told.unwrap_or_default(),
            secret,
        };
        match self.gate.take_step(&request) {
            Ok(released) => Ok(Ok(released)),
            Err(egress::Error::Refused(refusal)) => Ok(Err(refusal)),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps with whom the update will have masks, before text is read.
    pub(super) async fn agree_on_masks(
        &self,
        task: &Task,
        plan: &Plan,
        assignment: &Assignment,
    ) -> Result<Result<(), Refusal>, Error> {
        if task.kind != Kind::Train {
            return Ok(Ok(()));
        }
        let told = match told(assignment) {
            Ok(told) => told,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let policy = self.policy().await?;
        let agreed = self.gate.agree_on_masks(task, plan, &policy, told.as_ref());
        match agreed {
            Ok(()) => Ok(Ok(())),
            Err(egress::Error::Refused(refusal)) => Ok(Err(refusal)),
            Err(error) => Err(error.into()),
        }
    }
}

fn told(assignment: &Assignment) -> Result<Option<Told>, Refusal> {
    let secure = assignment.secure.clone();
    secure
        .map(convert::secure_attempt)
        .transpose()
        .map_err(|refusal| Refusal::new(Code::RequestInvalid, refusal.message))
}
