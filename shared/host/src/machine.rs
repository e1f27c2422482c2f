//! What a program takes from the machine it runs on, in one place, so that it can run on a
//! simulated one.
//!
//! Noise and keys have no part in this: what protects somebody is drawn from the operating system
//! where it is used, and cannot be replaced.

use std::fmt::Debug;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use fedner_shared::time::Time;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{JoinError, JoinHandle};

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

    /// Asked before writes become durable that share one sync of the disk. An error leaves open what became of them.
    fn before_sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The real one.
#[derive(Debug, Clone, Copy)]
pub struct ThisMachine;

impl Machine for ThisMachine {
    fn now(&self) -> Time {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Time::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn seed(&self) -> Result<u64, getrandom::Error> {
        getrandom::u64()
    }
}

/// Begins work that blocks: files, hashing, noise, training. On a runtime of one thread it takes its turn with the other
/// tasks, so that there the order of everything that happens is decided by the runtime alone.
pub fn begin<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return tokio::spawn(async move { work() });
    }
    tokio::task::spawn_blocking(work)
}

/// Does work that blocks.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    begin(work).await
}

/// The same for work on files.
pub async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    blocking(work).await?
}
