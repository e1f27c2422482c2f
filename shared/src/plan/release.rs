//! When results leave an institution, and how much of one unit's text may go into a step.
//!
//! How long a training takes depends on private text. So its end is not told: results leave at fixed
//! times after the attempt was begun, and one unit cannot lengthen a training without limit.

use std::time::Duration;

use super::{Error, Plan, Unit, error};

/// The largest number of windows of one unit in a step, where the plan does not say.
const MAX_WINDOWS: u32 = 64;

/// Windows of text that a training is taken to read in a second, where the plan names no time.
const WINDOWS_A_SECOND: u64 = 200;

impl Plan {
    /// The step of time in which results leave an institution that declared `units`; `None` where
    /// the plan protects nothing.
    ///
    /// An update, counts or "not done" leave at the first whole multiple of it after the attempt was
    /// begun. It is `cohort.release_after_s`. Left out, it follows from public numbers: local epochs
    /// times declared units over 200, in seconds, from 1 to a quarter of the shorter timeout.
    pub fn release_step(&self, units: u32) -> Option<Duration> {
        if self.privacy.unit == Unit::None {
            return None;
        }
        let cohort = &self.cohort;
        let seconds = cohort.release_after_s.unwrap_or_else(|| {
            let windows = u64::from(self.training.local_epochs) * u64::from(units);
            let longest = cohort.train_timeout_s.min(cohort.evaluate_timeout_s) / 4;
            windows.div_ceil(WINDOWS_A_SECOND).clamp(1, longest.max(1))
        });
        Some(Duration::from_secs(seconds))
    }

    /// The largest number of windows of one unit in a step; `None` where the unit is not sampled.
    pub fn max_windows(&self) -> Option<usize> {
        let most = self.privacy.max_windows.unwrap_or(MAX_WINDOWS);
        self.privacy.unit.is_sampled().then_some(most as usize)
    }

    pub(super) fn check_release(&self) -> Result<(), Error> {
        let cohort = &self.cohort;
        if let Some(seconds) = cohort.release_after_s {
            let longest = cohort.train_timeout_s.min(cohort.evaluate_timeout_s);
            error::between("cohort.release_after_s", seconds, 1, longest)?;
        }
        if let Some(windows) = self.privacy.max_windows {
            let key = "privacy.max_windows";
            if !self.privacy.unit.is_sampled() {
                let expected = "one of the units person, document and sentence, or no such key";
                return Err(error::value(key, windows, expected));
            }
            error::between(key, windows, 1, 1 << 20)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(unit: &str, cohort: &str, privacy: &str) -> Result<Plan, Error> {
        Plan::parse(&format!(
            r#"
            name = "p"
            base = "b@1"
            labels = ["Disease"]
            method = "head"
            rounds = 1
            [training]
            local_epochs = 4
            [cohort]
            institutions = ["a"]
            quorum = 1
            {cohort}
            [privacy]
            unit = "{unit}"
            noise_multiplier = 1.0
            {privacy}
            "#
        ))
    }

    #[test]
    fn the_step_of_time_is_the_plans_or_follows_from_public_numbers() {
        let step = |unit, cohort, units| {
            let plan = plan(unit, cohort, "").expect("plan");
            plan.release_step(units).map(|step| step.as_secs())
        };
        assert_eq!(step("none", "", 500), None);
        assert_eq!(step("person", "", 1), Some(1));
        assert_eq!(step("person", "", 500), Some(10));
        assert_eq!(step("institution", "", 1_000_000), Some(150));
        assert_eq!(step("person", "train_timeout_s = 2", 500), Some(1));
        assert_eq!(step("person", "release_after_s = 30", 1), Some(30));
    }

    #[test]
    fn windows_are_capped_where_units_are_sampled() {
        let most = |unit, privacy| plan(unit, "", privacy).expect("plan").max_windows();
        assert_eq!(most("person", ""), Some(64));
        assert_eq!(most("person", "max_windows = 3"), Some(3));
        assert_eq!(most("institution", ""), None);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for (unit, cohort, privacy) in [
            ("person", "release_after_s = 0", ""),
            ("person", "release_after_s = 601", ""),
            ("person", "", "max_windows = 0"),
            ("institution", "", "max_windows = 5"),
        ] {
            let error = plan(unit, cohort, privacy).expect_err("out of range");
            assert!(error.to_string().contains('`'), "{error}");
        }
    }
}
