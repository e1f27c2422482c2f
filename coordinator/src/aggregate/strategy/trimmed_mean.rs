//! The coordinate-wise trimmed mean: Yin, Chen, Ramchandran and Bartlett 2018, Definition 2.

use fedner_shared::plan::left_out;
use fedner_shared::update::Middle;

use super::fedavg::WeightedSum;
use super::{Block, Combination, Member, Strategy};
use crate::aggregate::Error;

#[derive(Debug)]
pub(super) struct TrimmedMean {
    pub(super) trim: f64,
}

impl Strategy for TrimmedMean {
    fn combination(&self, members: &[Member]) -> Box<dyn Combination> {
        match left_out(self.trim, members.len()) {
            0 => Box::new(WeightedSum(vec![1; members.len()])),
            trim => Box::new(MiddleSum(Middle::new(members.len(), trim))),
        }
    }
}

/// Of each weight, the sum of its middle values, of which as many as are kept are one grid step.
#[derive(Debug)]
pub(super) struct MiddleSum(pub(super) Middle);

impl Combination for MiddleSum {
    fn divisor(&self, _: &dyn Fn(usize) -> bool) -> u64 {
        self.0.kept() as u64
    }

    fn combine(&self, block: &mut Block<'_>, sums: &mut [i64]) -> Result<(), Error> {
        self.0.sum(block.rows()?, sums);
        Ok(())
    }
}
