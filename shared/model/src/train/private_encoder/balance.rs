//! How much of a clip the head has, beside the encoder.

use std::ops::Range;

use crate::bert::{Bert, Slot};

/// The weight that the head's scores are linear in.
const WEIGHT: &str = "classifier.weight";

/// A unit's gradient by the head's weight counts λ = 1/√n times, n hidden states being read for a
/// word. They are of about the size 1, so that it would else be √n times as long as that by a
/// score, and leave little of the clip to the encoder. Clip and noise are those of the gradient in
/// these coordinates, λ is known to all, and what was released is taken back from them.
#[derive(Debug)]
pub(super) struct Balance {
    /// λ
    factor: f32,
    /// Of the head's weight among all that are trained.
    place: Range<usize>,
}

impl Balance {
    /// Of a head that reads `width` hidden states for a word.
    pub(super) fn new(bert: &mut Bert, width: usize) -> Self {
        let mut place = 0..0;
        for slot in bert.trained() {
            place = place.end..place.end + slot.len();
            if slot.name == WEIGHT {
                break;
            }
        }
        Self {
            factor: (width as f32).sqrt().recip(),
            place,
        }
    }

    /// Brings a gradient by `slot` into these coordinates.
    pub(super) fn enter(&self, slot: &Slot<'_>, gradient: &mut [f32]) {
        if slot.name == WEIGHT {
            for value in gradient {
                *value *= self.factor;
            }
        }
    }

    /// Takes a gradient by all that is trained back from them.
    pub(super) fn leave(&self, gradient: &mut [f32]) {
        for value in &mut gradient[self.place.clone()] {
            *value /= self.factor;
        }
    }
}
