//! Plain data for those who look on: command line, gRPC monitoring, tests. Keys are stable.

use serde::{Deserialize, Serialize};

use crate::audit::{AuditReport, Outcome, Part};
use crate::digest::Digest;
use crate::figures::Figures;
use crate::id::{Alias, InstitutionId, PlanName, RunId, VersionName};
use crate::plan::{Method, Unit};
use crate::score::Scores;
use crate::state::{InstitutionState, MemberState, RunState};
use crate::statement::Annotation;
use crate::time::Time;
use crate::version::{Pruned, Version};

/// A run at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunView {
    pub run: RunId,
    pub name: PlanName,
    pub plan: Digest,
    pub state: RunState,
    pub round: u32,
    pub rounds: u32,
    pub attempt: u32,
    pub method: Method,
    pub unit: Unit,
    pub labels: Vec<String>,
    /// The newest version of the run.
    pub version: Digest,
    pub failure: Option<String>,
    /// When its schedule lets it go on; only while it waits for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_start: Option<Time>,
    pub members: Vec<MemberView>,
    /// Weights each update covers.
    pub dimension: u64,
    /// F1 of the newest version that was evaluated, of all counts added up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f1: Option<f64>,
    /// The median of the institutions' own F1 of that version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_f1: Option<f64>,
    /// The last version that the plan's gate has let pass; the base until there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub champion: Option<Digest>,
    /// What the gate said of the newest version, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
}

/// One institution's part in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberView {
    pub institution: InstitutionId,
    pub state: MemberState,
    pub examples: Option<u32>,
    /// Which of the plan's types its text annotates; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotation: Option<Annotation>,
    pub epsilon: Option<f64>,
    pub last_seen: Option<Time>,
    /// F1 on its own held-out text of the newest version that was evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f1: Option<f64>,
    /// Of its newest update that was measured beside the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures: Option<Figures>,
    /// Why it is set aside, and for which rounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aside: Option<String>,
    /// The code that it said last instead of doing what it was asked, or by which it left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// An enrolled institution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstitutionView {
    pub institution: InstitutionId,
    pub state: InstitutionState,
    pub enrolled: Time,
    pub certificate_expires: Time,
    pub last_seen: Option<Time>,
    /// What it runs, as it said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software: Option<String>,
    /// Before which it takes nothing on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,
    /// Why: `outside-hours` or `institution-paused`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before_code: Option<String>,
    /// A second running copy of its directory was refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub twice: bool,
}

/// A model version with what was learnt about it later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionView {
    pub digest: Digest,
    pub version: Version,
    pub aliases: Vec<Alias>,
    pub scores: Vec<InstitutionScores>,
    /// Micro-averaged over all institutions that shared their counts: who counts more weighs more.
    pub f1: Option<f64>,
    /// The median of the institutions' own F1: each weighs the same, and one among three or more
    /// cannot set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_f1: Option<f64>,
    /// In the order in which they came; only of a version that is asked for by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audits: Vec<AuditView>,
    /// What was let go on purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruned: Option<Pruned>,
}

/// Counts of one institution on its own held-out text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstitutionScores {
    pub institution: InstitutionId,
    pub scores: Scores,
}

/// What an institution's audit said of a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditView {
    /// The digest of the signed report.
    pub report: Digest,
    pub institution: InstitutionId,
    pub at: Time,
    pub verdict: Outcome,
    /// The bounds that were held against claims.
    pub parts: Vec<Part>,
}

impl AuditView {
    pub fn new(report: Digest, said: AuditReport) -> Self {
        Self {
            report,
            institution: said.institution,
            at: said.at,
            verdict: said.verdict,
            parts: said.parts,
        }
    }
}

/// What a run waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub run: RunId,
    pub state: RunState,
    /// What is awaited, as a sentence.
    pub awaits: String,
    pub from: Vec<InstitutionId>,
    pub until: Option<Time>,
    /// What happens at that instant, or once all have answered.
    pub then: String,
    /// When the wait will be over if everybody takes as long as they did before.
    pub expected: Option<Time>,
    /// When the run will be over if its rounds take as long as the last ones.
    pub finish: Option<Time>,
    /// What the plan's gate said of the newest version, and which one is the champion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
    /// Who takes no part at present.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<Absence>,
}

/// An institution of the cohort that takes no part at present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absence {
    pub institution: InstitutionId,
    /// In words.
    pub why: String,
}

/// The names under which a version may be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionRef {
    Name(VersionName),
    Alias(Alias),
    Digest(Digest),
}

impl std::str::FromStr for VersionRef {
    type Err = crate::id::NotAVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(digest) = text.parse() {
            return Ok(Self::Digest(digest));
        }
        if text.contains('@') {
            return text.parse().map(Self::Name);
        }
        text.parse()
            .map(Self::Alias)
            .map_err(|_| crate::id::NotAVersion::new(text))
    }
}
