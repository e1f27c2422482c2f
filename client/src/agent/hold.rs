//! Updates that wait for a person's decision before their first byte leaves.

use std::time::Duration;

use fedner_proto::v1::progress_request::Stage;
use fedner_session::{Input, Release, Task};
use fedner_shared::refusal::{Code, Refusal};

use super::{Agent, Error};
use crate::state::Decision;

/// How soon a decision that is given by a command is acted upon.
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Agent {
    /// Waits where the policy says so. Nothing when the update may leave; else what became of it.
    ///
    /// The coordinator hears signs of life and sees an upload that has not begun. When it does not
    /// want the update any more, the update is dropped; what was paid for it stays paid.
    pub(super) async fn hold(
        &mut self,
        task: &Task,
        release: &Release,
    ) -> Result<Option<Input>, Error> {
        if self
            .may_go(release)
            .await?
            .is_some_and(|decision| decision == Decision::Granted)
        {
            return Ok(None);
        }
        tracing::info!(
            "{task}: the update waits for `fedner-client release grant {}`",
            release.receipt.short()
        );
        let waiting = self.decision_on(release);
        let refusal = match self.with_heartbeat(task, Stage::Uploading, waiting).await {
            Ok(decision) => match decision? {
                Decision::Granted => return Ok(None),
                Decision::Refused | Decision::None => {
                    let message = format!("a person refused the update of {task}");
                    Refusal::new(Code::ReleaseRefused, message)
                }
            },
            Err(why) => return Ok(Some(self.give_up(task, why).await)),
        };
        self.decline(task.clone(), &refusal).await;
        Ok(Some(Input::Dropped))
    }

    /// The decision that holds for the update; none while a person is waited for.
    async fn may_go(&self, release: &Release) -> Result<Option<Decision>, Error> {
        let decision = self.store.decision(&release.receipt)?;
        if decision != Decision::None {
            return Ok(Some(decision));
        }
        match self.policy().await {
            Ok(policy) => Ok((!policy.hold).then_some(Decision::Granted)),
            // What is not whole allows nothing: a person's decision or a whole policy is waited for.
            Err(Error::Config(error)) => {
                self.told_of(&error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn decision_on(&self, release: &Release) -> Result<Decision, Error> {
        loop {
            if let Some(decision) = self.may_go(release).await? {
                return Ok(decision);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
