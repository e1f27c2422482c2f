//! What a run's gate has decided.

use fedner_shared::digest::Digest;
use fedner_shared::event::Judgement;
use serde::{Deserialize, Serialize};

/// What the gate of a run has decided so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// The last version that passed; before the first, what the run began with.
    pub champion: Digest,
    /// The round that published it; 0 for what the run began with.
    pub round: u32,
    pub last: Option<Verdict>,
}

/// What the gate said of the newest version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub round: u32,
    pub version: Digest,
    pub judgement: Judgement,
    /// The rule that decided, with its figures.
    pub reason: String,
}

impl Standing {
    pub(crate) fn new(base: Digest) -> Self {
        Self {
            champion: base,
            round: 0,
            last: None,
        }
    }

    pub(crate) fn words(&self) -> Option<String> {
        let Verdict {
            round,
            judgement,
            reason,
            ..
        } = self.last.as_ref()?;
        let said = match judgement {
            Judgement::Passed => "passed the gate",
            Judgement::Regressed => "failed at the gate",
            Judgement::Unjudged => "could not be judged",
        };
        let champion = match self.round {
            0 => "no version has passed yet".to_owned(),
            round => format!("the champion is that of round {round}"),
        };
        Some(format!(
            "the version of round {round} {said}: {reason}; {champion}"
        ))
    }
}
