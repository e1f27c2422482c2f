//! Adding up the middle of many values, weight by weight.

use crate::vector::vectorized;

/// Weights sorted side by side.
const LANES: usize = 16;

/// Sorts n values by comparing pairs of places that n alone decides (Batcher 1968; Knuth, The Art of
/// Computer Programming, volume 3, 5.3.4 and algorithm 5.2.2M), so that many weights are sorted at
/// once and take the same time whatever their values.
#[derive(Debug, Clone)]
pub struct Middle {
    /// Places to compare, one after another: the smaller value goes to the first.
    pairs: Vec<(usize, usize)>,
    count: usize,
    trim: usize,
}

impl Middle {
    /// For `count` values of which `trim` at either end are left out: at least one is kept.
    pub fn new(count: usize, trim: usize) -> Self {
        let trim = trim.min(count.saturating_sub(1) / 2);
        // Without ends to leave out, the order does not matter.
        let pairs = if trim == 0 { Vec::new() } else { pairs(count) };
        Self { pairs, count, trim }
    }

    /// How many values are added up.
    pub fn kept(&self) -> usize {
        self.count - 2 * self.trim
    }

    /// Writes, of each weight, the sum of its middle values. `rows` has the values of one update after
    /// those of another, `sums.len()` each.
    pub fn sum(&self, rows: &[i32], sums: &mut [i64]) {
        let mut tile = vec![[0i32; LANES]; self.count];
        for start in (0..sums.len()).step_by(LANES) {
            let lanes = LANES.min(sums.len() - start);
            let sums = &mut sums[start..start + lanes];
            for (tile, row) in tile
                .iter_mut()
                .zip(rows.chunks_exact(rows.len() / self.count))
            {
                tile[..lanes].copy_from_slice(&row[start..start + lanes]);
            }
            vectorized(
                #[inline(always)]
                || self.sum_of(&mut tile, sums),
            );
        }
    }

    #[inline(always)]
    #[allow(
        clippy::inline_always,
        reason = "only what is inlined into `dispatch` is compiled for the processor's instructions"
    )]
    fn sum_of(&self, tile: &mut [[i32; LANES]], sums: &mut [i64]) {
        for (first, second) in &self.pairs {
            let (a, b) = (tile[*first], tile[*second]);
            for lane in 0..LANES {
                tile[*first][lane] = a[lane].min(b[lane]);
                tile[*second][lane] = a[lane].max(b[lane]);
            }
        }
        let mut total = [0i64; LANES];
        for row in &tile[self.trim..self.count - self.trim] {
            for (total, value) in total.iter_mut().zip(row) {
                *total += i64::from(*value);
            }
        }
        sums.copy_from_slice(&total[..sums.len()]);
    }
}

fn pairs(count: usize) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    let largest = count.next_power_of_two() / 2;
    let mut p = largest;
    while p > 0 {
        let (mut q, mut r, mut d) = (largest, 0, p);
        loop {
            let places = 0..count.saturating_sub(d);
            pairs.extend(places.filter(|i| i & p == r).map(|i| (i, i + d)));
            if q == p {
                break;
            }
            (d, q, r) = (q - p, q / 2, p);
        }
        p /= 2;
    }
    pairs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_middle_is_that_of_sorted_values(
            count in 1usize..40,
            trim in 0usize..20,
            weights in 1usize..50,
            seed: u64,
            shift in 0u32..32,
        ) {
            let draw = |i: usize| {
                let mixed = (i as u64 + 1).wrapping_mul(seed | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (mixed >> 32) as i32 >> shift
            };
            let rows: Vec<i32> = (0..count * weights).map(draw).collect();
            let middle = Middle::new(count, trim);
            prop_assert!(middle.kept() >= 1);
            let mut sums = vec![7; weights];
            middle.sum(&rows, &mut sums);
            let trim = (count - middle.kept()) / 2;
            for (weight, sum) in sums.iter().enumerate() {
                let mut values: Vec<i32> = rows.iter().skip(weight).step_by(weights).copied().collect();
                values.sort_unstable();
                let kept = values[trim..count - trim].iter().map(|v| i64::from(*v));
                prop_assert_eq!(*sum, kept.sum::<i64>());
            }
        }
    }

    /// By the zero-one principle, a network that sorts all vectors of zeros and ones sorts.
    #[test]
    fn every_number_of_values_is_sorted() {
        for count in 1..=12usize {
            let pairs = pairs(count);
            for bits in 0u32..1 << count {
                let mut values: Vec<u32> = (0..count).map(|at| bits >> at & 1).collect();
                for (first, second) in &pairs {
                    if values[*first] > values[*second] {
                        values.swap(*first, *second);
                    }
                }
                assert!(values.is_sorted(), "{count} {bits:b}");
            }
        }
    }
}
