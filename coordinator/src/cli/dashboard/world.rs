//! What pages are made of: the coordinator's views, and what its events add up to.

use std::collections::BTreeMap;

use fedner_shared::audit::Outcome;
use fedner_shared::digest::Digest;
use fedner_shared::event::Judgement;
use fedner_shared::id::{Alias, InstitutionId, RunId, VersionName};
use fedner_shared::plan::Plan;
use fedner_shared::score::Counts;
use fedner_shared::time::Time;
use fedner_shared::version::{Origin, Pruned};
use fedner_shared::view::{Explanation, InstitutionView, RunView, VersionView};

use super::history::History;

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) history: History,
    pub(super) runs: Vec<RunView>,
    pub(super) explained: BTreeMap<RunId, Explanation>,
    pub(super) plans: BTreeMap<RunId, Plan>,
    pub(super) institutions: Vec<InstitutionView>,
    pub(super) versions: BTreeMap<Digest, Version>,
    /// Why what is shown may be old.
    pub(super) problem: Option<String>,
}

/// A version without its participants, of which there may be hundreds.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) digest: Digest,
    pub(super) name: VersionName,
    pub(super) parent: Option<Digest>,
    pub(super) created: Time,
    pub(super) origin: &'static str,
    pub(super) run: Option<(RunId, u32)>,
    pub(super) labels: Vec<String>,
    pub(super) aliases: Vec<Alias>,
    pub(super) f1: Option<f64>,
    pub(super) median_f1: Option<f64>,
    /// Of all institutions together.
    pub(super) by_type: Vec<(String, Counts)>,
    /// How many institutions shared their counts.
    pub(super) scored: usize,
    pub(super) participants: usize,
    /// The largest at any of its participants.
    pub(super) epsilon: Option<f64>,
    pub(super) pruned: Option<Pruned>,
    pub(super) audits: Vec<(InstitutionId, Outcome)>,
}

impl Version {
    pub(super) fn of(view: VersionView) -> Self {
        let round = view.version.round();
        let participants = round.map_or(&[][..], |round| &round.participants);
        let mut by_type: BTreeMap<String, Counts> = BTreeMap::new();
        for scores in &view.scores {
            for (label, counts) in &scores.scores.by_type {
                by_type.entry(label.clone()).or_default().add(*counts);
            }
        }
        let epsilons = participants.iter().filter_map(|part| part.epsilon);
        Self {
            digest: view.digest,
            parent: view.version.parent,
            created: view.version.created,
            origin: match &view.version.origin {
                Origin::Import => "imported",
                Origin::Head { .. } => "new head",
                Origin::Prepared { .. } => "made ready for a plan",
                Origin::Round(_) => "round",
            },
            run: round.map(|round| (round.run.clone(), round.round)),
            participants: participants.len(),
            epsilon: epsilons.reduce(f64::max),
            labels: view.version.labels.clone(),
            name: view.version.name,
            aliases: view.aliases,
            f1: view.f1,
            median_f1: view.median_f1,
            by_type: by_type.into_iter().collect(),
            scored: view.scores.len(),
            pruned: view.pruned,
            audits: view
                .audits
                .into_iter()
                .map(|audit| (audit.institution, audit.verdict))
                .collect(),
        }
    }
}

impl World {
    pub(super) fn run(&self, name: &str) -> Option<&RunView> {
        self.runs.iter().find(|run| run.run.as_str() == name)
    }

    pub(super) fn version(&self, text: &str) -> Option<&Version> {
        if let Ok(digest) = text.parse::<Digest>() {
            return self.versions.get(&digest);
        }
        self.versions
            .values()
            .find(|version| version.name.to_string() == text)
    }

    /// Newest first.
    pub(super) fn newest_versions(&self) -> Vec<&Version> {
        let mut versions: Vec<&Version> = self.versions.values().collect();
        versions.sort_by(|a, b| {
            let key = |version: &Version| (version.created, version.name.to_string());
            key(b).cmp(&key(a))
        });
        versions
    }

    /// What the plan's gate said of a version.
    pub(super) fn verdict(&self, version: &Version) -> Option<(Judgement, &str)> {
        let (run, round) = version.run.as_ref()?;
        let round = self.history.run(run)?.rounds.get(round)?;
        let (judgement, reason) = round.judged.as_ref()?;
        Some((*judgement, reason.as_str()))
    }

    /// The standard deviation of each noised count of one institution and type; 0 without noise.
    pub(super) fn count_noise(&self, run: &RunId) -> f64 {
        let privacy = self.plans.get(run).map(|plan| &plan.privacy);
        privacy.map_or(0.0, |privacy| {
            privacy.evaluation_noise * f64::from(privacy.evaluation_clip)
        })
    }
}
