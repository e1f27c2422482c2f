//! Which versions a plan publishes.

use serde::{Deserialize, Serialize};

use super::Error;
use super::error::{between, range};
use crate::event::Judgement;

/// What a version must show on held-out text before the alias `PLAN.champion` moves to it. Without a
/// gate every version goes on, and no alias moves by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// The least gain of F1 over the last version that passed; below 0, the largest loss.
    #[serde(default)]
    pub min_gain: f64,
    /// The largest loss of F1 on any one type; left out, types are not looked at by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_type_loss: Option<f64>,
    /// The least number of institutions that evaluated both versions. A type that fewer of them have
    /// is not looked at by itself.
    #[serde(default = "default_min_institutions")]
    pub min_institutions: usize,
    #[serde(default)]
    pub score: Score,
    #[serde(default)]
    pub on_regression: OnRegression,
}

/// From three on, one institution alone does not decide a median.
const fn default_min_institutions() -> usize {
    3
}

/// How the counts of several institutions become one figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Score {
    /// Each institution's own gain, and the median of these: one of three or more cannot take it out
    /// of the range of the others, whatever it counts.
    #[default]
    Median,
    /// The gain of all counts added up, in which an institution weighs by how much it counts.
    Pooled,
}

/// What the next round starts from after a version that lost too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnRegression {
    /// From that version all the same.
    #[default]
    Keep,
    /// From the last version that passed.
    RollBack,
}

/// The longest name of a plan with a gate, so that `NAME.challenger` is an alias.
const LONGEST_NAME: usize = 53;

impl Gate {
    /// Whether training goes on from the last version that passed, after this was said of one.
    pub fn rolls_back(&self, judgement: Judgement) -> bool {
        judgement == Judgement::Regressed && self.on_regression == OnRegression::RollBack
    }

    pub(super) fn check(&self, name: &str, institutions: usize) -> Result<(), Error> {
        range("gate.min_gain", self.min_gain, -1.0, 1.0, true)?;
        if self.min_gain >= 1.0 {
            let expected = "below 1: no version can gain more than F1 has room for";
            return Err(super::error::value(
                "gate.min_gain",
                self.min_gain,
                expected,
            ));
        }
        let loss = self.max_type_loss.unwrap_or_default();
        range("gate.max_type_loss", loss, 0.0, 1.0, true)?;
        between(
            "gate.min_institutions",
            self.min_institutions,
            1,
            institutions,
        )?;
        if name.len() > LONGEST_NAME {
            let expected = format!("at most {LONGEST_NAME} characters with a table [gate]");
            return Err(super::error::value("name", name, expected));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    fn parse(gate: &str) -> Result<Plan, Error> {
        named("p", gate)
    }

    fn named(name: &str, gate: &str) -> Result<Plan, Error> {
        Plan::parse(&format!(
            "name = \"{name}\"\nbase = \"b@1\"\nlabels = [\"X\"]\nmethod = \"head\"\nrounds = 1\n{gate}\n\
             [cohort]\ninstitutions = [\"a\", \"b\", \"c\"]\nquorum = 2\n[privacy]\nunit = \"none\"\n"
        ))
    }

    #[test]
    fn a_gate_has_defaults_and_no_gate_leaves_no_trace() {
        let gate = parse("[gate]").expect("plan").gate.expect("gate");
        assert_eq!((gate.min_gain, gate.max_type_loss), (0.0, None));
        assert_eq!(
            (gate.score, gate.on_regression),
            (Score::Median, OnRegression::Keep)
        );
        assert_eq!(gate.min_institutions, 3);
        let without = parse("").expect("plan");
        let json = serde_json::to_string(&without).expect("json");
        assert!(without.gate.is_none() && !json.contains("gate"), "{json}");
    }

    #[test]
    fn wrong_values_of_a_gate_are_errors() {
        let wrong = [
            "min_gain = 1.5",
            "min_gain = 1.0",
            "min_gain = nan",
            "max_type_loss = -0.1",
            "min_institutions = 0",
            "min_institutions = 4",
            "score = \"mean\"",
            "on_regression = \"stop\"",
            "odd = 1",
        ];
        for line in wrong {
            assert!(parse(&format!("[gate]\n{line}")).is_err(), "{line}");
        }
        assert!(parse("[gate]\nmin_gain = -0.02\non_regression = \"roll-back\"").is_ok());
        let long = "n".repeat(LONGEST_NAME + 1);
        assert!(named(&long, "[gate]").is_err() && named(&long, "").is_ok());
    }
}
