//! Secure aggregation: the coordinator sees the sum of the updates, and no single one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::{Error, between, value};
use super::ranges::LEAST_SHARE;
use super::{Plan, Strategy, Unit, Weighting};

/// The table `[secure_aggregation]`: with it, updates are masked so that the coordinator sees their sum alone
/// (Bonawitz et al. 2017).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecureAggregation {
    /// How many institutions may side with the coordinator, and still learn no other's update.
    #[serde(default)]
    pub colluding: usize,
    /// How long keys, shares and unmasking are waited for, each.
    #[serde(default = "default_step_timeout_s")]
    pub step_timeout_s: u64,
}

const fn default_step_timeout_s() -> u64 {
    60
}

impl SecureAggregation {
    pub fn step_timeout(&self) -> Duration {
        Duration::from_secs(self.step_timeout_s)
    }
}

/// Of two, each would know the other's update from the sum.
pub const SMALLEST_GROUP: usize = 3;
/// Some hundred: work and messages grow with the square of their number.
pub const LARGEST_GROUP: usize = 100;
/// Masked sums are below two to this in magnitude.
const SUM_BITS: u32 = 55;

/// t, the least number above two thirds of `members`. A coordinator that lies about who was lost needs two sets of
/// t answers, one with each kind of share. Any two sets of t members have more than a third in common, and honest
/// ones among those answer once.
pub const fn threshold(members: usize) -> usize {
    2 * members / 3 + 1
}

/// How many of `members` may collude: with c of them answering twice, two sets of t answers need 2t − c members.
const fn most_colluding(members: usize) -> usize {
    (2 * threshold(members)).saturating_sub(members + 1)
}

impl Plan {
    /// The largest magnitude of a weighted sum of all updates.
    pub fn masked_sum_bound(&self) -> u128 {
        let weights = self.cohort.institutions.iter();
        let weights: u128 = weights.map(|name| u128::from(self.weight(name, 1))).sum();
        weights * u128::from(self.privacy.value_bound().unsigned_abs())
    }

    /// Who sees an institution's updates, and what that rests on, in plain words.
    pub fn who_sees_updates(&self) -> String {
        let Some(secure) = &self.secure_aggregation else {
            return "the coordinator sees each update, and can check its range, norm and direction; against it \
                    there is the noise alone"
                .to_owned();
        };
        let honest = match secure.colluding {
            0 => "no other institution sides".to_owned(),
            1 => "at most one other institution sides".to_owned(),
            most => format!("at most {most} other institutions side"),
        };
        format!(
            "the coordinator sees the sum of at least {} updates and no single one, if {honest} with it and the \
             others are who they say; nobody can check what an institution puts into the sum",
            self.cohort.quorum
        )
    }

    /// Against whom ε holds where noise is shared, in plain words; nothing where it is not.
    pub fn who_shares_noise(&self) -> Option<String> {
        let secure = self.secure_aggregation.as_ref()?;
        let privacy = &self.privacy;
        let others = match secure.colluding {
            0 => "the coordinator, and no other institution: each knows its own noise".to_owned(),
            1 => "the coordinator and up to 1 other institution".to_owned(),
            most => format!("the coordinator and up to {most} other institutions"),
        };
        privacy.shares_noise().then(|| {
            format!(
                "the noise is shared among {}: each adds a share, and ε holds against {others}; an institution that \
                 the policy does not know counts as one of them",
                privacy.noise_shares
            )
        })
    }

