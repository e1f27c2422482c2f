//! The sampler: proposals in blocks, acceptance lane by lane.
//!
//! A lane takes one word of 64 bits and one of `width_bits` or more:
//!
//! | bits | use |
//! |---|---|
//! | 0–9 | slot of the alias table |
//! | 10 | sign, where cells are magnitudes |
//! | 11–30 | R, the first 20 bits of the uniform number U that accepts |
//! | 32–63 | first bits of the number that is compared with the slot's threshold |
//! | second word | v, the place within the cell |
//!
//! The candidate is `y = u·2^k + v`, or −1 − y with the sign set, with magnitude m; it is accepted
//! if `U < K·e^(-φ(m)) / W_u`. In f32 that probability is known to within one part in 2^20
//! ([`Approximation`]); where R is nearer to it than that, or the threshold tied, or the cell is
//! the tail, [`Sampler::settle`] decides by intervals of growing precision and further bits of U.
//! So the decision is always the one that the real numbers U and e^(-φ) give, and the accepted
//! integers have probabilities exactly proportional to e^(-φ).
//!
//! What is constant: every lane takes the same random bits, one load from a table of 8 KiB, and the same
//! arithmetic without branches; lanes that are rejected are left out by a store that is overwritten. What is
//! not: how many lanes a value takes, which says nothing about the value kept; and the lanes to settle, about
//! three in 2^20. Whether a lane is among these depends on R and on ties. Their chances are the same for
//! every value to within a factor of two, except that values rarer than 2^-42 are always among them. Cache
//! lines within the table are not hidden from a process that shares the core.

use dashu_int::UBig;
use pulp::{Arch, NullaryFnOnce};
use rand::Rng;

use super::Error;
use super::generator::Generator;
use super::interval::exp_minus;
use super::shape::Shape;
use super::table::{LOW_BITS, SLOTS, Table};

/// Candidates in a block.
const LANES: usize = 512;
/// From these fraction bits on the intervals that settle a lane are refined.
const FIRST_PRECISION: usize = 192;
/// Bits of R.
const ACCEPT_BITS: u32 = 20;
/// The tail of a table begins where probabilities are 2^-128 of the largest.
const TAIL_BITS: u32 = 128;

/// Draws integers with P(x) exactly proportional to e^(-φ(|x|)). Immutable, so that threads share
/// it; making one takes milliseconds. The lemma *sampler* of the [crate] states it.
#[derive(Debug)]
pub struct Sampler {
    table: Table,
    approximation: Approximation,
}

impl Sampler {
    /// The scale must be normal, positive and at most 2^40.
    pub fn new(shape: Shape) -> Result<Self, Error> {
        Self::with_tail(shape, TAIL_BITS)
    }

    /// A nearer tail is right too, and slower. Tests use it to reach the tail at all.
    pub(super) fn with_tail(shape: Shape, tail_bits: u32) -> Result<Self, Error> {
        let table = Table::new(shape, tail_bits)?;
        let approximation = Approximation::of(&table);
        Ok(Self {
            table,
            approximation,
        })
    }

    pub fn shape(&self) -> Shape {
        self.table.shape
    }

    /// Fills `noise` with independent draws.
    pub fn fill(&self, generator: &mut Generator, noise: &mut [i64]) {
        let mut block = Block::default();
        let mut filled = 0;
        while filled < noise.len() {
            self.propose(generator, &mut block);
            filled += block.keep(&mut noise[filled..]);
        }
    }

    /// One draw, in the time of a block.
    pub fn draw(&self, generator: &mut Generator) -> i64 {
        let mut noise = [0];
        self.fill(generator, &mut noise);
        noise[0]
    }

    fn propose(&self, generator: &mut Generator, block: &mut Block) {
        generator
            .bulk()
            .fill_bytes(bytemuck::cast_slice_mut(&mut block.words));
        let narrow = self.table.width_bits <= 16;
        if narrow {
            generator
                .bulk()
                .fill_bytes(bytemuck::cast_slice_mut(&mut block.narrow));
        } else {
            generator
                .bulk()
                .fill_bytes(bytemuck::cast_slice_mut(&mut block.wide));
        }
        let undecided = Arch::new().dispatch(Decide {
            sampler: self,
            block,
            narrow,
        });
        if undecided {
            self.settle_block(generator, block, narrow);
        }
    }

