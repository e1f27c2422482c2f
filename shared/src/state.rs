//! The states that operators and metrics are shown, each with the word for it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Declares states and their words.
macro_rules! states {
    ($(#[$of:meta])* $name:ident { $($(#[$doc:meta])* $state:ident = $word:literal),+ $(,)? }) => {
        $(#[$of])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $word)] $state),+
        }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$state),+];

            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$state => $word),+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let found = Self::ALL.iter().find(|state| state.as_str() == text);
                let expected = [$($word),+].join(", ");
                found.copied().ok_or_else(|| format!("`{}`: expected one of {expected}", crate::text::brief(text)))
            }
        }
    };
}

states! {
    /// Where a run stands.
    RunState {
        Created = "created",
        /// It waits for a time of its plan's schedule.
        Scheduled = "scheduled",
        Recruiting = "recruiting",
        Collecting = "collecting",
        Aggregating = "aggregating",
        Evaluating = "evaluating",
        Paused = "paused",
        Completed = "completed",
        Failed = "failed",
        Cancelled = "cancelled",
    }
}

impl RunState {
    /// Nothing will happen any more.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

states! {
    /// What a member does in a run.
    MemberState {
        /// It has not agreed yet.
        Invited = "invited",
        /// It has agreed, and has nothing to do.
        Ready = "ready",
        Assigned = "assigned",
        Working = "working",
        /// By its own measure; it is no longer waited for.
        Late = "late",
        Answered = "answered",
        Declined = "declined",
        /// It is asked again later.
        PutOff = "put_off",
        Away = "away",
        /// The operator, or the plan's guard, has set it aside.
        Aside = "aside",
        Left = "left",
    }
}

states! {
    /// Whether an institution may take part.
    InstitutionState {
        Active = "active",
        Suspended = "suspended",
        Revoked = "revoked",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_records() {
        for state in MemberState::ALL {
            assert_eq!(state.as_str().parse(), Ok(*state));
            let json = serde_json::to_string(state).expect("json");
            assert_eq!(json, format!("\"{state}\""));
        }
        assert!("under way".parse::<RunState>().is_err());
        assert!(RunState::ALL.iter().filter(|state| state.is_end()).count() == 3);
    }
}
