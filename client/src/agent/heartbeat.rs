//! Signs of life during long work, and noticing that it is not wanted any more.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fedner_proto::v1::progress_request::Stage;
use fedner_session::{Input, Task};
use fedner_shared::refusal::{Class, Code, Refusal};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Agent;
use crate::transport::{self, Coordinator};

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
    pub(super) fn input(self, task: &Task) -> Input {
        match self {
            Self::Unwanted => {
                tracing::info!("{task} is not wanted any more");
                Input::Dropped
            }
            Self::Withdrawn => Input::Declined(withdrawn(task)),
        }
    }
}

/// Why a task is declined whose consent does not cover it any more.
fn withdrawn(task: &Task) -> Refusal {
    let message = format!("the consent that covered {task} is not in force any more");
    Refusal::new(Code::ConsentMissing, message)
}

/// When signs of life are due, and what was answered.
///
/// A sign is given every two seconds from the attempt's first on, whatever the work is at, and none is
/// waited for or broken off when a part of the work ends. So signs of life do not tell when that was,
/// not even to a coordinator that holds its answers back.
#[derive(Debug)]
pub(super) struct Beat {
    next: Mutex<Option<Instant>>,
    unwanted: watch::Sender<bool>,
}

impl Default for Beat {
    fn default() -> Self {
        Self {
            next: Mutex::default(),
            unwanted: watch::Sender::new(false),
        }
    }
}

impl Beat {
    /// Waits until a sign is due. The first is due at once.
    async fn due(&self) {
        let now = Instant::now();
        let at = self.lock().filter(|at| *at + EVERY > now).unwrap_or(now);
        tokio::time::sleep_until(at).await;
        *self.lock() = Some(at + EVERY);
    }

    /// Gives a sign, and takes note of the answer whenever it comes.
    fn send(&self, coordinator: &Coordinator, task: &Task, stage: Stage) {
        let (coordinator, task) = (coordinator.clone(), task.clone());
        let unwanted = self.unwanted.clone();
        tokio::spawn(async move {
            match coordinator.progress(&task, stage).await {
                Ok(true) => {}
                Ok(false) => drop(unwanted.send_replace(true)),
                Err(error) if is_final(&error) => drop(unwanted.send_replace(true)),
                // The work itself does not need the coordinator.
                Err(error) => tracing::debug!("no sign of life could be given: {error}"),
            }
        });
    }

    /// Returns when the coordinator has said that the work is not wanted.
    async fn unwanted(&self) {
        let mut answers = self.unwanted.subscribe();
        if answers.wait_for(|unwanted| *unwanted).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
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
                self.beat.due().await;
                self.beat.send(&self.coordinator, task, stage);
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
            tokio::select! {
                biased;
                () = self.beat.unwanted() => return Interruption::Unwanted,
                () = self.beat.due() => self.beat.send(&self.coordinator, task, stage),
            }
            if self.is_withdrawn(task) {
                return Interruption::Withdrawn;
            }
        }
    }

    /// What becomes of a result that was released and must not leave any more. It stays paid for.
    pub(super) async fn give_up(&mut self, task: &Task, why: Interruption) -> Input {
        match why {
            Interruption::Unwanted => {
                tracing::warn!("{task} is not wanted any more; it stays paid for");
            }
            Interruption::Withdrawn => self.decline(task.clone(), &withdrawn(task)).await,
        }
        Input::Dropped
    }

    fn is_withdrawn(&self, task: &Task) -> bool {
        match self
            .store
            .consent_in_force(&task.plan, self.environment.machine.now())
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
