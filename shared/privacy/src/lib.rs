#![doc = include_str!("../README.md")]
//!
//! ## Where it is
//!
//! [`sampling`] chooses the units of a step. [`dp_sgd_step`] releases their clipped sum, and [`step_share`] one
//! institution's part of a step that a cohort takes together.
//! [`release`](release::release) is the only way from weights to integers that may leave, and
//! [`counts`] from scores on held-out text. [`accountant`] says what a release costs, and
//! [`ledger`] whether that may still be paid.

pub mod accountant;
pub mod audit;
pub mod counts;
pub mod dp_sgd_step;
pub mod ledger;
pub mod noise;
pub mod release;
pub mod sampling;
pub mod sensitivity;
pub mod step_share;

#[cfg(test)]
mod golden;
