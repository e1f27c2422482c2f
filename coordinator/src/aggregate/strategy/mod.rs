//! The rules by which the updates of a round become one. Each is exact in integers.
//!
//! A rule says what it makes of one block of all updates, in whole numbers, and of how many grid
//! steps one of these is a part. So neither the order of updates nor the cut of the stream can
//! change a bit. `plan::Strategy::ALL` lists the rules; the tests go over all of them.

mod fedavg;
mod median;
mod multi_krum;
pub(super) mod norm_clipped_mean;
mod trimmed_mean;

use std::fmt;

use fedner_shared::plan::Rule;
use fedner_shared::update::{BLOCK, Sums, add_scaled};

use super::Error;

/// What a rule may know of an update before the sum begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// n_k; at most 2^31.
    pub(super) weight: i32,
    /// ‖x_k‖²; 0 unless the rule [reads](Strategy::reads) norms.
    pub(super) squared_norm: u128,
    /// ‖x_k − x_l‖² to each member l, itself among them; empty unless the rule reads distances.
    pub(super) squared_distances: Vec<u128>,
}

/// What a rule must know before the sum begins. For anything the updates are read twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    Nothing,
    Norms,
    Distances,
}

/// How updates become one.
pub(super) trait Strategy: fmt::Debug {
    fn reads(&self) -> Reads {
        Reads::Nothing
    }

    /// What it does with the updates of these members. Their weights are not all zero.
    fn combination(&self, members: &[Member]) -> Box<dyn Combination>;
}

/// How the blocks of given updates become one.
pub(super) trait Combination: fmt::Debug + Sync {
    /// How many units of the sums one grid step has, where those updates count that `takes_part`. Rules that do not
    /// weigh count all.
    fn divisor(&self, takes_part: &dyn Fn(usize) -> bool) -> u64;

    /// Writes what it makes of one block of all updates into `sums`, which are zero.
    fn combine(&self, block: &mut Block<'_>, sums: &mut [i64]) -> Result<(), Error>;
}

/// One block of all updates: the values of each are decoded when they are asked for.
pub(super) struct Block<'a> {
    pub(super) updates: &'a dyn Updates,
    /// Which of the blocks that lie ready.
    pub(super) number: usize,
    pub(super) members: usize,
    pub(super) scratch: &'a mut Scratch,
}

/// All updates of a round, of each of which the same blocks lie ready.
pub(super) trait Updates: Sync {
    /// Decodes a block of one member's; how many values it has.
    fn decode(
        &self,
        member: usize,
        block: usize,
        values: &mut [i32; BLOCK],
    ) -> Result<usize, Error>;

    /// No value of that block is longer than this.
    fn largest(&self, member: usize, block: usize) -> u32;

    /// Adds `weight` times each value of that block.
    fn add(&self, member: usize, block: usize, weight: i32, sums: Sums<'_>) -> Result<(), Error>;
}

/// Memory that one thread uses for all of its blocks.
#[derive(Debug)]
pub(super) struct Scratch {
    values: Box<[i32; BLOCK]>,
    rows: Vec<i32>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            values: Box::new([0; BLOCK]),
            rows: Vec::new(),
        }
    }
}

impl Block<'_> {
    /// The values of one update.
    fn values(&mut self, member: usize) -> Result<&[i32], Error> {
        let values = &mut self.scratch.values;
        let count = self.updates.decode(member, self.number, values)?;
        Ok(&values[..count])
    }

    /// Adds `weights` times the values of all updates to `sums`, which hold them.
    fn add_all(&mut self, weights: &[i32], sums: &mut [i64]) -> Result<(), Error> {
        let (updates, number) = (self.updates, self.number);
        let largest = |(member, weight): (usize, &i32)| {
            u64::from(weight.unsigned_abs()) * u64::from(updates.largest(member, number))
        };
        let all = weights.iter().enumerate();
        let largest = all.clone().map(largest).fold(0u64, u64::saturating_add);
        if largest > i32::MAX as u64 {
            for (member, weight) in all {
                updates.add(member, number, *weight, Sums::Wide(sums))?;
            }
            return Ok(());
        }
        let narrow = &mut self.scratch.values[..sums.len()];
        narrow.fill(0);
        for (member, weight) in all {
            updates.add(member, number, *weight, Sums::Narrow(narrow))?;
        }
        add_scaled(sums, 1, narrow);
        Ok(())
    }

    /// The values of all updates, one after another.
    fn rows(&mut self) -> Result<&[i32], Error> {
        let Scratch { values, rows } = &mut *self.scratch;
        rows.clear();
        for member in 0..self.members {
            let count = self.updates.decode(member, self.number, values)?;
            rows.extend_from_slice(&values[..count]);
        }
        Ok(rows)
    }
}

/// The rule that a plan or a version names.
pub(super) fn of(rule: Rule) -> Box<dyn Strategy> {
    match rule {
        Rule::FedAvg => Box::new(fedavg::FedAvg),
        Rule::TrimmedMean { trim } => Box::new(trimmed_mean::TrimmedMean { trim }),
        Rule::Median => Box::new(median::Median),
        Rule::MultiKrum { trim } => Box::new(multi_krum::MultiKrum { trim }),
        Rule::NormClippedMean { factor } => Box::new(norm_clipped_mean::NormClippedMean { factor }),
    }
}
