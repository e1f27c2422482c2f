//! What can be told of an update beside the others of its round.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::InstitutionId;

/// An update seen from outside: how long it is and where it points.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// L2 norm, in the units of the weights.
    pub norm: f64,
    /// Cosine to the mean of the other members' updates, in which none counts as longer than the
    /// round's median. Absent where either has no direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_others: Option<f64>,
    /// Cosine to the last step that the run published. Absent in its first round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_last_step: Option<f64>,
}

/// The figures of one institution's update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpdateFigures {
    pub institution: InstitutionId,
    #[serde(flatten)]
    pub figures: Figures,
}

/// Why a member is set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Its norm is too many times the round's median.
    MaxNormRatio,
    /// It points too far away from the others.
    MinCosine,
    /// The operator said so.
    Operator,
}

/// Rounds in which a member takes no part, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Aside {
    pub cause: Cause,
    /// The figure that the rule found; absent where the operator decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<f64>,
    /// The limit that it is beyond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// The first round for which it holds.
    pub from: u32,
    /// The last one.
    pub until: u32,
}

impl Aside {
    pub fn holds_in(&self, round: u32) -> bool {
        (self.from..=self.until).contains(&round)
    }
}

impl fmt::Display for Aside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (found, limit) = (
            self.found.unwrap_or_default(),
            self.limit.unwrap_or_default(),
        );
        match self.cause {
            Cause::MaxNormRatio => write!(
                f,
                "its norm is {found:.3} times the median: expected at most {limit}"
            )?,
            Cause::MinCosine => write!(
                f,
                "its cosine to the others is {found:.3}: expected at least {limit}"
            )?,
            Cause::Operator => f.write_str("the operator excluded it")?,
        }
        if self.from == self.until {
            write!(f, " (round {})", self.from)
        } else {
            write!(f, " (rounds {} to {})", self.from, self.until)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_back_as_they_were_written() {
        let written = UpdateFigures {
            institution: "anna".parse().expect("name"),
            figures: Figures {
                norm: 0.1 + 0.2,
                to_others: Some(-1.0 / 3.0),
                to_last_step: None,
            },
        };
        let json = serde_json::to_string(&written).expect("json");
        assert!(
            !json.contains("figures") && !json.contains("last"),
            "{json}"
        );
        let read: UpdateFigures = serde_json::from_str(&json).expect("figures");
        assert_eq!(read, written);
    }

    #[test]
    fn an_aside_says_why_and_for_which_rounds() {
        let mut aside = Aside {
            cause: Cause::MaxNormRatio,
            found: Some(10.04),
            limit: Some(3.0),
            from: 2,
            until: 4,
        };
        assert_eq!(
            aside.to_string(),
            "its norm is 10.040 times the median: expected at most 3 (rounds 2 to 4)"
        );
        assert_eq!(
            [1, 2, 4, 5].map(|round| aside.holds_in(round)),
            [false, true, true, false]
        );
        (aside.cause, aside.until) = (Cause::Operator, 2);
        assert_eq!(aside.to_string(), "the operator excluded it (round 2)");
    }
}
