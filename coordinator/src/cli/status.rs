//! `status`: which process leads.

use clap::Args;
use fedner_host::output::Output;
use fedner_shared::time::Time;
use serde::Serialize;

use super::failed::Failed;
use crate::config::{Config, Paths};
use crate::store::{Leader, Place, Store};

#[derive(Debug, Args)]
pub(super) struct Arguments {}

#[derive(Serialize)]
struct Status {
    /// Whether several processes can reach the store.
    shared: bool,
    /// Whether somebody holds the right to write to such a store.
    led: bool,
    /// Where the other processes reach the one that leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<String>,
    /// Since when it leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Time>,
    /// How often the lead has been taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<i64>,
}

impl Status {
    fn new(leader: Option<Leader>) -> Self {
        let known = leader.as_ref().filter(|leader| leader.holds);
        let address = known.map(|leader| leader.address.clone());
        Self {
            shared: leader.is_some(),
            led: known.is_some(),
            leader: address.filter(|address| !address.is_empty()),
            since: known.map(|leader| leader.since),
            changes: leader.as_ref().map(|leader| leader.epoch),
        }
    }

    fn said(&self) -> String {
        let by = self
            .leader
            .as_deref()
            .unwrap_or("a process without cluster_address");
        match (self.shared, self.since) {
            (false, _) => "one process alone has the store".to_owned(),
            (true, None) => "nobody leads at present".to_owned(),
            (true, Some(since)) => format!(
                "{by} leads since {since}, as number {}",
                self.changes.unwrap_or_default()
            ),
        }
    }
}

pub(super) fn run(_: Arguments, paths: &Paths, output: &Output) -> Result<(), Failed> {
    let place = Place::from_config(paths, &Config::read(paths)?)?;
    let status = Status::new(Store::look_at(&place)?.leader()?);
    Ok(output.data(&status, Status::said)?)
}
