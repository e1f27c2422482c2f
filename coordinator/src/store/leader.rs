//! Who asks for the right to write, and who has it.

use std::time::Duration;

use fedner_shared::time::Time;

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
