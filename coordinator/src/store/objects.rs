//! Which large objects the state rests on.

use std::collections::BTreeSet;

use fedner_round::{Contribution, Run};
use fedner_shared::digest::Digest;

use super::{Error, Tx, damaged};

impl Tx<'_> {
    /// Every object that a version, an open round or a pending effect needs: the files of all
    /// versions, the updates that they are the sums of, and the updates not yet summed.
    pub fn needed_objects(&self) -> Result<BTreeSet<Digest>, Error> {
        let mut needed = BTreeSet::new();
        for digest in self.versions()? {
            let version = self.version(digest)?;
            let version = version.ok_or_else(|| damaged(format!("version {digest} is missing")))?;
            needed.extend(version.kept());
        }
        needed.extend(self.open_objects()?);
        Ok(needed)
    }

    /// The updates of open rounds and pending effects.
    pub fn open_objects(&self) -> Result<BTreeSet<Digest>, Error> {
        let runs = self.runs()?;
        let open = runs.iter().filter(|run| !run.phase.is_end());
        let mut needed: BTreeSet<Digest> = open
            .flat_map(Run::contributions)
            .map(|contribution| contribution.update)
            .collect();
        for pending in self.outbox()? {
            let update = |contribution: Contribution| contribution.update;
            needed.extend(pending.effect.contributions.into_iter().map(update));
        }
        Ok(needed)
    }
}
