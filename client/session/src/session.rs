//! The state machine of one institution's assignments.

use fedner_shared::refusal::Refusal;
use fedner_shared::time::Time;
use serde::{Deserialize, Serialize};

use crate::task::{Kind, Release, Task};

/// Where the institution stands.
///
/// ```text
///                 Assigned                Fetched            Trained             Released
///        ┌──────┐─────────▶┌──────────┐──────────▶┌──────────┐──────▶┌───────────┐──────▶┌───────────┐
///        │ Idle │          │ Fetching │           │ Training │       │ Releasing │       │ Uploading │
///        └──────┘          └──────────┘           └──────────┘       └───────────┘       └───────────┘
///            ▲                   │ Fetched  ┌────────────┐                                     │
///            │                   └─────────▶│ Evaluating │                                     │
///            │                              └────────────┘                                     │
///            └─── Submitted ──────────────────────┘   ◀── Accepted ────────────────────────────┘
/// ```
/// `Dropped` leads to `Idle` from everywhere, `Declined` from everywhere but `Uploading`: a
/// released update is paid for, and can be unwanted but not declined any more.
///
/// `Restarted` begins the work again from `Fetching`, with fresh noise and a fresh charge, unless
/// the update was released: then the same bytes are uploaded again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Waits for the coordinator to assign something.
    #[default]
    Idle,
    /// Waits for the version's files to lie here.
    Fetching { task: Task },
    /// Waits for the trainer.
    Training { task: Task },
    /// Waits for the egress gate: clip, noise, encode, debit, sign.
    Releasing { task: Task },
    /// Waits for the coordinator to have all bytes.
    Uploading { task: Task, release: Release },
    /// Waits for the counts to be made and taken.
    Evaluating { task: Task },
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
pub enum Event {
    /// The coordinator asks for something. `released` is what was released for this very attempt
    /// before, where there is such a thing: it is sent again, never made again.
    Assigned {
        task: Task,
        released: Option<Release>,
    },
    /// The version's files are here.
    Fetched,
    /// Training came to its end.
    Trained,
    /// The update is encoded, paid for, signed and durable.
    Released(Release),
    /// The coordinator has the update.
    Accepted,
    /// The coordinator has the evaluation counts.
    Submitted,
    /// The institution will not do it.
    Declined(Refusal),
    /// The coordinator does not want it any more.
    Dropped,
    /// The program was started again.
    Restarted,
}

/// What the owner does once the new session is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Fetch(Task),
    Train(Task),
    /// Pass the trained weights through the egress gate.
    Release(Task),
    Upload(Task, Release),
    /// Evaluate and submit the counts.
    Evaluate(Task),
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

/// The event does not fit the state; nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("{offered} came while busy with {current}")]
    Busy {
        current: Box<Task>,
        offered: Box<Task>,
    },
    #[error("`{event}` does not fit the state `{state}`")]
    Unfit {
        state: &'static str,
        event: &'static str,
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

    /// The state after `event` at the instant `now`, and what follows.
    pub fn step(&self, now: Time, event: Event) -> Result<Transition, Rejection> {
        let (state, effects) = next(&self.state, event)?;
        Ok(Transition {
            session: Self {
                state,
                since: Some(now),
            },
            effects,
        })
    }
}

fn next(state: &State, event: Event) -> Result<(State, Vec<Effect>), Rejection> {
    let event_name = event.name();
    let task = state.task().cloned();
    let unfit = || Rejection::Unfit {
        state: state.name(),
        event: event_name,
    };
    match (state, event) {
        (State::Idle, Event::Assigned { task, released }) => Ok(begin(task, released)),
        (_, Event::Assigned { task: offered, .. }) => {
            let current = Box::new(task.ok_or_else(unfit)?);
            let offered = Box::new(offered);
            Err(Rejection::Busy { current, offered })
        }
        (State::Fetching { task }, Event::Fetched) => Ok(match task.kind {
            Kind::Train => (
                State::Training { task: task.clone() },
                vec![Effect::Train(task.clone())],
            ),
            Kind::Evaluate => (
                State::Evaluating { task: task.clone() },
                vec![Effect::Evaluate(task.clone())],
            ),
        }),
        (State::Training { task }, Event::Trained) => Ok((
            State::Releasing { task: task.clone() },
            vec![Effect::Release(task.clone())],
        )),
        (State::Releasing { task }, Event::Released(release)) => Ok(uploading(task, release)),
        (State::Uploading { release, .. }, Event::Accepted | Event::Dropped) => {
            Ok((State::Idle, vec![Effect::Forget(*release)]))
        }
        (
            State::Fetching { task }
            | State::Training { task }
            | State::Releasing { task }
            | State::Evaluating { task },
            Event::Declined(refusal),
        ) => Ok((State::Idle, vec![Effect::Decline(task.clone(), refusal)])),
        (State::Uploading { task, release }, Event::Restarted) => Ok(uploading(task, *release)),
        (
            State::Fetching { task }
            | State::Training { task }
            | State::Releasing { task }
            | State::Evaluating { task },
            Event::Restarted,
        ) => Ok(begin(task.clone(), None)),
        (State::Idle, Event::Restarted)
        | (State::Evaluating { .. }, Event::Submitted)
        | (
            State::Fetching { .. }
            | State::Training { .. }
            | State::Releasing { .. }
            | State::Evaluating { .. },
            Event::Dropped,
        ) => Ok((State::Idle, Vec::new())),
        _ => Err(unfit()),
    }
}

fn begin(task: Task, released: Option<Release>) -> (State, Vec<Effect>) {
    match released {
        Some(release) if task.kind == Kind::Train => uploading(&task, release),
        _ => (
            State::Fetching { task: task.clone() },
            vec![Effect::Fetch(task)],
        ),
    }
}

fn uploading(task: &Task, release: Release) -> (State, Vec<Effect>) {
    let state = State::Uploading {
        task: task.clone(),
        release,
    };
    (state, vec![Effect::Upload(task.clone(), release)])
}

impl State {
    const fn task(&self) -> Option<&Task> {
        match self {
            Self::Idle => None,
            Self::Fetching { task }
            | Self::Training { task }
            | Self::Releasing { task }
            | Self::Uploading { task, .. }
            | Self::Evaluating { task } => Some(task),
        }
    }

    /// The stable name, as it stands in the JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Fetching { .. } => "fetching",
            Self::Training { .. } => "training",
            Self::Releasing { .. } => "releasing",
            Self::Uploading { .. } => "uploading",
            Self::Evaluating { .. } => "evaluating",
        }
    }
}

impl Event {
    const fn name(&self) -> &'static str {
        match self {
            Self::Assigned { .. } => "assigned",
            Self::Fetched => "fetched",
            Self::Trained => "trained",
            Self::Released(_) => "released",
            Self::Accepted => "accepted",
            Self::Submitted => "submitted",
            Self::Declined(_) => "declined",
            Self::Dropped => "dropped",
            Self::Restarted => "restarted",
        }
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
