//! Where a coordinator runs: one process on SQLite and a folder, or three on PostgreSQL and S3.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use fedner_tests::cluster::Cluster;
use fedner_tests::several::{Ground, Several};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    One,
    /// A leader that stays silent for so many seconds is replaced.
    Three {
        lease_s: u64,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One => write!(f, "one process, SQLite and a folder"),
            Self::Three { lease_s } => {
                write!(
                    f,
                    "three processes, PostgreSQL and S3, lease of {lease_s} s"
                )
            }
        }
    }
}

/// A coordinator there, in that directory; of several processes, the cluster's own gives way to them.
pub(crate) fn start(directory: &Path, place: Place) -> Result<(Cluster, Option<Several>)> {
    let Place::Three { lease_s } = place else {
        return Ok((Cluster::start(directory)?, None));
    };
    let log = directory.join("s3.log");
    let ground = Ground::straight(3, Duration::from_secs(lease_s), &log)?;
    let ground = ground.with_context(Ground::needed)?;
    let mut cluster = Cluster::start_on(directory, ground.engines())?;
    let several = Several::join(ground, &mut cluster)?;
    several.wait_for_leader(Duration::from_secs(30))?;
    Ok((cluster, Some(several)))
}
