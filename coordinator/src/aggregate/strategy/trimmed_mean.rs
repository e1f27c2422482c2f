//! The coordinate-wise trimmed mean: Yin, Chen, Ramchandran and Bartlett 2018, Definition 2.

use fedner_shared::update::Middle;

use super::fedavg::WeightedSum;
use super::{Block, Combination, Member, Strategy};
use crate::aggregate::Error;

#[derive(Debug)]
pub(super) struct TrimmedMean {
    pub(super) trim: f64,
}

impl TrimmedMean {
    /// ⌊trim · n⌋, where a product that decimal fractions make just less than whole counts as whole.
    /// Of three and more at least one, so that who keeps others from sending does not switch it off.
    fn left_out(&self, count: usize) -> usize {
        let part = (self.trim * count as f64 + 1e-9) as usize;
        let least = usize::from(self.trim > 0.0 && count >= 3);
        part.max(least)
    }
}

impl Strategy for TrimmedMean {
    fn combination(&self, members: &[Member]) -> Box<dyn Combination> {
        match self.left_out(members.len()) {
            0 => Box::new(WeightedSum(vec![1; members.len()])),
            trim => Box::new(MiddleSum(Middle::new(members.len(), trim))),
        }
    }
}

/// Of each weight, the sum of its middle values, of which as many as are kept are one grid step.
#[derive(Debug)]
pub(super) struct MiddleSum(pub(super) Middle);

impl Combination for MiddleSum {
    fn divisor(&self) -> u64 {
        self.0.kept() as u64
    }

    fn combine(&self, block: &mut Block<'_>, sums: &mut [i64]) -> Result<(), Error> {
        self.0.sum(block.rows()?, sums);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_that_decimals_do_not_hold_are_what_they_say() {
        let left_out = |trim, count| TrimmedMean { trim }.left_out(count);
        assert_eq!(left_out(0.29, 100), 29);
        assert_eq!(
            [1, 2, 3, 4, 5, 9, 10].map(|n| left_out(0.2, n)),
            [0, 0, 1, 1, 1, 1, 2]
        );
        assert_eq!(left_out(0.0, 1000), 0);
    }
}
