//! What an audit of privacy found: the report that an institution signs.
//!
//! The attacks are the client's, their statistics those of `fedner-privacy`; here is only what both
//! sides must read.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::id::{InstitutionId, PlanName};
use crate::plan::Unit;
use crate::sign::Statement;
use crate::time::Time;

/// The longest report that is sent or taken. One of a thousand planted entities is a fifth of it.
pub const LARGEST_BYTES: usize = 256 * 1024;
/// The attacks of one report, the bounds of one attack, and the bytes of its name: whoever looks at a
/// model version is sent them all.
const MOST_PARTS: usize = 16;
const MOST_BOUNDS: usize = 16;
const MOST_CHECKS: usize = 32;
const LONGEST_NAME: usize = 64;

/// Why a report cannot be kept with a model version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the report is about no model: expected one of `audit run --model DIR`")]
    NoModel,
    #[error("the report has {found} {what}: expected at most {most}")]
    TooMany {
        what: &'static str,
        most: usize,
        found: usize,
    },
    #[error("the report says `{found}`: its bounds say `{expected}`")]
    Verdict { expected: Outcome, found: Outcome },
}

/// An audit of a plan's mechanism, of a model, or of both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditReport {
    pub software: String,
    pub institution: InstitutionId,
    pub at: Time,
    /// Each part is wrong to fail with the probability 1 − `confidence` at most.
    pub confidence: f64,
    pub model: Option<AuditedModel>,
    pub plan: Option<AuditedPlan>,
    /// The files that were read.
    pub inputs: Vec<Input>,
    /// Each bound that was held against a claim.
    pub parts: Vec<Part>,
    /// What was measured of the mechanism itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    pub membership: Option<Roc>,
    pub exposure: Option<Exposures>,
    /// What limits the attacks, in plain words.
    pub notes: Vec<String>,
    pub verdict: Outcome,
}

impl Statement for AuditReport {
    const KIND: &'static str = "audit";
}

impl AuditReport {
    /// One that says nothing yet.
    pub fn new(software: &str, institution: InstitutionId, at: Time, confidence: f64) -> Self {
        Self {
            software: software.to_owned(),
            institution,
            at,
            confidence,
            model: None,
            plan: None,
            inputs: Vec::new(),
            parts: Vec::new(),
            checks: Vec::new(),
            membership: None,
            exposure: None,
            notes: Vec::new(),
            verdict: Outcome::None,
        }
    }

    /// The model that it is about, if the report can be kept with it.
    pub fn check(&self) -> Result<&AuditedModel, Error> {
        let model = self.model.as_ref().ok_or(Error::NoModel)?;
        at_most("parts", MOST_PARTS, self.parts.len())?;
        for part in &self.parts {
            at_most("bounds in a part", MOST_BOUNDS, part.bounds.len())?;
            at_most("bytes in a part's name", LONGEST_NAME, part.name.len())?;
        }
        at_most("checks", MOST_CHECKS, self.checks.len())?;
        for check in &self.checks {
            at_most("bytes in a check's name", LONGEST_NAME, check.name.len())?;
        }
        let (expected, found) = (Outcome::new(&self.parts, &self.checks), self.verdict);
        if expected != found {
            return Err(Error::Verdict { expected, found });
        }
        Ok(model)
    }
}

