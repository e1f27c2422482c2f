//! How long to wait before the next attempt to reach the coordinator.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);

/// Exponential waits with jitter, so that a restarted coordinator is not met by everybody at once.
///
/// ```
/// use std::time::Duration;
/// let mut backoff = fedner_session::Backoff::new(7);
/// assert!(backoff.failed() <= Duration::from_millis(200));
/// for _ in 0..20 {
///     assert!(backoff.failed() <= Duration::from_secs(30));
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
        let step = FIRST
            .saturating_mul(1u32 << self.failures.min(16))
            .min(LONGEST);
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
    fn waits_double_up_to_half_a_minute_and_differ_between_seeds() {
        let waits = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..12).map(|_| backoff.failed()).collect::<Vec<_>>()
        };
        for (failures, wait) in waits(1).into_iter().enumerate() {
            let step = (FIRST * (1 << failures)).min(LONGEST);
            assert!(wait >= step / 2 && wait <= step, "{failures}: {wait:?}");
        }
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }
}
