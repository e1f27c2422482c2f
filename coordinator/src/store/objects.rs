//! Which large objects the state rests on.

use std::collections::{BTreeMap, BTreeSet};

use fedner_round::{Contribution, Run};
use fedner_shared::digest::Digest;
use fedner_shared::version::Pruned;

use super::sql::values;
use super::{Error, Tx, damaged};

impl Tx<'_> {
    /// Every object that a version, an open round or a pending effect needs: the files of all
    /// versions, the updates that they are the sums of, and the updates not yet summed. What was pruned is
    /// not needed.
    pub fn needed_objects(&self) -> Result<BTreeSet<Digest>, Error> {
        self.needed_with(&self.pruned()?)
    }

    /// The same, were these versions pruned.
    pub fn needed_with(
        &self,
        pruned: &BTreeMap<Digest, Pruned>,
    ) -> Result<BTreeSet<Digest>, Error> {
        let mut needed = BTreeSet::new();
        for digest in self.versions()? {
            let version = self.version(digest)?;
            let version = version.ok_or_else(|| damaged(format!("version {digest} is missing")))?;
            needed.extend(version.kept(pruned.get(&digest).copied()));
        }
        needed.extend(self.open_objects()?);
        Ok(needed)
    }

    /// Versions of which something was let go on purpose, and how much.
    pub fn pruned(&self) -> Result<BTreeMap<Digest, Pruned>, Error> {
        let sql = "SELECT version, what FROM pruned";
        let found = self.list("list pruned versions", sql, values![], |row| {
            Ok((row.parse(0)?, parse(&row.get::<String>(1)?)?))
        })?;
        Ok(found.into_iter().collect())
    }

    /// What of the version was let go on purpose.
    pub fn pruned_of(&self, version: Digest) -> Result<Option<Pruned>, Error> {
        let sql = "SELECT what FROM pruned WHERE version = ?1";
        let key = values![version.to_string()];
        self.first("look for pruned version", sql, key, |row| {
            parse(&row.get::<String>(0)?)
        })
    }

    pub fn put_pruned(&self, version: Digest, pruned: Pruned) -> Result<(), Error> {
        let sql = "INSERT INTO pruned (version, what) VALUES (?1, ?2)
                   ON CONFLICT (version) DO UPDATE SET what = excluded.what";
        let row = values![version.to_string(), pruned.as_str()];
        self.write("put pruned version", sql, row)
    }

    /// The updates of open rounds and pending effects.
    pub fn open_objects(&self) -> Result<BTreeSet<Digest>, Error> {
        let runs = self.runs()?;
        let open = runs.iter().filter(|run| !run.phase.is_end());
        let parents = open.clone().filter_map(|run| run.plan.weights_of_parent());
        let updates = open.flat_map(Run::contributions);
        let mut needed: BTreeSet<Digest> = updates
            .map(|contribution| contribution.update)
            .chain(parents.map(|parent| parent.digest))
            .collect();
        for pending in self.outbox()? {
            let update = |contribution: Contribution| contribution.update;
            needed.extend(pending.effect.contributions.into_iter().map(update));
        }
        Ok(needed)
    }
}

fn parse(what: &str) -> Result<Pruned, Error> {
    let found = Pruned::ALL
        .into_iter()
        .find(|pruned| pruned.as_str() == what);
    found.ok_or_else(|| damaged(format!("a version has `{what}` pruned")))
}
