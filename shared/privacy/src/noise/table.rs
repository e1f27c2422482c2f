//! The proposal: a cell of the line, drawn exactly by Walker's alias method.
//!
//! Every cell's weight is an integer and all weights add up to 2^128, so that a cell is drawn
//! exactly with 128 random bits: ten choose a slot and 118 are compared with the slot's threshold.
//! The first 32 of those decide unless they tie; [`Table::slot`] settles ties with the rest.
//!
//! The weights need not be the target's. With `E = e^(-φ)` at a cell's end nearest to zero, cell u
//! has a weight `W ≥ K·E`, proven by intervals, and acceptance with probability `K·e^(-φ(x)) / W`
//! makes up for the difference exactly.

use dashu_int::UBig;

use super::Error;
use super::interval::exp_minus;
use super::shape::Shape;

/// Slots of the alias table: 8 KiB, small enough to stay in the first-level cache.
pub(super) const SLOTS: usize = 1024;
/// Bits of a threshold: 2^128 / SLOTS.
const THRESHOLD_BITS: u32 = 118;
/// Bits of a threshold that are not in [`Slot::threshold`].
pub(super) const LOW_BITS: u32 = THRESHOLD_BITS - 32;
/// Fraction bits of the intervals from which weights are made.
const PRECISION: usize = 256;

/// A slot holds its own cell below the threshold and another at and above it. Cells are named by
/// the multiple of the cell width at which they begin.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slot {
    pub(super) threshold: u32,
    pub(super) own: i16,
    pub(super) other: i16,
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) shape: Shape,
    /// A cell is 2^width_bits integers wide; 0 where each integer is a cell of its own.
    pub(super) width_bits: u32,
    /// Whether cells carry a sign. Otherwise they are magnitudes, and the sign is a random bit.
    pub(super) signed: bool,
    /// The cell for everything beyond the others.
    pub(super) tail: i16,
    /// Width of a step of the tail, in cells.
    pub(super) tail_step: u64,
    pub(super) slots: Box<[Slot; SLOTS]>,
    low: Box<[u128]>,
    /// By slot; the tail's is the last that is not zero.
    weights: Vec<u128>,
    /// K, by which every e^(-φ) is multiplied.
    pub(super) total: UBig,
    first: i16,
}

impl Table {
    /// `tail_bits`: the tail begins where e^(-φ) = 2^-tail_bits.
    pub(super) fn new(shape: Shape, tail_bits: u32) -> Result<Self, Error> {
        shape.check()?;
        let reach = shape.reach(tail_bits);
        let signed = 2.0 * reach.ceil() < (SLOTS - 1) as f64;
        let room = (SLOTS - 1) as f64;
        let fits = |bits: &u32| (reach * (-f64::from(*bits)).exp2()).ceil() <= room;
        let width_bits = if signed {
            0
        } else {
            (0..64).find(fits).unwrap_or(0)
        };
        let width = f64::from(width_bits).exp2();
        let length = (reach / width).ceil().max(1.0) as i16;
        let first = if signed { -length } else { 0 };
        let tail_step = tail_step(shape, f64::from(length) * width, width);
        let mut table = Self {
            shape,
            width_bits,
            signed,
            tail: length,
            tail_step,
            slots: Box::new([Slot::default(); SLOTS]),
            low: Box::new([0; SLOTS]),
            weights: Vec::new(),
            total: UBig::ZERO,
            first,
        };
        table.weigh();
        table.fill_slots();
        Ok(table)
    }

    /// The weight of a cell, of 2^128.
    pub(super) fn weight(&self, cell: i16) -> UBig {
        UBig::from(self.weights[(cell - self.first) as usize])
    }

    /// By how much a tail step of number `step` makes each of its integers rarer than a whole
    /// cell's: 2^(step + 1) for the coin flips, and its width; twice that where other cells have
    /// their sign already.
    pub(super) fn tail_factor(&self, step: usize) -> UBig {
        let sides = if self.signed { 2u64 } else { 1 };
        UBig::from(sides * self.tail_step) << (step + 1)
    }

    /// The cell of a slot when `high` ties with its threshold; `low` are the bits after those.
    pub(super) fn slot(&self, slot: usize, high: u32, low: u128) -> i16 {
        let Slot {
            threshold,
            own,
            other,
        } = self.slots[slot];
        if (high, low) < (threshold, self.low[slot]) {
            own
        } else {
            other
        }
    }

    fn weigh(&mut self) {
        let cells: Vec<i16> = (self.first..=self.tail).collect();
        // Upper bounds of e^(-φ), the tail's with its factor.
        let bounds: Vec<UBig> = cells
            .iter()
            .map(|cell| {
                let magnitude = UBig::from(cell.unsigned_abs()) << self.width_bits as usize;
                let (_, high) = exp_minus(&self.shape.exponent(&magnitude), PRECISION);
                let is_tail = *cell == self.tail;
                if is_tail {
                    high * self.tail_factor(0)
                } else {
                    high
                }
            })
            .collect();
        let sum: UBig = bounds.iter().sum();
        // Rounding up adds at most one to each cell's weight.
        let spare = UBig::from(cells.len());
        self.total = (((UBig::ONE << 128) - spare) << PRECISION) / sum;
        self.weights = bounds
            .into_iter()
            .map(|bound| {
                let weight = ((bound * &self.total) >> PRECISION) + UBig::ONE;
                u128::try_from(weight).expect("every weight is below their sum, 2^128")
            })
            .collect();
        // What is missing from 2^128 goes to zero, whose weight only has to be large enough.
        let missing = self
            .weights
            .iter()
            .fold(0u128, |sum, weight| sum.wrapping_add(*weight))
            .wrapping_neg();
        let zero = -self.first as usize;
        self.weights[zero] += missing;
    }

