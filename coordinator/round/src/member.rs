//! One institution's part in a run.

use std::time::Duration;

use fedner_shared::digest::Digest;
use fedner_shared::figures::{Aside, Figures};
use fedner_shared::refusal::Code;
use fedner_shared::score::Scores;
use fedner_shared::state::MemberState;
use fedner_shared::statement::Annotation;
use fedner_shared::time::Time;
use serde::{Deserialize, Serialize};

use crate::task::Contribution;

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
    /// When it fetched the training it works on; unknown after the coordinator was away itself.
    #[serde(default)]
    pub since: Option<Time>,
    /// It has worked for longer than it ever did; cleared with the next assignment.
    #[serde(default)]
    pub late: bool,
    /// How long its last trainings took, in milliseconds, the newest last.
    #[serde(default)]
    pub trainings: Vec<u64>,
    /// Its counts of the newest version that was evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<Scores>,
    /// Its counts of the last version that the gate has let pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub champion: Option<Scores>,
    /// Of its newest update that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures: Option<Figures>,
    /// How many of its updates were measured.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub measured: u32,
    /// Before which it takes nothing on, as it announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub later: Option<Later>,
    /// Why it did not do what it was asked last; cleared by its next answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Code>,
    /// How often it put off the present assignment.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub put_off: u32,
    /// How often it fetched the present assignment.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub begun: u32,
    /// Rounds in which it takes no part: the present one and later ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asides: Vec<Aside>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// From when on an institution takes something on, and why not before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Later {
    pub from: Time,
    /// `outside-hours` or `institution-paused`.
    pub code: Code,
}

/// Trainings that are remembered of each institution.
const REMEMBERED: usize = 5;
/// Trainings by which an institution's pace is known.
const ENOUGH_TO_KNOW: usize = 2;
/// How often an assignment may be fetched: a program that is killed begins again.
const MOST_BEGUN: u32 = 4;
/// What may be added to a training that took no time worth mentioning.
const SLACK: Duration = Duration::from_secs(10);

/// What a consent fixes for the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    pub examples: u32,
    /// The declared number of held-out sentences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<u32>,
    /// Which of the plan's types its text annotates; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotation: Option<Annotation>,
    /// The digest of the signed statement.
    pub statement: Digest,
    pub expires: Time,
}

/// ```text
/// None ──▶ Assigned ──▶ Working ──▶ Uploaded | Evaluated | Declined ──▶ (next phase) None
///             ▲  ▼         ▼
///            PutOff ◀──────┘
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
    /// Cannot do it now, and is asked again.
    PutOff {
        code: Code,
        again: Time,
    },
}

impl Work {
    /// Something is still awaited, and it may be at it.
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Assigned | Self::Working)
    }

    pub(crate) fn is_evaluated(&self) -> bool {
        matches!(self, Self::Evaluated { .. })
    }

    /// No answer has come, and one still may.
    pub fn is_open(&self) -> bool {
        self.is_pending() || matches!(self, Self::PutOff { .. })
    }

    /// It waits for a time that the institution announced.
    pub fn is_later(&self) -> bool {
        let code = match self {
            Self::PutOff { code, .. } => *code,
            Self::None
            | Self::Assigned
            | Self::Working
            | Self::Uploaded { .. }
            | Self::Evaluated { .. }
            | Self::Declined { .. } => return false,
        };
        matches!(code, Code::OutsideHours | Code::InstitutionPaused)
    }

    /// When it is asked again.
    pub fn again(&self) -> Option<Time> {
        match self {
            Self::PutOff { again, .. } => Some(*again),
            Self::None
            | Self::Assigned
            | Self::Working
            | Self::Uploaded { .. }
            | Self::Evaluated { .. }
            | Self::Declined { .. } => None,
        }
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

    /// Why it takes no part in `round`; nothing where it does.
    pub fn aside(&self, round: u32) -> Option<&Aside> {
        self.asides.iter().find(|aside| aside.holds_in(round))
    }

    /// The longest of the trainings remembered, once there are enough of them.
    pub fn longest_training(&self) -> Option<Duration> {
        if self.trainings.len() < ENOUGH_TO_KNOW {
            return None;
        }
        let longest = self.trainings.iter().max()?;
        Some(Duration::from_millis(*longest))
    }

    /// The instant after which it counts as late: twice as long as it ever took, and some slack.
    pub fn late_from(&self) -> Option<Time> {
        Some(self.since? + 2 * self.longest_training()? + SLACK)
    }

    /// Whether it has begun so often without coming to an end that nobody need wait for it.
    pub(crate) fn is_restless(&self) -> bool {
        self.begun > MOST_BEGUN
    }

    /// Whether an announcement changes anything.
    pub fn is_news(&self, later: Option<Later>) -> bool {
        self.later != later || (self.work.is_later() && later.is_none())
    }

    /// What it waits for that has work and announced to take none on before.
    pub(crate) fn put_off_until(&self, now: Time) -> Option<Work> {
        let Later { from: again, code } = self.later.filter(|later| later.from > now)?;
        Some(Work::PutOff { code, again })
    }

    pub(crate) fn remember(&mut self, training: Duration) {
        self.trainings.push(training.as_millis() as u64);
        let surplus = self.trainings.len().saturating_sub(REMEMBERED);
        self.trainings.drain(..surplus);
    }

    /// Is waited for though the quorum is in.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.work.is_pending() && self.left.is_none() && !self.away && !self.late
    }

    /// Has been heard of within `away_after`.
    pub fn is_present(&self, now: Time, away_after: Duration) -> bool {
        self.last_seen.is_some_and(|seen| now < seen + away_after)
    }

    /// Has agreed and is there: can be given something to do in `round`.
    pub fn is_available(&self, now: Time, away_after: Duration, round: u32) -> bool {
        self.is_ready(now) && self.is_present(now, away_after) && self.aside(round).is_none()
    }

    /// What monitoring shows, in `round`.
    pub fn state(&self, round: u32) -> MemberState {
        match (&self.left, &self.consent, &self.work) {
            (Some(_), _, _) => MemberState::Left,
            (None, None, _) => MemberState::Invited,
            (None, Some(_), _) if self.aside(round).is_some() => MemberState::Aside,
            (None, Some(_), Work::None | Work::Assigned | Work::Working) if self.away => {
                MemberState::Away
            }
            (None, Some(_), Work::Working) if self.late => MemberState::Late,
            (None, Some(_), Work::Assigned) => MemberState::Assigned,
            (None, Some(_), Work::Working) => MemberState::Working,
            (None, Some(_), Work::Uploaded { .. } | Work::Evaluated { .. }) => {
                MemberState::Answered
            }
            (None, Some(_), Work::Declined { .. }) => MemberState::Declined,
            (None, Some(_), Work::PutOff { .. }) => MemberState::PutOff,
            (None, Some(_), Work::None) => MemberState::Ready,
        }
    }
}