    #[cold]
    fn settle_block(&self, generator: &mut Generator, block: &mut Block, narrow: bool) {
        for lane in 0..LANES {
            if block.tied[lane] | block.near[lane] != 0 {
                let v = if narrow {
                    u64::from(block.narrow[lane])
                } else {
                    block.wide[lane]
                };
                let settled = self.settle(generator, block.words[lane], v);
                block.accepted[lane] = u32::from(settled.is_some());
                block.values[lane] = settled.unwrap_or(0);
            }
        }
    }

    /// A lane in exact arithmetic, from its random words on.
    fn settle(&self, generator: &mut Generator, word: u64, place: u64) -> Option<i64> {
        let table = &self.table;
        let slot = word as usize & (SLOTS - 1);
        let high = (word >> 32) as u32;
        let cell = table.slot(slot, high, generator.spare_bits(LOW_BITS));
        let mut place = place & ((1 << table.width_bits) - 1);
        let negative = word >> 10 & 1 == 1 && (!table.signed || cell == table.tail);
        let (mut begin, mut factor) = (i64::from(cell), UBig::ONE);
        if cell == table.tail {
            // Steps further out are each half as likely as the one before.
            let mut step = 0;
            while generator.spare_bits(1) == 1 {
                step += 1;
            }
            begin += (table.tail_step * step as u64) as i64;
            factor = table.tail_factor(step);
            let bits = table.width_bits + table.tail_step.trailing_zeros();
            place = generator.spare_bits(bits) as u64;
        }
        let y = (begin << table.width_bits) + place as i64;
        let x = if negative { -1 - y } else { y };
        let uniform = word >> 11 & ((1 << ACCEPT_BITS) - 1);
        let scale = factor * &table.total;
        let weight = table.weight(cell);
        self.accepts(generator, uniform, x, &scale, &weight)
            .then_some(x)
    }

    /// Whether U < scale · e^(-φ(x)) / weight, where U begins with the bits of `uniform`.
    fn accepts(
        &self,
        generator: &mut Generator,
        uniform: u64,
        x: i64,
        scale: &UBig,
        weight: &UBig,
    ) -> bool {
        let exponent = self.table.shape.exponent(&UBig::from(x.unsigned_abs()));
        let (mut uniform, mut bits) = (UBig::from(uniform), ACCEPT_BITS as usize);
        let mut precision = FIRST_PRECISION;
        loop {
            let (low, high) = exp_minus(&exponent, precision);
            // U lies in [uniform, uniform + 1] / 2^bits; all sides times 2^bits · 2^precision · weight.
            let (from, to) = (&uniform * weight, (&uniform + UBig::ONE) * weight);
            if to << precision <= (low * scale) << bits {
                return true;
            }
            if from << precision >= (high * scale) << bits {
                return false;
            }
            uniform = (uniform << 64) + UBig::from(generator.spare_bits(64));
            bits += 64;
            precision += 64;
        }
    }
}

/// All lanes of a block at once; whether any must be settled. A closure of this size would not be
/// compiled into the vector unit's instructions.
struct Decide<'a> {
    sampler: &'a Sampler,
    block: &'a mut Block,
    narrow: bool,
}

impl NullaryFnOnce for Decide<'_> {
    type Output = bool;

    #[inline(always)]
    #[allow(clippy::inline_always, reason = "see above")]
    fn call(self) -> bool {
        let tied = self.block.look_up(&self.sampler.table);
        let near = if self.narrow {
            self.block.accept_narrow(&self.sampler.approximation)
        } else {
            self.block.accept_wide(&self.sampler.approximation)
        };
        tied | near
    }
}

/// What a lane needs to know of the table, in the types of the vector unit.
///
/// Errors, in units of 2^-24: v/2^k rounds once, the sum of the slopes' terms three times and the
/// slopes once, so that t ≤ 0.36 is off by at most 2.2; the polynomial adds 0.5 by its missing terms
/// (0.36^8/8!) and 3 by its roundings; W ≥ K·E is above by less than 2^-80 of it wherever a lane
/// is not settled. Together less than 6/2^24 < 1/2 of a unit of R.
#[derive(Debug, Clone, Copy)]
struct Approximation {
    width_bits: u32,
    /// 1 where the sign is a random bit.
    sign: u32,
    place: u64,
    per_width: f32,
    slopes: [f32; 3],
}

impl Approximation {
    fn of(table: &Table) -> Self {
        let width = f64::from(table.width_bits).exp2();
        Self {
            width_bits: table.width_bits,
            sign: u32::from(!table.signed),
            place: (1 << table.width_bits) - 1,
            per_width: width.recip() as f32,
            slopes: table.shape.slopes(width),
        }
    }