    /// Vose's construction: a slot that is not full is filled up from one that has too much.
    fn fill_slots(&mut self) {
        let full = 1u128 << THRESHOLD_BITS;
        let mut left = self.weights.clone();
        left.resize(SLOTS, 0);
        let cell = |slot: usize| (slot as i16).saturating_add(self.first);
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..SLOTS).partition(|slot| left[*slot] < full);
        while let (Some(slot), Some(donor)) = (small.pop(), large.last().copied()) {
            self.slots[slot] = Slot {
                threshold: (left[slot] >> LOW_BITS) as u32,
                own: cell(slot),
                other: cell(donor),
            };
            self.low[slot] = left[slot] & ((1 << LOW_BITS) - 1);
            left[donor] -= full - left[slot];
            if left[donor] < full {
                large.pop();
                small.push(donor);
            }
        }
        // All that are left are exactly full: their threshold is never asked.
        for slot in large {
            self.slots[slot] = Slot {
                threshold: 0,
                own: cell(slot),
                other: cell(slot),
            };
        }
    }
}

/// The smallest power of two of cells over which e^(-φ) more than halves, from `begin` on; then
/// every later step halves it too, as φ is convex.
fn tail_step(shape: Shape, begin: f64, width: f64) -> u64 {
    // Above ln 2 by more than its own rounding.
    let halves = |cells: &u64| shape.rise(begin, *cells as f64 * width) > 0.7;
    (0..40).map(|k| 1 << k).find(halves).unwrap_or(1 << 40)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every cell's whole probability, added up over the slots.
    fn probabilities(table: &Table) -> Vec<u128> {
        let full = 1u128 << THRESHOLD_BITS;
        let mut found = vec![0u128; table.weights.len()];
        for (slot, low) in table.slots.iter().zip(&table.low) {
            let threshold = u128::from(slot.threshold) << LOW_BITS | low;
            for (cell, share) in [(slot.own, threshold), (slot.other, full - threshold)] {
                if share > 0 {
                    let cell = (cell - table.first) as usize;
                    found[cell] = found[cell].wrapping_add(share);
                }
            }
        }
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn slots_carry_the_weights_exactly(exponent in -2f64..40.0, laplace: bool, bits in 3u32..129) {
            let scale = exponent.exp2();
            let shape = if laplace { Shape::Laplace { scale } } else { Shape::Gaussian { sigma: scale } };
            let table = Table::new(shape, bits).expect("table");
            prop_assert_eq!(&probabilities(&table), &table.weights);
            let sum = table.weights.iter().fold(0u128, |sum, weight| sum.wrapping_add(*weight));
            prop_assert_eq!(sum, 0, "2^128 in all");
            for slot in table.slots.iter() {
                prop_assert!(slot.own <= table.tail || slot.threshold == 0);
                prop_assert!((table.first..=table.tail).contains(&slot.other));
            }
        }

        #[test]
        fn weights_are_above_the_target_and_close(exponent in -2f64..40.0) {
            let shape = Shape::Gaussian { sigma: exponent.exp2() };
            let table = Table::new(shape, 128).expect("table");
            for cell in table.first..=table.tail {
                let magnitude = UBig::from(cell.unsigned_abs()) << table.width_bits as usize;
                let (low, high) = exp_minus(&shape.exponent(&magnitude), 400);
                let factor = if cell == table.tail { table.tail_factor(0) } else { UBig::ONE };
                let weight = table.weight(cell) << 400;
                prop_assert!(high * &factor * &table.total <= weight, "cell {cell}");
                let slack = UBig::from(4 * SLOTS) << 400;
                prop_assert!(weight <= low * factor * &table.total + slack, "cell {cell}");
            }
        }

        #[test]
        fn each_tail_step_halves(exponent in -2f64..40.0, laplace: bool, step in 0u32..6) {
            let scale = exponent.exp2();
            let shape = if laplace { Shape::Laplace { scale } } else { Shape::Gaussian { sigma: scale } };
            let table = Table::new(shape, 40).expect("table");
            let begin = |step: u32| {
                let cells = u64::from(table.tail.unsigned_abs()) + table.tail_step * u64::from(step);
                UBig::from(cells) << table.width_bits as usize
            };
            let (_, high) = exp_minus(&shape.exponent(&begin(step)), 300);
            let weight = table.weight(table.tail) << 300;
            prop_assert!(high * table.tail_factor(step as usize) * &table.total <= weight);
        }
    }

    #[test]
    fn the_tail_of_a_product_table_is_a_matter_of_theory() {
        for sigma in [0.3, 20.0, 262_144.0, 1e12] {
            let table = Table::new(Shape::Gaussian { sigma }, 128).expect("table");
            assert!(table.weight(table.tail) < UBig::ONE << 20, "{sigma}");
        }
    }

    #[test]
    fn scales_that_are_none_are_refused() {
        for sigma in [0.0, -1.0, f64::NAN, f64::INFINITY, 2e12, 1e-310] {
            let table = Table::new(Shape::Gaussian { sigma }, 128);
            assert!(matches!(table, Err(Error::Scale { .. })), "{sigma}");
        }
    }
}
