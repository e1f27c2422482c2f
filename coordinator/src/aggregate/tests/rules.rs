//! What holds for every rule, and what each comes to.

use proptest::prelude::*;

use super::*;

/// A reader that gives a few bytes at a time.
#[derive(Debug, Clone)]
pub(super) struct Dripping {
    pub(super) bytes: Vec<u8>,
    pub(super) chunk: usize,
}

#[derive(Debug)]
pub(super) struct Drip {
    of: Dripping,
    at: usize,
}

impl Source for Dripping {
    type Reader = Drip;

    fn open(&self) -> io::Result<Drip> {
        let of = self.clone();
        Ok(Drip { of, at: 0 })
    }
}

impl Read for Drip {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.of.bytes[self.at..];
        let count = rest.len().min(self.of.chunk).min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

/// What the rule makes of one weight's values, in grid steps, by plain arithmetic.
fn naive(rule: Rule, updates: &[(u32, Vec<i32>)], j: usize) -> f64 {
    let mut values: Vec<i64> = updates.iter().map(|(_, x)| x[j].into()).collect();
    values.sort_unstable();
    let n = values.len();
    let mean = |values: &[i64]| values.iter().sum::<i64>() as f64 / values.len() as f64;
    let total = updates.iter().map(|(w, _)| f64::from(*w)).sum::<f64>();
    match rule {
        Rule::FedAvg => {
            let terms = updates.iter().map(|(w, x)| f64::from(*w) * f64::from(x[j]));
            terms.sum::<f64>() / total
        }
        Rule::TrimmedMean { trim } => {
            let ends = ((trim * n as f64) as usize).max(usize::from(n >= 3));
            mean(&values[ends..n - ends])
        }
        Rule::Median => mean(&values[(n - 1) / 2..=n / 2]),
        Rule::NormClippedMean { factor } => {
            let norm = |x: &Vec<i32>| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            let mut norms: Vec<f64> = updates.iter().map(|(_, x)| norm(x)).collect();
            norms.sort_by(f64::total_cmp);
            let limit = factor * norms[(n - 1) / 2];
            let terms = updates.iter().map(|(w, x)| {
                let scale = (limit / norm(x).max(1e-9)).min(1.0);
                f64::from(*w) * scale * f64::from(x[j])
            });
            terms.sum::<f64>() / total
        }
        Rule::MultiKrum { trim } => {
            let apart = |a: &[i32], b: &[i32]| -> f64 {
                let terms = a.iter().zip(b);
                terms
                    .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
                    .sum()
            };
            let left_out = ((trim * n as f64) as usize).max(usize::from(n >= 3));
            let score = |x: &[i32]| {
                let mut distances: Vec<f64> = updates.iter().map(|(_, y)| apart(x, y)).collect();
                distances.sort_by(f64::total_cmp);
                let closest = n.saturating_sub(left_out + 2).max(1);
                distances.iter().take(closest + 1).sum::<f64>()
            };
            let mut scored: Vec<_> = updates.iter().map(|(w, x)| (score(x), *w, x[j])).collect();
            scored.sort_by(|a, b| a.0.total_cmp(&b.0));
            // Two that are each other's closest are equally far: both stay, or neither.
            let farthest = scored[n - left_out - 1].0;
            scored.retain(|(score, ..)| *score <= farthest);
            let weights = scored.iter().map(|(_, w, _)| f64::from(*w)).sum::<f64>();
            let terms = scored.iter().map(|(_, w, x)| f64::from(*w) * f64::from(*x));
            terms.sum::<f64>() / weights
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any order of arrival, any cut of the streams and doing it again give the same bytes, and they
    /// are those of the formula.
    #[test]
    fn the_result_follows_from_the_updates_alone(
        count in 1usize..14,
        seed in 0u64..1000,
        chunk in 1usize..5000,
        order in any::<prop::sample::Index>(),
        spread in 0u32..16,
    ) {
        let setting = setting(Method::Full);
        let d = setting.manifest.dimension();
        let mut updates: Vec<(u32, Vec<i32>)> = (0..count as u64)
            .map(|k| {
                let narrower = k as u32 * spread % 7;
                let values = update(seed + k, d).iter().map(|x| x >> narrower).collect();
                (1 + 3 * k as u32, values)
            })
            .collect();
        for rule in rules() {
            let (first, _) = run_by(rule, &setting, &updates);
            let after = change(&setting, &first);
            for j in (0..d).step_by(97) {
                // What float32 cannot tell apart, in grid steps: weights are at most about 1. A
                // factor of a norm is a whole number of 2^-16, of values of at most 2^16.
                let close = 1.1;
                let expected = naive(rule, &updates, j);
                prop_assert!((after[j] - expected).abs() < close, "{} {}", rule, j);
            }
            updates.rotate_left(order.index(count));
            updates.reverse();
            let dripping = updates.iter().map(|(weight, values)| Weighted {
                weight: *weight,
                update: Dripping { bytes: encoded(values), chunk },
            });
            let mut again = Vec::new();
            let digest = aggregate(inputs(rule, &setting, dripping.collect()), &mut again);
            prop_assert_eq!(digest.expect("aggregate"), Digest::of(&first));
            prop_assert_eq!(again, first);
        }
    }
}

#[test]
fn a_trimmed_mean_of_two_is_the_mean_and_that_of_three_the_median() {
    let setting = setting(Method::Head);
    let d = setting.manifest.dimension();
    let of =
        |count: u64| -> Vec<(u32, Vec<i32>)> { (0..count).map(|k| (1, update(k, d))).collect() };
    let rule = Rule::TrimmedMean { trim: 0.2 };
    let digest = |rule, count| run_by(rule, &setting, &of(count)).1;
    assert_eq!(digest(rule, 2), digest(Rule::FedAvg, 2));
    assert_eq!(digest(rule, 3), digest(Rule::Median, 3));
    assert_ne!(digest(rule, 4), digest(Rule::FedAvg, 4));
}

/// The digest is verified at the end of every pass.
#[test]
fn a_file_that_is_not_its_digest_is_an_error_under_every_rule() {
    let setting = setting(Method::Head);
    let bytes = encoded(&update(1, setting.manifest.dimension()));
    for rule in rules() {
        for (digest, sound) in [(Digest::of(&bytes), true), (Digest::of(b"other"), false)] {
            let mut file = tempfile::tempfile().expect("file");
            file.write_all(&bytes).expect("write");
            let update = VerifiedFile { file, digest };
            let updates = vec![Weighted { weight: 1, update }];
            let result = aggregate(inputs(rule, &setting, updates), io::sink());
            assert_eq!(result.is_ok(), sound, "{rule}");
        }
    }
}

/// Values that are left out change nothing, whatever they are, and divide nothing: each weight is the mean over those
/// whose updates count in it. The ranges begin and end within blocks, and within tensors.
#[test]
fn what_is_left_out_neither_adds_nor_divides() {
    let setting = setting(Method::Full);
    let d = setting.manifest.dimension();
    let updates: Vec<(u32, Vec<i32>)> = (0..4u64).map(|k| (1 + k as u32, update(k, d))).collect();
    // Nobody has a say in the last of these.
    let nobody = d - 9..d - 2;
    let left_out = vec![
        vec![3..40, d / 2..d / 2 + 1500, nobody.clone()],
        vec![20..60, nobody.clone()],
        vec![nobody.clone()],
        vec![0..7, d - 9..d],
    ];
    let counts = |k: usize, j: usize| !left_out[k].iter().any(|range| range.contains(&j));
    for rule in [
        Rule::FedAvg,
        Rule::NormClippedMean { factor: 64.0 },
        Rule::MultiKrum { trim: 0.0 },
    ] {
        let by = |updates: &[(u32, Vec<i32>)]| {
            let encoded: Vec<_> = updates.iter().map(|(_, values)| encoded(values)).collect();
            let weighted = updates
                .iter()
                .zip(&encoded)
                .map(|((weight, _), bytes)| Weighted {
                    weight: *weight,
                    update: &bytes[..],
                });
            let mut out = Vec::new();
            let inputs = Inputs {
                left_out: left_out.clone(),
                ..inputs(rule, &setting, weighted.collect())
            };
            aggregate(inputs, &mut out).expect("aggregate");
            out
        };
        let found = by(&updates);
        let after = change(&setting, &found);
        for (j, found) in after.iter().enumerate() {
            let own = || updates.iter().enumerate().filter(|(k, _)| counts(*k, j));
            let total: f64 = own().map(|(_, (weight, _))| f64::from(*weight)).sum();
            let sum: f64 = own()
                .map(|(_, (weight, x))| f64::from(*weight) * f64::from(x[j]))
                .sum();
            let expected = if total > 0.0 { sum / total } else { 0.0 };
            assert!(
                (found - expected).abs() < 1.1,
                "{rule} {j}: {found} {expected}"
            );
        }
        // What somebody sends there all the same has no effect.
        let mut loud = updates.clone();
        for (k, (_, values)) in loud.iter_mut().enumerate() {
            for range in left_out[k].iter().cloned() {
                values[range].fill(-5);
            }
        }
        // The other rules look at whole updates.
        if rule == Rule::FedAvg {
            assert_eq!(by(&loud), found);
        }
    }
}