    /// Noise is divided among no more senders than any sum has honest ones.
    pub(super) fn check_noise_shares(&self) -> Result<(), Error> {
        let (privacy, key) = (&self.privacy, "privacy.noise_shares");
        let shares = privacy.noise_shares;
        if shares == 1 {
            return Ok(());
        }
        let refuse = |found: String, expected: &str| Err(value(key, found, expected));
        let Some(secure) = &self.secure_aggregation else {
            let expected = "1, or the table [secure_aggregation]: who sees single updates sees them with a share of the \
                            noise";
            return refuse(shares.to_string(), expected);
        };
        if privacy.unit != Unit::Institution && !privacy.is_synchronous() {
            let found = format!("{shares} with the unit {}", privacy.unit);
            return refuse(found, "1, or the unit institution, or privacy.cohort_units");
        }
        if self.cohort.weighting != Weighting::Equal {
            let expected = "1, or weighting = \"equal\": an institution of more weight would need more noise of the others";
            return refuse(format!("{shares} with other weights"), expected);
        }
        let most = self.cohort.quorum.saturating_sub(secure.colluding);
        if !(1..=most).contains(&(shares as usize)) {
            let expected = format!("1 to {most}: the quorum without the colluding");
            return Err(value(key, shares, expected));
        }
        let share = privacy.update_noise_multiplier() * privacy.grid().steps();
        if share < LEAST_SHARE {
            let found = format!("{shares}, with shares of {share:.2} steps of the grid");
            let expected = "shares of at least 4 steps: fewer shares, or a larger noise_multiplier";
            return refuse(found, expected);
        }
        Ok(())
    }

