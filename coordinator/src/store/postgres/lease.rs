//! The lease: who writes, until when by the server's clock, and the thread that renews it.
//!
//! Whoever takes the lease raises the epoch, and each transaction of a writer compares it. So a writer that was paused
//! is refused, whatever it believes. The lease says when another may take over. By our own clock it ends no later than
//! by the server's: it counts from before the server was asked.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::link::{Link, Worker};
use super::{Address, Error};
use crate::store::leader::Terms;
use crate::store::sql::{Value, values};

/// Takes the lease where it has run out, or was held by the same process before it was started anew.
const TAKE: &str = "UPDATE writer SET epoch = epoch + 1, holder = ?1, address = ?2, since = clock_timestamp(), \
                    until = clock_timestamp() + CAST(?3 AS BIGINT) * interval '1 millisecond' \
                    WHERE until <= clock_timestamp() OR (holder = ?1 AND holder <> '') RETURNING epoch, commits";
const RENEW: &str = "UPDATE writer SET until = clock_timestamp() + CAST(?2 AS BIGINT) * interval '1 millisecond' \
                     WHERE epoch = ?1";
const RELEASE: &str =
    "UPDATE writer SET until = clock_timestamp(), holder = '', address = '' WHERE epoch = ?1";
/// A lease that did not get through is renewed again so soon.
const AGAIN: Duration = Duration::from_millis(100);

/// Epoch and number of commits, if the lease was free.
pub(super) fn take(link: &Link, terms: &Terms) -> Result<Option<(i64, i64)>, Error> {
    let length = millis(terms.length);
    let rows = link.rows(
        TAKE,
        values![terms.holder.as_str(), terms.address.as_str(), length],
    )?;
    if rows.is_empty() {
        return Ok(None);
    }
    super::of_writer(&rows).map(Some)
}

fn millis(length: Duration) -> i64 {
    length.as_millis().try_into().unwrap_or(i64::MAX)
}

/// A lease that was taken. Its copies are the same lease.
#[derive(Debug, Clone)]
pub(in crate::store) struct Lease(Arc<Held>);

#[derive(Debug)]
struct Held {
    epoch: i64,
    length: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// By our own clock.
    good_until: Instant,
    /// A transaction is under way: its commit renews the lease. One that stands still loses it.
    writing: bool,
    /// Another has it.
    lost: bool,
    /// It is to be given away.
    ending: bool,
    /// Nobody renews it any more.
    ended: bool,
}

impl Lease {
    /// The lease of that epoch, which was asked for at `asked`, and the thread that keeps it.
    pub(super) fn keep(
        epoch: i64,
        length: Duration,
        asked: Instant,
        way: (Arc<Worker>, Address),
    ) -> Result<(Self, JoinHandle<()>), Error> {
        let lease = Self(Arc::new(Held {
            epoch,
            length,
            state: Mutex::new(State {
                good_until: asked + length,
                writing: false,
                lost: false,
                ending: false,
                ended: false,
            }),
            changed: Condvar::new(),
        }));
        let keeper = Keeper {
            lease: lease.clone(),
            way,
            link: None,
        };
        let thread = std::thread::Builder::new()
            .name("lease".to_owned())
            .spawn(move || keeper.run())?;
        Ok((lease, thread))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn epoch(&self) -> i64 {
        self.0.epoch
    }

    pub(super) fn length(&self) -> Duration {
        self.0.length
    }

    /// What a commit says to renew the lease in passing.
    pub(super) fn renewal(&self) -> String {
        let length = millis(self.0.length);
        format!("until = clock_timestamp() + {length} * interval '1 millisecond'")
    }

    /// It was renewed by what was asked at `asked`.
    pub(super) fn renewed(&self, asked: Instant) {
        let mut state = self.state();
        state.good_until = state.good_until.max(asked + self.0.length);
    }

    pub(super) fn set_writing(&self, writing: bool) {
        self.state().writing = writing;
    }

    /// Whether it has not run out by our own clock.
    pub(super) fn is_good(&self) -> bool {
        let state = self.state();
        !state.lost && !state.ending && Instant::now() < state.good_until
    }

    pub(super) fn is_lost(&self) -> bool {
        let state = self.state();
        state.lost || state.ending
    }

    pub(super) fn lose(&self) {
        self.state().lost = true;
        self.0.changed.notify_all();
    }

    /// Asks the keeper to give it away.
    pub(super) fn end(&self) {
        self.state().ending = true;
        self.0.changed.notify_all();
    }

    pub(in crate::store) fn release(&self) {
        self.end();
        let until = Instant::now() + self.0.length;
        let mut state = self.state();
        while !state.ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Renews the lease by a connection of its own, so that work of any length keeps it.
struct Keeper {
    lease: Lease,
    way: (Arc<Worker>, Address),
    link: Option<Link>,
}

impl Keeper {
    fn run(mut self) {
        let length = self.lease.0.length;
        let mut pause = length / 6;
        while self.wait(pause) {
            pause = length / 6;
            if !self.is_due() {
                continue;
            }
            let asked = Instant::now();
            match self.say(RENEW, values![self.lease.epoch(), millis(length)]) {
                Ok(0) => self.lease.lose(),
                Ok(_) => self.lease.renewed(asked),
                Err(error) => {
                    tracing::debug!(%error, "the lease could not be renewed");
                    pause = AGAIN;
                }
            }
        }
        if !self.lease.state().lost
            && let Err(error) = self.say(RELEASE, values![self.lease.epoch()])
        {
            tracing::debug!(%error, "the lease could not be given away: it runs out");
        }
        self.lease.state().ended = true;
        self.lease.0.changed.notify_all();
    }

    /// Waits; `false` when there is nothing to keep any more.
    fn wait(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut state = self.lease.state();
        loop {
            if state.lost || state.ending {
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            let waited = self.lease.0.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Commits renew it too. While a transaction is under way, its own commit does.
    fn is_due(&self) -> bool {
        let state = self.lease.state();
        let left = state.good_until.saturating_duration_since(Instant::now());
        !state.writing && left < self.lease.0.length * 2 / 3
    }

    fn say(&mut self, sql: &str, values: &[Value]) -> Result<usize, Error> {
        let link = match self.link.take() {
            Some(link) => link,
            None => Link::open_for(&self.way.0, &self.way.1, self.lease.0.length)?,
        };
        let changed = link.execute(sql, values)?;
        self.link = Some(link);
        Ok(changed)
    }
}
