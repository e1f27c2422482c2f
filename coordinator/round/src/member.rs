//! One institution's part in a run.

use std::time::Duration;

use fedner_shared::digest::Digest;
use fedner_shared::refusal::Code;
use fedner_shared::score::Scores;
use fedner_shared::time::Time;
use serde::{Deserialize, Serialize};

use crate::effect::Contribution;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Member {
    /// The consent in force, or the last one given by a member that left.
    pub consent: Option<Granted>,
    /// Why the member takes no further part; a new consent brings it back.
    pub left: Option<Code>,
    pub last_seen: Option<Time>,
    /// Announced as away; cleared when it is heard of again.
    pub away: bool,
    /// What it has to do in the present phase, and how far it is.
    pub work: Work,
    /// ε of the run at this institution, by its newest receipt.
    pub epsilon: Option<f64>,
}

/// What a consent fixes for the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    pub examples: u32,
    /// The digest of the signed statement.
    pub statement: Digest,
    pub expires: Time,
}

/// ```text
/// None ──▶ Assigned ──▶ Working ──▶ Uploaded | Evaluated | Declined ──▶ (next phase) None
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "work", rename_all = "snake_case")]
pub enum Work {
    /// Takes no part in this phase.
    #[default]
    None,
    /// Has something to do that it has not fetched yet.
    Assigned,
    /// Has fetched its assignment.
    Working,
    Uploaded {
        contribution: Contribution,
    },
    Evaluated {
        scores: Scores,
    },
    Declined {
        code: Code,
    },
}

impl Work {
    /// Something is still awaited.
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Assigned | Self::Working)
    }
}

impl Member {
    /// Has agreed, and has not left since.
    pub fn is_ready(&self, now: Time) -> bool {
        self.left.is_none()
            && self
                .consent
                .as_ref()
                .is_some_and(|granted| granted.expires > now)
    }

    /// Has been heard of within `away_after`.
    pub fn is_present(&self, now: Time, away_after: Duration) -> bool {
        self.last_seen.is_some_and(|seen| now < seen + away_after)
    }

    /// The word for monitoring.
    pub fn state(&self) -> &'static str {
        match (&self.left, &self.consent, &self.work) {
            (Some(_), _, _) => "left",
            (None, None, _) => "invited",
            (None, Some(_), Work::None | Work::Assigned | Work::Working) if self.away => "away",
            (None, Some(_), Work::Assigned) => "assigned",
            (None, Some(_), Work::Working) => "working",
            (None, Some(_), Work::Uploaded { .. } | Work::Evaluated { .. }) => "answered",
            (None, Some(_), Work::Declined { .. }) => "declined",
            (None, Some(_), Work::None) => "ready",
        }
    }
}
