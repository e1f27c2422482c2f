//! The norm of a unit's gradient: as close as can be told, and a bound that rounding cannot break.
//! It is what the lemma *clip* of `fedner-privacy` rests on.
//!
//! That a unit adds at most C to a sum is what the noise is measured by, so that what is clipped is
//! the bound. Of a gradient that is there in numbers, bound and norm are one, but for f64's own
//! rounding, which the sum's allowance covers. Of a weight's gradient AᵀG that is not multiplied out
//! the norm is (Goodfellow 2015, section 4, for one row; Li, Tramèr, Liang and Hashimoto 2022,
//! equation 2, for several)
//!
//! `‖AᵀG‖² = Σ_{s,t} (AAᵀ)_{st} (GGᵀ)_{st}`,
//!
//! and it is computed in float32. A scalar product of k terms comes out wrong by at most γ(k) = ku/(1-ku)
//! times the sum of the terms' sizes, u = 2⁻²⁴, whatever the order of the terms (Higham 2002, section 3.1).
//! These products are made on the processor, whatever device the passes ran on, so that u is float32's. So
//! for A of width d, G of width p and T rows, with R = Σ_t ‖a_t‖‖g_t‖, the sum above is wrong by at most
//! (γ(d) + γ(p) + γ(d)γ(p))·R². The product AᵀG that is added in the end is wrong by at most γ(T)·R in norm:
//!
//! `‖fl(AᵀG)‖ ≤ √(Σ_{s,t} fl(AAᵀ)_{st} fl(GGᵀ)_{st} + (γ(d) + γ(p) + γ(d)γ(p))·R²) + γ(T)·R`.
//!
//! R itself is taken from the diagonals, each right to within γ(d) and γ(p). What underflows is far
//! below the sum's allowance.

use burn::tensor::Tensor;
use fedner_shared::vector::vectorized;

use crate::Error;
use crate::bert::{Factors, values};
use crate::train::private::Clip;

/// Makes up for the rounding in R, and in the few operations of the bound itself; γ(p) is below
/// 1/1000 for every width up to 16,000.
const SLACK: f64 = 1.01;

/// Of a vector.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Norm {
    /// The square of it, as computed.
    pub(super) squared: f64,
    /// At least the square of it, rounding included.
    pub(super) squared_bound: f64,
}

impl Norm {
    /// Of a vector whose squares add up to this in f64.
    pub(super) const fn exact(squared: f64) -> Self {
        Self {
            squared,
            squared_bound: squared,
        }
    }

    /// Of both vectors together, one after the other.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            squared: self.squared + other.squared,
            squared_bound: self.squared_bound + other.squared_bound,
        }
    }

    /// Of AᵀG, which is not multiplied out. `before` is what the last call of the same pass left.
    pub(super) fn of_product(factors: &Factors, before: &mut Option<Gram>) -> Result<Self, Error> {
        let ([rows, inputs], [_, outputs]) = (factors.inputs.dims(), factors.outputs.dims());
        let by_outputs = gram(&factors.outputs)?;
        let by_inputs = match before.take().filter(|gram| gram.shared == factors.shared) {
            Some(same) => same.values,
            None => gram(&factors.inputs)?,
        };
        let squared = dot(&by_inputs, &by_outputs).max(0.0);
        let diagonal = (0..rows).map(|row| row * rows + row);
        let reach: f64 = diagonal
            .map(|at| (f64::from(by_inputs[at]) * f64::from(by_outputs[at])).sqrt())
            .sum();
        let apart = gamma(inputs) + gamma(outputs) + gamma(inputs) * gamma(outputs);
        let bound = (squared + SLACK * apart * reach * reach).sqrt() + SLACK * gamma(rows) * reach;
        // No entry of AᵀG is beyond R, and no sum on the way to it. Beyond float32 it may overflow.
        let fits = SLACK * reach < f64::from(f32::MAX);
        let bound = if fits { bound } else { f64::INFINITY };
        *before = Some(Gram {
            shared: factors.shared,
            values: by_inputs,
        });
        Ok(Self {
            squared,
            squared_bound: bound * bound,
        })
    }

    /// The factor that brings the vector within the clip; `None` for what is not finite.
    pub(super) fn factor(self, clip: Clip) -> Option<f64> {
        clip.factor(self.squared_bound.sqrt())
    }
}

