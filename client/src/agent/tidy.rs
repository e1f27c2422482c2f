//! Removes what was made of private text once nobody needs it.

use std::io;
use std::time::Duration;

use super::{Agent, Error};
use crate::transport::{Answer, Todo};

/// How soon it is looked again.
const AGAIN: Duration = Duration::from_secs(2);
/// The first form of messages that tells which plans are under way.
pub(super) const TELLS: u32 = 1;

impl Agent {
    /// While nothing is worked on, no training has a state worth keeping.
    pub(super) fn forget_training(&self) {
        let file = self.directory.training_checkpoint();
        for file in [file.with_extension("new"), file] {
            gone(&file, std::fs::remove_file(&file));
        }
    }

    /// A training that was stopped may keep its state a moment later.
    pub(super) async fn forget_trainings(&self) {
        loop {
            tokio::time::sleep(AGAIN).await;
            self.forget_training();
        }
    }

    /// The features of a corpus are for the plans under way that this institution agreed to.
    pub(super) fn forget_features(&self, answer: &Answer) -> Result<(), Error> {
        let features = self.directory.features();
        let told = answer.protocol >= TELLS && matches!(answer.todo, Todo::Nothing);
        if !told || !features.exists() {
            return Ok(());
        }
        let now = self.environment.machine.now();
        for plan in &answer.under_way {
            if self.store.consent_in_force(plan, now)?.is_some() {
                return Ok(());
            }
        }
        gone(&features, std::fs::remove_dir_all(&features));
        Ok(())
    }
}

fn gone(path: &std::path::Path, removed: io::Result<()>) {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!("{} cannot be removed: {error}", path.display());
        }
        Ok(()) | Err(_) => {}
    }
}
