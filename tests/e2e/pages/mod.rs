//! The pages of both programs, in a real browser and over plain HTTP.

mod browsed;
pub(crate) mod dashboard;
mod refused;
