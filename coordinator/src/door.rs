//! Who is connected, and what each of them has under way.
//!
//! The newest comer wins: where there are too many connections without a certificate, the oldest of them
//! is closed, so that whoever holds them all keeps nobody out. A holder's certificate has one [`Guest`],
//! however many connections show it; what it takes is counted there.

mod activity;
mod guest;
mod programs;
mod streams;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fedner_shared::refusal::Code;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use activity::{Activity, Busy};
pub use guest::Guest;
pub(crate) use guest::{Ration, UnderWay};
pub use programs::{Program, Programs};
pub(crate) use streams::{Stream, Streams};

use crate::authority::Role;
use crate::identity::Caller;
use crate::limits::{Bucket, Limits};
use crate::observe;

/// A connection is left alone for so long: time for an honest handshake.
const HANDSHAKE: Duration = Duration::from_millis(250);
/// Addresses whose wrong invites are counted; those with none to count are forgotten first.
const ADDRESSES: usize = 4096;

/// Lets connections in.
#[derive(Debug)]
pub struct Door {
    limits: watch::Sender<Arc<Limits>>,
    inside: Mutex<Inside>,
    wrong_invites: Mutex<HashMap<IpAddr, Bucket>>,
    programs: Programs,
}

#[derive(Debug, Default)]
struct Inside {
    next: u64,
    /// Without a certificate, by age.
    strangers: BTreeMap<u64, Stranger>,
    /// With one, by holder and age.
    members: BTreeMap<String, BTreeMap<u64, CancellationToken>>,
    /// One for each certificate's holder that was ever here; the authority knows how many those can be.
    guests: BTreeMap<String, Arc<Guest>>,
    certified: usize,
}

#[derive(Debug)]
struct Stranger {
    network: IpAddr,
    since: Instant,
    cut: CancellationToken,
}

/// A connection's place, given back when dropped.
#[derive(Debug)]
pub struct Place {
    door: Arc<Door>,
    id: u64,
    holder: Option<String>,
    guest: Arc<Guest>,
    cut: CancellationToken,
}

/// What is to be done with a caller for whom there is no room.
enum Full {
    /// Until somebody else may be closed.
    Wait(Duration),
    Refuse,
}