    /// 2^20 times the probability to accept s integers beyond the beginning of cell u, to within
    /// 1/2; `z` is s in cells.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "part of one vector loop")]
    fn probability(&self, u: f32, z: f32) -> f32 {
        let [a, b, c] = self.slopes;
        let t = z * (a * u + b * z + c);
        let mut p = 1.0 / 5040.0;
        for coefficient in [
            1.0 / 720.0,
            1.0 / 120.0,
            1.0 / 24.0,
            1.0 / 6.0,
            0.5,
            1.0,
            1.0f32,
        ] {
            p = coefficient - p * t;
        }
        p * (1u32 << ACCEPT_BITS) as f32
    }
}

/// Buffers of one block; each array has one element a lane.
#[derive(Debug)]
struct Block {
    words: [u64; LANES],
    narrow: [u16; LANES],
    wide: [u64; LANES],
    /// The words' lower halves.
    lower: [u32; LANES],
    cell: [i32; LANES],
    /// Not zero where the threshold tied or the cell is the tail.
    tied: [u32; LANES],
    /// Not zero where R is too near to the probability.
    near: [u32; LANES],
    accepted: [u32; LANES],
    values: [i64; LANES],
}

impl Default for Block {
    fn default() -> Self {
        Self {
            words: [0; LANES],
            narrow: [0; LANES],
            wide: [0; LANES],
            lower: [0; LANES],
            cell: [0; LANES],
            tied: [0; LANES],
            near: [0; LANES],
            accepted: [0; LANES],
            values: [0; LANES],
        }
    }
}

#[allow(
    clippy::inline_always,
    reason = "vector code needs the whole loop in one function"
)]
impl Block {
    /// Finds each lane's cell; whether any lane must be settled.
    #[inline(always)]
    fn look_up(&mut self, table: &Table) -> bool {
        let mut any = 0;
        for lane in 0..LANES {
            let word = self.words[lane];
            let slot = table.slots[word as usize & (SLOTS - 1)];
            let high = (word >> 32) as u32;
            let cell = if high < slot.threshold {
                slot.own
            } else {
                slot.other
            };
            let tied = u32::from(high == slot.threshold) | u32::from(cell == table.tail);
            self.lower[lane] = word as u32;
            self.cell[lane] = i32::from(cell);
            self.tied[lane] = tied;
            any |= tied;
        }
        any != 0
    }

    /// Makes each lane's value and decides on it; whether any lane must be settled.
    #[inline(always)]
    fn accept_narrow(&mut self, by: &Approximation) -> bool {
        let mut any = 0;
        for lane in 0..LANES {
            let sign = self.lower[lane] >> 10 & by.sign;
            let place = u32::from(self.narrow[lane]) & by.place as u32;
            let y = self.cell[lane].wrapping_shl(by.width_bits) | place as i32;
            self.values[lane] = i64::from(y ^ (sign as i32).wrapping_neg());
            any |= self.decide(lane, place.wrapping_add(sign) as i32 as f32, by);
        }
        any != 0
    }

    /// The same for cells wider than 2^16.
    #[inline(always)]
    fn accept_wide(&mut self, by: &Approximation) -> bool {
        let mut any = 0;
        for lane in 0..LANES {
            let sign = u64::from(self.lower[lane] >> 10 & by.sign);
            let place = self.wide[lane] & by.place;
            let y = i64::from(self.cell[lane]).wrapping_shl(by.width_bits) | place as i64;
            self.values[lane] = y ^ (sign as i64).wrapping_neg();
            any |= self.decide(lane, place.wrapping_add(sign) as i64 as f32, by);
        }
        any != 0
    }

    /// Decides on a lane `z` integers beyond the beginning of its cell; not zero if it cannot.
    #[inline(always)]
    fn decide(&mut self, lane: usize, z: f32, by: &Approximation) -> u32 {
        let limit = by.probability(self.cell[lane] as f32, z * by.per_width) as i32;
        let r = (self.lower[lane] >> 11 & ((1 << ACCEPT_BITS) - 1)) as i32;
        let accepted = u32::from(r < limit.wrapping_sub(1));
        let near = u32::from(r <= limit.wrapping_add(1)) ^ accepted;
        self.accepted[lane] = accepted;
        self.near[lane] = near;
        near
    }

