//! What becomes of the mean update: the optimizers of Reddi et al. 2021, "Adaptive Federated
//! Optimization", Algorithm 2, and server momentum of Hsu, Qi and Brown 2019.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::defaults::fill;
use super::error::{Error, range, value};

/// The table `[server_optimizer]`. The mean update of a round is taken as a gradient.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerOptimizer {
    pub name: OptimizerName,
    /// η
    #[serde(default)]
    pub learning_rate: f64,
    /// β₁, the part of the first moment that stays.
    #[serde(default)]
    pub momentum: f64,
    /// β₂, the part of the second moment that stays; only where the step is adaptive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_momentum: Option<f64>,
    /// τ, which keeps steps of rarely changed weights small; only where the step is adaptive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tau: Option<f64>,
}

/// The names of the optimizers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerName {
    /// m ← β₁ m + Δ, w ← w + η m.
    FedAvgM,
    /// v ← β₂ v + (1 − β₂) Δ².
    FedAdam,
    /// v ← v − (1 − β₂) Δ² sign(v − Δ²).
    FedYogi,
    /// v ← v + Δ².
    FedAdagrad,
}

impl OptimizerName {
    pub const ALL: [Self; 4] = [
        Self::FedAvgM,
        Self::FedAdam,
        Self::FedYogi,
        Self::FedAdagrad,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FedAvgM => "fedavgm",
            Self::FedAdam => "fedadam",
            Self::FedYogi => "fedyogi",
            Self::FedAdagrad => "fedadagrad",
        }
    }

    /// Whether steps are divided by the root of a second moment.
    pub const fn is_adaptive(self) -> bool {
        !matches!(self, Self::FedAvgM)
    }

    /// Whether the second moment forgets.
    const fn forgets(self) -> bool {
        matches!(self, Self::FedAdam | Self::FedYogi)
    }
}

impl ServerOptimizer {
    /// Gives the keys that a plan file leaves out their values: β₁, β₂ and τ are those of the paper's
    /// experiments. With η = τ a step is that of FedAvg where updates are much smaller than τ, and is
    /// no longer than about τ a weight where they are large.
    pub(super) fn fill_in(&mut self, written: &Table) {
        let table = written.get("server_optimizer").and_then(Value::as_table);
        let adaptive = self.name.is_adaptive();
        let rate = if adaptive { 1e-3 } else { 1.0 };
        fill(&mut self.learning_rate, rate, (table, "learning_rate"));
        fill(&mut self.momentum, 0.9, (table, "momentum"));
        let second = self.name.forgets().then_some(0.99);
        fill(
            &mut self.second_momentum,
            second,
            (table, "second_momentum"),
        );
        let tau = adaptive.then_some(1e-3);
        fill(&mut self.tau, tau, (table, "tau"));
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        range(
            "server_optimizer.learning_rate",
            self.learning_rate,
            0.0,
            1e3,
            false,
        )?;
        range(
            "server_optimizer.momentum",
            self.momentum,
            0.0,
            0.9999,
            true,
        )?;
        let given = |key, found: Option<f64>, belongs: bool| match (found, belongs) {
            (None, true) => Err(value(key, "left out", "a number beside its optimizer")),
            (Some(found), false) => Err(value(key, found, "no such key with this optimizer")),
            (Some(_), true) | (None, false) => Ok(()),
        };
        let second = "server_optimizer.second_momentum";
        given(second, self.second_momentum, self.name.forgets())?;
        range(
            second,
            self.second_momentum.unwrap_or_default(),
            0.0,
            0.999_999,
            true,
        )?;
        let tau = "server_optimizer.tau";
        given(tau, self.tau, self.name.is_adaptive())?;
        range(tau, self.tau.unwrap_or(1.0), 0.0, 1e3, false)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::EXAMPLE;
    use super::super::{Error, Plan};
    use super::*;

    fn with(keys: &str) -> Result<Plan, Error> {
        Plan::parse(&format!("{EXAMPLE}\n[server_optimizer]\n{keys}"))
    }

    #[test]
    fn what_is_left_out_is_signed_with_its_value() {
        for name in OptimizerName::ALL {
            let plan = with(&format!("name = \"{}\"", name.as_str())).expect("a plan");
            let json = serde_json::to_string(&plan).expect("JSON");
            let read: Plan = serde_json::from_str(&json).expect("a plan");
            assert_eq!(read, plan);
            read.check().expect("nothing is missing");
        }
        let plan = with("name = \"fedavgm\"").expect("a plan");
        let json = serde_json::to_string(&plan.server_optimizer).expect("JSON");
        assert_eq!(
            json,
            r#"{"name":"fedavgm","learning_rate":1.0,"momentum":0.9}"#
        );
        // A plan without one has the digest that it had before there was one.
        let json = serde_json::to_string(&Plan::parse(EXAMPLE).expect("plan")).expect("json");
        assert!(!json.contains("server_optimizer"), "{json}");
    }

    #[test]
    fn wrong_values_and_keys_of_other_optimizers_name_their_key() {
        for (keys, key) in [
            (
                "name = \"fedadam\"\nlearning_rate = 0.0",
                "server_optimizer.learning_rate",
            ),
            (
                "name = \"fedadam\"\nlearning_rate = nan",
                "server_optimizer.learning_rate",
            ),
            (
                "name = \"fedadam\"\nmomentum = 1.0",
                "server_optimizer.momentum",
            ),
            (
                "name = \"fedyogi\"\nsecond_momentum = 1.0",
                "server_optimizer.second_momentum",
            ),
            ("name = \"fedyogi\"\ntau = 0.0", "server_optimizer.tau"),
            ("name = \"fedavgm\"\ntau = 0.1", "server_optimizer.tau"),
            (
                "name = \"fedavgm\"\nsecond_momentum = 0.1",
                "server_optimizer.second_momentum",
            ),
        ] {
            let error = with(keys).expect_err(keys);
            assert!(
                matches!(error, Error::Value { key: k, .. } if k == key),
                "{keys}: {error}"
            );
        }
        assert!(matches!(with("name = \"sgd\""), Err(Error::Syntax(_))));
    }
}
