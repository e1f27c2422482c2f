//! The machine the client runs on, and work that would hold up its other tasks.

use std::io;

use fedner_shared::machine::Machine;
use fedner_shared::time::Time;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{JoinError, JoinHandle};

use crate::clock;

/// The real one.
#[derive(Debug, Clone, Copy)]
pub struct ThisMachine;

impl Machine for ThisMachine {
    fn now(&self) -> Time {
        clock::now()
    }

    fn seed(&self) -> Result<u64, getrandom::Error> {
        getrandom::u64()
    }
}

/// Begins work that blocks: files, noise, training. On a runtime of one thread it takes its turn with the other
/// tasks, so that there the order of everything that happens is decided by the runtime alone.
pub(crate) fn begin<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return tokio::spawn(async move { work() });
    }
    tokio::task::spawn_blocking(work)
}

/// Does work that blocks.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    begin(work).await
}

/// The same for work on files.
pub(crate) async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    blocking(work).await?
}
