//! What becomes of the updates of a round.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::{Error, range, value};
use super::{Plan, Weighting};
use crate::serde_helpers::is_default;

/// The table `[aggregation]`. A plan that was signed without it is of FedAvg; a plan file that leaves
/// keys out is given them before it is signed, see [`Plan::parse`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Aggregation {
    #[serde(skip_serializing_if = "is_default")]
    pub strategy: Strategy,
    /// The part of the updates, from 0 to below 0.5, left out: at either end of each weight with
    /// `trimmed-mean`, as a whole with `multi-krum`; only with these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trim: Option<f64>,
    /// The largest norm of an update as a multiple of the median of all norms; only with
    /// `norm-clipped-mean`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_factor: Option<f64>,
    /// Whose updates the rows of the head are means of.
    #[serde(skip_serializing_if = "is_default")]
    pub rows: Rows,
}

/// The names of the rules by which updates become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    #[default]
    #[serde(rename = "fedavg")]
    FedAvg,
    TrimmedMean,
    Median,
    NormClippedMean,
    MultiKrum,
}

/// Whose updates count in the rows that a head has for an entity type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rows {
    /// Everybody's, as in all other weights.
    #[default]
    All,
    /// Those of the institutions that annotate the type. Others have seen nothing of it, and a mean over them
    /// would only shorten its steps.
    Annotated,
}

/// What a plan file has for `aggregation.trim` where it leaves that out.
pub const TRIM: f64 = 0.2;
/// The same for `aggregation.clip_factor`.
pub const CLIP_FACTOR: f64 = 1.0;
/// The least number of institutions of which [`TRIM`] leaves a whole one out.
const ENOUGH_TO_TRIM: usize = 5;
/// The largest number of institutions whose updates are all compared with each other by default.
const MANY: usize = 100;
/// The same where a plan says so.
const MOST: usize = 1000;

/// A rule with all that decides its result. Versions record it, so that they can be computed again
/// whatever the defaults are then.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "strategy", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Rule {
    /// The weighted mean (McMahan et al. 2017, Algorithm 1): that of all versions that record
    /// nothing.
    #[default]
    #[serde(rename = "fedavg")]
    FedAvg,
    /// Of each weight, the mean without the ⌊trim·n⌋ least and as many largest of n values (Yin et
    /// al. 2018, Definition 2); of three and more values at least one at either end.
    TrimmedMean { trim: f64 },
    /// Of each weight, the median; of an even number of values, the mean of the middle two (Yin et
    /// al. 2018, Definition 1).
    Median,
    /// The weighted mean of updates no longer than `factor` times the median of their norms (Sun et
    /// al. 2019, section 4, "norm thresholding", with a threshold that follows the round).
    NormClippedMean { factor: f64 },
    /// The weighted mean without the ⌊trim·n⌋ updates that lie farthest from their closest ones
    /// (Multi-Krum, Blanchard et al. 2017, section 4); of three and more at least one.
    MultiKrum { trim: f64 },
}

/// f, how many of `count` updates are left out, or values at either end: ⌊trim · n⌋, where a product
/// that decimal fractions make just less than whole counts as whole. Of three and more it is at least
/// one, so that who keeps others from sending does not switch it off.
pub fn left_out(trim: f64, count: usize) -> usize {
    let part = (trim * count as f64 + 1e-9) as usize;
    let least = usize::from(trim > 0.0 && count >= 3);
    part.max(least)
}

impl Strategy {
    pub const ALL: [Self; 5] = [
        Self::FedAvg,
        Self::TrimmedMean,
        Self::Median,
        Self::NormClippedMean,
        Self::MultiKrum,
    ];

    /// Whether an institution's weight has a part in the result.
    pub const fn is_weighted(self) -> bool {
        matches!(self, Self::FedAvg | Self::NormClippedMean | Self::MultiKrum)
    }
}

