//! The discrete Fourier transform of real numbers, radix 2.
//!
//! Its own and plain, since the bound on its rounding is part of a claim: [`compose`](super::compose)
//! relies on Higham 2002, Theorem 24.2, which is about this algorithm with weights each as good as
//! the sine and cosine of `libm`.

use std::f64::consts::TAU;
use std::ops::{Add, Mul, Sub};

use fedner_shared::vector::vectorized;

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Complex {
    pub(super) re: f64,
    pub(super) im: f64,
}

impl Complex {
    pub(super) const ONE: Self = Self { re: 1.0, im: 0.0 };

    pub(super) fn norm_squared(self) -> f64 {
        self.re * self.re + self.im * self.im
    }

    fn conjugate(self) -> Self {
        let Self { re, im } = self;
        Self { re, im: -im }
    }

    fn times_i(self) -> Self {
        let Self { re, im } = self;
        Self { re: -im, im: re }
    }

    fn scaled(self, factor: f64) -> Self {
        Self {
            re: self.re * factor,
            im: self.im * factor,
        }
    }
}

impl Add for Complex {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            re: self.re + other.re,
            im: self.im + other.im,
        }
    }
}

impl Sub for Complex {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self {
            re: self.re - other.re,
            im: self.im - other.im,
        }
    }
}

impl Mul for Complex {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        Self {
            re: self.re * other.re - self.im * other.im,
            im: self.re * other.im + self.im * other.re,
        }
    }
}

/// Transforms of `n` real numbers, n a power of two from 4 on, by one of n/2 complex ones.
#[derive(Debug)]
pub(super) struct Transform {
    /// `e^(−2πi k/n)` for k < n/2.
    weights: Vec<Complex>,
    /// `e^(−πi k/2^s)` for k < 2^s, for each stage s of the complex transform: some of the above,
    /// side by side.
    stages: Vec<Vec<Complex>>,
}

impl Transform {
    pub(super) fn new(n: usize) -> Self {
        assert!(
            n >= 4 && n.is_power_of_two(),
            "{n} is no power of two from 4 on"
        );
        let weight = |k| {
            let angle = TAU * (k as f64 / n as f64);
            let (sine, cosine) = libm::sincos(angle);
            Complex {
                re: cosine,
                im: -sine,
            }
        };
        let weights: Vec<Complex> = (0..n / 2).map(weight).collect();
        let stages = (0..(n / 2).trailing_zeros()).map(|stage| {
            let apart = (n / 2) >> stage;
            weights.iter().step_by(apart).copied().collect()
        });
        Self {
            stages: stages.collect(),
            weights,
        }
    }

    /// `X_k = Σ_j x_j e^(−2πi jk/n)` for k from 0 to n/2; the others are conjugates of these.
    pub(super) fn forward(&self, input: &[f64]) -> Vec<Complex> {
        let half = self.weights.len();
        debug_assert_eq!(input.len(), 2 * half);
        let (pairs, _) = input.as_chunks::<2>();
        let mut z: Vec<Complex> = pairs
            .iter()
            .map(|[re, im]| Complex { re: *re, im: *im })
            .collect();
        self.complex(&mut z);
        (0..=half)
            .map(|k| {
                let (one, other) = (z[k % half], z[(half - k) % half].conjugate());
                let even = (one + other).scaled(0.5);
                let odd = (one - other).scaled(0.5) * self.weight(k);
                even - odd.times_i()
            })
            .collect()
    }

    /// The real numbers whose transform this is. The imaginary parts at both ends count as zero.
    pub(super) fn inverse(&self, spectrum: &[Complex]) -> Vec<f64> {
        let half = self.weights.len();
        debug_assert_eq!(spectrum.len(), half + 1);
        let real = |k: usize| match k % half {
            0 => Complex {
                im: 0.0,
                ..spectrum[k]
            },
            _ => spectrum[k],
        };
        // The conjugate of the input gives the conjugate of the inverse.
        let mut z: Vec<Complex> = (0..half)
            .map(|k| {
                let (one, other) = (real(k), real(half - k).conjugate());
                let odd = (one - other) * self.weight(k).conjugate();
                (one + other + odd.times_i()).conjugate()
            })
            .collect();
        self.complex(&mut z);
        let scale = (2.0 * half as f64).recip();
        z.into_iter()
            .flat_map(|Complex { re, im }| [re * scale, -im * scale])
            .collect()
    }

    fn weight(&self, k: usize) -> Complex {
        if k == self.weights.len() {
            Complex { re: -1.0, im: 0.0 }
        } else {
            self.weights[k]
        }
    }

    /// The transform of n/2 complex numbers in place, by decimation in time.
    fn complex(&self, z: &mut [Complex]) {
        let bits = z.len().trailing_zeros();
        for k in 0..z.len() {
            let reversed = k.reverse_bits() >> (usize::BITS - bits);
            if k < reversed {
                z.swap(k, reversed);
            }
        }
        vectorized(
            #[inline(always)]
            || {
                for (stage, weights) in self.stages.iter().enumerate() {
                    for block in z.chunks_exact_mut(2 << stage) {
                        let (low, high) = block.split_at_mut(1 << stage);
                        for ((low, high), weight) in low.iter_mut().zip(high).zip(weights) {
                            let turned = *high * *weight;
                            *high = *low - turned;
                            *low = *low + turned;
                        }
                    }
                }
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn agrees_with_the_sum_that_defines_it() {
        for n in [4, 8, 64, 256] {
            let input: Vec<f64> = (0..n).map(|j| ((j * j) as f64 * 0.7).sin() + 0.1).collect();
            let found = Transform::new(n).forward(&input);
            assert_eq!(found.len(), n / 2 + 1);
            for (k, found) in found.into_iter().enumerate() {
                let term = |(j, x): (usize, &f64)| {
                    let angle = -TAU * ((j * k) % n) as f64 / n as f64;
                    Complex {
                        re: x * angle.cos(),
                        im: x * angle.sin(),
                    }
                };
                let sum = input.iter().enumerate().map(term);
                let expected = sum.fold(Complex::default(), Complex::add);
                let error = (found - expected).norm_squared().sqrt();
                assert!(error < 1e-12, "{n} {k}: {found:?}, expected {expected:?}");
            }
        }
    }

    proptest! {
        /// Within the bound that the accountant adds, of the norm.
        #[test]
        fn the_inverse_gives_back_the_input(bits in 2u32..15, seed in 0u64..1000) {
            let n = 1usize << bits;
            let input: Vec<f64> = (0..n)
                .map(|j| ((j as u64 * 7919 + seed) as f64 * 0.618).sin())
                .collect();
            let transform = Transform::new(n);
            let output = transform.inverse(&transform.forward(&input));
            let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
            let error = norm(&mut input.iter().zip(&output).map(|(a, b)| a - b));
            let allowed = 2.0 * 4.0 * f64::EPSILON * f64::from(bits);
            prop_assert!(error <= allowed * norm(&mut input.iter().copied()), "{error}");
        }
    }
}
