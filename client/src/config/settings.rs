//! `client.toml`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use fedner_host::address::Addresses;
use fedner_model::corpus::ReadOptions;
use fedner_shared::id::InstitutionId;
use fedner_shared::plan::Plan;
use fedner_shared::refusal::Refusal;
use fedner_shared::serde_helpers::is_default;
use serde::{Deserialize, Serialize};

use super::{Error, Resources};

/// What the client is, whom it dials and what it trains on.
///
/// ```
/// let settings: fedner_client::config::Settings = toml::from_str(r#"
///     institution = "st-anna"
///     coordinator = "fedner.example.org:7443"
///     data = ["train.conll"]
///     held_out = ["devel.conll"]
///     device = "auto"
///     declared_examples = 5000
///
///     [reading]
///     invalid_tags = "repair"
/// "#).unwrap();
/// assert_eq!(settings.declared_examples, Some(5000));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub institution: InstitutionId,
    /// HOST:PORT, or a list of them that are tried in turn.
    pub coordinator: Addresses,
    /// The name that the coordinator's certificate must have; the host of the address unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// `http://`, `socks5://` or `direct`; the environment decides where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// Corpora to train on; relative paths are taken from the directory of this file.
    #[serde(default)]
    pub data: Vec<PathBuf>,
    /// Corpora to evaluate on; never trained on.
    #[serde(default)]
    pub held_out: Vec<PathBuf>,
    /// Where to train. `auto` leaves it to the plan.
    #[serde(default = "default_device")]
    pub device: String,
    /// The example count to declare with a consent. A count taken from the data would itself be
    /// data, so that plans with noise need it stated in advance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared_examples: Option<u32>,
    /// The number of held-out sentences to declare with a consent, which bounds the counts on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared_held_out: Option<u32>,
    /// The key of what is kept sealed, 64 hexadecimal digits in a file; in `identity/` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_key: Option<PathBuf>,
    /// A file outside of this directory to which each head of the privacy ledger is appended. It tells
    /// when the end of the ledger was cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger_heads: Option<PathBuf>,
    /// Where Prometheus may scrape, over plain HTTP: an address of loopback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_listen: Option<SocketAddr>,
    /// The entity types that the corpora annotate, where these are not all that a plan may ask for. Elsewhere
    /// a word without a tag may be of any other type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotated_types: Option<Vec<String>>,
    /// The same of single files, named as in `data` and `held_out`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotated_types_of: BTreeMap<PathBuf, Vec<String>>,
    /// How the corpora are read.
    #[serde(default)]
    pub reading: ReadOptions,
    /// What this machine gives to training, where it is not what it has.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
}

fn default_device() -> String {
    "auto".into()
}

impl Settings {
    pub fn new(institution: InstitutionId, coordinator: Addresses) -> Self {
        Self {
            institution,
            coordinator,
            server_name: None,
            proxy: None,
            data: Vec::new(),
            held_out: Vec::new(),
            device: default_device(),
            declared_examples: None,
            declared_held_out: None,
            storage_key: None,
            ledger_heads: None,
            metrics_listen: None,
            annotated_types: None,
            annotated_types_of: BTreeMap::new(),
            reading: ReadOptions::default(),
            resources: Resources::default(),
        }
    }

    /// Whether this machine has what the plan requires.
    pub fn allow(&self, plan: &Plan) -> Result<(), Refusal> {
        self.resources.allow(plan, &self.device)
    }

    pub(super) fn check(&self, file: &Path) -> Result<(), Error> {
        let wrong = |key, found: String, expected| {
            Err(Error::Value {
                file: file.to_owned(),
                key,
                found,
                expected,
            })
        };
        if self.declared_examples == Some(0) {
            return wrong("declared_examples", "0".into(), "at least 1");
        }
        if self.declared_held_out == Some(0) {
            return wrong("declared_held_out", "0".into(), "at least 1");
        }
        if let Some(address) = self.metrics_listen.filter(|at| !at.ip().is_loopback()) {
            return wrong(
                "metrics_listen",
                address.to_string(),
                "an address of loopback",
            );
        }
        if let Some(both) = self.data.iter().find(|path| self.held_out.contains(path)) {
            let found = both.display().to_string();
            return wrong("held_out", found, "files that are not in `data`");
        }
        let names = |file: &&PathBuf| !self.data.contains(file) && !self.held_out.contains(file);
        if let Some(unknown) = self.annotated_types_of.keys().find(names) {
            let found = unknown.display().to_string();
            return wrong("annotated_types_of", found, "files of `data` or `held_out`");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coordinator_has_one_address_or_several() {
        let read = |text| {
            let text = format!("institution = \"a\"\ncoordinator = {text}\n");
            toml::from_str::<Settings>(&text)
        };
        let one = read("\"h:1\"").expect("one");
        assert!(one.coordinator.is_one());
        let several = read("[\"h:1\", \"[::1]:2\"]").expect("several");
        let written = toml::to_string(&several).expect("written");
        assert_eq!(toml::from_str::<Settings>(&written).expect("read"), several);
        for bad in ["\"h\"", "[]", "[\"h:1\", \"h:1\"]", "7"] {
            let error = read(bad).expect_err(bad).to_string();
            assert!(error.contains("coordinator"), "{error}");
        }
    }

    #[test]
    fn unknown_keys_and_text_both_trained_and_evaluated_on_are_errors() {
        let base = "institution = \"a\"\ncoordinator = \"h:1\"\n";
        assert!(toml::from_str::<Settings>(&format!("{base}datas = []")).is_err());
        let text = format!("{base}data = [\"x\"]\nheld_out = [\"x\"]");
        let settings: Settings = toml::from_str(&text).expect("toml");
        assert!(settings.check(Path::new("client.toml")).is_err());
        for (address, fits) in [
            ("127.0.0.1:9464", true),
            ("[::1]:1", true),
            ("0.0.0.0:9464", false),
        ] {
            let text = format!("{base}metrics_listen = \"{address}\"");
            let settings: Settings = toml::from_str(&text).expect("toml");
            assert_eq!(
                settings.check(Path::new("client.toml")).is_ok(),
                fits,
                "{address}"
            );
        }
    }
}