impl Rule {
    pub const fn strategy(self) -> Strategy {
        match self {
            Self::FedAvg => Strategy::FedAvg,
            Self::TrimmedMean { .. } => Strategy::TrimmedMean,
            Self::Median => Strategy::Median,
            Self::NormClippedMean { .. } => Strategy::NormClippedMean,
            Self::MultiKrum { .. } => Strategy::MultiKrum,
        }
    }

    /// By how much, in powers of two, sums under this rule are larger than those of the weighted
    /// values.
    pub const fn extra_bits(self) -> u32 {
        match self {
            Self::FedAvg | Self::TrimmedMean { .. } | Self::Median | Self::MultiKrum { .. } => 0,
            Self::NormClippedMean { .. } => FACTOR_BITS,
        }
    }
}

/// A factor of `norm-clipped-mean` is a whole number of 2^-16.
pub const FACTOR_BITS: u32 = 16;

impl Plan {
    /// How the plan's updates become one.
    pub fn rule(&self) -> Rule {
        let Aggregation {
            strategy,
            trim,
            clip_factor,
            rows: _,
        } = &self.aggregation;
        match strategy {
            Strategy::FedAvg => Rule::FedAvg,
            Strategy::TrimmedMean => Rule::TrimmedMean {
                trim: trim.unwrap_or(TRIM),
            },
            Strategy::Median => Rule::Median,
            Strategy::MultiKrum => Rule::MultiKrum {
                trim: trim.unwrap_or(TRIM),
            },
            Strategy::NormClippedMean => Rule::NormClippedMean {
                factor: clip_factor.unwrap_or(CLIP_FACTOR),
            },
        }
    }

    /// The strategy of a plan file that names none: FedAvg where rows are means over those who annotate them, since
    /// who alone annotates a type is unlike the others, and where nobody sees single updates; else Multi-Krum where all institutions weigh the same
    /// and are enough for it to leave one out (n ≥ 2f + 3), else FedAvg. Of very many institutions it is
    /// the trimmed mean, whose work grows with their number and not with its square.
    pub(super) fn usual_strategy(&self) -> Strategy {
        let equal = self.cohort.weighting == Weighting::Equal;
        match self.cohort.institutions.len() {
            _ if !equal
                || self.aggregation.rows == Rows::Annotated
                || self.secure_aggregation.is_some() =>
            {
                Strategy::FedAvg
            }
            0..ENOUGH_TO_TRIM => Strategy::FedAvg,
            ENOUGH_TO_TRIM..=MANY => Strategy::MultiKrum,
            _ => Strategy::TrimmedMean,
        }
    }