fn at_most(what: &'static str, most: usize, found: usize) -> Result<(), Error> {
    if found <= most {
        return Ok(());
    }
    Err(Error::TooMany { what, most, found })
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditedModel {
    /// Of its `model.safetensors`, as it was exported.
    pub weights: Digest,
    pub tags: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditedPlan {
    pub name: PlanName,
    pub digest: Digest,
    pub unit: Unit,
    pub clip: f64,
    pub noise_multiplier: f64,
    pub delta: f64,
    pub rounds: u32,
    /// Declared, where the unit is sampled.
    pub units: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// `members`, `non-members` or `planted`.
    pub role: String,
    pub digest: Digest,
    pub sentences: usize,
}

/// One attack, with its bounds on ε at one δ or several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    pub name: String,
    /// Runs, epochs or units that the bounds come from.
    pub trials: u64,
    pub bounds: Vec<Verdict>,
    /// The largest part of the claimed noise, below 1, with which the attack would have refuted the claim
    /// with a probability of 95 %; 0 where it would not with any. Absent where nobody asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<f64>,
}

impl Part {
    pub fn holds(&self) -> bool {
        self.bounds.iter().all(Verdict::holds)
    }
}

/// A property of the mechanism that was measured. Sizes are parts of what is claimed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    pub name: String,
    /// Values, steps or units that were looked at.
    pub trials: u64,
    #[serde(with = "crate::serde_helpers::nullable")]
    pub found: f64,
    /// What chance gives a sound mechanism, with the confidence.
    pub at_least: Option<f64>,
    pub at_most: Option<f64>,
    /// The smallest defect that it would have noticed with a probability of 95 %; infinite for none.
    #[serde(with = "crate::serde_helpers::nullable")]
    pub notices: f64,
    pub confidence: f64,
}

impl Check {
    /// Also false where what was found is not a number.
    pub fn holds(&self) -> bool {
        self.at_least.is_none_or(|least| self.found >= least)
            && self.at_most.is_none_or(|most| self.found <= most)
            && self.found.is_finite()
    }
}

/// What an attack found beside what is claimed, both at the same δ.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// ε is at least this, unless the attack was luckier than `1 - confidence` allows.
    pub epsilon_lower_bound: f64,
    #[serde(with = "crate::serde_helpers::nullable")]
    pub epsilon_claimed: f64,
    pub delta: f64,
    pub confidence: f64,
}

impl Verdict {
    /// Whether the claim stands. False where a figure is not a number.
    pub fn holds(&self) -> bool {
        self.epsilon_lower_bound <= self.epsilon_claimed
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// No bound passes its claim, and a loss of a fifth of the noise would have been noticed.
    Pass,
    /// No bound passes its claim, and none would have, had the mechanism a fifth less noise.
    Weak,
    /// One does: the claim is false.
    Fail,
    /// Nothing was held against a claim.
    None,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Pass, Self::Weak, Self::Fail, Self::None];
    /// The part of the noise whose lack an audit must have been able to notice.
    pub const ENOUGH: f64 = 0.8;

    pub fn new(parts: &[Part], checks: &[Check]) -> Self {
        if parts.is_empty() && checks.is_empty() {
            return Self::None;
        }
        let sound = parts.iter().all(Part::holds) && checks.iter().all(Check::holds);
        if !sound {
            return Self::Fail;
        }
        // Reports of before do not say what they would have noticed.
        let of_parts = parts.iter().filter_map(|part| part.power);
        let of_noise = checks.iter().filter(|check| check.name == "noise");
        let power = of_parts.chain(of_noise.map(|check| check.notices));
        match power.reduce(f64::max) {
            Some(power) if power < Self::ENOUGH => Self::Weak,
            Some(_) | None => Self::Pass,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Weak => "weak",
            Self::Fail => "fail",
            Self::None => "none",
        }
    }
}

impl FromStr for Outcome {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL
            .into_iter()
            .find(|outcome| outcome.as_str() == text);
        found
            .ok_or_else(|| format!("`{text}` is not an outcome: expected pass, weak, fail or none"))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How well a score tells members from others. A higher score says "member".
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roc {
    pub members: u64,
    pub others: u64,
    /// The probability that a member's score is above another's, ties counted half; 0.5 tells
    /// nothing.
    pub auc: f64,
    /// The interval that covers it with `confidence`.
    pub auc_low: f64,
    pub auc_high: f64,
    /// The part of members found by a threshold that takes at most 1 % of the others for members.
    pub true_positives_at_1_percent: f64,
    pub true_positives_low: f64,
    pub true_positives_high: f64,
    pub confidence: f64,
}

/// The place of a planted secret among all that it could have been.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exposure {
    /// 1 for the secret that the model likes best.
    pub rank: u64,
    /// |R|, the secret among them.
    pub among: u64,
    /// log₂ |R| − log₂ rank (Definition 5 of Carlini, Liu, Erlingsson, Kos and Song 2019). Of a secret
    /// that the model never saw, the mean is below 1/ln 2 = 1.44, whatever |R|.
    pub bits: f64,
}

