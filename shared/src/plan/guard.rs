//! What sets a member aside.

use serde::{Deserialize, Serialize};

use super::Cohort;
use super::error::{Error, between, range, value};

/// Limits on what an update looks like beside the others of its round. They count in rounds of at
/// least [`LEAST_UPDATES`] updates: of two, none is the odd one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// Largest norm, over the median of the round's norms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_norm_ratio: Option<f64>,
    /// Least cosine to the mean of the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_cosine: Option<f64>,
    /// Updates of a member that were measured, the present one included, before it is judged.
    #[serde(default = "one")]
    pub min_rounds: u32,
    /// For how many rounds a member is set aside, the present one included.
    #[serde(default = "one")]
    pub rounds: u32,
    #[serde(default)]
    pub by: DecidedBy,
}

/// The least number of updates that are compared.
pub const LEAST_UPDATES: usize = 3;

const fn one() -> u32 {
    1
}

/// Who sets a member aside that is beyond a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecidedBy {
    /// The rule, at once: the update is not in its own round's result.
    #[default]
    Rule,
    /// The operator, who is told.
    Operator,
}

impl Guard {
    pub(super) fn check(&self, cohort: &Cohort) -> Result<(), Error> {
        if self.max_norm_ratio.is_none() && self.min_cosine.is_none() {
            let expected = "max_norm_ratio or min_cosine, or no table [guard]";
            return Err(value("guard", "without a limit", expected));
        }
        let ratio = self.max_norm_ratio.unwrap_or(1.0);
        range("guard.max_norm_ratio", ratio, 1.0, 1e6, true)?;
        let cosine = self.min_cosine.unwrap_or_default();
        range("guard.min_cosine", cosine, -1.0, 1.0, true)?;
        between("guard.min_rounds", self.min_rounds, 1, 10_000)?;
        between("guard.rounds", self.rounds, 1, 10_000)?;
        let (quorum, all) = (cohort.quorum, cohort.institutions.len());
        if self.by == DecidedBy::Rule && (quorum >= all || all < LEAST_UPDATES) {
            let found = format!("\"rule\" with a quorum of {quorum} of {all}");
            let expected = "\"operator\", or at least three institutions and a quorum that is \
                            reached without one of them";
            return Err(value("guard.by", found, expected));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use crate::plan::tests::EXAMPLE;

    fn with(keys: &str) -> Result<Plan, Error> {
        Plan::parse(&format!("{EXAMPLE}\n[guard]\n{keys}"))
    }

    #[test]
    fn a_guard_has_a_limit_and_its_keys_have_ranges() {
        let guard = with("max_norm_ratio = 3.0").expect("plan").guard;
        let guard = guard.expect("guard");
        let found = (guard.min_rounds, guard.rounds, guard.by);
        assert_eq!(found, (1, 1, DecidedBy::Rule));
        for (keys, key) in [
            ("rounds = 2", "guard"),
            ("max_norm_ratio = 0.5", "guard.max_norm_ratio"),
            ("min_cosine = -1.5", "guard.min_cosine"),
            ("min_cosine = nan", "guard.min_cosine"),
            ("min_cosine = 0.0\nmin_rounds = 0", "guard.min_rounds"),
            ("min_cosine = 0.0\nrounds = 0", "guard.rounds"),
        ] {
            let error = with(keys).expect_err(keys);
            assert!(
                matches!(error, Error::Value { key: k, .. } if k == key),
                "{keys}: {error}"
            );
        }
        assert!(matches!(with("nonsense = 1"), Err(Error::Syntax(_))));
        // A plan without one has the digest that it had before there was one.
        let json = serde_json::to_string(&Plan::parse(EXAMPLE).expect("plan")).expect("json");
        assert!(!json.contains("guard"), "{json}");
    }

    #[test]
    fn a_rule_that_would_cost_the_quorum_is_refused() {
        let text = EXAMPLE.replace("quorum = 2", "quorum = 3");
        let with =
            |by: &str| Plan::parse(&format!("{text}\n[guard]\nmin_cosine = 0.0\nby = \"{by}\""));
        let error = with("rule").expect_err("no one can be spared");
        assert!(error.to_string().contains("guard.by"), "{error}");
        with("operator").expect("the operator may look");
    }
}