    /// Copies accepted values until `noise` is full; how many.
    fn keep(&self, noise: &mut [i64]) -> usize {
        let mut kept = [0; LANES + 1];
        let mut count = 0;
        for lane in 0..LANES {
            kept[count] = self.values[lane];
            count += self.accepted[lane] as usize;
        }
        let taken = count.min(noise.len());
        noise[..taken].copy_from_slice(&kept[..taken]);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(sampler: &Sampler, words: &[u64], places: &[u64]) -> Block {
        let mut block = Block::default();
        block.words[..words.len()].copy_from_slice(words);
        block.wide[..words.len()].copy_from_slice(places);
        for (narrow, wide) in block.narrow.iter_mut().zip(block.wide) {
            *narrow = wide as u16;
        }
        block.look_up(&sampler.table);
        if sampler.table.width_bits <= 16 {
            block.accept_narrow(&sampler.approximation);
        } else {
            block.accept_wide(&sampler.approximation);
        }
        block
    }

    /// Lanes that are decided in floating point are decided as exact arithmetic does, also where R
    /// is next to the probability; and those that are not are few.
    #[test]
    fn approximation_never_decides_wrongly() {
        let mut generator = Generator::from_seed([7; 32]);
        let shapes = [0.3, 1.0, 30.0, 39.0, 70.0, 262_144.0, 1e6, 1e7, 1e12]
            .map(|sigma| Shape::Gaussian { sigma })
            .into_iter()
            .chain([3.0, 6.0, 11.0, 1e5, 1e9].map(|scale| Shape::Laplace { scale }));
        for shape in shapes {
            let sampler = Sampler::new(shape).expect("sampler");
            let mut near = 0;
            for _ in 0..3 {
                let mut words: [u64; LANES] = std::array::from_fn(|_| generator.bulk().next_u64());
                let places: [u64; LANES] = std::array::from_fn(|_| generator.bulk().next_u64());
                let block = lanes(&sampler, &words, &places);
                // In one lane of sixteen, R moved next to the probability.
                for lane in (0..LANES).step_by(16).filter(|lane| block.tied[*lane] == 0) {
                    let with = |r: u64| words[lane] & !(0xf_ffff << 11) | r << 11;
                    let (mut below, mut above) = (0, 1 << ACCEPT_BITS);
                    while above - below > 1 {
                        let middle = u64::midpoint(below, above);
                        let one = lanes(&sampler, &[with(middle)], &[places[lane]]);
                        if one.accepted[0] == 1 {
                            below = middle;
                        } else {
                            above = middle;
                        }
                    }
                    let offset = lane as u64 / 16 % 7;
                    let r = (below + offset)
                        .saturating_sub(1)
                        .min((1 << ACCEPT_BITS) - 1);
                    words[lane] = with(r);
                }
                let block = lanes(&sampler, &words, &places);
                for lane in 0..LANES {
                    if block.tied[lane] | block.near[lane] != 0 {
                        near += 1;
                        continue;
                    }
                    let place = if sampler.table.width_bits <= 16 {
                        places[lane] & 0xffff
                    } else {
                        places[lane]
                    };
                    let settled = sampler.settle(&mut generator, words[lane], place);
                    let fast = (block.accepted[lane] == 1).then_some(block.values[lane]);
                    assert_eq!(
                        fast, settled,
                        "{shape:?}: word {:x}, place {place:x}",
                        words[lane]
                    );
                }
            }
            assert!(near < 3 * 32, "{shape:?}: {near} lanes undecided");
        }
    }

    /// A number of which R is only the beginning is decided by its later bits, with the chance that
    /// the probability leaves.
    #[test]
    fn later_bits_settle_what_r_cannot() {
        let sampler = Sampler::new(Shape::Gaussian { sigma: 1.0 }).expect("sampler");
        let mut generator = Generator::from_seed([3; 32]);
        // e^(-1/2) · 2^20 = 635995.4…: R = 635995 is accepted with the chance of the fraction.
        let exact = (-0.5f64).exp() * 1_048_576.0;
        let count = 4000;
        let one = UBig::ONE;
        let accepted = (0..count)
            .filter(|_| sampler.accepts(&mut generator, exact as u64, 1, &one, &one))
            .count();
        let expected = exact.fract() * f64::from(count);
        assert!(
            (accepted as f64 - expected).abs() < 6.0 * 32.0,
            "{accepted}, expected {expected}"
        );
        assert!(sampler.accepts(&mut generator, exact as u64 - 1, 1, &one, &one));
        assert!(!sampler.accepts(&mut generator, exact as u64 + 1, -1, &one, &one));
    }
}