impl Door {
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits: watch::channel(Arc::new(limits)).0,
            inside: Mutex::default(),
            wrong_invites: Mutex::default(),
            programs: Programs::default(),
        })
    }

    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    pub fn limits(&self) -> Arc<Limits> {
        self.limits.borrow().clone()
    }

    /// Goes by these limits from now on: for who is here too, though nobody is sent away for them.
    pub fn adopt(&self, limits: Limits) {
        let number = limits.wrong_invites_per_minute;
        for bucket in self.wrong_invites().values_mut() {
            bucket.resize(number, number, Duration::from_mins(1));
        }
        let inside = self.inside();
        inside
            .guests
            .values()
            .for_each(|guest| guest.adopt(&limits));
        self.limits.send_replace(Arc::new(limits));
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from that address; `None` where all are taken by members. It waits for the
    /// moment that others need for their handshake.
    pub async fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        loop {
            let full = self.inside().admit(&self.limits(), address);
            match full {
                Ok((id, cut)) => {
                    return Some(Place {
                        door: self.clone(),
                        id,
                        holder: None,
                        guest: Guest::stranger(&self.limits()),
                        cut,
                    });
                }
                Err(Full::Wait(left)) => tokio::time::sleep(left).await,
                Err(Full::Refuse) => {
                    observe::count_refusal(Code::ConnectionLimit);
                    return None;
                }
            }
        }
    }

    /// The guest who holds that certificate; of a stranger where it cannot be read.
    pub fn guest(&self, certificate: &[u8]) -> Arc<Guest> {
        match Caller::of_certificate(certificate) {
            Ok(caller) => self.inside().guest(&self.limits(), &holder(&caller)),
            Err(_) => Guest::stranger(&self.limits()),
        }
    }

    /// The number of the connection that came last.
    pub fn newest(&self) -> u64 {
        self.inside().next
    }

    /// Closes the connections of that holder up to that number.
    pub fn expel(&self, role: Role, name: &str, until: u64) {
        let holder = format!("{}/{name}", role.as_str());
        if let Some(theirs) = self.inside().members.get(&holder) {
            close(theirs, until);
        }
    }

    /// Closes all connections that have shown a certificate, up to that number: what it was worth has changed.
    pub fn expel_everybody(&self, until: u64) {
        for theirs in self.inside().members.values() {
            close(theirs, until);
        }
    }

    /// Whether an invite from that address is looked at.
    pub(crate) fn may_guess(&self, address: IpAddr) -> bool {
        let now = Instant::now();
        let mut wrong = self.wrong_invites();
        let bucket = wrong.get_mut(&network(address));
        bucket.is_none_or(|bucket| bucket.has_any(now))
    }

    /// An invite from that address was wrong.
    pub(crate) fn guessed(&self, address: IpAddr) {
        let (now, number) = (Instant::now(), self.limits().wrong_invites_per_minute);
        let mut wrong = self.wrong_invites();
        if wrong.len() >= ADDRESSES {
            wrong.retain(|_, bucket| !bucket.is_full(now));
        }
        if wrong.len() >= ADDRESSES {
            wrong.clear();
        }
        let new = || Bucket::new(number, number, Duration::from_mins(1));
        wrong.entry(network(address)).or_insert_with(new).take(now);
    }

    fn wrong_invites(&self) -> MutexGuard<'_, HashMap<IpAddr, Bucket>> {
        let lock = self.wrong_invites.lock();
        lock.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn admit(
        &mut self,
        limits: &Limits,
        address: IpAddr,
    ) -> Result<(u64, CancellationToken), Full> {
        let (now, network) = (Instant::now(), network(address));
        let of_network = |stranger: &Stranger| stranger.network == network;
        let here = self.strangers.values().filter(|s| of_network(s)).count() as u64;
        let strangers = self.strangers.len() as u64;
        let all = strangers + self.certified as u64;
        let victim = if here >= limits.connections_per_address {
            self.strangers.iter().find(|(_, s)| of_network(s))
        } else if strangers >= limits.connections_without_certificate || all >= limits.connections {
            match self.strangers.first_key_value() {
                None => return Err(Full::Refuse),
                oldest => oldest,
            }
        } else {
            None
        };
        if let Some((id, stranger)) = victim {
            let age = now.saturating_duration_since(stranger.since);
            if age < HANDSHAKE {
                return Err(Full::Wait(HANDSHAKE.saturating_sub(age)));
            }
            let id = *id;
            stranger.cut.cancel();
            observe::count_refusal(Code::ConnectionLimit);
            self.strangers.remove(&id);
        }
        self.next += 1;
        let cut = CancellationToken::new();
        let stranger = Stranger {
            network,
            since: now,
            cut: cut.clone(),
        };
        self.strangers.insert(self.next, stranger);
        Ok((self.next, cut))
    }

    fn guest(&mut self, limits: &Limits, holder: &str) -> Arc<Guest> {
        if let Some(guest) = self.guests.get(holder) {
            return guest.clone();
        }
        let institution = format!("{}/", Role::Institution.as_str());
        let guest = if holder.starts_with(&institution) {
            Guest::member(limits)
        } else {
            Guest::viewer(limits)
        };
        self.guests.insert(holder.to_owned(), guest.clone());
        guest
    }
}

impl Place {
    /// The connection has shown a certificate, which TLS has verified.
    pub fn show(&mut self, certificate: &[u8]) {
        let Ok(caller) = Caller::of_certificate(certificate) else {
            return;
        };
        let (holder, limits) = (holder(&caller), self.door.limits());
        let mut inside = self.door.inside();
        if inside.strangers.remove(&self.id).is_none() {
            return;
        }
        inside.certified += 1;
        self.guest = inside.guest(&limits, &holder);
        let theirs = inside.members.entry(holder.clone()).or_default();
        theirs.insert(self.id, self.cut.clone());
        if theirs.len() as u64 > limits.connections_per_member
            && let Some(oldest) = theirs.first_entry()
        {
            oldest.get().cancel();
            observe::count_refusal(Code::ConnectionLimit);
        }
        self.holder = Some(holder);
    }

