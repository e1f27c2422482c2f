//! The state machine of one institution's assignments.

use fedner_shared::digest::Digest;
use fedner_shared::refusal::Refusal;
use fedner_shared::time::Time;
use serde::{Deserialize, Serialize};

use crate::task::{Charge, Kind, Release, Task};

/// Where the institution stands.
///
/// ```text
///             Assigned            Fetched, Charged        Trained              Released
///   ┌──────┐─────────▶┌──────────┐──────────▶┌──────────┐──────▶┌───────────┐──────▶┌───────────┐
///   │ Idle │          │ Fetching │           │ Training │       │ Releasing │       │ Uploading │
///   └──────┘          └──────────┘           └──────────┘       └───────────┘       └───────────┘
///       ▲                   │        ┌────────────┐ Counted ┌────────────┐                │
///       │                   └───────▶│ Evaluating │────────▶│ Submitting │                │
///       │        Fetched, Charged    └────────────┘         └────────────┘                │
///       └──────────────────────────────── Submitted ──────────────┘ ◀───── Accepted ──────┘
/// ```
/// `Dropped` leads to `Idle` from everywhere. `Declined` does so too until something is released:
/// that is paid for, and can be unwanted but not declined any more.
///
/// Private text is read only after `Charged`. `Restarted` begins the work again from `Fetching` with
/// fresh noise. The charge of the attempt is kept, as nothing has left that it paid for. In a copy of the directory
/// (`Copied`) it is not: two copies would release two updates for one. What was
/// released already is sent again, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Waits for the coordinator to assign something.
    #[default]
    Idle,
    /// Waits for the version's files to lie here.
    Fetching {
        task: Task,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        charge: Option<Charge>,
    },
    /// Waits for the charge, then for the trainer.
    Training {
        task: Task,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        charge: Option<Charge>,
    },
    /// Waits for the egress gate: clip, noise, encode, sign.
    Releasing {
        task: Task,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        charge: Option<Charge>,
    },
    /// Waits for its time, and then for the coordinator to have all bytes.
    Uploading {
        task: Task,
        release: Release,
        /// Nothing is sent before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        not_before: Option<Time>,
    },
    /// Waits for the charge, then for the counts to be made.
    Evaluating {
        task: Task,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        charge: Option<Charge>,
    },
    /// Waits for its time, and then for the coordinator to have the counts.
    Submitting {
        task: Task,
        /// The signed receipt with the counts.
        receipt: Digest,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        not_before: Option<Time>,
    },
}

/// One institution's assignment and since when it is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    #[serde(flatten)]
    pub state: State,
    pub since: Option<Time>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The coordinator asks for something. What left for this very attempt before is sent again,
    /// never made again.
    Assigned { task: Task, before: Option<Before> },
    /// The version's files are here.
    Fetched,
    /// The attempt is paid for, and private text may be read.
    Charged(Charge),
    /// Training came to its end.
    Trained,
    /// The update is encoded, signed and durable.
    Released {
        release: Release,
        not_before: Option<Time>,
    },
    /// The coordinator has the update.
    Accepted,
    /// The counts are signed and durable, as this receipt.
    Counted {
        receipt: Digest,
        not_before: Option<Time>,
    },
    /// The coordinator has the evaluation counts.
    Submitted,
    /// The institution will not do it.
    Declined(Refusal),
    /// The coordinator does not want it any more.
    Dropped,
    /// The program was started again.
    Restarted,
    /// The directory is a copy: what was paid for may be used up elsewhere.
    Copied,
}

/// What left for an attempt before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    Update(Release),
    /// Counts, by their receipt.
    Counts(Digest),
}

/// What the owner does once the new session is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Fetch(Task),
    /// Make the attempt's debit durable.
    Charge(Task),
    Train(Task),
    /// Pass the trained weights through the egress gate.
    Release(Task),
    Upload(Task, Release),
    Evaluate(Task),
    /// Send the counts of this receipt.
    Submit(Task, Digest),
    /// Tell the coordinator.
    Decline(Task, Refusal),
    /// The update's bytes are needed no more.
    Forget(Release),
}

