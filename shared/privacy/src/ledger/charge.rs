//! What a release costs those whom it was not planned for.
//!
//! A plan protects one unit. Its releases say something about every other unit too, and whoever
//! answers for a person must know how much they add up to, whatever units the plans protected.
//!
//! | protected | costs a person | why |
//! |---|---|---|
//! | person | what it costs | it is the unit |
//! | institution | 4ρ | without the person there is another update, of norm Δ̃ at most as well, so that the two are within 2Δ̃ |
//! | document, sentence, of which a person has at most k | what k of them cost | [`Cost::of_group`] |
//! | document, sentence, without a cap; nothing | no bound | |

use fedner_shared::plan::Unit;

use super::cost::Spending;
use super::{Cost, Debit, Entry};
use crate::accountant::known;

impl Cost {
    /// What a release costs k units together, of which each alone is charged this: the lemma *group* of the
    /// [crate].
    ///
    /// *One Gaussian release.* The sums of data sets that differ in k units are within kΔ̃, so that
    /// ρ is k² times as large.
    ///
    /// *A sampled step.* Let S be those of the k units that the step takes, v_S the sum of their
    /// integer contributions, of norm kΔ̃ at most, and w_S its probability; q′ = 1 − (1−q)^k is that of
    /// any being taken. Given the rest of the sample, Q is the noise without the group, Q_v the same
    /// shifted by v, and with the group it is
    ///
    /// `P = Σ_S w_S Q_{v_S} = Σ_{S≠∅} (w_S/q′) · [(1−q′) Q + q′ Q_{v_S}]`.
    ///
    /// `Σ P^α Q^(1−α)` and `Σ Q^α P^(1−α)` are convex in P, so that either is at most its largest value
    /// over S of one bracket. That is the sampled mechanism of one unit with the rate q′ and a norm of
    /// at most kΔ̃: noise multiplier z/k. The rest of the sample is the same on both sides; averaging
    /// over it does not add (joint convexity). Steps compose as before. ∎
    #[must_use]
    pub fn of_group(self, k: u32) -> Self {
        let size = f64::from(k.max(1));
        match self {
            Self::Unprotected => Self::Unprotected,
            Self::Gaussian {
                squared_sensitivity,
                scale,
            } => Self::Gaussian {
                squared_sensitivity,
                scale: (scale / size).next_down(),
            },
            // Noise is not scaled: how near the sum of shares is to a Gaussian depends on it.
            Self::SharedGaussian {
                squared_sensitivity,
                scale,
                senders,
                dimension,
            } => {
                let group = u64::from(k.max(1)).pow(2);
                let together = squared_sensitivity.checked_mul(group);
                together.map_or(Self::Unprotected, |squared_sensitivity| {
                    Self::SharedGaussian {
                        squared_sensitivity,
                        scale,
                        senders,
                        dimension,
                    }
                })
            }
            Self::SampledGaussian {
                sampling_rate,
                noise_multiplier,
                steps,
                dimension,
            } => Self::SampledGaussian {
                sampling_rate: rate_of_any(sampling_rate, size),
                noise_multiplier: (noise_multiplier / size).next_down(),
                steps,
                dimension,
            },
            // As above, noise is not scaled.
            Self::SharedSampledGaussian {
                sampling_rate,
                noise_multiplier,
                steps,
                dimension,
                senders,
                scale,
            } => Self::SharedSampledGaussian {
                sampling_rate: rate_of_any(sampling_rate, size),
                noise_multiplier: (noise_multiplier / size).next_down(),
                steps,
                dimension,
                senders,
                scale,
            },
        }
    }
}

/// 1 − (1−q)^k, rounded up: that a step takes any of k units.
fn rate_of_any(rate: f64, k: f64) -> f64 {
    let nobody = k * libm::log1p(-rate);
    let any = -libm::expm1(nobody) * (1.0 + 8.0 * f64::EPSILON);
    known(any).clamp(rate, 1.0)
}

impl Debit {
    /// What the release costs `unit`; nothing where there is no bound.
    pub fn cost_to(&self, unit: Unit) -> Option<Cost> {
        let own = self.account.unit;
        if own == unit {
            return Some(self.cost);
        }
        group_of(own, self.per_person, unit).map(|group| self.cost.of_group(group))
    }
}

/// As how many units of `protected` one `unit` counts, of which a person has at most `per_person`;
/// nothing where there is no bound.
pub fn group_of(protected: Unit, per_person: Option<u32>, unit: Unit) -> Option<u32> {
    match (protected, unit) {
        (own, other) if own == other => Some(1),
        // Another update instead of one: both are within one norm of zero.
        (Unit::Institution, Unit::Person | Unit::Document | Unit::Sentence) => Some(2),
        (Unit::Document | Unit::Sentence, Unit::Person) => per_person,
        _ => None,
    }
}

/// Whom a figure holds against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Against {
    /// The coordinator and as many others as each plan says. Every limit is on this figure.
    Coalition,
    /// Everybody: no noise counts but the institution's own.
    Everybody,
}

impl Against {
    pub(super) fn cost(self, cost: Cost) -> Cost {
        match self {
            Self::Coalition => cost,
            Self::Everybody => cost.alone(),
        }
    }
}

