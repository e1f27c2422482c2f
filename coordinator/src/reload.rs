//! What of `coordinator.toml` is taken over while the coordinator serves.

use std::sync::Arc;

use tokio::sync::watch;

use crate::config::{Config, Paths};
use crate::door::Door;
use crate::keys::{self, Keys};
use crate::limits::Limits;
use crate::retention::Retention;
use crate::version::{self, Version};

/// The oldest client that is let in.
pub type MinClient = watch::Receiver<Option<Version>>;

/// The configuration in use, and the way to what of it may change.
#[derive(Debug)]
pub struct Reload {
    paths: Paths,
    used: Config,
    keys: Arc<Keys>,
    door: Arc<Door>,
    /// How many the process may open.
    files: u64,
    min_client: watch::Sender<Option<Version>>,
    retention: watch::Sender<Option<Retention>>,
}

/// What came of a look at the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Keys that are in force now.
    pub now: Vec<&'static str>,
    /// Changed keys that are used at the next start.
    pub later: Vec<&'static str>,
}

/// All names by which institutions dial.
pub fn names(config: &Config) -> Vec<String> {
    let hosts = config.address.iter().map(|address| address.host.clone());
    let mut names: Vec<String> = Vec::new();
    for name in hosts.chain(config.names.iter().cloned()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

impl Reload {
    pub fn new(
        paths: Paths,
        used: Config,
        keys: Arc<Keys>,
        (door, files): (Arc<Door>, u64),
    ) -> Self {
        let least = used.min_client.as_deref().and_then(version::parse);
        let (min_client, _) = watch::channel(least);
        let (retention, _) = watch::channel(used.retention.clone());
        Self {
            paths,
            used,
            keys,
            door,
            files,
            min_client,
            retention,
        }
    }

    pub fn min_client(&self) -> MinClient {
        self.min_client.subscribe()
    }

    pub fn retention(&self) -> watch::Receiver<Option<Retention>> {
        self.retention.subscribe()
    }

    /// Looks at the file, says what was taken over, and keeps what is in use where the file is not whole.
    pub fn look(&mut self) {
        match Config::read(&self.paths).map(|found| self.take(found)) {
            Ok(Ok(taken)) => {
                let listed = |keys: &[&str]| keys.join(", ");
                if taken == Taken::default() {
                    tracing::info!("coordinator.toml is as it was");
                }
                if !taken.now.is_empty() {
                    tracing::info!("coordinator.toml: in force now: {}", listed(&taken.now));
                }
                if !taken.later.is_empty() {
                    let keys = listed(&taken.later);
                    tracing::warn!("coordinator.toml: used at the next start: {keys}");
                }
            }
            Ok(Err(error)) => tracing::error!("{error}; the certificate in use stays"),
            Err(error) => tracing::warn!("{error}; the configuration in use stays"),
        }
    }

    fn take(&mut self, found: Config) -> Result<Taken, keys::Error> {
        let mut taken = Taken::default();
        let used = &mut self.used;
        if found.min_client != used.min_client {
            let least = found.min_client.as_deref().and_then(version::parse);
            self.min_client.send_replace(least);
            used.min_client.clone_from(&found.min_client);
            taken.now.push("min_client");
        }
        if found.names != used.names {
            used.names.clone_from(&found.names);
            // The address in use: another one is of the next start.
            self.keys.rename_server(names(used))?;
            taken.now.push("names");
        }
        if found.retention != used.retention {
            used.retention.clone_from(&found.retention);
            self.retention.send_replace(found.retention.clone());
            taken.now.push("[retention]");
        }
        // The server was built with these two.
        let limits = Limits {
            streams_per_connection: used.limits.streams_per_connection,
            connection_age_s: used.limits.connection_age_s,
            ..found.limits.clone()
        };
        if limits != used.limits {
            used.limits.clone_from(&limits);
            self.door.adopt(limits.within_files(self.files));
            taken.now.push("[limits]");
        }
        let changed = [
            ("name", found.name != used.name),
            ("address", found.address != used.address),
            ("listen", found.listen != used.listen),
            (
                "metrics_listen",
                found.metrics_listen != used.metrics_listen,
            ),
            (
                "proxy_protocol_from",
                found.proxy_protocol_from != used.proxy_protocol_from,
            ),
            ("traces_to", found.traces_to != used.traces_to),
            ("store_url", found.store_url != used.store_url),
            ("blobs_url", found.blobs_url != used.blobs_url),
            (
                "blobs_cache_mib",
                found.blobs_cache_mib != used.blobs_cache_mib,
            ),
            (
                "cluster_address",
                found.cluster_address != used.cluster_address,
            ),
            (
                "cluster_listen",
                found.cluster_listen != used.cluster_listen,
            ),
            ("lease_s", found.lease_s != used.lease_s),
            (
                "streams_per_connection",
                found.limits.streams_per_connection != used.limits.streams_per_connection,
            ),
            (
                "connection_age_s",
                found.limits.connection_age_s != used.limits.connection_age_s,
            ),
        ];
        let changed = changed.into_iter().filter(|(_, changed)| *changed);
        taken.later.extend(changed.map(|(key, _)| key));
        Ok(taken)
    }
}
