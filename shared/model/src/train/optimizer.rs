//! One step of every trained weight of a model.

use burn::tensor::{Gradients, Tensor};
use fedner_shared::bert::is_of_head;

use super::adamw::{self, Rates, RowMoments, Rows};
use super::state::State;
use crate::Error;
use crate::bert::{Bert, Slot, SlotTensor, leaf, values};

/// The gradient of a loss by every trained weight, in the order of the model's slots.
#[derive(Debug)]
pub(super) struct Gradient {
    /// Empty for the word embedding where its gradient comes by rows.
    whole: Vec<Vec<f32>>,
    by_words: Rows,
}

impl Gradient {
    pub(super) fn take(
        bert: &mut Bert,
        mut gradients: Gradients,
        by_words: Rows,
    ) -> Result<Self, Error> {
        let slots = bert.trained();
        let whole = slots.iter().map(|slot| slot.gradient(&mut gradients));
        Ok(Self {
            whole: whole.collect::<Result<_, _>>()?,
            by_words,
        })
    }

    /// Of a gradient that comes as one vector, the word embedding's with the others.
    pub(super) fn of_flat(bert: &mut Bert, flat: Vec<f32>) -> Self {
        let mut rest = flat.as_slice();
        let slots = bert.trained();
        let whole = slots.iter().map(|slot| {
            let (own, others) = rest.split_at(slot.len());
            rest = others;
            own.to_vec()
        });
        Self {
            whole: whole.collect(),
            by_words: Rows::default(),
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (sum, gradient) in self.whole.iter_mut().zip(&other.whole) {
            add_scaled(sum, gradient, 1.0);
        }
        self.by_words.add(&other.by_words);
    }

    fn squared_norm(&self) -> f64 {
        let whole = self.whole.iter().map(|g| adamw::squared_norm(g));
        self.by_words.squared_norm() + whole.sum::<f64>()
    }
}

fn add_scaled(sum: &mut [f32], values: &[f32], factor: f32) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += factor * value;
    }
}

/// The state of AdamW for each trained weight, in the order of the model's slots.
pub(super) struct Optimizer {
    states: Vec<Moments>,
    pull: Option<Pull>,
    /// What the learning rate is multiplied with for the tagging head.
    head_rate: f64,
}

enum Moments {
    Whole(adamw::Moments),
    /// The word embedding.
    ByRow(RowMoments),
}

/// FedProx (Li et al. 2020, equation 2): the loss has μ/2·‖w - w₀‖² added to it, w₀ being the
/// weights that the round began with.
struct Pull {
    mu: f32,
    /// w₀
    start: Vec<Vec<f32>>,
}

impl Optimizer {
    /// With a pull of strength `mu`, and the head's learning rate as a multiple of the others'.
    pub(super) fn new(bert: &mut Bert, mu: f64, head_rate: f64) -> Result<Self, Error> {
        // The pull is on every row, seen in the batch or not.
        Self::build(bert, (mu, head_rate), mu <= 0.0)
    }

    /// For gradients that are of every row of the word embedding.
    pub(super) fn of_all_rows(bert: &mut Bert, mu: f64, head_rate: f64) -> Result<Self, Error> {
        Self::build(bert, (mu, head_rate), false)
    }

    fn build(bert: &mut Bert, of: (f64, f64), by_row: bool) -> Result<Self, Error> {
        let (mu, head_rate) = of;
        let slots = bert.trained();
        let state = |slot: &Slot<'_>| match &slot.tensor {
            SlotTensor::Words(words) if by_row => Moments::ByRow(RowMoments::new(words.dims())),
            SlotTensor::Vector(_)
            | SlotTensor::Matrix(_)
            | SlotTensor::Table(_)
            | SlotTensor::Words(_) => Moments::Whole(adamw::Moments::new(slot.len())),
        };
        let states = slots.iter().map(state).collect();
        let pull = if mu > 0.0 {
            let start = slots.iter().map(|slot| slot.raw());
            Some(Pull {
                mu: mu as f32,
                start: start.collect::<Result<_, _>>()?,
            })
        } else {
            None
        };
        Ok(Self {
            states,
            pull,
            head_rate,
        })
    }

    /// Moves every trained weight against its gradient, all gradients together scaled down to a
    /// norm of `largest`. Biases and norms are not decayed.
    pub(super) fn step(
        &mut self,
        bert: &mut Bert,
        mut gradient: Gradient,
        largest: f64,
        rates: Rates,
    ) -> Result<(), Error> {
        let mut slots = bert.trained();
        if let Some(pull) = &self.pull {
            pull.add_to(&mut gradient, &slots)?;
        }
        let squared = gradient.squared_norm();
        if !squared.is_finite() {
            return Err(Error::NotFinite { step: rates.step });
        }
        let scale = adamw::clip_factor(squared, largest);
        let states = self.states.iter_mut().zip(&gradient.whole);
        for (slot, (state, whole)) in slots.iter_mut().zip(states) {
            let weight_decay = if slot.decays() {
                rates.weight_decay
            } else {
                0.0
            };
            let of_part = if is_of_head(&slot.name) {
                self.head_rate
            } else {
                1.0
            };
            let step = Rates {
                learning_rate: rates.learning_rate * of_part,
                weight_decay,
                ..rates
            }
            .step(scale);
            slot.change(|weights| match state {
                Moments::Whole(moments) => moments.update(weights, whole, step),
                Moments::ByRow(moments) => moments.update(weights, &gradient.by_words, step),
            })?;
        }
        Ok(())
    }

    pub(super) fn save(&self, bert: &mut Bert, saved: &mut State) -> Result<(), Error> {
        for (slot, moments) in bert.trained().iter().zip(&self.states) {
            saved.put(format!("weight/{}", slot.name), &slot.raw()?);
            match moments {
                Moments::Whole(moments) => moments.save(&slot.name, saved),
                Moments::ByRow(moments) => moments.save(&slot.name, saved),
            }
        }
        Ok(())
    }

    pub(super) fn restore(&mut self, bert: &mut Bert, saved: &State) -> Result<(), Error> {
        for (slot, moments) in bert.trained().iter_mut().zip(&mut self.states) {
            let (name, mut outcome) = (slot.name.clone(), Ok(()));
            slot.change(|weights| outcome = saved.restore(&format!("weight/{name}"), weights))?;
            outcome?;
            match moments {
                Moments::Whole(moments) => moments.restore(&name, saved)?,
                Moments::ByRow(moments) => moments.restore(&name, saved)?,
            }
        }
        Ok(())
    }

    /// Makes up for what steps have put off.
    pub(super) fn settle(&mut self, bert: &mut Bert) -> Result<(), Error> {
        for (slot, state) in bert.trained().iter_mut().zip(&mut self.states) {
            if let Moments::ByRow(moments) = state {
                slot.change(|weights| moments.settle(weights))?;
            }
        }
        Ok(())
    }
}