    pub fn guest(&self) -> Arc<Guest> {
        self.guest.clone()
    }

    /// Cancelled when the connection is to be closed.
    pub fn cut(&self) -> CancellationToken {
        self.cut.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.door.inside();
        let Some(holder) = &self.holder else {
            inside.strangers.remove(&self.id);
            return;
        };
        inside.certified = inside.certified.saturating_sub(1);
        if let Some(theirs) = inside.members.get_mut(holder) {
            theirs.remove(&self.id);
            if theirs.is_empty() {
                inside.members.remove(holder);
            }
        }
    }
}

fn close(connections: &BTreeMap<u64, CancellationToken>, until: u64) {
    for (_, cut) in connections.range(..=until) {
        cut.cancel();
    }
}

fn holder(caller: &Caller) -> String {
    format!("{}/{}", caller.role.as_str(), caller.name)
}

/// What one customer of a provider has: an address, or a network of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door() -> Arc<Door> {
        Door::new(Limits {
            connections: 8,
            connections_without_certificate: 4,
            connections_per_address: 2,
            connections_per_member: 2,
            wrong_invites_per_minute: 3,
            ..Limits::default()
        })
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[tokio::test]
    async fn other_limits_hold_at_once() {
        let door = door();
        door.guessed(address(1));
        assert!(door.may_guess(address(1)), "three a minute");
        door.adopt(Limits {
            wrong_invites_per_minute: 1,
            connections_per_address: 1,
            ..(*door.limits()).clone()
        });
        assert!(!door.may_guess(address(1)), "one, which is taken");
        let first = door.enter(address(2)).await.expect("room");
        let _second = door.enter(address(2)).await.expect("room");
        assert!(first.cut().is_cancelled(), "one an address");
    }

    #[tokio::test]
    async fn silent_connections_give_way_to_the_newest_and_to_no_other_address() {
        let door = door();
        let mut places = Vec::new();
        for last in [1, 1, 2] {
            places.push(door.enter(address(last)).await.expect("room"));
        }
        let began = Instant::now();
        let third = door.enter(address(1)).await.expect("room is made");
        assert!(began.elapsed() >= HANDSHAKE / 2, "a handshake has its time");
        assert!(places[0].cut().is_cancelled() && !places[1].cut().is_cancelled());
        assert!(!places[2].cut().is_cancelled() && !third.cut().is_cancelled());
        // All four places are taken from here on: the oldest of all goes.
        let _fourth = door.enter(address(3)).await.expect("room");
        let _fifth = door.enter(address(4)).await.expect("room is made");
        assert!(places[1].cut().is_cancelled() && !places[2].cut().is_cancelled());
    }

    #[tokio::test]
    async fn whoever_is_turned_away_is_counted_under_its_code() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let counted = recorder.handle();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let line = format!(
            "fedner_refusals_total{{code=\"{}\"}} 1",
            Code::ConnectionLimit
        );
        let door = door();
        let _places = [
            door.enter(address(1)).await.expect("room"),
            door.enter(address(1)).await.expect("room"),
        ];
        assert!(!counted.render().contains("fedner_refusals_total"));
        let _third = door.enter(address(1)).await.expect("room is made");
        assert!(counted.render().contains(&line), "{}", counted.render());
    }

    #[tokio::test]
    async fn a_place_that_is_given_back_is_free() {
        let door = door();
        for _ in 0..20 {
            drop(door.enter(address(1)).await.expect("room"));
        }
        assert!(door.inside().strangers.is_empty());
    }

    #[test]
    fn wrong_invites_are_counted_by_address_and_right_ones_are_not() {
        let door = door();
        for _ in 0..3 {
            assert!(door.may_guess(address(1)) && door.may_guess(address(1)));
            door.guessed(address(1));
        }
        assert!(!door.may_guess(address(1)), "three were wrong");
        assert!(door.may_guess(address(2)), "another address");
        let v6 = |text: &str| text.parse::<IpAddr>().expect("address");
        for last in 1..=3 {
            door.guessed(v6(&format!("2001:db8::{last}")));
        }
        assert!(!door.may_guess(v6("2001:db8::77")), "one network");
        assert!(door.may_guess(v6("2001:db8:0:1::1")));
    }
}
