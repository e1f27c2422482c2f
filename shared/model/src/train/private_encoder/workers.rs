//! Threads of which each does whole tasks by itself.
//!
//! On the shared rayon pool a task that waits for a part of its own takes up another whole one meanwhile,
//! with all the memory that takes. The parts of small tasks cost more to hand over than to do.

use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::Error;
use crate::device::Device;

/// As many as the shared pool has threads, where the processor computes; else one, which feeds
/// the device.
#[derive(Debug)]
pub(super) struct Workers(Vec<ThreadPool>);

impl Workers {
    pub(super) fn new(device: Device) -> Result<Self, Error> {
        let count = if device == Device::Cpu {
            rayon::current_num_threads()
        } else {
            1
        };
        let pool = |_| ThreadPoolBuilder::new().num_threads(1).build();
        let pools = (0..count).map(pool).collect::<Result<_, _>>();
        Ok(Self(
            pools.map_err(|error| Error::Threads(error.to_string()))?,
        ))
    }

    /// The results of all tasks, in the tasks' order.
    pub(super) fn run<T: Send, R: Send>(
        &self,
        tasks: Vec<T>,
        work: impl Fn(T) -> R + Sync,
    ) -> Vec<R> {
        let queue = Mutex::new(tasks.into_iter().enumerate());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let some = || {
            let mut done = Vec::new();
            while let Some((number, task)) = next() {
                done.push((number, work(task)));
            }
            done
        };
        let mut done: Vec<(usize, R)> = thread::scope(|scope| {
            let pools = self.0.iter();
            let threads: Vec<_> = pools
                .map(|pool| scope.spawn(|| pool.install(some)))
                .collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            let done = joined.flat_map(|done| done.unwrap_or_else(|panic| resume_unwind(panic)));
            done.collect()
        });
        done.sort_unstable_by_key(|(number, _)| *number);
        done.into_iter().map(|(_, result)| result).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_tasks_and_tasks_are_not_split() {
        let workers = Workers::new(Device::Cpu).expect("workers");
        let found = workers.run((0..500).collect(), |task: usize| {
            (task * 2, rayon::current_num_threads())
        });
        let expected: Vec<_> = (0..500).map(|task| (task * 2, 1)).collect();
        assert_eq!(found, expected);
        assert!(workers.run(Vec::new(), |task: usize| task).is_empty());
    }
}
