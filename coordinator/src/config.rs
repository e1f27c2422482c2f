//! The coordinator's directory and the one file in it that people edit.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fedner_host::address::{Address, Addresses};
use serde::{Deserialize, Serialize};

use crate::limits::Limits;
use crate::retention::Retention;
use crate::store::LEASE;
use crate::version;

/// MiB of local copies unless `blobs_cache_mib` says otherwise.
const CACHE_MIB: u64 = 2048;

/// Seconds that a lease may last.
const LEASES: RangeInclusive<u64> = 1..=60;

/// `coordinator.toml`.
///
/// ```
/// let config: fedner_coordinator::config::Config = toml::from_str(r#"
///     name = "north-federation"
///     address = "fedner.example.org:7443"
///     listen = "0.0.0.0:7443"
/// "#).unwrap();
/// assert_eq!(config.blobs_url, None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The federation's name; it stands in the authority's certificate.
    pub name: String,
    /// HOST:PORT that institutions dial, or a list of them that they try in turn. They stand in invites, and their
    /// hosts in the server's certificate.
    pub address: Addresses,
    /// Other names by which institutions reach it, through a gateway of their own for example.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The socket to listen on.
    pub listen: String,
    /// Balancers that send the PROXY protocol, version 2, ahead of each connection; others may not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proxy_protocol_from: Vec<IpAddr>,
    /// Where Prometheus may scrape, over plain HTTP: keep it on a loopback or private address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_listen: Option<String>,
    /// Where traces of rounds are sent: an OpenTelemetry collector that takes OTLP over gRPC, without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traces_to: Option<String>,
    /// Where the state lives; a file in the directory unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_url: Option<String>,
    /// Where large objects live; a local folder in the directory unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blobs_url: Option<String>,
    /// MiB of the directory's disk that local copies of objects in a bucket may take; 0 keeps none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blobs_cache_mib: Option<u64>,
    /// HOST:PORT at which the federation's other processes reach this one; one process alone has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_address: Option<Address>,
    /// The socket for them; the port of `cluster_address` on every interface unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_listen: Option<String>,
    /// How many seconds a process that fell silent keeps the right to write to a store on a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_s: Option<u64>,
    /// The oldest client that is let in; older ones are told to be upgraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_client: Option<String>,
    /// Which older versions are let go of without a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// What peers may take.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: Limits,
}

fn is_default(limits: &Limits) -> bool {
    *limits == Limits::default()
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}: {source}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} is not a configuration: {source}")]
    Syntax {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
    #[error("{path}: {reason}")]
    Limit { path: PathBuf, reason: String },
}

impl Config {
    pub fn read(paths: &Paths) -> Result<Self, Error> {
        let path = paths.config();
        let text = std::fs::read_to_string(&path).map_err(|source| Error::Read {
            path: path.clone(),
            source,
        })?;
        let config: Self = toml::from_str(&text).map_err(|source| Error::Syntax {
            path: path.clone(),
            source: Box::new(source),
        })?;
        let retention = config.retention.as_ref().map_or(Ok(()), Retention::check);
        let checked = config.limits.check().and(retention);
        checked.map_err(|reason| Error::Limit {
            path: path.clone(),
            reason,
        })?;
        config.check_cluster().map_err(|reason| Error::Limit {
            path: path.clone(),
            reason,
        })?;
        if let Some(text) = config.min_client.as_ref()
            && version::parse(text).is_none()
        {
            let reason = format!("min_client is `{text}`: expected a version, such as 0.1.0");
            return Err(Error::Limit { path, reason });
        }
        Ok(config)
    }

    /// How long a process that fell silent keeps the right to write.
    pub fn lease(&self) -> Duration {
        self.lease_s.map_or(LEASE, Duration::from_secs)
    }

    /// Bytes that local copies of objects in a bucket may take.
    pub fn blobs_cache(&self) -> u64 {
        self.blobs_cache_mib
            .unwrap_or(CACHE_MIB)
            .saturating_mul(1 << 20)
    }

