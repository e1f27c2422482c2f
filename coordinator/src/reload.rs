//! What of `coordinator.toml` is taken over while the coordinator serves.

use std::sync::Arc;

use tokio::sync::watch;

use crate::config::{Config, Paths, host_and_port};
use crate::keys::{self, Keys};
use crate::version::{self, Version};

/// The oldest client that is let in.
pub type MinClient = watch::Receiver<Option<Version>>;

/// The configuration in use, and the way to what of it may change.
#[derive(Debug)]
pub struct Reload {
    paths: Paths,
    used: Config,
    keys: Arc<Keys>,
    min_client: watch::Sender<Option<Version>>,
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
pub fn names(config: &Config) -> Result<Vec<String>, crate::config::Error> {
    let (host, _) = host_and_port(&config.address)?;
    Ok([vec![host], config.names.clone()].concat())
}

impl Reload {
    pub fn new(paths: Paths, used: Config, keys: Arc<Keys>) -> Self {
        let least = used.min_client.as_deref().and_then(version::parse);
        let (min_client, _) = watch::channel(least);
        Self {
            paths,
            used,
            keys,
            min_client,
        }
    }

    pub fn min_client(&self) -> MinClient {
        self.min_client.subscribe()
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
            if let Ok(names) = names(used) {
                self.keys.rename_server(names)?;
            }
            taken.now.push("names");
        }
        let changed = [
            ("name", found.name != used.name),
            ("address", found.address != used.address),
            ("listen", found.listen != used.listen),
            (
                "metrics_listen",
                found.metrics_listen != used.metrics_listen,
            ),
            ("blobs_url", found.blobs_url != used.blobs_url),
            ("[limits]", found.limits != used.limits),
        ];
        let changed = changed.into_iter().filter(|(_, changed)| *changed);
        taken.later.extend(changed.map(|(key, _)| key));
        Ok(taken)
    }
}
