//! A process that does not lead: it looks who does, and takes the lease once that runs out.

use std::time::{Duration, Instant};

use super::{Link, Process, Seat};
use crate::keys::Recorded;
use crate::observe;
use crate::store::{self, Leader, Place, Store, Taken, Terms};

/// How often it is looked, at the longest and at the shortest.
const LOOK_EVERY: [Duration; 2] = [Duration::from_millis(300), Duration::from_millis(50)];
/// How often it is looked whose certificates are revoked.
const PEOPLE_EVERY: Duration = Duration::from_secs(5);

/// What was found.
enum Found {
    Ours(Store),
    /// And what is recorded of keys, where it was asked for.
    Theirs(Leader, Option<Recorded>),
}

impl Process {
    /// Waits until this process may lead; `None` when it ends first.
    pub(super) async fn stand_by(&self) -> Option<Store> {
        let [longest, shortest] = LOOK_EVERY;
        let pause = (self.terms.length / 10).clamp(shortest, longest);
        let mut looking = None;
        let mut told = None;
        let mut people: Option<Instant> = None;
        while !self.stop.is_cancelled() {
            let (place, terms) = (self.place.clone(), self.terms.clone());
            let due = people.is_none_or(|last| last.elapsed() >= PEOPLE_EVERY);
            // Keys that have changed are taken over at once.
            let have = (!due).then(|| self.keys.generation());
            let looked = tokio::task::spawn_blocking(move || look(&place, &terms, looking, have));
            let found = match looked.await {
                Ok((store, found)) => {
                    looking = store;
                    found
                }
                Err(error) => {
                    looking = None;
                    tracing::error!(%error, "a look at the lease was cut off");
                    continue;
                }
            };
            match found {
                Ok(Found::Ours(store)) => return Some(store),
                Ok(Found::Theirs(leader, recorded)) => {
                    if let Some(recorded) = recorded {
                        people = Some(Instant::now());
                        self.take_over(recorded);
                    }
                    if told != Some((leader.epoch, leader.address.clone())) {
                        told = Some((leader.epoch, leader.address.clone()));
                        observe::show_leader(leader.since, leader.epoch);
                        self.follow(&leader).await;
                        tracing::info!(
                            epoch = leader.epoch,
                            address = leader.address,
                            "another process leads: this one stands by"
                        );
                    }
                }
                Err(error) => {
                    looking = None;
                    tracing::warn!(%error, "it is not known who leads");
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        None
    }

    /// Passes on to that process from now on, where it says how it is reached.
    async fn follow(&self, leader: &Leader) {
        let seat = if leader.address.is_empty() {
            Seat::Nobody
        } else {
            Seat::Following(Link::new(leader.address.clone(), self.keys.clone()))
        };
        self.take_seat(seat).await;
    }

    /// What another process has changed meanwhile.
    fn take_over(&self, recorded: Recorded) {
        let newer = recorded
            .shared
            .as_ref()
            .is_some_and(|keyring| keyring.generation != self.keys.generation());
        let done = if newer {
            self.keys.adopt(recorded)
        } else {
            let people = recorded.people.into_iter();
            people.for_each(|person| self.keys.know(person));
            self.keys.renew_server(self.machine.now())
        };
        match done {
            Ok(()) if newer => {
                tracing::info!("took over the keys that another process has changed");
            }
            Ok(()) => {}
            Err(error) => {
                tracing::error!(%error, "the keys of the other processes cannot be taken over");
            }
        }
    }
}

/// One look, by the connection of the last one.
fn look(
    place: &Place,
    terms: &Terms,
    looking: Option<Store>,
    have: Option<i64>,
) -> (Option<Store>, Result<Found, store::Error>) {
    let opened = match looking {
        Some(store) => Ok(store),
        None => Store::look_at(place),
    };
    let mut store = match opened {
        Ok(store) => store,
        Err(error) => return (None, Err(error)),
    };
    let found = store.leader().and_then(|leader| {
        let leader = leader.ok_or(store::Error::Taken)?;
        if !leader.holds
            && let Taken::Ours(store) = Store::take_at(place, terms)?
        {
            return Ok(Found::Ours(store));
        }
        let known = have == Some(leader.keys);
        let recorded = (!known).then(|| Recorded::read(&mut store)).transpose()?;
        Ok(Found::Theirs(leader, recorded))
    });
    (Some(store), found)
}