    /// The socket for the federation's other processes, if there are any.
    pub fn cluster_listen(&self) -> Option<String> {
        let port = self.cluster_address.as_ref()?.port;
        let everywhere = || format!("[::]:{port}");
        Some(self.cluster_listen.clone().unwrap_or_else(everywhere))
    }

    fn check_cluster(&self) -> Result<(), String> {
        if let Some(seconds) = self.lease_s.filter(|lease| !LEASES.contains(lease)) {
            let (least, most) = (LEASES.start(), LEASES.end());
            return Err(format!("lease_s is {seconds}: expected {least} to {most}"));
        }
        if self.cluster_address.is_none() {
            return match self.cluster_listen {
                Some(_) => Err("cluster_listen is of no use without cluster_address".to_owned()),
                None => Ok(()),
            };
        }
        let server = |url: &String| url.starts_with("postgres");
        if !self.store_url.as_ref().is_some_and(server) {
            return Err("several processes need store_url = \"postgres://…\"".to_owned());
        }
        // A folder that all of them have in the same place is one too.
        let common = |url: &String| url.starts_with("s3:") || url.starts_with("file:/");
        if !self.blobs_url.as_ref().is_some_and(common) {
            return Err("several processes need blobs_url = \"s3://…\"".to_owned());
        }
        Ok(())
    }
}

/// What lies where in the coordinator's directory.
#[derive(Debug, Clone)]
pub struct Paths(PathBuf);

impl Paths {
    /// The folders of keys and certificates.
    pub const FOLDERS: [&str; 3] = ["authority", "operator", "viewer"];

