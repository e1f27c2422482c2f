//! One step of every weight of a model.

use burn::tensor::{Gradients, Tensor};

use super::adamw::{self, Moments, Rates, RowMoments, Rows};
use crate::Error;
use crate::bert::{Bert, Slot, SlotTensor, leaf, values};

/// The state of AdamW for each weight, in the order of the model's slots.
pub(super) struct Optimizer {
    states: Vec<State>,
}

enum State {
    Whole(Moments),
    /// The word embedding.
    ByRow(RowMoments),
}

impl Optimizer {
    pub(super) fn new(bert: &mut Bert) -> Self {
        let state = |slot: Slot<'_>| match &slot.tensor {
            SlotTensor::Words(words) => State::ByRow(RowMoments::new(words.dims())),
            SlotTensor::Vector(_) | SlotTensor::Matrix(_) | SlotTensor::Table(_) => {
                State::Whole(Moments::new(slot.len()))
            }
        };
        Self {
            states: bert.slots().into_iter().map(state).collect(),
        }
    }

    /// Moves every weight against its gradient, all gradients together scaled down to a norm of
    /// `largest`. Biases and norms are not decayed.
    pub(super) fn step(
        &mut self,
        bert: &mut Bert,
        mut gradients: Gradients,
        by_words: &Rows,
        largest: f64,
        rates: Rates,
    ) -> Result<(), Error> {
        let mut slots = bert.slots();
        let mut squared = by_words.squared_norm();
        let mut whole = Vec::with_capacity(slots.len());
        for slot in &slots {
            let gradient = slot.gradient(&mut gradients)?;
            squared += adamw::squared_norm(&gradient);
            whole.push(gradient);
        }
        drop(gradients);
        if !squared.is_finite() {
            return Err(Error::NotFinite { step: rates.step });
        }
        let scale = adamw::clip_factor(squared, largest);
        for ((slot, state), gradient) in slots.iter_mut().zip(&mut self.states).zip(&whole) {
            let weight_decay = if slot.decays() {
                rates.weight_decay
            } else {
                0.0
            };
            let step = Rates {
                weight_decay,
                ..rates
            }
            .step(scale);
            slot.change(|weights| match state {
                State::Whole(moments) => moments.update(weights, gradient, step),
                State::ByRow(moments) => moments.update(weights, by_words, step),
            })?;
        }
        Ok(())
    }

    /// Makes up for what steps have put off.
    pub(super) fn finish(self, bert: &mut Bert) -> Result<(), Error> {
        for (slot, state) in bert.slots().iter_mut().zip(self.states) {
            if let State::ByRow(moments) = state {
                slot.change(|weights| moments.finish(weights))?;
            }
        }
        Ok(())
    }
}

impl Slot<'_> {
    fn len(&self) -> usize {
        match &self.tensor {
            SlotTensor::Vector(tensor) => tensor.shape().num_elements(),
            SlotTensor::Matrix(tensor) | SlotTensor::Table(tensor) | SlotTensor::Words(tensor) => {
                tensor.shape().num_elements()
            }
        }
    }

    /// The gradient, in the order of the tensor; zeros where the loss does not depend on it.
    /// Empty for the word embedding, whose gradient comes by rows.
    fn gradient(&self, gradients: &mut Gradients) -> Result<Vec<f32>, Error> {
        let gradient = match &self.tensor {
            SlotTensor::Vector(tensor) => tensor.grad_remove(gradients).map(values),
            SlotTensor::Matrix(tensor) | SlotTensor::Table(tensor) => {
                tensor.grad_remove(gradients).map(values)
            }
            SlotTensor::Words(_) => Some(Ok(Vec::new())),
        };
        gradient.unwrap_or_else(|| Ok(vec![0.0; self.len()]))
    }

    /// Changes the values in place.
    fn change(&mut self, change: impl FnOnce(&mut [f32])) -> Result<(), Error> {
        match &mut self.tensor {
            SlotTensor::Vector(tensor) => change_values(tensor, change),
            SlotTensor::Matrix(tensor) | SlotTensor::Table(tensor) | SlotTensor::Words(tensor) => {
                change_values(tensor, change)
            }
        }
    }
}

fn change_values<const D: usize>(
    tensor: &mut Tensor<D>,
    change: impl FnOnce(&mut [f32]),
) -> Result<(), Error> {
    let device = tensor.device();
    let mut data = tensor.extract().inner().into_data();
    match data.as_mut_slice::<f32>() {
        Ok(weights) => change(weights),
        Err(error) => return Err(Error::Tensor(error.to_string())),
    }
    *tensor = leaf(data, &device);
    Ok(())
}

#[cfg(test)]
impl Slot<'_> {
    /// The gradient, laid out as a Hugging Face file has the weight.
    pub(super) fn gradient_as_filed(
        &self,
        gradients: &mut Gradients,
        by_words: &Rows,
    ) -> Result<Vec<f32>, Error> {
        match &self.tensor {
            SlotTensor::Words(words) => Ok(by_words.dense(words.dims())),
            SlotTensor::Matrix(tensor) => match tensor.grad_remove(gradients) {
                Some(gradient) => values(gradient.transpose()),
                None => Ok(vec![0.0; self.len()]),
            },
            SlotTensor::Vector(_) | SlotTensor::Table(_) => self.gradient(gradients),
        }
    }
}
