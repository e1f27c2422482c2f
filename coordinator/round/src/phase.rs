//! Where a run stands.

use fedner_shared::secure::SecureStep;
use fedner_shared::state::RunState;
use fedner_shared::time::Time;
use serde::{Deserialize, Serialize};

/// Each phase says what it waits for; the ends differ in why there is nothing more to wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Waits for the operator.
    Created,
    /// Waits for a time of the plan's schedule.
    Scheduled { until: Time },
    /// Waits for the cohort to be there, at the longest until `until`.
    Recruiting { until: Time },
    /// Waits for updates, at the longest until `until`.
    Collecting { until: Time },
    /// Members of a secure aggregation take this step.
    Agreeing { step: SecureStep, until: Time },
    /// Waits for the coordinator's own arithmetic.
    Aggregating,
    /// Waits for evaluations, at the longest until `until`.
    Evaluating { until: Time },
    /// Done: every round has published.
    Completed,
    /// Given up, for a reason.
    Failed { reason: String },
    /// Ended by the operator.
    Cancelled,
}

impl Phase {
    pub fn state(&self) -> RunState {
        match self {
            Self::Created => RunState::Created,
            Self::Scheduled { .. } => RunState::Scheduled,
            Self::Recruiting { .. } => RunState::Recruiting,
            Self::Collecting { .. } | Self::Agreeing { .. } => RunState::Collecting,
            Self::Aggregating => RunState::Aggregating,
            Self::Evaluating { .. } => RunState::Evaluating,
            Self::Completed => RunState::Completed,
            Self::Failed { .. } => RunState::Failed,
            Self::Cancelled => RunState::Cancelled,
        }
    }

    /// Nothing will happen any more.
    pub fn is_end(&self) -> bool {
        self.state().is_end()
    }

    /// The instant up to which the phase waits.
    pub fn until(&self) -> Option<Time> {
        match self {
            Self::Scheduled { until }
            | Self::Recruiting { until }
            | Self::Collecting { until }
            | Self::Agreeing { until, .. }
            | Self::Evaluating { until } => Some(*until),
            Self::Created
            | Self::Aggregating
            | Self::Completed
            | Self::Failed { .. }
            | Self::Cancelled => None,
        }
    }

    /// The same, to be moved by the time that passed unused. A time of a schedule stays what it is.
    pub(crate) fn until_mut(&mut self) -> Option<&mut Time> {
        match self {
            Self::Recruiting { until }
            | Self::Collecting { until }
            | Self::Agreeing { until, .. }
            | Self::Evaluating { until } => Some(until),
            Self::Created
            | Self::Scheduled { .. }
            | Self::Aggregating
            | Self::Completed
            | Self::Failed { .. }
            | Self::Cancelled => None,
        }
    }
}