/// AAᵀ of the last inputs, which the next layer may share.
pub(super) struct Gram {
    shared: usize,
    values: Vec<f32>,
}

fn gram(x: &Tensor<2>) -> Result<Vec<f32>, Error> {
    values(x.clone().matmul(x.clone().transpose()))
}

/// γ(k) of float32.
fn gamma(terms: usize) -> f64 {
    let rounded = terms as f64 * 2f64.powi(-24);
    rounded / (1.0 - rounded)
}

/// The scalar product in f64, in which the products of two f32 are exact.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    const LANES: usize = 16;
    vectorized(
        #[inline(always)]
        || {
            let mut sums = [0.0f64; LANES];
            for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
                for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
                    *sum += f64::from(*a) * f64::from(*b);
                }
            }
            sums.iter().sum()
        },
    )
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use proptest::prelude::*;

    use super::*;

    fn factors(a: &[f32], g: &[f32], rows: usize) -> Factors {
        let tensor = |values: &[f32]| {
            let shape = [rows, values.len() / rows];
            Tensor::<2>::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
        };
        Factors {
            shared: 0,
            inputs: tensor(a),
            outputs: tensor(g),
        }
    }

    /// ‖AᵀG‖² in f64, and that of the float32 product.
    fn multiplied_out(factors: &Factors) -> (f64, f64) {
        let product = factors.inputs.clone().transpose();
        let product = values(product.matmul(factors.outputs.clone())).expect("product");
        let rounded = product.iter().map(|x| f64::from(*x).powi(2)).sum();
        let ([rows, d], [_, p]) = (factors.inputs.dims(), factors.outputs.dims());
        let a = values(factors.inputs.clone()).expect("A");
        let g = values(factors.outputs.clone()).expect("G");
        let mut exact = 0.0;
        for i in 0..d {
            for j in 0..p {
                let terms = (0..rows).map(|t| f64::from(a[t * d + i]) * f64::from(g[t * p + j]));
                exact += terms.sum::<f64>().powi(2);
            }
        }
        (exact, rounded)
    }

    proptest! {
        /// Also where nearly all of the sum cancels.
        #[test]
        fn the_bound_holds_and_is_close(
            rows in 1usize..40,
            values in prop::collection::vec(-1f32..1.0, 40 * (24 + 56)),
            cancelling in any::<bool>(),
            size in -20i32..20,
        ) {
            let (a, g) = values.split_at(40 * 24);
            let mut a = a[..rows * 24].to_vec();
            let mut g = g[..rows * 56].to_vec();
            if cancelling && rows > 1 {
                for row in 1..rows {
                    let sign = if row % 2 == 0 { 1.0 } else { -1.0 };
                    for column in 0..24 {
                        a[row * 24 + column] = a[column] * (1.0 + row as f32 * 1e-6);
                    }
                    for column in 0..56 {
                        g[row * 56 + column] = g[column] * sign;
                    }
                }
            }
            for g in &mut g {
                *g *= 2f32.powi(size);
            }
            let factors = factors(&a, &g, rows);
            let norm = Norm::of_product(&factors, &mut None).expect("norm");
            let (exact, rounded) = multiplied_out(&factors);
            prop_assert!(norm.squared_bound >= exact && norm.squared_bound >= rounded);
            if !cancelling {
                prop_assert!((norm.squared / exact - 1.0).abs() < 1e-4, "{norm:?} {exact}");
                prop_assert!(norm.squared_bound < exact * 1.01, "{norm:?} {exact}");
            }
        }
    }

    #[test]
    fn a_factor_shortens_and_never_stretches() {
        let factor = |squared| Norm::exact(squared).factor(Clip::threshold(1.0));
        assert!((factor(4.0).expect("finite") - 0.5).abs() < 1e-15);
        assert!((factor(0.25).expect("finite") - 1.0).abs() < 1e-15);
        assert!((factor(0.0).expect("finite") - 1.0).abs() < 1e-15);
        assert_eq!(factor(f64::NAN), None);
        assert_eq!(factor(f64::INFINITY), None);
        let open = Norm::exact(4.0).factor(Clip::threshold(f64::INFINITY));
        assert!((open.expect("finite") - 1.0).abs() < 1e-15);
    }
}
