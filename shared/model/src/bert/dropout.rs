//! Dropout (Srivastava et al. 2014) from a generator of its own.
//!
//! burn's generator is one for the whole process; two trainings side by side would draw from it
//! in turn, and neither could be repeated.

use burn::tensor::{Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Which activations are dropped, if any.
#[derive(Debug, Clone)]
pub(crate) struct Dropout {
    /// `None`: nothing is dropped.
    source: Option<Source>,
}

#[derive(Debug, Clone)]
struct Source {
    seed: u64,
    /// The number of the next mask.
    next: u64,
    hidden: f64,
    attention: f64,
}

/// Elements of a mask from one stream of the generator.
const CHUNK: usize = 1 << 16;

impl Dropout {
    /// Everything is kept: evaluation.
    pub(crate) const fn none() -> Self {
        Self { source: None }
    }

    /// Hidden states and attention are dropped with these probabilities.
    pub(crate) fn new(hidden: f64, attention: f64, seed: u64) -> Self {
        let source = Source {
            seed,
            next: 0,
            hidden,
            attention,
        };
        Self {
            source: Some(source),
        }
    }

    pub(crate) fn hidden<const D: usize>(&mut self, x: Tensor<D>) -> Tensor<D> {
        match &mut self.source {
            Some(source) => source.apply(x, source.hidden),
            None => x,
        }
    }

    pub(crate) fn attention<const D: usize>(&mut self, x: Tensor<D>) -> Tensor<D> {
        match &mut self.source {
            Some(source) => source.apply(x, source.attention),
            None => x,
        }
    }
}

impl Source {
    fn apply<const D: usize>(&mut self, x: Tensor<D>, probability: f64) -> Tensor<D> {
        if probability <= 0.0 {
            return x;
        }
        let shape = x.dims();
        let mask = self.mask(shape.iter().product(), probability);
        let mask = Tensor::from_data(TensorData::new(mask, shape), &x.device().inner());
        x * mask
    }

    /// Zeros with `probability`, to within 2^-16, and otherwise the factor that keeps the mean.
    fn mask(&mut self, length: usize, probability: f64) -> Vec<f32> {
        let threshold = (probability * 65536.0).round() as u16;
        let kept = (1.0 / (1.0 - f64::from(threshold) / 65536.0)) as f32;
        let seed = self.seed ^ self.next.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.next += 1;
        let mut mask = vec![0.0; length];
        mask.par_chunks_mut(CHUNK)
            .enumerate()
            .for_each(|(stream, chunk)| {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(stream as u64);
                for four in chunk.chunks_mut(4) {
                    let mut bits = rng.next_u64();
                    for value in four {
                        *value = if (bits as u16) < threshold { 0.0 } else { kept };
                        bits >>= 16;
                    }
                }
            });
        mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_keep_the_mean_and_repeat_with_the_seed() {
        let draw = |seed| {
            let mut dropout = Dropout::new(0.25, 0.5, seed);
            let source = dropout.source.as_mut().expect("active");
            (source.mask(200_000, 0.25), source.mask(200_000, 0.25))
        };
        let (first, second) = draw(1);
        let mean = first.iter().sum::<f32>() / first.len() as f32;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        assert_ne!(first, second);
        assert_eq!((first, second), draw(1));
        assert_ne!(draw(2).0, draw(1).0);
    }
}
