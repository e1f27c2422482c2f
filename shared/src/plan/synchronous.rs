//! Steps of DP-SGD that a cohort takes together, one a round.
//!
//! Each institution samples its own units with the same rate, adds up their clipped gradients and a share of the noise, and
//! masks the sum. The coordinator takes the optimizer's step with what all of them add up to. So the training is the one
//! that a place with all text would make, with the noise of one.

use super::error::{Error, between, value};
use super::{KnownTypes, Method, Plan, Rows};

impl Plan {
    pub(super) fn check_synchronous(&self) -> Result<(), Error> {
        let Some(units) = self.privacy.cohort_units else {
            return Ok(());
        };
        let key = "privacy.cohort_units";
        let refuse = |expected: &str| Err(value(key, units, expected));
        if !self.privacy.unit.is_sampled() {
            return refuse("one of the units person, document and sentence, or no such key");
        }
        if self.secure_aggregation.is_none() {
            return refuse("the table [secure_aggregation] beside it, or no such key");
        }
        if !matches!(self.method, Method::Head | Method::Lora | Method::FfaLora) {
            return refuse(
                "one of the methods head, lora and ffa-lora: others change the norms that a step's coordinates rest on",
            );
        }
        if self.aggregation.rows != Rows::All {
            return refuse("rows = \"all\": the sum of a step has one divisor, the batch");
        }
        if self.known_types == KnownTypes::Distil {
            return refuse("another known_types than distil, or no such key");
        }
        if self.gate.is_some() {
            return refuse("no table [gate]: a step goes on from the one before");
        }
        if self.server_optimizer.is_some() {
            return refuse("no table [server_optimizer]: the step is that of [training]");
        }
        let training = &self.training;
        between(key, units as usize, training.batch_size, 1 << 30)?;
        if training.local_epochs != 1 {
            let expected = "1 with privacy.cohort_units: a round is one step";
            return Err(value(
                "training.local_epochs",
                training.local_epochs,
                expected,
            ));
        }
        let idle = [
            ("training.weight_decay", training.weight_decay),
            ("training.proximal_mu", training.proximal_mu),
        ];
        match idle.into_iter().find(|(_, found)| *found > 0.0) {
            Some((key, found)) => Err(value(key, found, "0 with privacy.cohort_units")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::EXAMPLE;

    /// Four institutions of 500 sentences each, with steps of 200.
    fn plan(privacy: &str, training: &str, more: &str) -> Result<Plan, Error> {
        let text = EXAMPLE
            .replace("local_epochs = 1\n", "")
            .replace("method = \"full\"", "method = \"head\"")
            .replace(
                r#"["st-anna", "mercy", "north"]"#,
                r#"["a", "b", "c", "d"]"#,
            )
            .replace("quorum = 2", "quorum = 4")
            .replace("\"examples\"", "\"equal\"")
            .replace("unit = \"institution\"", "unit = \"sentence\"")
            .replace("delta =", &format!("{privacy}\ndelta ="))
            .replace("[training]", &format!("[training]\n{training}"));
        Plan::parse(&format!("{text}\n[secure_aggregation]\n{more}"))
    }

    const UNITS: &str = "cohort_units = 2000";
    const STEP: &str = "weight_decay = 0.0";

    #[test]
    fn a_round_is_one_step_of_all_units_together() {
        let plan = plan(UNITS, STEP, "colluding = 1").expect("a plan");
        let sampling = plan.sampling(500).expect("sampled");
        let batch = plan.training.batch_size as f64;
        assert_eq!(sampling.steps, 1);
        assert!((sampling.rate - batch / 2000.0).abs() < 1e-15);
        // Left out, those share the noise who are honest in any sum.
        assert_eq!(plan.privacy.noise_shares, 3);
        assert_eq!(plan.privacy.grid().exponent, 16);
        assert!(plan.privacy.value_bound() <= i64::from(i32::MAX));
        let json = serde_json::to_string(&plan).expect("json");
        assert_eq!(serde_json::from_str::<Plan>(&json).expect("read"), plan);
    }

    #[test]
    fn what_a_common_step_cannot_be_is_refused() {
        for (privacy, training, more, named) in [
            ("cohort_units = 10", STEP, "", "privacy.cohort_units"),
            (UNITS, "weight_decay = 0.1", "", "training.weight_decay"),
            (
                UNITS,
                "weight_decay = 0.0\nproximal_mu = 0.1",
                "",
                "training.proximal_mu",
            ),
            (
                UNITS,
                "weight_decay = 0.0\nlocal_epochs = 2",
                "",
                "training.local_epochs",
            ),
            (
                UNITS,
                STEP,
                "[server_optimizer]\nname = \"fedadam\"",
                "server_optimizer",
            ),
            (UNITS, STEP, "[aggregation]\nrows = \"annotated\"", "rows"),
            (
                "cohort_units = 2000\nnoise_shares = 5",
                STEP,
                "",
                "privacy.noise_shares",
            ),
        ] {
            let error = plan(privacy, training, more).expect_err(named).to_string();
            assert!(error.contains(named), "{named}: {error}");
        }
        let open = EXAMPLE.replace("delta =", "cohort_units = 2000\ndelta =");
        let error = Plan::parse(&open)
            .expect_err("an institution is one unit")
            .to_string();
        assert!(error.contains("privacy.cohort_units"), "{error}");
    }

    #[test]
    fn versions_are_evaluated_as_often_as_the_plan_says_and_at_the_end() {
        let mut plan = plan(UNITS, STEP, "").expect("a plan");
        (plan.rounds, plan.cohort.evaluate_every) = (10, 4);
        let evaluated: Vec<u32> = (1..=10).filter(|round| plan.is_evaluated(*round)).collect();
        assert_eq!(evaluated, [4, 8, 10]);
        assert_eq!((plan.evaluations(), plan.last_round()), (3, 10));
    }
}
