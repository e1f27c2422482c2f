//! What the events of the chain add up to: rounds with their times, and the newest events themselves.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use fedner_shared::digest::Digest;
use fedner_shared::event::{Entry, Event, Judgement};
use fedner_shared::id::{InstitutionId, RunId, VersionName};
use fedner_shared::time::Time;

/// So many of the newest events are kept.
const KEPT: usize = 5_000;

#[derive(Debug, Default)]
pub(super) struct History {
    runs: HashMap<RunId, RunHistory>,
    /// Oldest first.
    pub(super) newest: VecDeque<Entry>,
    /// The next event to ask for.
    pub(super) next: u64,
    /// Versions that are to be read again.
    pub(super) stale: BTreeSet<Digest>,
    /// The same by name.
    pub(super) stale_names: BTreeSet<VersionName>,
    /// One copy of each name.
    names: BTreeSet<InstitutionId>,
}

#[derive(Debug, Default)]
pub(super) struct RunHistory {
    pub(super) rounds: BTreeMap<u32, Round>,
    /// The last attempt that did not come to a version, and why.
    pub(super) repeated: Option<(u32, String)>,
}

#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) attempt: u32,
    pub(super) began: Option<Time>,
    pub(super) closed: Option<Time>,
    pub(super) finished: Option<Time>,
    pub(super) version: Option<(VersionName, Digest)>,
    pub(super) f1: Option<f64>,
    pub(super) median_f1: Option<f64>,
    pub(super) judged: Option<(Judgement, String)>,
    pub(super) bytes: u64,
    pub(super) parts: BTreeMap<InstitutionId, Part>,
}

/// What one institution did in the last attempt of a round. Times are in milliseconds.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Part {
    pub(super) taken: Option<Time>,
    pub(super) sent: Option<Time>,
    pub(super) declined: Option<Time>,
    /// Since when it is away; nothing once it came back.
    pub(super) away: Option<Time>,
    pub(super) epsilon: Option<f32>,
    pub(super) f1: Option<f32>,
}

impl Round {
    /// When the collecting of its last attempt ended; `now` while it goes on.
    pub(super) fn end(&self, now: Time) -> Time {
        self.closed.or(self.finished).unwrap_or(now)
    }
}

impl History {
    pub(super) fn run(&self, run: &RunId) -> Option<&RunHistory> {
        self.runs.get(run)
    }

    fn name(&mut self, name: InstitutionId) -> InstitutionId {
        if let Some(known) = self.names.get(&name) {
            return known.clone();
        }
        self.names.insert(name.clone());
        name
    }

    /// Takes in one event; those that were seen before change nothing.
    pub(super) fn take(&mut self, entry: Entry) {
        if entry.sequence < self.next {
            return;
        }
        self.next = entry.sequence + 1;
        self.note_versions(&entry);
        if let Some(run) = &entry.run {
            let run = run.clone();
            self.take_round(run, entry.time, entry.event.clone());
        }
        if self.newest.len() == KEPT {
            self.newest.pop_front();
        }
        self.newest.push_back(entry);
    }

    /// Which versions an event tells something new about.
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the others are of institutions, certificates and rounds"
    )]
    fn note_versions(&mut self, entry: &Entry) {
        match &entry.event {
            Event::ModelImported { digest, .. }
            | Event::AliasMoved { digest, .. }
            | Event::RolledBack { digest, .. }
            | Event::VersionPublished { digest, .. } => {
                self.stale.insert(*digest);
            }
            Event::RunCreated { base, .. } => {
                self.stale.insert(*base);
            }
            Event::AuditReported { versions, .. } | Event::ModelsPruned { versions, .. } => {
                self.stale_names.extend(versions.iter().cloned());
            }
            Event::Evaluated { round, .. } | Event::RoundFinished { round, .. } => {
                let run = entry.run.as_ref().and_then(|run| self.runs.get(run));
                let round = run.and_then(|run| run.rounds.get(round));
                self.stale.extend(
                    round
                        .and_then(|round| round.version.as_ref())
                        .map(|(_, digest)| *digest),
                );
            }
            _ => {}
        }
    }

    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the state of a run as such is in its view"
    )]
    fn take_round(&mut self, run: RunId, time: Time, event: Event) {
        match event {
            Event::RoundStarted {
                round,
                attempt,
                participants,
                ..
            } => {
                let participants: Vec<_> = participants
                    .into_iter()
                    .map(|name| self.name(name))
                    .collect();
                let parts = participants.into_iter().map(|name| (name, Part::default()));
                let parts = parts.collect();
                *self.round(run, round) = Round {
                    attempt,
                    began: Some(time),
                    parts,
                    ..Round::default()
                };
            }
            Event::AssignmentTaken {
                round, institution, ..
            } => self.part(run, round, institution).taken = Some(time),
            Event::UpdateAccepted {
                round,
                institution,
                bytes,
                epsilon,
                ..
            } => {
                let part = self.part(run.clone(), round, institution);
                part.sent = Some(time);
                part.away = None;
                part.epsilon = epsilon.map(|epsilon| epsilon as f32);
                self.round(run, round).bytes += bytes;
            }
            Event::Declined {
                round, institution, ..
            } => self.part(run, round, institution).declined = Some(time),
            Event::WentAway {
                round, institution, ..
            } => self.part(run, round, institution).away = Some(time),
            Event::CameBack {
                round, institution, ..
            } => self.part(run, round, institution).away = None,
            Event::RoundClosed { round, .. } => self.round(run, round).closed = Some(time),
            Event::RoundRepeated { round, reason, .. } => {
                let history = self.runs.entry(run).or_default();
                history.repeated = Some((round, reason));
            }
            Event::VersionPublished {
                round,
                version,
                digest,
                ..
            } => self.round(run, round).version = Some((version, digest)),
            Event::Evaluated {
                round,
                institution,
                f1,
                ..
            } => self.part(run, round, institution).f1 = Some(f1 as f32),
            Event::RoundFinished {
                round,
                f1,
                median_f1,
            } => {
                let round = self.round(run, round);
                (round.finished, round.f1, round.median_f1) = (Some(time), f1, median_f1);
            }
            Event::Judged {
                round,
                judgement,
                reason,
                ..
            } => self.round(run, round).judged = Some((judgement, reason)),
            _ => {}
        }
    }

    fn round(&mut self, run: RunId, round: u32) -> &mut Round {
        let history = self.runs.entry(run).or_default();
        history.rounds.entry(round).or_default()
    }

    fn part(&mut self, run: RunId, round: u32, institution: InstitutionId) -> &mut Part {
        let institution = self.name(institution);
        self.round(run, round).parts.entry(institution).or_default()
    }
}
