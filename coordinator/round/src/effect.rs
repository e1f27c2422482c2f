//! What a step asks the world to do, and what it tells those who look on.

use fedner_shared::digest::Digest;
use fedner_shared::event::Event;
use serde::{Deserialize, Serialize};

use crate::run::Run;
use crate::task::Contribution;

/// The outcome of a step. The caller makes it durable, then takes `run` as the new state, then
/// carries out the effects.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    pub run: Run,
    pub events: Vec<Event>,
    pub effects: Vec<Effect>,
    /// Somebody is asked again, of which no event tells.
    pub called: bool,
}

impl Transition {
    /// Whether anything happened that must survive a crash. A mere sign of life need not.
    pub fn is_durable(&self) -> bool {
        !self.events.is_empty() || !self.effects.is_empty()
    }
}

/// Add the updates of one closed round and publish the sum. Doing it again does nothing new:
/// `(round, sequence)` names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    pub round: u32,
    /// Grows by one with each effect of the run.
    pub sequence: u64,
    pub attempt: u32,
    /// The version the updates were trained on.
    pub base: Digest,
    /// In the order of the institutions' names.
    pub contributions: Vec<Contribution>,
}