/// The new session and what follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    pub session: Session,
    pub effects: Vec<Effect>,
}

/// The input does not fit the state; nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("{offered} came while busy with {current}")]
    Busy {
        current: Box<Task>,
        offered: Box<Task>,
    },
    #[error("`{input}` does not fit the state `{state}`")]
    Unfit {
        state: &'static str,
        input: &'static str,
    },
}

impl Default for Session {
    fn default() -> Self {
        Self {
            state: State::Idle,
            since: None,
        }
    }
}

impl Session {
    pub const fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// What is being worked on.
    pub const fn task(&self) -> Option<&Task> {
        self.state.task()
    }

    /// What the attempt under way costs, once that is durable.
    pub const fn charge(&self) -> Option<&Charge> {
        match &self.state {
            State::Fetching { charge, .. }
            | State::Training { charge, .. }
            | State::Releasing { charge, .. }
            | State::Evaluating { charge, .. } => charge.as_ref(),
            State::Idle | State::Uploading { .. } | State::Submitting { .. } => None,
        }
    }

    /// Before which nothing of what was released may leave.
    pub const fn not_before(&self) -> Option<Time> {
        match &self.state {
            State::Uploading { not_before, .. } | State::Submitting { not_before, .. } => {
                *not_before
            }
            State::Idle
            | State::Fetching { .. }
            | State::Training { .. }
            | State::Releasing { .. }
            | State::Evaluating { .. } => None,
        }
    }

    /// The state after `input` at the instant `now`, and what follows.
    pub fn step(&self, now: Time, input: Input) -> Result<Transition, Rejection> {
        let (state, effects) = next(&self.state, input)?;
        Ok(Transition {
            session: Self {
                state,
                since: Some(now),
            },
            effects,
        })
    }
}

fn next(state: &State, input: Input) -> Result<(State, Vec<Effect>), Rejection> {
    let input_name = input.name();
    let task = state.task().cloned();
    let unfit = || Rejection::Unfit {
        state: state.name(),
        input: input_name,
    };
    match (state, input) {
        (State::Idle, Input::Assigned { task, before }) => Ok(assigned(task, before)),
        (_, Input::Assigned { task: offered, .. }) => {
            let current = Box::new(task.ok_or_else(unfit)?);
            let offered = Box::new(offered);
            Err(Rejection::Busy { current, offered })
        }
        (State::Fetching { task, charge }, Input::Fetched) => {
            let (task, charge, effects) =
                (task.clone(), *charge, vec![Effect::Charge(task.clone())]);
            let state = match task.kind {
                Kind::Train => State::Training { task, charge },
                Kind::Evaluate => State::Evaluating { task, charge },
            };
            Ok((state, effects))
        }
        (State::Training { task, .. }, Input::Charged(charge)) => {
            let (task, charge) = (task.clone(), Some(charge));
            let effects = vec![Effect::Train(task.clone())];
            Ok((State::Training { task, charge }, effects))
        }
        (State::Evaluating { task, .. }, Input::Charged(charge)) => {
            let (task, charge) = (task.clone(), Some(charge));
            let effects = vec![Effect::Evaluate(task.clone())];
            Ok((State::Evaluating { task, charge }, effects))
        }
        (State::Training { task, charge }, Input::Trained) if charge.is_some() => {
            let (task, charge) = (task.clone(), *charge);
            let effects = vec![Effect::Release(task.clone())];
            Ok((State::Releasing { task, charge }, effects))
        }
        (
            State::Releasing { task, .. },
            Input::Released {
                release,
                not_before,
            },
        ) => Ok(uploading(task, release, not_before)),
        (
            State::Evaluating { task, charge },
            Input::Counted {
                receipt,
                not_before,
            },
        ) if charge.is_some() => Ok(submitting(task, receipt, not_before)),
        (State::Uploading { release, .. }, Input::Accepted | Input::Dropped) => {
            Ok((State::Idle, vec![Effect::Forget(*release)]))
        }
        (
            State::Fetching { task, .. }
            | State::Training { task, .. }
            | State::Releasing { task, .. }
            | State::Evaluating { task, .. },
            Input::Declined(refusal),
        ) => Ok((State::Idle, vec![Effect::Decline(task.clone(), refusal)])),
        (
            State::Uploading {
                task,
                release,
                not_before,
            },
            Input::Restarted,
        ) => Ok(uploading(task, *release, *not_before)),
        (
            State::Submitting {
                task,
                receipt,
                not_before,
            },
            Input::Restarted,
        ) => Ok(submitting(task, *receipt, *not_before)),
        (
            State::Fetching { task, charge }
            | State::Training { task, charge }
            | State::Releasing { task, charge }
            | State::Evaluating { task, charge },
            Input::Restarted,
        ) => Ok(fetching(task.clone(), *charge)),
        (
            State::Fetching { task, .. }
            | State::Training { task, .. }
            | State::Releasing { task, .. }
            | State::Evaluating { task, .. },
            Input::Copied,
        ) => Ok(fetching(task.clone(), None)),
        // What was released is sent as it is, by whoever sends it.
        (State::Idle | State::Uploading { .. } | State::Submitting { .. }, Input::Copied) => {
            Ok((state.clone(), Vec::new()))
        }
        (State::Idle, Input::Restarted)
        | (State::Submitting { .. }, Input::Submitted | Input::Dropped)
        | (
            State::Fetching { .. }
            | State::Training { .. }
            | State::Releasing { .. }
            | State::Evaluating { .. },
            Input::Dropped,
        ) => Ok((State::Idle, Vec::new())),
        _ => Err(unfit()),
    }
}

