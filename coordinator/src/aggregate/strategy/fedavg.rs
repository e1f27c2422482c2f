//! The weighted mean: McMahan et al. 2017, Algorithm 1.

use super::{Block, Combination, Member, Strategy};
use crate::aggregate::Error;

#[derive(Debug)]
pub(super) struct FedAvg;

impl Strategy for FedAvg {
    fn combination(&self, members: &[Member]) -> Box<dyn Combination> {
        Box::new(WeightedSum(members.iter().map(|m| m.weight).collect()))
    }
}

/// Σ n_k x_k, of which Σ n_k are one grid step.
#[derive(Debug)]
pub(super) struct WeightedSum(pub(super) Vec<i32>);

impl Combination for WeightedSum {
    fn divisor(&self, takes_part: &dyn Fn(usize) -> bool) -> u64 {
        let parts = self.0.iter().enumerate();
        let parts = parts.filter(|(member, _)| takes_part(*member));
        parts
            .map(|(_, weight)| u64::from(weight.unsigned_abs()))
            .sum()
    }

    fn combine(&self, block: &mut Block<'_>, sums: &mut [i64]) -> Result<(), Error> {
        // The plan was checked: institutions · weight · bound is below 2^62.
        block.add_all(&self.0, sums)
    }
}
