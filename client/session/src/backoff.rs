//! How long to wait before the next attempt to reach the coordinator.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
/// The longest wait at first: a coordinator that is started again is found within a second.
const LONGEST: Duration = Duration::from_secs(1);
/// The longest wait after [`MANY`] failures: the end of a long outage is noticed within seconds.
const LONGEST_LATER: Duration = Duration::from_secs(4);
const MANY: u32 = 60;

/// Exponential waits with jitter, so that a restarted coordinator is not met by everybody at once.
///
/// ```
/// use std::time::Duration;
/// let mut backoff = fedner_session::Backoff::new(7);
/// assert!(backoff.failed() <= Duration::from_millis(200));
/// for _ in 0..20 {
///     assert!(backoff.failed() <= Duration::from_secs(1));
/// }
/// backoff.succeeded();
/// assert!(backoff.failed() <= Duration::from_millis(200));
/// ```
#[derive(Debug, Clone)]
pub struct Backoff {
    failures: u32,
    seed: u64,
}

impl Backoff {
    pub const fn new(seed: u64) -> Self {
        Self { failures: 0, seed }
    }

    /// Something answered: the next wait is the shortest again.
    pub const fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// An attempt failed: wait for so long, between half and all of the exponential step.
    pub fn failed(&mut self) -> Duration {
        let longest = if self.failures < MANY {
            LONGEST
        } else {
            LONGEST_LATER
        };
        let step = FIRST
            .saturating_mul(1u32 << self.failures.min(16))
            .min(longest);
        self.failures = self.failures.saturating_add(1);
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let fraction = (splitmix(self.seed) >> 11) as f64 / (1u64 << 53) as f64;
        step.mul_f64(0.5 + fraction / 2.0)
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
const fn splitmix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_second_and_differ_between_seeds() {
        let waits = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..12).map(|_| backoff.failed()).collect::<Vec<_>>()
        };
        for (failures, wait) in waits(1).into_iter().enumerate() {
            let step = (FIRST * (1 << failures)).min(LONGEST);
            assert!(wait >= step / 2 && wait <= step, "{failures}: {wait:?}");
        }
        let mut long = Backoff::new(3);
        for _ in 0..MANY {
            long.failed();
        }
        assert!(long.failed() >= LONGEST_LATER / 2);
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }
}