fn assigned(task: Task, before: Option<Before>) -> (State, Vec<Effect>) {
    match (task.kind, before) {
        (Kind::Train, Some(Before::Update(release))) => uploading(&task, release, None),
        (Kind::Evaluate, Some(Before::Counts(receipt))) => submitting(&task, receipt, None),
        _ => fetching(task, None),
    }
}

fn fetching(task: Task, charge: Option<Charge>) -> (State, Vec<Effect>) {
    let effects = vec![Effect::Fetch(task.clone())];
    (State::Fetching { task, charge }, effects)
}

fn uploading(task: &Task, release: Release, not_before: Option<Time>) -> (State, Vec<Effect>) {
    let effects = vec![Effect::Upload(task.clone(), release)];
    let state = State::Uploading {
        task: task.clone(),
        release,
        not_before,
    };
    (state, effects)
}

fn submitting(task: &Task, receipt: Digest, not_before: Option<Time>) -> (State, Vec<Effect>) {
    let effects = vec![Effect::Submit(task.clone(), receipt)];
    let state = State::Submitting {
        task: task.clone(),
        receipt,
        not_before,
    };
    (state, effects)
}

impl State {
    const fn task(&self) -> Option<&Task> {
        match self {
            Self::Idle => None,
            Self::Fetching { task, .. }
            | Self::Training { task, .. }
            | Self::Releasing { task, .. }
            | Self::Uploading { task, .. }
            | Self::Evaluating { task, .. }
            | Self::Submitting { task, .. } => Some(task),
        }
    }

    /// Every name that [`Self::name`] gives.
    pub const NAMES: [&'static str; 7] = [
        "idle",
        "fetching",
        "training",
        "releasing",
        "uploading",
        "evaluating",
        "submitting",
    ];

    /// The stable name, as it stands in the JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Fetching { .. } => "fetching",
            Self::Training { .. } => "training",
            Self::Releasing { .. } => "releasing",
            Self::Uploading { .. } => "uploading",
            Self::Evaluating { .. } => "evaluating",
            Self::Submitting { .. } => "submitting",
        }
    }
}

impl Input {
    const fn name(&self) -> &'static str {
        match self {
            Self::Assigned { .. } => "assigned",
            Self::Fetched => "fetched",
            Self::Charged(_) => "charged",
            Self::Trained => "trained",
            Self::Released { .. } => "released",
            Self::Accepted => "accepted",
            Self::Counted { .. } => "counted",
            Self::Submitted => "submitted",
            Self::Declined(_) => "declined",
            Self::Dropped => "dropped",
            Self::Restarted => "restarted",
            Self::Copied => "copied",
        }
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