    pub(super) fn check_secure_aggregation(&self) -> Result<(), Error> {
        let Some(secure) = &self.secure_aggregation else {
            return Ok(());
        };
        let key = "secure_aggregation";
        let refuse = |found: &str, expected: &str| Err(value(key, found, expected));
        let (cohort, all) = (&self.cohort, self.cohort.institutions.len());
        if self.only_evaluates() {
            return refuse("given with rounds = 0", "a plan that trains");
        }
        if !(SMALLEST_GROUP..=LARGEST_GROUP).contains(&all) {
            let found = format!("given with {all} institutions");
            let expected =
                "3 to 100 institutions: of two, each would know the other's update from the sum";
            return Err(value(key, found, expected));
        }
        if self.aggregation.strategy != Strategy::FedAvg {
            let found = format!("given with the strategy {}", self.aggregation.strategy);
            let expected =
                "the strategy fedavg: the others look at single updates, which nobody sees";
            return Err(value(key, found, expected));
        }
        if self.guard.is_some() {
            let expected = "no table [guard]: it looks at single updates, which nobody sees";
            return refuse("given with [guard]", expected);
        }
        if cohort.weighting == Weighting::Examples {
            let expected = "weighting = \"equal\" or \"plan\": the cap on declared weights depends on who answers";
            return refuse("given with weighting = \"examples\"", expected);
        }
        let least = threshold(all);
        if cohort.quorum < least {
            let found = format!("{} with [secure_aggregation]", cohort.quorum);
            let expected = format!("at least {least}, more than two thirds of {all} institutions");
            return Err(value("cohort.quorum", found, expected));
        }
        let within = (cohort.quorum..=all).map(most_colluding).min();
        let most = within.unwrap_or_default().min(cohort.quorum - 2);
        between("secure_aggregation.colluding", secure.colluding, 0, most)?;
        let timeout = secure.step_timeout_s;
        between("secure_aggregation.step_timeout_s", timeout, 1, 31_536_000)?;
        if self.masked_sum_bound() >= 1 << SUM_BITS {
            let found = "a sum of weights and noise that is too large";
            return refuse(found, "smaller weights in cohort.weights, or less noise");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::EXAMPLE;

    fn with(institutions: &str, quorum: usize, more: &str) -> Result<Plan, Error> {
        let text = EXAMPLE.replace(r#"["st-anna", "mercy", "north"]"#, institutions);
        let text = text.replace("\"examples\"", "\"equal\"");
        let text = text.replace("quorum = 2", &format!("quorum = {quorum}"));
        Plan::parse(&format!("{text}\n[secure_aggregation]\n{more}"))
    }

    const FOUR: &str = r#"["a", "b", "c", "d"]"#;

    #[test]
    fn a_plan_without_it_has_the_digest_that_it_had() {
        let json = serde_json::to_string(&Plan::parse(EXAMPLE).expect("plan")).expect("json");
        assert!(!json.contains("secure"), "{json}");
        let plan = with(FOUR, 3, "").expect("plan");
        let secure = plan.secure_aggregation.expect("secure");
        assert_eq!((secure.colluding, secure.step_timeout_s), (0, 60));
    }

    #[test]
    fn what_it_cannot_give_is_refused_with_what_is_expected() {
        with(FOUR, 3, "colluding = 1").expect("a plan");
        for (institutions, quorum, more, named) in [
            (FOUR, 2, "", "cohort.quorum"),
            (FOUR, 3, "colluding = 2", "secure_aggregation.colluding"),
            (
                FOUR,
                3,
                "step_timeout_s = 0",
                "secure_aggregation.step_timeout_s",
            ),
            (r#"["a", "b"]"#, 2, "", "3 to 100 institutions"),
            (FOUR, 3, "[guard]\nmin_cosine = 0.0", "[guard]"),
            (FOUR, 3, "[aggregation]\nstrategy = \"median\"", "median"),
        ] {
            let error = with(institutions, quorum, more).expect_err(more);
            assert!(error.to_string().contains(named), "{named}: {error}");
        }
    }

    /// Of so many institutions, whose masked updates are summed from `quorum` on.
    fn sharing(
        (all, quorum, colluding): (usize, usize, usize),
        (shares, noise): (u32, &str),
        more: &str,
    ) -> Result<Plan, Error> {
        let names: Vec<String> = (0..all).map(|n| format!("\"i{n}\"")).collect();
        let privacy = format!("noise_multiplier = {noise}\nnoise_shares = {shares}");
        let text = EXAMPLE
            .replace(r#""st-anna", "mercy", "north""#, &names.join(", "))
            .replace("\"examples\"", "\"equal\"")
            .replace("quorum = 2", &format!("quorum = {quorum}"))
            .replace("noise_multiplier = 1.0", &privacy);
        Plan::parse(&format!(
            "{text}\n[secure_aggregation]\ncolluding = {colluding}\n{more}"
        ))
    }

    #[test]
    fn noise_is_divided_among_those_who_are_honest_in_any_sum() {
        let cohort = (10, 8, 2);
        let (shared, own) = (
            sharing(cohort, (6, "1.0"), "").expect("a plan"),
            sharing(cohort, (1, "1.0"), "").expect("a plan"),
        );
        let share = shared.privacy.update_noise_multiplier();
        assert!((share * share * 6.0 - 1.0).abs() < 1e-12, "{share}");
        assert!((shared.privacy.sigma() - share).abs() < 1e-12);
        assert!(shared.noise_to_signal(600) < own.noise_to_signal(600) / 2.4);
        let words = shared.who_shares_noise().expect("shared");
        assert!(
            words.contains("among 6") && words.contains("up to 2 other"),
            "{words}"
        );
        assert_eq!(own.who_shares_noise(), None);
        let json = serde_json::to_string(&own).expect("json");
        assert!(!json.contains("noise_shares"), "{json}");
    }

    #[test]
    fn more_shares_than_honest_senders_are_refused() {
        let many = (60, 50, 2);
        for (cohort, noise, more) in [
            ((10, 8, 2), (7, "1.0"), ""),
            ((10, 8, 1), (8, "1.0"), ""),
            ((10, 8, 0), (0, "1.0"), ""),
            // Shares of 3.8 steps.
            (many, (48, "0.0001"), ""),
        ] {
            let error = sharing(cohort, noise, more).expect_err("refused");
            let error = error.to_string();
            assert!(error.contains("privacy.noise_shares"), "{error}");
        }
        sharing(many, (42, "0.0001"), "").expect("shares of 4.05 steps");
        let open = EXAMPLE.replace("delta =", "noise_shares = 2\ndelta =");
        let error = Plan::parse(&open).expect_err("nothing is masked");
        assert!(
            error.to_string().contains("[secure_aggregation]"),
            "{error}"
        );
        for (from, to) in [
            ("unit = \"institution\"", "unit = \"none\""),
            ("unit = \"institution\"", "unit = \"person\""),
        ] {
            let open = open.replace(from, to);
            Plan::parse(&format!("{open}\n[secure_aggregation]")).expect_err(to);
        }
    }

    #[test]
    fn two_sets_of_answers_always_share_an_honest_member() {
        for members in SMALLEST_GROUP..=LARGEST_GROUP {
            let (t, c) = (threshold(members), most_colluding(members));
            assert!(3 * t > 2 * members && t <= members);
            // The colluding answer twice, everybody else once.
            assert!(2 * t > members + c, "{members}");
            assert!(2 * t <= members + c + 1, "{members}: one more would do");
        }
    }
}
