//! Which older versions are let go of without a command.

use std::time::Duration;

use serde::{Deserialize, Serialize};

const DAY: u64 = 86_400;

/// The table `[retention]` of `coordinator.toml`. Without it nothing is let go of but by a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// So many of the newest versions of each model stay as they are.
    pub keep: u32,
    /// Only versions that are at least so old.
    #[serde(default)]
    pub older_than_days: u32,
    /// The files stay: such versions can be exported, and not be computed again.
    #[serde(default)]
    pub updates_only: bool,
}

impl Retention {
    /// That at least one version of each model stays; else what is wrong.
    pub fn check(&self) -> Result<(), String> {
        if self.keep == 0 {
            return Err("retention.keep is 0: expected at least 1".to_owned());
        }
        Ok(())
    }

    pub fn older_than(&self) -> Duration {
        Duration::from_secs(u64::from(self.older_than_days) * DAY)
    }
}
