//! What one holder of a certificate, or one connection without any, has taken.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    most: Most,
    most_requests: AtomicU64,
    requests: AtomicU64,
    pub(crate) uploads: Arc<Streams>,
    pub(crate) downloads: Arc<Streams>,
    pub(crate) polls: Arc<Streams>,
    pub(crate) watches: Arc<Streams>,
    given: Mutex<Given>,
}

/// What limits make of a holder.
#[derive(Debug)]
struct Given {
    limits: Limits,
    buckets: [Bucket; Ration::ALL.len()],
    /// The places in the engine's queue.
    share: Arc<Semaphore>,
}

/// How many calls a holder may have under way.
type Most = fn(&Limits) -> u64;

/// A call under way.
#[derive(Debug)]
pub(crate) struct UnderWay(Arc<Guest>);

impl Guest {
    pub(crate) fn member(limits: &Limits) -> Arc<Self> {
        Self::with(limits, |limits| limits.requests_per_member)
    }

    /// The operator or a viewer, whose streams of events are calls that last.
    pub(crate) fn viewer(limits: &Limits) -> Arc<Self> {
        Self::with(limits, |limits| {
            limits.requests_per_member + limits.watches_per_member
        })
    }

    pub(crate) fn stranger(limits: &Limits) -> Arc<Self> {
        Self::with(limits, |limits| (limits.requests_per_member / 8).max(1))
    }

    fn with(limits: &Limits, most: Most) -> Arc<Self> {
        let bucket = |ration: Ration| {
            let (hourly, burst) = ration.size(limits);
            Bucket::new(burst, hourly, HOUR)
        };
        Arc::new(Self {
            most,
            most_requests: AtomicU64::new(most(limits)),
            requests: AtomicU64::new(0),
            uploads: Streams::new(limits.uploads_per_member),
            downloads: Streams::new(limits.downloads_per_member),
            polls: Streams::new(limits.polls_per_member),
            watches: Streams::new(limits.watches_per_member),
            given: Mutex::new(Given {
                limits: limits.clone(),
                buckets: Ration::ALL.map(bucket),
                share: share(limits),
            }),
        })
    }

    /// Goes by these limits from now on. What was taken stays taken, and what is under way goes on.
    pub(super) fn adopt(&self, limits: &Limits) {
        self.most_requests
            .store((self.most)(limits), Ordering::Relaxed);
        self.uploads.resize(limits.uploads_per_member);
        self.downloads.resize(limits.downloads_per_member);
        self.polls.resize(limits.polls_per_member);
        self.watches.resize(limits.watches_per_member);
        let mut given = self.given();
        for ration in Ration::ALL {
            let (hourly, burst) = ration.size(limits);
            given.buckets[ration as usize].resize(burst, hourly, HOUR);
        }
        if given.limits.engine_share_per_member != limits.engine_share_per_member {
            given.share = share(limits);
        }
        given.limits = limits.clone();
    }

    fn given(&self) -> MutexGuard<'_, Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The places in the engine's queue.
    pub(crate) fn share(&self) -> Arc<Semaphore> {
        self.given().share.clone()
    }

    /// One call more, until what is returned is dropped.
    pub(crate) fn call(self: &Arc<Self>) -> Result<UnderWay, Refusal> {
        let most = self.most_requests.load(Ordering::Relaxed);
        if self.requests.fetch_add(1, Ordering::Relaxed) >= most {
            self.requests.fetch_sub(1, Ordering::Relaxed);
            let message = format!("{most} calls are under way already: expected no more at once");
            return Err(Refusal::new(Code::TooManyRequests, message));
        }
        Ok(UnderWay(self.clone()))
    }

    /// Takes one of what is rationed.
    pub(crate) fn take(&self, ration: Ration) -> Result<(), Refusal> {
        let mut given = self.given();
        if given.buckets[ration as usize].take(Instant::now()) {
            return Ok(());
        }
        let (hourly, _) = ration.size(&given.limits);
        let message = format!(
            "too many {} in a short time: expected at most {hourly} an hour",
            ration.words()
        );
        Err(Refusal::new(Code::RateLimited, message))
    }
}

fn share(limits: &Limits) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(limits.engine_share_per_member as usize))
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
    fn other_limits_hold_for_who_is_here_already() {
        let limits = Limits::default();
        let guest = Guest::member(&limits);
        let _one = guest.call().expect("room");
        guest.take(Ration::Renewal).expect("one of them");
        let fewer = Limits {
            requests_per_member: 1,
            renewals_per_hour: 1,
            ..limits.clone()
        };
        guest.adopt(&fewer);
        let refused = guest.call().expect_err("one too many");
        assert_eq!(refused.code, Code::TooManyRequests);
        let refused = guest.take(Ration::Renewal).expect_err("it was taken");
        assert!(refused.message.contains("at most 1 an hour"), "{refused}");
        guest.adopt(&limits);
        guest.call().expect("room again");
        guest.take(Ration::Renewal).expect("more again");
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
