//! A linear layer, with the adapter beside it.

use burn::tensor::module::linear;
use burn::tensor::{FloatDType, Tensor, TensorData};
use fedner_shared::checkpoint::standardiser::{BIAS, Standardiser};

use super::GradientTap;

/// y = x·W + b.
#[derive(Debug, Clone)]
pub(super) struct Linear {
    /// [input, output]
    pub(super) weight: Tensor<2>,
    pub(super) bias: Tensor<1>,
    pub(super) adapter: Option<Adapter>,
    /// Where what decides the weight's gradient is noted, if it is not on the tape itself.
    pub(super) book: Option<GradientTap>,
    /// Whether x·W is computed in bfloat16.
    pub(super) mixed: bool,
}

/// What stands beside a weight: s·x·A·B (Hu et al. 2022, section 4.1).
#[derive(Debug, Clone)]
pub(super) struct Adapter {
    /// [input, rank]
    pub(super) a: Tensor<2>,
    /// [rank, output]
    pub(super) b: Tensor<2>,
    /// s = α/r
    pub(super) scale: f32,
}

impl Linear {
    /// The scores that a classifier in the coordinates of `standard` gives to rows of features.
    pub(super) fn standardised(&self, standard: &Standardiser, features: Tensor<2>) -> Tensor<2> {
        let device = features.device();
        let row = |values: &[f32]| {
            let data = TensorData::new(values.to_vec(), [1, values.len()]);
            Tensor::<2>::from_data(data, &device)
        };
        let features = (features - row(standard.shift())) * row(standard.scale());
        let bias = self.bias.clone() * BIAS;
        features.matmul(self.weight.clone()) + bias.unsqueeze()
    }

    pub(super) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        if self.mixed {
            return self.product(x) + self.bias.clone().unsqueeze();
        }
        let y = linear(x.clone(), self.weight.clone(), Some(self.bias.clone()));
        self.noted(x, y)
    }

    /// x·W, where what follows adds the bias.
    pub(super) fn product(&self, x: Tensor<2>) -> Tensor<2> {
        let (input, weight) = (x.clone(), self.weight.clone());
        let y = if self.mixed {
            let half = FloatDType::BF16;
            let product = input.cast(half).matmul(weight.cast(half));
            product.cast(FloatDType::F32)
        } else {
            input.matmul(weight)
        };
        self.noted(x, y)
    }

    fn noted(&self, x: Tensor<2>, y: Tensor<2>) -> Tensor<2> {
        match &self.book {
            Some(book) => book.note(x, y),
            None => self.adapted(x, y),
        }
    }

    /// `y` with what the adapter makes of `x`.
    fn adapted(&self, x: Tensor<2>, y: Tensor<2>) -> Tensor<2> {
        let Some(Adapter { a, b, scale }) = &self.adapter else {
            return y;
        };
        // The narrow product is scaled, not the wide one.
        y + (x.matmul(a.clone()) * *scale).matmul(b.clone())
    }
}
