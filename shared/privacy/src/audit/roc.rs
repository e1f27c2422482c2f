//! Membership inference: telling members from others by one score each.
//!
//! These are figures of one attack on one model, and no bound on ε: that takes members drawn by
//! coins of their own, see [`one_run`](super::one_run).

use fedner_shared::audit::Roc;

use super::{Error, binomial, check_levels, value};
use crate::accountant::{first_true, ln_tail};

/// Scores of either kind that a curve needs at least.
const LEAST: usize = 2;

/// How well the scores tell members from others. The interval of the area is DeLong's (DeLong, DeLong
/// and Clarke-Pearson 1988, "Comparing the Areas under Two or More Correlated Receiver Operating
/// Characteristic Curves"), that of the true positives Clopper and Pearson's.
pub fn curve(members: &[f64], others: &[f64], confidence: f64) -> Result<Roc, Error> {
    let least = members.len().min(others.len());
    value(
        "number of members and of others",
        least as f64,
        least >= LEAST,
        "at least 2 of either",
    )?;
    check_levels(0.0, confidence)?;
    let above = placements(members, &sorted(others));
    let below: Vec<f64> = placements(others, &sorted(members))
        .into_iter()
        .map(|placed| 1.0 - placed)
        .collect();
    let auc = mean(&above);
    let deviation =
        (variance(&above) / above.len() as f64 + variance(&below) / below.len() as f64).sqrt();
    let reach = quantile(confidence) * deviation;
    let found = found_at(members, others);
    let (count, doubt) = (members.len() as u64, (1.0 - confidence) / 2.0);
    Ok(Roc {
        members: count,
        others: others.len() as u64,
        auc,
        auc_low: (auc - reach).max(0.0),
        auc_high: (auc + reach).min(1.0),
        true_positives_at_1_percent: found as f64 / count as f64,
        true_positives_low: 1.0 - binomial::upper_limit(count, count - found, doubt),
        true_positives_high: binomial::upper_limit(count, found, doubt),
        confidence,
    })
}

fn sorted(scores: &[f64]) -> Vec<f64> {
    let mut sorted = scores.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// For each score the part of `sorted` that is below it, ties counted half.
fn placements(scores: &[f64], sorted: &[f64]) -> Vec<f64> {
    let placed = scores.iter().map(|score| {
        let below = sorted.partition_point(|other| other < score);
        let up_to = sorted.partition_point(|other| other <= score);
        (below + up_to) as f64 / (2 * sorted.len()) as f64
    });
    placed.collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    squares / (values.len() - 1) as f64
}

/// z with P(|X| ≤ z) = `confidence` for a standard normal X.
fn quantile(confidence: f64) -> f64 {
    let tail = libm::log((1.0 - confidence) / 2.0);
    first_true(0.0, 40.0, |z| ln_tail(z) <= tail)
}

/// Members above the score that 1 % of the others, rounded down, pass.
fn found_at(members: &[f64], others: &[f64]) -> u64 {
    let others = sorted(others);
    let threshold = others[others.len() - 1 - others.len() / 100];
    members.iter().filter(|score| **score > threshold).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worked_example() {
        // sklearn.metrics.roc_auc_score([0,0,0,1,1], [.1,.4,.35,.4,.8]) = (2.5 + 3)/6.
        let roc = curve(&[0.4, 0.8], &[0.1, 0.4, 0.35], 0.95).expect("curve");
        assert!((roc.auc - 5.5 / 6.0).abs() < 1e-12, "{roc:?}");
        // V10 = (2.5/3, 1), V01 = (1, 0.75, 1): variances 1/72 and 1/48.
        let deviation = (1.0f64 / 72.0 / 2.0 + 1.0 / 48.0 / 3.0).sqrt();
        let low = roc.auc - 1.959_963_985 * deviation;
        assert!((roc.auc_low - low).abs() < 1e-6, "{roc:?}");
        assert!((roc.auc_high - 1.0).abs() < 1e-12);
        // One of two members is above all others.
        assert!((roc.true_positives_at_1_percent - 0.5).abs() < 1e-12);
        // scipy.stats.beta.ppf([0.025, 0.975], [1, 2], [2, 1]).
        assert!((roc.true_positives_low - 0.012_579_117).abs() < 1e-6);
        assert!((roc.true_positives_high - 0.987_420_883).abs() < 1e-6);
    }

    #[test]
    fn equal_scores_tell_nothing_and_apart_ones_all() {
        let same = curve(&[1.0; 50], &[1.0; 50], 0.95).expect("curve");
        assert!((same.auc - 0.5).abs() < 1e-12);
        assert!(same.true_positives_at_1_percent < 1e-12);
        let apart = curve(&[1.0; 50], &[0.0; 50], 0.95).expect("curve");
        assert!((apart.auc - 1.0).abs() < 1e-12);
        assert!((apart.true_positives_at_1_percent - 1.0).abs() < 1e-12);
        assert!(apart.true_positives_low > 0.9);
        assert!(curve(&[1.0], &[0.0; 50], 0.95).is_err());
        assert!(curve(&[1.0; 50], &[0.0; 50], 1.0).is_err());
    }

    #[test]
    fn one_in_a_hundred_others_may_pass() {
        let others: Vec<f64> = (0..200).map(f64::from).collect();
        // 197 has two above it, which 1 % of 200 are; 198 alone is above the threshold 197.
        let roc = curve(&[197.0, 198.0], &others, 0.95).expect("curve");
        assert!((roc.true_positives_at_1_percent - 0.5).abs() < 1e-12);
    }
}
