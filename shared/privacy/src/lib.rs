//! Clipping, exact noise, privacy accountants and the rules of the ledger.
//!
//! What this crate guarantees, for the unit `institution`: everything that a coordinator, another
//! institution or a reader of the published models sees of one institution's updates is
//! differentially private in everything that institution holds. *Neighbouring* means that the
//! institution's whole update of a round is replaced by the zero update, which is also what a
//! round without the institution would add (zero-out adjacency). So the sensitivity is the
//! largest norm one released integer vector may have before noise, see [`sensitivity`]. Against
//! the stronger neighbouring relation in which one data set is replaced by any other, the
//! sensitivity doubles and every ρ here is four times as large.
//!
//! For the units within an institution the neighbours are data sets with and without one of them, and
//! the mechanism is DP-SGD: [`sampling`] chooses a step's units, [`sum`] releases their clipped sum.
//!
//! [`release`](release::release) is the only way from weights to integers that may leave, and
//! [`counts`] from scores on held-out text.
//! [`accountant`] says what it costs, and [`ledger`] whether that may still be paid. Nothing here
//! reads a clock, a file or a socket; randomness comes from the operating system.

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