    /// What in the directory is for its owner alone.
    pub const OURS: [&str; 11] = [
        "coordinator.toml",
        "state.sqlite",
        "state.sqlite-wal",
        "state.sqlite-shm",
        "blobs",
        "staging",
        "authority",
        "operator",
        "viewer",
        "lock",
        "collecting.lock",
    ];

    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }
    pub fn directory(&self) -> &Path {
        &self.0
    }
    pub fn config(&self) -> PathBuf {
        self.0.join("coordinator.toml")
    }
    pub fn store(&self) -> PathBuf {
        self.0.join("state.sqlite")
    }
    pub fn blobs(&self) -> PathBuf {
        self.0.join("blobs")
    }
    /// Locked while unneeded objects are removed, or while a backup needs them all.
    pub fn garbage_lock(&self) -> PathBuf {
        self.0.join("collecting.lock")
    }
    /// Uploads under way.
    pub fn staging(&self) -> PathBuf {
        self.0.join("staging")
    }
    pub fn authority_certificate(&self) -> PathBuf {
        self.0.join("authority").join("authority.pem")
    }
    pub fn authority_key(&self) -> PathBuf {
        self.0.join("authority").join("authority.key")
    }
    /// An authority that takes the present one's place once that is withdrawn.
    pub fn next_authority_certificate(&self) -> PathBuf {
        self.0.join("authority").join("next.pem")
    }
    pub fn next_authority_key(&self) -> PathBuf {
        self.0.join("authority").join("next.key")
    }
    /// A key for the history that waits for its statement to be recorded.
    pub fn next_history_key(&self) -> PathBuf {
        self.0.join("authority").join("next-history.key")
    }
    /// A key for plans that waits for its statement to be recorded.
    pub fn next_signing_key(&self) -> PathBuf {
        self.0.join("operator").join("next-signing.key")
    }
    /// The certificate by which the commands call the coordinator.
    pub fn operator_certificate(&self) -> PathBuf {
        self.0.join("operator").join("operator.pem")
    }
    pub fn operator_key(&self) -> PathBuf {
        self.0.join("operator").join("operator.key")
    }
    /// The key that signs plans.
    pub fn signing_key(&self) -> PathBuf {
        self.0.join("operator").join("signing.key")
    }
    /// The files of secrets that the serving process reads or keeps.
    pub fn secrets(&self) -> [PathBuf; 9] {
        [
            self.authority_key(),
            self.operator_key(),
            self.signing_key(),
            self.viewer_key(),
            self.history_key(),
            self.next_authority_key(),
            self.next_history_key(),
            self.next_signing_key(),
            self.store_key(),
        ]
    }
    /// The key that signs the history of events, made at the first start.
    pub fn history_key(&self) -> PathBuf {
        self.0.join("authority").join("history.key")
    }
    /// What opens the keys that the store has sealed for all processes.
    pub fn store_key(&self) -> PathBuf {
        self.0.join("authority").join("store.key")
    }
    /// Of which generation the shared keys here are.
    pub fn key_generation(&self) -> PathBuf {
        self.0.join("authority").join("generation")
    }
    pub fn signing_public_key(&self) -> PathBuf {
        self.0.join("authority").join("signing.pub")
    }
    /// A certificate for dashboards and gRPC tools that may only look.
    pub fn viewer_certificate(&self) -> PathBuf {
        self.0.join("viewer").join("viewer.pem")
    }
    pub fn viewer_key(&self) -> PathBuf {
        self.0.join("viewer").join("viewer.key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_needs_a_host_and_a_port() {
        let read = |address| {
            let text = format!("name = \"a\"\naddress = {address}\nlisten = \"a:1\"");
            toml::from_str::<Config>(&text)
        };
        for good in ["\"a:1\"", "[\"a:1\", \"[::1]:2\"]"] {
            assert!(read(good).is_ok(), "{good}");
        }
        for bad in ["\"a\"", "[]", "[\"a:1\", \"b\"]"] {
            let error = read(bad).expect_err(bad).to_string();
            assert!(error.contains("address"), "{error}");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let text = "name = \"a\"\naddress = \"a:1\"\nlisten = \"a:1\"\nlisten_on = \"b:1\"";
        assert!(toml::from_str::<Config>(text).is_err());
    }

    #[test]
    fn several_processes_need_what_all_of_them_reach() {
        let folder = tempfile::tempdir().expect("folder");
        let paths = Paths::new(folder.path());
        let read = |lines: &str| {
            let text = format!("name = \"a\"\naddress = \"a:1\"\nlisten = \"a:1\"\n{lines}\n");
            std::fs::write(paths.config(), text).expect("written");
            Config::read(&paths).map_err(|error| error.to_string())
        };
        let address = "cluster_address = \"10.0.0.5:7444\"";
        let store = "store_url = \"postgres://fedner@db/north\"";
        let blobs = "blobs_url = \"s3://bucket\"";
        let whole = read(&[address, store, blobs].join("\n")).expect("whole");
        assert_eq!(whole.lease(), LEASE);
        for (lines, wrong) in [
            (vec![address, store], "blobs_url"),
            (vec![address, blobs], "store_url"),
            (
                vec![address, store, "blobs_url = \"file:blobs\""],
                "blobs_url",
            ),
            (
                vec!["cluster_address = \"nowhere\"", store, blobs],
                "nowhere",
            ),
            (vec!["cluster_listen = \"0.0.0.0:7444\""], "cluster_listen"),
            (vec!["lease_s = 0"], "lease_s is 0"),
        ] {
            let error = read(&lines.join("\n")).expect_err(wrong);
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn limits_are_read_and_checked() {
        let folder = tempfile::tempdir().expect("folder");
        let paths = Paths::new(folder.path());
        let write = |limits: &str| {
            let text =
                format!("name = \"a\"\naddress = \"a:1\"\nlisten = \"a:1\"\n[limits]\n{limits}\n");
            std::fs::write(paths.config(), text).expect("written");
            Config::read(&paths)
        };
        assert_eq!(write("idle_s = 99").expect("read").limits.idle_s, 99);
        let error = write("idle_s = 0").expect_err("out of range");
        assert!(error.to_string().contains("limits.idle_s is 0"), "{error}");
        assert!(write("idle = 99").is_err(), "unknown");
        let error = write("[retention]\nkeep = 0").expect_err("nothing would stay");
        assert!(error.to_string().contains("retention.keep is 0"), "{error}");
        let kept = write("[retention]\nkeep = 2\nolder_than_days = 90").expect("read");
        let days = kept.retention.expect("a rule").older_than().as_secs() / 86_400;
        assert_eq!(days, 90);
        assert!(
            write("[retention]\nolder_than_days = 9").is_err(),
            "how many?"
        );
    }
}
