//! What institutions are asked to do, and what they contribute.

use fedner_shared::digest::Digest;
use fedner_shared::secure::SecureStep;
use fedner_shared::version::Participant;
use serde::{Deserialize, Serialize};

/// An accepted update: what the version made of it will name as one of its participants.
pub type Contribution = Participant;

/// What an institution is to do in a run now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub task: TaskKind,
    pub round: u32,
    pub attempt: u32,
    /// To train on, or to evaluate.
    pub version: Digest,
}

/// What an assignment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    Train,
    Evaluate,
    /// A step of a secure aggregation.
    Agree(SecureStep),
}
