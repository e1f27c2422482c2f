//! Distributions of lengths.

use std::collections::BTreeMap;

use serde::Serialize;

/// A distribution of sentence lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Lengths {
    pub min: usize,
    pub median: usize,
    /// 95 % of the sentences are no longer.
    pub p95: usize,
    pub p99: usize,
    pub max: usize,
}

/// How many sentences have which length.
#[derive(Debug, Clone, Default)]
pub(super) struct Histogram {
    counts: BTreeMap<usize, usize>,
    total: usize,
}

impl Histogram {
    pub(super) fn add(&mut self, length: usize) {
        *self.counts.entry(length).or_default() += 1;
        self.total += 1;
    }

    pub(super) fn lengths(&self) -> Lengths {
        let Some(last) = self.total.checked_sub(1) else {
            return Lengths::default();
        };
        let at = |percent: usize| self.nth((last * percent).div_ceil(100));
        Lengths {
            min: at(0),
            median: at(50),
            p95: at(95),
            p99: at(99),
            max: at(100),
        }
    }

    /// The length at a place of the sorted lengths.
    fn nth(&self, place: usize) -> usize {
        let mut before = 0;
        for (length, count) in &self.counts {
            before += count;
            if before > place {
                return *length;
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted_lengths() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.lengths(), Lengths::default());
        let lengths: Vec<usize> = (0..1000).map(|i| (i * 7919) % 61).collect();
        for length in &lengths {
            histogram.add(*length);
        }
        let mut sorted = lengths;
        sorted.sort_unstable();
        let expected = Lengths {
            min: sorted[0],
            median: sorted[500],
            p95: sorted[950],
            p99: sorted[990],
            max: sorted[999],
        };
        assert_eq!(histogram.lengths(), expected);
    }
}
