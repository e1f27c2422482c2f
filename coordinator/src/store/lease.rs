//! Who may write to a store that several processes can reach.

use std::time::Duration;

use fedner_shared::time::Time;

use super::Store;
use super::postgres;

/// How long the right to write lasts unless it is renewed, where nobody says otherwise.
pub const LEASE: Duration = Duration::from_secs(5);

/// How a process asks for the right to write.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Names one directory of one running machine: who names it again is the same process, started anew. Empty where
    /// nobody can.
    pub holder: String,
    /// HOST:PORT at which other processes reach this one; empty where there are none.
    pub address: String,
    pub length: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            holder: String::new(),
            address: String::new(),
            length: LEASE,
        }
    }
}

/// What came of asking.
#[derive(Debug)]
pub enum Taken {
    Ours(Store),
    /// Somebody else holds the right to write.
    Held,
}

/// Who writes at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// How often the right to write has changed hands.
    pub epoch: i64,
    /// Where others reach the holder; empty where nobody holds it, or has no such address.
    pub address: String,
    /// When the holder took it, by the server's clock.
    pub since: Time,
    /// Whether it has not run out.
    pub holds: bool,
    /// The generation of the keys that processes share; 0 where none are kept.
    pub keys: i64,
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