/// What was spent of an account, whatever the plans protected.
#[derive(Debug, Clone, PartialEq)]
pub struct Charged {
    /// Rounded up; infinite where a release has no bound.
    pub epsilon: f64,
    /// Entries of releases that protected another unit and cannot be charged to this one.
    pub unbounded: Vec<u64>,
    /// Entries of releases without noise, of text that the policy called public. They are in no ε.
    pub unprotected: Vec<u64>,
}

/// The costs of all debits of a cohort to `unit`, each kind once with how often it is there.
#[derive(Debug, Default)]
pub(super) struct Charges {
    kinds: Vec<(Cost, u64)>,
    pub(super) unbounded: Vec<u64>,
    pub(super) unprotected: Vec<u64>,
}

impl Charges {
    pub(super) fn of<'a>(
        entries: impl Iterator<Item = &'a Entry>,
        unit: Unit,
        against: Against,
    ) -> Self {
        let mut charges = Self::default();
        for entry in entries.filter(|entry| entry.spends().is_some()) {
            let debit = &entry.debit;
            if debit.account.unit == Unit::None {
                charges.unprotected.push(entry.sequence);
                continue;
            }
            match debit.cost_to(unit) {
                Some(cost) => charges.add(against.cost(cost)),
                None => charges.unbounded.push(entry.sequence),
            }
        }
        charges
    }

    pub(super) fn sum(&self) -> Spending {
        let kinds = self.kinds.iter();
        kinds.fold(Spending::default(), |sum, (cost, count)| {
            sum.with_several(cost, *count)
        })
    }

    pub(super) fn add(&mut self, cost: Cost) {
        match self.kinds.iter_mut().find(|(kind, _)| *kind == cost) {
            Some((_, count)) => *count += 1,
            None => self.kinds.push((cost, 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::accountant::rdp;

    #[test]
    fn one_unit_is_itself() {
        let cost = Cost::SampledGaussian {
            sampling_rate: 0.2,
            noise_multiplier: 3.0,
            steps: 7,
            dimension: None,
        };
        let Cost::SampledGaussian {
            sampling_rate,
            noise_multiplier,
            steps,
            ..
        } = cost.of_group(1)
        else {
            panic!("another mechanism");
        };
        assert!((sampling_rate - 0.2).abs() < 1e-12 && sampling_rate >= 0.2);
        assert!((noise_multiplier - 3.0).abs() < 1e-12 && noise_multiplier <= 3.0);
        assert_eq!(steps, 7);
        assert_eq!(Cost::Unprotected.of_group(9), Cost::Unprotected);
    }

    #[test]
    fn a_group_of_one_release_costs_the_square() {
        let cost = Cost::Gaussian {
            squared_sensitivity: 8,
            scale: 4.0,
        };
        let (one, two) = (cost.rho(), cost.of_group(2).rho());
        let ratio = two.expect("ρ") / one.expect("ρ");
        assert!((ratio - 4.0).abs() < 1e-9 && ratio >= 4.0, "{ratio}");
    }

    /// ln E_Q (P/Q)^n of one step in which each of k units adds the same vector of norm 1, term by
    /// term over how many of them each of n draws takes: the worst case, computed another way.
    fn exact_moment(k: u32, q: f64, z: f64, n: u32) -> f64 {
        let choose = |n: u32, j: u32| {
            (0..j)
                .map(|i| f64::from(n - i) / f64::from(i + 1))
                .product::<f64>()
        };
        let taken = |j: u32| choose(k, j) * q.powi(j as i32) * (1.0 - q).powi((k - j) as i32);
        let mut sums = vec![(0u32, 0u32, 1.0f64)];
        for _ in 0..n {
            sums = sums
                .iter()
                .flat_map(|(sum, squares, weight)| {
                    (0..=k).map(move |j| (sum + j, squares + j * j, weight * taken(j)))
                })
                .collect();
        }
        let term = |(sum, squares, weight): (u32, u32, f64)| {
            weight * (f64::from(sum * sum - squares) / (2.0 * z * z)).exp()
        };
        sums.into_iter().map(term).sum::<f64>().ln()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_bound_is_above_what_a_group_gives_away(
            k in 1u32..4, q in 0.01f64..0.9, z in 0.7f64..8.0, n in 2u32..5,
        ) {
            let cost = Cost::SampledGaussian { sampling_rate: q, noise_multiplier: z, steps: 1, dimension: None };
            let Cost::SampledGaussian { sampling_rate, noise_multiplier, .. } = cost.of_group(k) else {
                panic!("another mechanism");
            };
            let bound = rdp::sampled_gaussian(sampling_rate, noise_multiplier, f64::from(n));
            let bound = bound.expect("in range");
            let exact = exact_moment(k, q, z, n) / f64::from(n - 1);
            prop_assert!(exact <= bound * (1.0 + 1e-9) + 1e-12, "{exact} {bound}");
            // And charging one unit alone would not cover it: the control.
            if k > 1 {
                let alone = rdp::sampled_gaussian(q, z, f64::from(n)).expect("in range");
                prop_assert!(exact > alone, "{exact} {alone}");
            }
        }
    }
}