impl Pull {
    /// Adds μ·(w - w₀).
    fn add_to(&self, gradient: &mut Gradient, slots: &[Slot<'_>]) -> Result<(), Error> {
        let by_words = std::mem::take(&mut gradient.by_words);
        for ((slot, whole), start) in slots.iter().zip(&mut gradient.whole).zip(&self.start) {
            if let SlotTensor::Words(words) = &slot.tensor
                && whole.is_empty()
            {
                *whole = by_words.dense(words.dims());
            }
            add_scaled(whole, &slot.raw()?, self.mu);
            add_scaled(whole, start, -self.mu);
        }
        Ok(())
    }
}

impl Slot<'_> {
    pub(super) fn len(&self) -> usize {
        match &self.tensor {
            SlotTensor::Vector(tensor) => tensor.shape().num_elements(),
            SlotTensor::Matrix(tensor) | SlotTensor::Table(tensor) | SlotTensor::Words(tensor) => {
                tensor.shape().num_elements()
            }
        }
    }

    /// The values, in the order of the tensor.
    fn raw(&self) -> Result<Vec<f32>, Error> {
        match &self.tensor {
            SlotTensor::Vector(tensor) => values((**tensor).clone()),
            SlotTensor::Matrix(tensor) | SlotTensor::Table(tensor) | SlotTensor::Words(tensor) => {
                values((**tensor).clone())
            }
        }
    }

    /// The gradient, in the order of the tensor; zeros where the loss does not depend on it.
    /// Empty for the word embedding, whose gradient comes by rows.
    pub(super) fn gradient(&self, gradients: &mut Gradients) -> Result<Vec<f32>, Error> {
        let gradient = match &self.tensor {
            SlotTensor::Vector(tensor) => tensor.grad_remove(gradients).map(values),
            SlotTensor::Matrix(tensor) | SlotTensor::Table(tensor) => {
                tensor.grad_remove(gradients).map(values)
            }
            SlotTensor::Words(_) => Some(Ok(Vec::new())),
        };
        gradient.unwrap_or_else(|| Ok(vec![0.0; self.len()]))
    }

    /// `values` in the order of the tensor, as a Hugging Face file has them.
    pub(super) fn as_filed<T: Copy>(&self, values: &[T]) -> Vec<T> {
        match &self.tensor {
            SlotTensor::Matrix(tensor) => {
                let [inputs, outputs] = tensor.dims();
                let row = |to| (0..inputs).map(move |from| values[from * outputs + to]);
                (0..outputs).flat_map(row).collect()
            }
            SlotTensor::Vector(_) | SlotTensor::Table(_) | SlotTensor::Words(_) => values.to_vec(),
        }
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
impl Gradient {
    /// As one vector, the word embedding's with the others.
    pub(super) fn flat(&self, bert: &mut Bert) -> Vec<f32> {
        let slots = bert.trained().into_iter().zip(&self.whole);
        let flat = slots.map(|(slot, whole)| match &slot.tensor {
            SlotTensor::Words(words) if whole.is_empty() => self.by_words.dense(words.dims()),
            SlotTensor::Vector(_)
            | SlotTensor::Matrix(_)
            | SlotTensor::Table(_)
            | SlotTensor::Words(_) => whole.clone(),
        });
        flat.flatten().collect()
    }

    /// By the name of each weight, laid out as a Hugging Face file has it.
    pub(super) fn as_filed(&self, bert: &mut Bert) -> Vec<(String, Vec<f32>)> {
        let filed = |slot: Slot<'_>, whole: &Vec<f32>| {
            let gradient = if let SlotTensor::Words(words) = &slot.tensor
                && whole.is_empty()
            {
                self.by_words.dense(words.dims())
            } else {
                slot.as_filed(whole)
            };
            (slot.name, gradient)
        };
        let slots = bert.trained().into_iter().zip(&self.whole);
        slots.map(|(slot, whole)| filed(slot, whole)).collect()
    }
}
