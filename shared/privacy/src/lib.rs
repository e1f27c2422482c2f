#![doc = include_str!("../README.md")]
//!
//! ## Where it is
//!
//! [`sampling`] chooses the units of a step, and [`sum`] releases their clipped sum.
//! [`release`](release::release) is the only way from weights to integers that may leave, and
//! [`counts`] from scores on held-out text. [`accountant`] says what a release costs, and
//! [`ledger`] whether that may still be paid.

pub mod accountant;
pub mod audit;
mod clip;
pub mod counts;
pub mod ledger;
pub mod noise;
pub mod release;
mod round;
pub mod sampling;
pub mod sensitivity;
pub mod sum;

#[cfg(test)]
mod golden;
