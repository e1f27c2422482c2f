//! Signs of life during long work, and noticing that it is not wanted any more.

use std::time::Duration;

use fedner_proto::v1::progress_request::Stage;
use fedner_session::{Event, Task};
use fedner_shared::refusal::{Class, Code, Refusal};

use super::Agent;
use crate::transport;

const EVERY: Duration = Duration::from_secs(2);

/// Why long work is given up.
#[derive(Debug)]
pub(super) enum Interruption {
    /// The coordinator does not want it any more.
    Unwanted,
    /// The institution revoked its consent, or it expired.
    Withdrawn,
}

impl Interruption {
    pub(super) fn event(self, task: &Task) -> Event {
        match self {
            Self::Unwanted => {
                tracing::info!("{task} is not wanted any more");
                Event::Dropped
            }
            Self::Withdrawn => {
                let message = format!("the consent that covered {task} is not in force any more");
                Event::Declined(Refusal::new(Code::ConsentMissing, message))
            }
        }
    }
}

impl Agent {
    /// Does `work` with a sign of life every two seconds.
    pub(super) async fn with_heartbeat<T>(
        &self,
        task: &Task,
        stage: Stage,
        work: impl Future<Output = T>,
    ) -> Result<T, Interruption> {
        tokio::select! {
            biased;
            outcome = work => Ok(outcome),
            why = self.beat(task, stage) => Err(why),
        }
    }

    /// Does `work` with a sign of life every two seconds, and to its end.
    pub(super) async fn with_signs_of_life<T>(
        &self,
        task: &Task,
        stage: Stage,
        work: impl Future<Output = T>,
    ) -> T {
        let signs = async {
            loop {
                tokio::time::sleep(EVERY).await;
                if let Err(error) = self.coordinator.progress(task, stage).await {
                    tracing::debug!("no sign of life could be given: {error}");
                }
            }
        };
        tokio::select! {
            biased;
            outcome = work => outcome,
            () = signs => unreachable!("signs of life have no end"),
        }
    }

    /// Returns when the work is to be given up.
    async fn beat(&self, task: &Task, stage: Stage) -> Interruption {
        loop {
            match self.coordinator.progress(task, stage).await {
                Ok(true) => {}
                Ok(false) => return Interruption::Unwanted,
                Err(error) if is_final(&error) => return Interruption::Unwanted,
                // The work itself does not need the coordinator.
                Err(error) => tracing::debug!("no sign of life could be given: {error}"),
            }
            if self.is_withdrawn(task) {
                return Interruption::Withdrawn;
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    fn is_withdrawn(&self, task: &Task) -> bool {
        match self
            .store
            .consent_in_force(&task.plan, self.outside.machine.now())
        {
            Ok(consent) => consent.is_none(),
            Err(error) => {
                tracing::warn!("{error}");
                false
            }
        }
    }
}

/// Whether the coordinator will say the same again.
fn is_final(error: &transport::Error) -> bool {
    let Some(code) = error.code() else {
        return false;
    };
    match code.class() {
        Class::State | Class::Missing | Class::Forbidden | Class::Exists => true,
        Class::Unauthenticated | Class::Invalid | Class::Exhausted => false,
    }
}