/// How known the planted entities are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exposures {
    /// In the order of the sentences.
    pub planted: Vec<Exposure>,
    pub mean_bits: f64,
    pub largest_bits: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(epsilon_lower_bound: f64) -> Part {
        let verdict = Verdict {
            epsilon_lower_bound,
            epsilon_claimed: 2.0,
            delta: 1e-5,
            confidence: 0.99,
        };
        Part {
            name: "update".to_owned(),
            trials: 40,
            bounds: vec![verdict],
            power: None,
        }
    }

    fn report(parts: Vec<Part>) -> AuditReport {
        let institution = "st-anna".parse().expect("name");
        AuditReport {
            model: Some(AuditedModel {
                weights: Digest::of(b"weights"),
                tags: vec!["O".to_owned()],
            }),
            verdict: Outcome::new(&parts, &[]),
            parts,
            ..AuditReport::new(
                "fedner-client/0.1.0",
                institution,
                Time::from_millis(5),
                0.99,
            )
        }
    }

    #[test]
    fn only_a_bounded_report_about_a_model_that_says_what_its_bounds_say_is_kept() {
        let good = report(vec![part(1.0)]);
        assert_eq!(good.check(), Ok(good.model.as_ref().expect("a model")));
        let nothing = AuditReport {
            model: None,
            ..good.clone()
        };
        assert_eq!(nothing.check(), Err(Error::NoModel));
        let boast = AuditReport {
            parts: vec![part(3.0)],
            ..good.clone()
        };
        let (expected, found) = (Outcome::Fail, Outcome::Pass);
        assert_eq!(boast.check(), Err(Error::Verdict { expected, found }));
        let long = report(vec![part(1.0); MOST_PARTS + 1]);
        assert!(matches!(long.check(), Err(Error::TooMany { .. })));
        let mut wide = report(vec![part(1.0)]);
        wide.parts[0].bounds = vec![wide.parts[0].bounds[0]; MOST_BOUNDS + 1];
        assert!(matches!(wide.check(), Err(Error::TooMany { .. })));
        let mut named = report(vec![part(1.0)]);
        named.parts[0].name = "x".repeat(LONGEST_NAME + 1);
        assert!(matches!(named.check(), Err(Error::TooMany { .. })));
    }

    #[test]
    fn what_would_have_noticed_nothing_is_weak() {
        let check = |found: f64, notices| Check {
            name: "noise".to_owned(),
            trials: 100,
            found,
            at_least: Some(0.9),
            at_most: None,
            notices,
            confidence: 0.99,
        };
        let with = |power| Part {
            power: Some(power),
            ..part(1.0)
        };
        assert_eq!(Outcome::new(&[with(0.5)], &[]), Outcome::Weak);
        assert_eq!(Outcome::new(&[with(0.5), with(0.85)], &[]), Outcome::Pass);
        assert_eq!(
            Outcome::new(&[with(0.5)], &[check(1.0, 0.99)]),
            Outcome::Pass
        );
        assert_eq!(
            Outcome::new(&[with(0.5)], &[check(1.0, 0.7)]),
            Outcome::Weak
        );
        for found in [0.8, f64::NAN, f64::INFINITY] {
            assert_eq!(
                Outcome::new(&[with(0.9)], &[check(found, 0.99)]),
                Outcome::Fail
            );
        }
        // As reports of before had it.
        assert_eq!(Outcome::new(&[part(1.0)], &[]), Outcome::Pass);
    }

    #[test]
    fn outcomes_are_written_as_their_json_says() {
        for outcome in Outcome::ALL {
            assert_eq!(outcome.as_str().parse(), Ok(outcome));
            let json = serde_json::to_string(&outcome).expect("json");
            assert_eq!(json, format!("\"{outcome}\""));
        }
        assert!("perhaps".parse::<Outcome>().is_err());
    }
}
