//! What a program takes from the machine it runs on, in one place, so that it can run on a
//! simulated one.
//!
//! Noise and keys have no part in this: what protects somebody is drawn from the operating system
//! where it is used, and cannot be replaced.

use std::fmt::Debug;
use std::io;

use crate::time::Time;

/// The clock, the jitter and the disk.
pub trait Machine: Debug + Send + Sync {
    /// The wall clock, which may jump either way.
    fn now(&self) -> Time;

    /// A number that differs from machine to machine and from start to start; for jitter only.
    fn seed(&self) -> Result<u64, getrandom::Error>;

    /// Asked before each durable write; an error is that write's, of which nothing happens.
    fn before_write(&self, _what: &'static str) -> io::Result<()> {
        Ok(())
    }

    /// Told after each durable write; an error means that nothing can happen any more.
    fn after_write(&self, _what: &'static str) -> io::Result<()> {
        Ok(())
    }
}
