//! What a peer may take: every limit, its default, and what an operator may set it to.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: $default:literal in $least:literal..=$most:literal;)*) => {
        /// The table `[limits]` of `coordinator.toml`. What is left out has its default.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Limits {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Limits {
            /// Name, default, least and largest value of each.
            pub const ALL: &'static [(&'static str, u64, u64, u64)] =
                &[$((stringify!($name), $default, $least, $most),)*];

            /// That each is within its range; else what is wrong.
            pub fn check(&self) -> Result<(), String> {
                $(if !($least..=$most).contains(&self.$name) {
                    return Err(format!(
                        "limits.{} is {}: expected {} to {}",
                        stringify!($name), self.$name, $least, $most
                    ));
                })*
                Ok(())
            }
        }
    };
}

limits! {
    /// Connections in all. Fewer where the process may not open so many files.
    connections: 8192 in 64..=1_000_000;
    /// Connections that have shown no certificate, those in the handshake included. The oldest gives way.
    connections_without_certificate: 512 in 8..=65_536;
    /// The same from one address; of IPv6, from one network of 64 bits.
    connections_per_address: 128 in 4..=65_536;
    /// Connections of one certificate's holder. The oldest gives way.
    connections_per_member: 16 in 2..=4096;
    /// Calls under way in one connection.
    streams_per_connection: 128 in 8..=1024;
    /// Calls under way of one holder; without a certificate an eighth of it, for who may watch so many streams more.
    requests_per_member: 32 in 8..=4096;
    /// Requests of one holder that wait for the engine; others wait before its queue.
    engine_share_per_member: 4 in 1..=64;
    /// Seconds until the first request, and between requests without a certificate.
    first_request_s: 10 in 1..=600;
    /// Seconds without a call after which the connection of a member is closed.
    idle_s: 600 in 10..=86_400;
    /// Seconds after which a connection takes no new calls; those under way are finished.
    connection_age_s: 3600 in 60..=604_800;
    /// Seconds that a request may keep the coordinator waiting for the rest of it.
    request_body_s: 10 in 1..=600;
    /// Uploads of one member at the same time. The oldest gives way.
    uploads_per_member: 2 in 1..=16;
    /// The lowest rate of an upload, in bytes a second over a minute.
    upload_bytes_per_s: 1000 in 1..=1_000_000_000;
    /// Downloads of one member at the same time. The oldest gives way.
    downloads_per_member: 4 in 1..=64;
    /// Check-ins of one member that are held at the same time. The oldest is answered.
    polls_per_member: 4 in 1..=64;
    /// Streams of events for one holder of a viewer's or operator's certificate. The oldest gives way.
    watches_per_member: 32 in 1..=4096;
    /// Wrong invites from one address, a minute.
    wrong_invites_per_minute: 10 in 1..=10_000;
    /// New or changed consents of one member, an hour.
    consents_per_hour: 60 in 1..=100_000;
    /// Declined tasks of one member, an hour.
    declines_per_hour: 720 in 1..=100_000;
    /// Renewed certificates of one member, an hour.
    renewals_per_hour: 6 in 1..=100_000;
    /// Begun or resumed uploads of one member, an hour.
    uploads_per_hour: 3600 in 1..=100_000;
    /// Submitted reports of audits of one member, an hour.
    audits_per_hour: 120 in 1..=100_000;
    /// Countersigned histories of events that are kept of one member, an hour; others are passed over.
    histories_per_hour: 60 in 1..=100_000;
    /// Pages of its own receipts that one member is told, an hour.
    receipt_pages_per_hour: 600 in 1..=100_000;
}

/// Files that the coordinator keeps open for itself: store, log, objects, the runtime.
const OWN_FILES: u64 = 128;

impl Limits {
    /// The same for a process that may open `files` files: a connection takes one, a transfer another.
    #[must_use]
    pub fn within_files(mut self, files: u64) -> Self {
        let room = files.saturating_sub(OWN_FILES).max(16) * 3 / 4;
        self.connections = self.connections.min(room);
        let strangers = (self.connections / 4).max(4);
        self.connections_without_certificate = self.connections_without_certificate.min(strangers);
        let of_one = (self.connections_without_certificate / 2).max(2);
        self.connections_per_address = self.connections_per_address.min(of_one);
        self
    }

