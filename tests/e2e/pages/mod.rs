//! The pages of both programs, in a real browser and over plain HTTP.

mod browsed;
mod dashboard;
mod refused;
