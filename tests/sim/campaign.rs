//! Many scenarios, made up from seeds and shrunk where they fail.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use crate::logs;
use crate::op::{Scenario, scenario};
use crate::world::{self, Report};

/// What was done to how many federations, and what they did.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) seeds: u64,
    pub(crate) simulated: Duration,
    pub(crate) published: usize,
    pub(crate) unmasked: usize,
    pub(crate) faults: BTreeMap<String, u64>,
    pub(crate) ends: BTreeMap<String, u64>,
    /// A message for each seed that failed.
    pub(crate) failures: Vec<String>,
}

impl Summary {
    fn add(&mut self, report: Report) {
        self.seeds += 1;
        self.simulated += report.simulated;
        self.published += report.published;
        self.unmasked += report.unmasked;
        for (what, count) in report.faults {
            *self.faults.entry(what).or_default() += count;
        }
        for (end, count) in report.ends {
            *self.ends.entry(end).or_default() += count;
        }
    }
}

/// The scenario of a seed, the same each time.
pub(crate) fn scenario_of(seed: u64) -> Scenario {
    let mut runner = runner(seed);
    let tree = scenario()
        .new_tree(&mut runner)
        .expect("a strategy that rejects nothing");
    proptest::strategy::ValueTree::current(&tree)
}

fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: 300,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// Runs a scenario; an ERROR in the log is a failure unless a disk was broken.
pub(crate) fn run(scenario: &Scenario) -> Result<Report> {
    let (outcome, errors) = logs::errors_of(|| world::run(scenario));
    let report = outcome?;
    let broken = scenario.ops.iter().any(|op| op.breaks_a_disk());
    anyhow::ensure!(broken || errors.is_empty(), "logged as errors: {errors:?}");
    Ok(report)
}

/// Runs the seeds on all processors, up to the first few failures.
pub(crate) fn run_seeds(seeds: std::ops::Range<u64>) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let summary = Mutex::new(Summary::default());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = run_seed(seed);
                    let mut summary = summary.lock().expect("no worker panics");
                    match outcome {
                        Ok(report) => summary.add(report),
                        Err(failure) => summary.failures.push(failure),
                    }
                    if summary.failures.len() >= 3 {
                        return;
                    }
                }
            });
        }
    });
    summary.into_inner().expect("no worker panics")
}

/// The report of a seed, or its smallest scenario that fails.
fn run_seed(seed: u64) -> Result<Report, String> {
    let report = RefCell::new(None);
    let mut runner = runner(seed);
    let tree = scenario()
        .new_tree(&mut runner)
        .map_err(|reason| reason.to_string())?;
    let outcome = runner.run_one(tree, |scenario| {
        match run(&scenario) {
            Ok(found) => *report.borrow_mut() = Some(found),
            Err(error) => return Err(TestCaseError::fail(format!("{error:#}"))),
        }
        Ok(())
    });
    match outcome {
        Ok(_) => report
            .into_inner()
            .ok_or_else(|| format!("seed {seed} ran nothing")),
        Err(TestError::Fail(reason, scenario)) => {
            Err(format!("seed {seed}: {reason}\n{scenario:#?}"))
        }
        Err(TestError::Abort(reason)) => Err(format!("seed {seed}: {reason}")),
    }
}
