//! The pure core of the client: the life cycle of one institution's assignments.
//!
//! Nothing here knows a clock, a file, a socket or a source of randomness. The owner hands in the
//! instant and an [`Input`], makes the new [`Session`] durable, and then carries out the
//! [`Effect`]s, whose outcomes are the next inputs.

mod backoff;
pub mod secure;
mod session;
mod task;

pub use backoff::Backoff;
pub use session::{Before, Effect, Input, Rejection, Session, State, Transition};
pub use task::{Charge, Kind, Release, Task};