    pub(super) fn check_aggregation(&self) -> Result<(), Error> {
        let (own, rule) = (&self.aggregation, self.rule());
        let strategy = rule.strategy();
        let other = |key, belongs: Strategy| {
            let found = format!("given with the strategy {strategy}");
            Err(value(
                key,
                found,
                format!("the strategy {belongs}, or none"),
            ))
        };
        if own.trim.is_some() && !matches!(strategy, Strategy::TrimmedMean | Strategy::MultiKrum) {
            return other("aggregation.trim", Strategy::TrimmedMean);
        }
        if own.clip_factor.is_some() && strategy != Strategy::NormClippedMean {
            return other("aggregation.clip_factor", Strategy::NormClippedMean);
        }
        // What a plan means must not change with a later default.
        let missing = |key| Err(value(key, "left out", "a number beside its strategy"));
        match strategy {
            Strategy::TrimmedMean | Strategy::MultiKrum => match own.trim {
                Some(trim) => range("aggregation.trim", trim, 0.0, 0.499_999, true)?,
                None => return missing("aggregation.trim"),
            },
            Strategy::NormClippedMean => match own.clip_factor {
                Some(factor) => range("aggregation.clip_factor", factor, 1.0 / 16.0, 64.0, true)?,
                None => return missing("aggregation.clip_factor"),
            },
            Strategy::FedAvg | Strategy::Median => {}
        }
        if own.rows == Rows::Annotated && (!strategy.is_weighted() || self.only_evaluates()) {
            let found = format!("annotated with {strategy} and rounds = {}", self.rounds);
            let expected = "a plan that trains, by fedavg, norm-clipped-mean or multi-krum";
            return Err(value("aggregation.rows", found, expected));
        }
        let institutions = self.cohort.institutions.len();
        if strategy == Strategy::MultiKrum && institutions > MOST {
            let found = format!("{strategy} of {institutions} institutions");
            let expected = format!("at most {MOST} institutions, or another strategy");
            return Err(value("aggregation.strategy", found, expected));
        }
        if !strategy.is_weighted() && self.cohort.weighting != Weighting::Equal {
            let found = format!("{strategy} beside weights in [cohort]");
            let expected = "weighting = \"equal\", since it counts every institution the same, \
                            or the strategy norm-clipped-mean or fedavg, which weigh";
            return Err(value("aggregation.strategy", found, expected));
        }
        Ok(())
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::FedAvg => "fedavg",
            Self::TrimmedMean => "trimmed-mean",
            Self::Median => "median",
            Self::NormClippedMean => "norm-clipped-mean",
            Self::MultiKrum => "multi-krum",
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let strategy = self.strategy();
        match self {
            Self::FedAvg | Self::Median => strategy.fmt(f),
            Self::TrimmedMean { trim } | Self::MultiKrum { trim } => {
                write!(f, "{strategy} (trim {trim})")
            }
            Self::NormClippedMean { factor } => write!(f, "{strategy} (factor {factor})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::EXAMPLE;
    use super::*;

    /// A plan of five institutions.
    fn with(weighting: &str, table: &str) -> Result<Plan, Error> {
        let five = "\"north\", \"east\", \"west\"";
        let text = EXAMPLE.replace("weighting = \"examples\"", weighting);
        let text = text.replace("\"north\"", five);
        Plan::parse(&text.replace("[privacy]", &format!("{table}\n[privacy]")))
    }

    const EQUAL: &str = "weighting = \"equal\"";
    const EXAMPLES: &str = "weighting = \"examples\"";

    #[test]
    fn a_plan_file_is_given_the_rule_that_it_leaves_out() {
        let rule = |weighting: &str, table: &str| with(weighting, table).expect("a plan").rule();
        assert_eq!(rule(EXAMPLES, ""), Rule::FedAvg);
        let of_three = EXAMPLE.replace("weighting = \"examples\"", EQUAL);
        assert_eq!(Plan::parse(&of_three).expect("a plan").rule(), Rule::FedAvg);
        assert_eq!(rule(EQUAL, ""), Rule::MultiKrum { trim: TRIM });
        for strategy in Strategy::ALL {
            let table = format!("[aggregation]\nstrategy = \"{strategy}\"");
            assert_eq!(rule(EQUAL, &table).strategy(), strategy);
        }
        let table = "[aggregation]\ntrim = 0.3";
        assert_eq!(rule(EQUAL, table), Rule::MultiKrum { trim: 0.3 });
        let table = "[aggregation]\nstrategy = \"norm-clipped-mean\"\nclip_factor = 2.0";
        let fewer = "weighting = \"examples\"\nmax_examples = 100000";
        assert_eq!(rule(fewer, table), Rule::NormClippedMean { factor: 2.0 });
        let signed = |plan: &Plan| {
            let json = crate::digest::canonical_json(plan);
            String::from_utf8(json).expect("UTF-8")
        };
        let said = signed(&with(EQUAL, "").expect("a plan"));
        assert!(
            said.contains(r#""aggregation":{"strategy":"multi-krum","trim":0.2}"#),
            "{said}"
        );
    }

    #[test]
    fn a_plan_that_was_signed_without_a_rule_is_of_fedavg_and_keeps_its_digest() {
        let written = with(EQUAL, "[aggregation]\nstrategy = \"fedavg\"").expect("a plan");
        let json = serde_json::to_string(&written).expect("JSON");
        assert!(!json.contains("aggregation"), "{json}");
        let read: Plan = serde_json::from_str(&json).expect("a plan");
        assert_eq!(read.rule(), Rule::FedAvg);
        assert_eq!(read.digest(), written.digest());
        // Who signs a plan by other means says every number.
        for strategy in [
            Strategy::TrimmedMean,
            Strategy::MultiKrum,
            Strategy::NormClippedMean,
        ] {
            let mut plan = written.clone();
            plan.aggregation.strategy = strategy;
            let error = plan.check().expect_err("a number is missing").to_string();
            assert!(error.contains("aggregation."), "{error}");
        }
    }

    #[test]
    fn wrong_values_and_options_of_another_rule_name_their_key() {
        for (weighting, table, key) in [
            (EQUAL, "trim = 0.5", "aggregation.trim"),
            (EQUAL, "trim = -0.1", "aggregation.trim"),
            (EQUAL, "trim = nan", "aggregation.trim"),
            (EXAMPLES, "trim = 0.1", "aggregation.trim"),
            (
                EQUAL,
                "strategy = \"median\"\ntrim = 0.1",
                "aggregation.trim",
            ),
            (EQUAL, "clip_factor = 2.0", "aggregation.clip_factor"),
            (
                EQUAL,
                "strategy = \"norm-clipped-mean\"\nclip_factor = 0.0",
                "aggregation.clip_factor",
            ),
            (EXAMPLES, "strategy = \"median\"", "aggregation.strategy"),
            (
                EXAMPLES,
                "strategy = \"trimmed-mean\"",
                "aggregation.strategy",
            ),
        ] {
            let error = with(weighting, &format!("[aggregation]\n{table}")).expect_err(table);
            assert!(
                matches!(error, Error::Value { key: k, .. } if k == key),
                "{table}: {error}"
            );
        }
        assert!(with(EQUAL, "[aggregation]\nstrategy = \"krum\"").is_err());
    }

    #[test]
    fn factors_of_norms_take_bits_of_the_sum() {
        let largest = "weighting = \"examples\"\nmax_examples = 1073741824";
        with(largest, "").expect("fits without factors");
        let error = with(largest, "[aggregation]\nstrategy = \"norm-clipped-mean\"");
        let error = error.expect_err("too large").to_string();
        assert!(error.contains("cohort.max_examples"), "{error}");
    }

    #[test]
    fn updates_of_very_many_are_not_all_compared_with_each_other() {
        let of = |count: usize, table: &str| {
            let names: Vec<String> = (0..count).map(|k| format!("i{k}")).collect();
            let names = format!("institutions = {names:?}");
            let text = EXAMPLE.replace("weighting = \"examples\"", table);
            Plan::parse(&text.replace("institutions = [\"st-anna\", \"mercy\", \"north\"]", &names))
        };
        let rule = |count| of(count, "").expect("a plan").rule().strategy();
        assert_eq!(
            [4, 5, 100, 101].map(rule),
            [
                Strategy::FedAvg,
                Strategy::MultiKrum,
                Strategy::MultiKrum,
                Strategy::TrimmedMean,
            ]
        );
        let named = "[aggregation]\nstrategy = \"multi-krum\"";
        of(1000, named).expect("as many as may be");
        let error = of(1001, named).expect_err("too many").to_string();
        assert!(error.contains("aggregation.strategy"), "{error}");
    }

    #[test]
    fn fractions_that_decimals_do_not_hold_leave_out_what_they_say() {
        assert_eq!(left_out(0.29, 100), 29);
        let of_a_fifth = [1, 2, 3, 4, 5, 9, 10].map(|n| left_out(0.2, n));
        assert_eq!(of_a_fifth, [0, 0, 1, 1, 1, 1, 2]);
        assert_eq!(left_out(0.0, 1000), 0);
    }

    #[test]
    fn rules_read_back_as_they_were_written() {
        for rule in [
            Rule::FedAvg,
            Rule::TrimmedMean { trim: 0.2 },
            Rule::Median,
            Rule::NormClippedMean { factor: 1.0 },
            Rule::MultiKrum { trim: 0.2 },
        ] {
            let json = serde_json::to_string(&rule).expect("JSON");
            assert_eq!(serde_json::from_str::<Rule>(&json).expect("read"), rule);
        }
    }
}
