//! Which activations of a forward pass are dropped.

use crate::kernels::Mask;

/// The source of one training's dropout masks.
#[derive(Debug, Clone)]
pub(crate) struct Dropout {
    seed: u64,
    /// The number of the next mask.
    next: u64,
    hidden: f64,
    attention: f64,
}

impl Dropout {
    /// Everything is kept: evaluation.
    pub(crate) const fn none() -> Self {
        Self::new(0.0, 0.0, 0)
    }

    /// Hidden states and attention weights are dropped with these probabilities.
    pub(crate) const fn new(hidden: f64, attention: f64, seed: u64) -> Self {
        Self {
            seed,
            next: 0,
            hidden,
            attention,
        }
    }

    /// How many masks were drawn so far.
    pub(crate) const fn drawn(&self) -> u64 {
        self.next
    }

    /// Goes on as after so many masks.
    pub(crate) const fn skip_to(&mut self, drawn: u64) {
        self.next = drawn;
    }

    pub(super) fn hidden(&mut self) -> Option<Mask> {
        self.mask(self.hidden)
    }

    pub(super) fn attention(&mut self) -> Option<Mask> {
        self.mask(self.attention)
    }

    fn mask(&mut self, probability: f64) -> Option<Mask> {
        let mask = Mask::new(probability, self.seed, self.next);
        self.next += 1;
        mask
    }
}
