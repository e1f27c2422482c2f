//! The step that a server optimizer makes of the mean update.
//!
//! Moments are float32 numbers that a version keeps beside its weights, so that the next round, a
//! restart and `replay` go on from the same bits. Each step is float64 arithmetic in one order,
//! rounded once.

use fedner_shared::plan::{OptimizerName, ServerOptimizer};

/// m and v of one weight.
type Moments = [f64; 2];

/// What the moments of a weight are before the first round: m = 0, v = τ².
fn initial(optimizer: &ServerOptimizer) -> Moments {
    [0.0, optimizer.tau.unwrap_or_default().powi(2)]
}

/// One step: the moments after `delta`, the mean update of a weight, and the weight's change.
/// Reddi et al. 2021, Algorithm 2; for `fedavgm` Hsu et al. 2019, section 5.
fn step(optimizer: &ServerOptimizer, [m, v]: Moments, delta: f64) -> (Moments, f64) {
    let ServerOptimizer {
        name,
        learning_rate,
        momentum,
        ..
    } = *optimizer;
    let stays = optimizer.second_momentum.unwrap_or_default();
    let square = delta * delta;
    let v = match name {
        OptimizerName::FedAvgM => {
            let m = momentum * m + delta;
            return ([m, v], learning_rate * m);
        }
        OptimizerName::FedAdam => stays * v + (1.0 - stays) * square,
        OptimizerName::FedAdagrad => v + square,
        OptimizerName::FedYogi => {
            let sign = f64::from(v.total_cmp(&square) as i8);
            v - (1.0 - stays) * square * sign
        }
    };
    let m = momentum * m + (1.0 - momentum) * delta;
    let change = learning_rate * m / (v.sqrt() + optimizer.tau.unwrap_or_default());
    ([m, v], change)
}

/// An optimizer with the bytes of moments that it goes through.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stepper<'a>(pub(super) &'a ServerOptimizer);

impl Stepper<'_> {
    /// How many bytes of moments a weight has.
    pub(super) fn width(self) -> usize {
        4 * self.kept()
    }

    /// How many moments a weight has: the second one only where steps are adaptive.
    fn kept(self) -> usize {
        1 + usize::from(self.0.name.is_adaptive())
    }

    /// Fills `moments` with those before the first round.
    pub(super) fn begin(self, moments: &mut [u8]) {
        let initial = initial(self.0);
        for moments in moments.chunks_exact_mut(self.width()) {
            write(moments, initial);
        }
    }

    /// Changes weights, as float32 in little endian, and their moments by sums in units of `unit`.
    pub(super) fn advance(self, weights: &mut [u8], moments: &mut [u8], sums: &[i64], unit: f64) {
        let weights = weights.as_chunks_mut::<4>().0.iter_mut();
        let moments = moments.chunks_exact_mut(self.width());
        for ((weight, moments), sum) in weights.zip(moments).zip(sums) {
            let before = f64::from(f32::from_le_bytes(*weight));
            let (after, change) = step(self.0, self.read(moments), *sum as f64 * unit);
            write(moments, after);
            *weight = ((before + change) as f32).to_le_bytes();
        }
    }

    fn read(self, bytes: &[u8]) -> Moments {
        let mut moments = initial(self.0);
        for (moment, bytes) in moments.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *moment = f64::from(f32::from_le_bytes(*bytes));
        }
        moments
    }
}

fn write(bytes: &mut [u8], moments: Moments) {
    for (bytes, moment) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(moments) {
        *bytes = (moment as f32).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn optimizer(name: OptimizerName) -> ServerOptimizer {
        ServerOptimizer {
            name,
            learning_rate: 0.1,
            momentum: 0.9,
            second_momentum: Some(0.99),
            tau: Some(1e-3),
        }
    }

    /// The weight after each of some updates, from 1.
    fn path(name: OptimizerName, updates: &[i64]) -> Vec<f32> {
        let optimizer = optimizer(name);
        let stepper = Stepper(&optimizer);
        let mut weight = 1f32.to_le_bytes().to_vec();
        let mut moments = vec![0; stepper.width()];
        stepper.begin(&mut moments);
        let next = |sum: &i64| {
            stepper.advance(&mut weight, &mut moments, &[*sum], 0.01);
            f32::from_le_bytes([weight[0], weight[1], weight[2], weight[3]])
        };
        updates.iter().map(next).collect()
    }

    /// Computed by hand, in Python's float64, from the papers' formulas.
    #[test]
    fn steps_are_those_of_the_papers() {
        let updates = [10, -4, 0, 25];
        for (name, expected) in [
            (OptimizerName::FedAvgM, [1.01, 1.015, 1.0195, 1.048_55]),
            (
                OptimizerName::FedAdam,
                [1.090_502_8, 1.132_985_9, 1.171_396_8, 1.274_489_5],
            ),
            (
                OptimizerName::FedYogi,
                [1.090_498_8, 1.132_811_9, 1.170_893_8, 1.273_763_2],
            ),
            (
                OptimizerName::FedAdagrad,
                [1.009_900_5, 1.014_5, 1.018_639_5, 1.029_272_2],
            ),
        ] {
            for (found, expected) in path(name, &updates).iter().zip(expected) {
                assert!(
                    (f64::from(*found) - expected).abs() < 1e-6,
                    "{name:?}: {found} {expected}"
                );
            }
        }
    }
}
