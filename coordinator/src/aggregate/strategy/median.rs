//! The coordinate-wise median: Yin, Chen, Ramchandran and Bartlett 2018, Definition 1.

use fedner_shared::update::Middle;

use super::trimmed_mean::MiddleSum;
use super::{Combination, Member, Strategy};

#[derive(Debug)]
pub(super) struct Median;

impl Strategy for Median {
    /// Of an even number of values, the sum of the middle two, of which two are one grid step.
    fn combination(&self, members: &[Member]) -> Box<dyn Combination> {
        Box::new(MiddleSum(Middle::new(members.len(), members.len())))
    }
}
