//! What an institution was asked to do, and what it released for it.

use std::fmt;

use fedner_shared::digest::Digest;
use fedner_shared::id::RunId;
use fedner_shared::time::Time;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Train,
    Evaluate,
}

/// One assignment. It holds what is needed to begin again after a crash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub kind: Kind,
    pub run: RunId,
    pub plan: Digest,
    pub round: u32,
    pub attempt: u32,
    /// The version to train on or to evaluate.
    pub version: Digest,
    /// The version's record, as canonical JSON.
    pub record: String,
    /// The manifest of trainable tensors.
    pub manifest: Digest,
}

/// An update that is encoded, paid for and signed: from here on only these bytes may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    pub blob: Digest,
    pub bytes: u64,
    pub receipt: Digest,
}

/// What an attempt costs, durable before the first private byte is read. Whatever becomes of the
/// attempt, it stays spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// The debit in the ledger; absent for what no ε covers.
    pub entry: Option<Digest>,
    /// Since when the attempt costs so much. Times of release are counted from here.
    pub at: Time,
    /// How often private text was begun on.
    pub begun: u32,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Train => "training",
            Self::Evaluate => "evaluation",
        })
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            run,
            round,
            attempt,
            ..
        } = self;
        write!(f, "{kind} of run {run}, round {round}, attempt {attempt}")
    }
}
