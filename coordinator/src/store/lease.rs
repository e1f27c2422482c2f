//! The right to write to a store that several processes can reach.

use super::Store;
use super::postgres;

/// What came of asking.
#[derive(Debug)]
pub enum Taken {
    Ours(Store),
    /// Somebody else holds the right to write.
    Held,
}

/// The right to write, in the hands of whoever ends the process.
#[derive(Debug, Clone)]
pub struct Lease(pub(super) postgres::Lease);

impl Lease {
    /// Gives the right to write away, so that another process need not wait for its end. It waits until the server
    /// knows, but no longer than the lease itself. Nothing is written afterwards.
    pub fn release(&self) {
        self.0.release();
    }
}