    pub(crate) fn first_request(&self) -> Duration {
        Duration::from_secs(self.first_request_s)
    }

    pub(crate) fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_s)
    }
}

/// So many of a thing at once, and then so many in a span of time.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    level: f64,
    burst: f64,
    per_second: f64,
    at: Instant,
}

impl Bucket {
    pub(crate) fn new(burst: u64, number: u64, span: Duration) -> Self {
        Self {
            level: burst as f64,
            burst: burst as f64,
            per_second: number as f64 / span.as_secs_f64(),
            at: Instant::now(),
        }
    }

    /// Another size. What was taken stays taken.
    pub(crate) fn resize(&mut self, burst: u64, number: u64, span: Duration) {
        self.refill(Instant::now());
        let taken = self.burst - self.level;
        let other = Self::new(burst, number, span);
        self.level = (other.burst - taken).max(0.0);
        (self.burst, self.per_second) = (other.burst, other.per_second);
    }

    fn refill(&mut self, now: Instant) {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        self.level = (self.level + gained).min(self.burst);
        self.at = now;
    }

    pub(crate) fn has_any(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.level >= 1.0
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let any = self.has_any(now);
        if any {
            self.level -= 1.0;
        }
        any
    }

    pub(crate) fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.level >= self.burst
    }
}

/// Lets the process open as many files as the system allows it; how many those are.
pub(crate) fn raise_open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let found = getrlimit(Resource::Nofile);
    let most = found.maximum.unwrap_or(1 << 20);
    let wanted = Rlimit {
        current: Some(most),
        maximum: found.maximum,
    };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => most,
        Err(error) => {
            let kept = found.current.unwrap_or(most);
            tracing::warn!(%error, files = kept, "cannot raise the number of files that may be open");
            kept
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range_and_what_is_not_is_named() {
        Limits::default().check().expect("defaults");
        for (name, default, least, most) in Limits::ALL {
            assert!((least..=most).contains(&default), "{name}");
            for wrong in [least.wrapping_sub(1), most + 1] {
                let text = format!("{name} = {}", wrong as i64);
                let Ok(limits) = toml::from_str::<Limits>(&text) else {
                    continue;
                };
                let said = limits.check().expect_err(name);
                assert!(said.contains(name), "{said}");
            }
        }
        assert!(toml::from_str::<Limits>("connection = 1").is_err());
    }

    #[test]
    fn the_guide_lists_every_limit_with_its_default_and_range() {
        let readme = include_str!("../README.md");
        for (name, default, least, most) in Limits::ALL {
            let row = format!("| `{name}` | {default} | {least} to {most} |");
            assert!(readme.contains(&row), "the guide lacks: {row}");
        }
    }

    #[test]
    fn with_few_files_there_is_room_for_transfers_and_for_strangers() {
        let few = Limits::default().within_files(1024);
        assert!(few.connections <= 768 && few.connections >= 512, "{few:?}");
        assert!(few.connections_without_certificate <= few.connections / 4);
        assert!(few.connections_per_address < few.connections_without_certificate);
        assert_eq!(Limits::default().within_files(20_000), Limits::default());
    }

    #[test]
    fn a_bucket_gives_a_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(3, 60, Duration::from_mins(1));
        let start = Instant::now();
        assert!((0..3).all(|_| bucket.take(start)) && !bucket.take(start));
        assert!(!bucket.take(start + Duration::from_millis(900)));
        let later = start + Duration::from_millis(1100);
        assert!(bucket.take(later) && !bucket.take(later));
        let later = start + Duration::from_hours(1);
        assert!(bucket.is_full(later) && (0..3).all(|_| bucket.take(later)));
        let mut half = Bucket::new(4, 60, Duration::from_mins(1));
        assert!(half.take(start) && half.take(start));
        half.resize(3, 1, Duration::from_hours(1));
        let now = Instant::now();
        assert!(half.take(now) && !half.take(now), "two of three are taken");
        assert!(!bucket.take(later));
        assert!(!bucket.take(start), "a clock that goes back gives nothing");
    }
}
