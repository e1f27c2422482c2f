//! `policy.toml`: what this institution allows, whatever a plan says.

use std::path::Path;

use fedner_shared::digest::Digest;
use fedner_shared::plan::{Method, Plan, Unit};
use fedner_shared::refusal::{Code, Refusal};
use serde::{Deserialize, Serialize};

use super::Error;

/// What this institution allows.
///
/// ```
/// let policy: fedner_client::config::Policy = toml::from_str(r#"
///     consent = "auto"
///     max_epsilon_run = 4.0
/// "#).unwrap();
/// assert!(!policy.allow_no_privacy);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Whether a person grants each consent, or every plan that this policy allows has it.
    pub consent: ConsentMode,
    /// For how many days a consent holds.
    pub consent_days: u32,
    /// Whether plans with `unit = "none"` may be trained: for public text only.
    pub allow_no_privacy: bool,
    /// Whether counts on held-out text may leave. They are exact: no ε covers them, and a receipt
    /// lists each.
    pub share_evaluation: bool,
    /// The largest ε of one run.
    pub max_epsilon_run: f64,
    /// The largest ε of all runs together.
    pub max_epsilon_total: f64,
    pub methods: Vec<Method>,
    /// Entity types that may be learnt; absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// With fewer sentences than this nothing is trained.
    pub minimum_examples: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConsentMode {
    #[default]
    Ask,
    Auto,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            consent: ConsentMode::Ask,
            consent_days: 90,
            allow_no_privacy: false,
            share_evaluation: false,
            max_epsilon_run: 8.0,
            max_epsilon_total: 32.0,
            methods: vec![Method::Head, Method::FfaLora, Method::Lora, Method::Full],
            labels: None,
            minimum_examples: 1,
        }
    }
}

impl Policy {
    pub fn digest(&self) -> Digest {
        Digest::of_json(self)
    }

    pub(super) fn check(&self, file: &Path) -> Result<(), Error> {
        let wrong = |key, found: f64, expected| {
            Err(Error::Value {
                file: file.to_owned(),
                key,
                found: found.to_string(),
                expected,
            })
        };
        let limits = [
            ("max_epsilon_run", self.max_epsilon_run),
            ("max_epsilon_total", self.max_epsilon_total),
        ];
        for (key, found) in limits {
            if !(found.is_finite() && found > 0.0) {
                return wrong(key, found, "a positive number");
            }
        }
        if !(1..=3650).contains(&self.consent_days) {
            let found = f64::from(self.consent_days);
            return wrong("consent_days", found, "1 to 3650 days");
        }
        Ok(())
    }

    /// Whether a plan may be trained here at all.
    pub fn allows(&self, plan: &Plan) -> Result<(), Refusal> {
        let forbid = |message: String| Err(Refusal::new(Code::PolicyForbids, message));
        let name = &plan.name;
        match plan.privacy.unit {
            Unit::None if !self.allow_no_privacy => {
                return forbid(format!(
                    "the plan {name} has unit \"none\": expected noise, as the policy has allow_no_privacy = false"
                ));
            }
            Unit::Person | Unit::Document | Unit::Sentence | Unit::Institution
                if plan.privacy.max_epsilon > self.max_epsilon_run =>
            {
                return forbid(format!(
                    "the plan {name} allows itself ε = {}: expected at most max_epsilon_run = {}",
                    plan.privacy.max_epsilon, self.max_epsilon_run
                ));
            }
            Unit::Person | Unit::Document | Unit::Sentence | Unit::Institution | Unit::None => {}
        }
        if !self.methods.contains(&plan.method) {
            return forbid(format!(
                "the plan {name} trains with the method {}: the policy allows {}",
                plan.method,
                self.methods
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            ));
        }
        let allowed = |label: &String| self.labels.as_ref().is_none_or(|list| list.contains(label));
        if let Some(label) = plan.labels.iter().find(|label| !allowed(label)) {
            return forbid(format!(
                "the plan {name} learns the type {label}, which the policy's labels lack"
            ));
        }
        Ok(())
    }

    /// Whether counts on held-out text may leave.
    pub fn allows_evaluation(&self) -> Result<(), Refusal> {
        if self.share_evaluation {
            return Ok(());
        }
        let message = "the policy has share_evaluation = false: no counts leave";
        Err(Refusal::new(Code::PolicyForbids, message))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn plan(unit: &str) -> Plan {
        let text = format!(
            r#"
            name = "disease-ner"
            base = "tiny@1"
            labels = ["Disease"]
            method = "head"
            rounds = 2
            [cohort]
            institutions = ["st-anna", "mercy"]
            quorum = 1
            [privacy]
            unit = "{unit}"
            noise_multiplier = 2.0
            "#
        );
        Plan::parse(&text).expect("plan")
    }

    #[test]
    fn what_the_policy_lacks_is_forbidden_and_named() {
        let policy = Policy::default();
        assert_eq!(policy.allows(&plan("institution")), Ok(()));
        let forbidden = |policy: &Policy, plan: &Plan, word: &str| {
            let refusal = policy.allows(plan).expect_err(word);
            assert_eq!(refusal.code, Code::PolicyForbids);
            assert!(refusal.message.contains(word), "{refusal}");
        };
        forbidden(&policy, &plan("none"), "allow_no_privacy");
        let mut greedy = plan("institution");
        greedy.privacy.max_epsilon = 9.0;
        forbidden(&policy, &greedy, "max_epsilon_run");
        let mut full = plan("institution");
        full.method = Method::Full;
        let heads = Policy {
            methods: vec![Method::Head],
            ..Policy::default()
        };
        forbidden(&heads, &full, "full");
        let narrow = Policy {
            labels: Some(vec!["Chemical".into()]),
            ..Policy::default()
        };
        forbidden(&narrow, &plan("institution"), "Disease");
        let open = Policy {
            allow_no_privacy: true,
            ..Policy::default()
        };
        assert_eq!(open.allows(&plan("none")), Ok(()));
        assert!(policy.allows_evaluation().is_err());
    }

    #[test]
    fn unknown_keys_and_limits_that_limit_nothing_are_errors() {
        assert!(toml::from_str::<Policy>("allow_nothing = true").is_err());
        for text in [
            "max_epsilon_run = inf",
            "max_epsilon_total = -1.0",
            "max_epsilon_run = nan",
            "consent_days = 0",
        ] {
            let policy: Policy = toml::from_str(text).expect("toml");
            assert!(policy.check(Path::new("policy.toml")).is_err(), "{text}");
        }
    }
}
