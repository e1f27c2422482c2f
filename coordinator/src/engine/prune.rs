//! Letting go of what older versions were made of.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fedner_round::Run;
use fedner_shared::digest::Digest;
use fedner_shared::event::Event;
use fedner_shared::id::{PlanName, RunId, VersionName};
use fedner_shared::refusal::Code;
use fedner_shared::version::Pruned;
use fedner_shared::view::VersionView;

use super::{Engine, Failure};

/// Which versions are let go of.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// So many of the newest of each model stay.
    pub keep: u32,
    pub older_than: Duration,
    pub what: Pruned,
}

/// What was let go, or would be.
#[derive(Debug, Default)]
pub struct LetGo {
    pub versions: Vec<VersionName>,
    /// Versions that could be computed again before.
    pub beyond_replay: Vec<VersionName>,
    /// What nothing needs any more.
    pub objects: BTreeSet<Digest>,
}

impl Engine {
    /// Lets go of what the rule names. What has an alias stays whatever its age, and so does what a run under way
    /// rests on.
    pub fn prune_models(&mut self, rule: Rule, dry_run: bool) -> Result<LetGo, Failure> {
        let views = self.model_views()?;
        let old: Vec<&VersionView> = self.old(&views, rule)?;
        let before = self.store.read(|tx| tx.pruned())?;
        let mut after = before.clone();
        after.extend(old.iter().map(|view| (view.digest, rule.what)));
        let names = |views: &[&VersionView]| -> Vec<VersionName> {
            let names = views.iter().map(|view| view.version.name.clone());
            names.collect()
        };
        let beyond: Vec<&VersionView> = views
            .iter()
            .filter(|view| can_replay(view, &before) && !can_replay(view, &after))
            .collect();
        let (needed, still) =
            (self.store).read(|tx| Ok((tx.needed_with(&before)?, tx.needed_with(&after)?)))?;
        let let_go = LetGo {
            versions: names(&old),
            beyond_replay: names(&beyond),
            objects: needed.difference(&still).copied().collect(),
        };
        if dry_run || old.is_empty() {
            return Ok(let_go);
        }
        let event = Event::ModelsPruned {
            versions: let_go.versions.clone(),
            updates_only: rule.what == Pruned::Updates,
        };
        self.record("prune models", event, |tx| {
            old.iter()
                .try_for_each(|view| tx.put_pruned(view.digest, rule.what))
        })?;
        Ok(let_go)
    }

    /// A version whose files are needed from now on.
    pub fn require_files(&mut self, version: Digest) -> Result<(), Failure> {
        if self.store.read(|tx| tx.pruned_of(version))? != Some(Pruned::Files) {
            return Ok(());
        }
        let name = self.version_record(version)?.version.name.clone();
        let message = format!("the files of {name} were pruned on purpose");
        Err(Failure::refuse(Code::ModelPruned, message))
    }

    /// The version that the run goes on from is there with its files.
    pub fn require_version_of(&mut self, run: &RunId) -> Result<(), Failure> {
        let version = self.require(run)?.version;
        self.require_files(version)
    }

    /// Versions that the rule names and that have something to let go.
    fn old<'a>(
        &mut self,
        views: &'a [VersionView],
        rule: Rule,
    ) -> Result<Vec<&'a VersionView>, Failure> {
        let in_use = self.in_use()?;
        let until = self.now();
        let mut newest: BTreeMap<&PlanName, u32> = BTreeMap::new();
        for view in views {
            let highest = newest.entry(&view.version.name.model).or_default();
            *highest = view.version.name.number.max(*highest);
        }
        let old = views.iter().filter(|view| {
            let (name, digest) = (&view.version.name, view.digest);
            let highest = newest.get(&name.model).copied().unwrap_or_default();
            let aged = name.number.saturating_add(rule.keep) <= highest
                && until.since(view.version.created) >= rule.older_than;
            let has_some = match rule.what {
                Pruned::Updates => view.pruned.is_none() && view.version.updates().next().is_some(),
                Pruned::Files => view.pruned != Some(Pruned::Files),
            };
            aged && has_some && view.aliases.is_empty() && !in_use.contains(&digest)
        });
        Ok(old.collect())
    }

    /// What runs under way go on from, or may go back to, and the parents of these: the step from one to the
    /// other is what updates are measured by.
    fn in_use(&mut self) -> Result<BTreeSet<Digest>, Failure> {
        let live = self.runs.iter().filter(|run| !run.phase.is_end());
        let of = |run: &Run| {
            let champion = run.standing.as_ref().map(|standing| standing.champion);
            [Some(run.version), champion]
        };
        let mut in_use: BTreeSet<Digest> = live.flat_map(of).flatten().collect();
        for pending in self.store.read(|tx| tx.outbox())? {
            in_use.insert(pending.effect.base);
        }
        for digest in in_use.clone() {
            in_use.extend(self.version_record(digest)?.version.parent);
        }
        Ok(in_use)
    }
}

/// Whether everything is kept that the version is computed again from.
fn can_replay(view: &VersionView, pruned: &BTreeMap<Digest, Pruned>) -> bool {
    let parent = view.version.parent.and_then(|parent| pruned.get(&parent));
    view.version.round().is_some()
        && !pruned.contains_key(&view.digest)
        && parent != Some(&Pruned::Files)
}
