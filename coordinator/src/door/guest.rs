//! What one holder of a certificate, or one connection without any, has taken.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fedner_shared::refusal::{Code, Refusal};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::Streams;
use crate::limits::{Bucket, Limits};

const HOUR: Duration = Duration::from_hours(1);

/// What is given out so many times an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ration {
    Consent,
    Decline,
    Renewal,
    Upload,
    Audit,
    History,
    Receipts,
}

impl Ration {
    const ALL: [Self; 7] = [
        Self::Consent,
        Self::Decline,
        Self::Renewal,
        Self::Upload,
        Self::Audit,
        Self::History,
        Self::Receipts,
    ];

    /// How many an hour, and at once.
    fn size(self, limits: &Limits) -> (u64, u64) {
        let (hourly, burst) = match self {
            Self::Consent => (limits.consents_per_hour, 32),
            Self::Decline => (limits.declines_per_hour, 64),
            Self::Renewal => (limits.renewals_per_hour, 6),
            Self::Upload => (limits.uploads_per_hour, 120),
            Self::Audit => (limits.audits_per_hour, 60),
            Self::History => (limits.histories_per_hour, 2),
            Self::Receipts => (limits.receipt_pages_per_hour, 200),
        };
        (hourly, hourly.min(burst))
    }

    fn words(self) -> &'static str {
        match self {
            Self::Consent => "new consents",
            Self::Decline => "declines",
            Self::Renewal => "renewals",
            Self::Upload => "begun uploads",
            Self::Audit => "reports of audits",
            Self::History => "countersigned histories",
            Self::Receipts => "pages of receipts",
        }
    }
}

/// Counts what its holder has under way.
#[derive(Debug)]
pub struct Guest {
    most_requests: u64,
    requests: AtomicU64,
    /// The places in the engine's queue.
    pub(crate) share: Arc<Semaphore>,
    pub(crate) uploads: Arc<Streams>,
    pub(crate) downloads: Arc<Streams>,
    pub(crate) polls: Arc<Streams>,
    pub(crate) watches: Arc<Streams>,
    buckets: Mutex<[Bucket; Ration::ALL.len()]>,
    limits: Limits,
}

/// A call under way.
#[derive(Debug)]
pub(crate) struct UnderWay(Arc<Guest>);

impl Guest {
    pub(crate) fn member(limits: &Limits) -> Arc<Self> {
        Self::with(limits, limits.requests_per_member)
    }

    /// The operator or a viewer, whose streams of events are calls that last.
    pub(crate) fn viewer(limits: &Limits) -> Arc<Self> {
        Self::with(
            limits,
            limits.requests_per_member + limits.watches_per_member,
        )
    }

    pub(crate) fn stranger(limits: &Limits) -> Arc<Self> {
        Self::with(limits, (limits.requests_per_member / 8).max(1))
    }

    fn with(limits: &Limits, most_requests: u64) -> Arc<Self> {
        let bucket = |ration: Ration| {
            let (hourly, burst) = ration.size(limits);
            Bucket::new(burst, hourly, HOUR)
        };
        Arc::new(Self {
            most_requests,
            requests: AtomicU64::new(0),
            share: Arc::new(Semaphore::new(limits.engine_share_per_member as usize)),
            uploads: Streams::new(limits.uploads_per_member),
            downloads: Streams::new(limits.downloads_per_member),
            polls: Streams::new(limits.polls_per_member),
            watches: Streams::new(limits.watches_per_member),
            buckets: Mutex::new(Ration::ALL.map(bucket)),
            limits: limits.clone(),
        })
    }

    /// One call more, until what is returned is dropped.
    pub(crate) fn call(self: &Arc<Self>) -> Result<UnderWay, Refusal> {
        if self.requests.fetch_add(1, Ordering::Relaxed) >= self.most_requests {
            self.requests.fetch_sub(1, Ordering::Relaxed);
            let message = format!(
                "{} calls are under way already: expected no more at once",
                self.most_requests
            );
            return Err(Refusal::new(Code::TooManyRequests, message));
        }
        Ok(UnderWay(self.clone()))
    }

    /// Takes one of what is rationed.
    pub(crate) fn take(&self, ration: Ration) -> Result<(), Refusal> {
        let lock = self.buckets.lock();
        let mut buckets = lock.unwrap_or_else(PoisonError::into_inner);
        if buckets[ration as usize].take(Instant::now()) {
            return Ok(());
        }
        let (hourly, _) = ration.size(&self.limits);
        let message = format!(
            "too many {} in a short time: expected at most {hourly} an hour",
            ration.words()
        );
        Err(Refusal::new(Code::RateLimited, message))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_at_once_are_counted_and_given_back() {
        let limits = Limits {
            requests_per_member: 8,
            ..Limits::default()
        };
        let guest = Guest::member(&limits);
        let calls: Vec<_> = (0..8).map(|_| guest.call().expect("room")).collect();
        let refused = guest.call().expect_err("one too many");
        assert_eq!(refused.code, Code::TooManyRequests);
        drop(calls);
        guest.call().expect("room again");
        let stranger = Guest::stranger(&limits);
        let _one = stranger.call().expect("room");
        assert!(stranger.call().is_err(), "a stranger has an eighth");
    }

    #[test]
    fn each_ration_is_its_own() {
        let guest = Guest::member(&Limits::default());
        let (_, burst) = Ration::Renewal.size(&Limits::default());
        for _ in 0..burst {
            guest.take(Ration::Renewal).expect("one of them");
        }
        let refused = guest.take(Ration::Renewal).expect_err("no more");
        assert_eq!(refused.code, Code::RateLimited);
        for ration in Ration::ALL {
            assert_eq!(guest.take(ration).is_ok(), ration != Ration::Renewal);
        }
    }
}
