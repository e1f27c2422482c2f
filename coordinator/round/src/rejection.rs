//! What a peer or the operator can do wrong, seen from a run. A rejected input changes nothing.

use fedner_shared::digest::Digest;
use fedner_shared::id::{InstitutionId, RunId};
use fedner_shared::refusal::{Code, Refusal};

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Rejection {
    #[error("run {run} is {found}: expected {expected}")]
    State {
        run: RunId,
        expected: &'static str,
        found: &'static str,
    },
    #[error("{institution} is not in the cohort of run {run}")]
    NotInCohort {
        run: RunId,
        institution: InstitutionId,
    },
    #[error("{institution} has no consent in force for run {run}")]
    NoConsent {
        run: RunId,
        institution: InstitutionId,
    },
    #[error("the consent is for plan {found}: expected {expected}")]
    OtherPlan { expected: Digest, found: Digest },
    #[error("{institution} declares {found} examples: expected 1 to {largest}")]
    Examples {
        institution: InstitutionId,
        found: u32,
        largest: u32,
    },
    #[error(
        "round {found_round} attempt {found_attempt} is not open: expected round {round} attempt {attempt}"
    )]
    Stale {
        round: u32,
        attempt: u32,
        found_round: u32,
        found_attempt: u32,
    },
    #[error("nothing is awaited from {institution} in round {round}")]
    Unexpected {
        institution: InstitutionId,
        round: u32,
    },
    #[error("{institution} already sent update {present} in round {round}")]
    Repeated {
        institution: InstitutionId,
        round: u32,
        present: Digest,
    },
    #[error("{institution} already sent update {present} in round {round}; {found} is another one")]
    Other {
        institution: InstitutionId,
        round: u32,
        present: Digest,
        found: Digest,
    },
    #[error("the update was trained on version {found}: expected {expected}")]
    Base { expected: Digest, found: Digest },
    #[error("the update is for manifest {found}: expected {expected}")]
    Manifest { expected: Digest, found: Digest },
    #[error("the update of {institution} has weight {found}: expected {expected}")]
    Weight {
        institution: InstitutionId,
        expected: u32,
        found: u32,
    },
    #[error("the statement of {institution} is for another attempt than the open one")]
    OtherAttempt { institution: InstitutionId },
    #[error("the evaluation is of version {found}: expected {expected}")]
    Version { expected: Digest, found: Digest },
    #[error("the evaluation is for plan {found}: expected {expected}")]
    EvaluationPlan { expected: Digest, found: Digest },
    #[error("{institution} counts {found} {what} entities: expected at most {most}")]
    EvaluationRange {
        institution: InstitutionId,
        /// `real`, `predicted` or `imagined`.
        what: &'static str,
        found: u64,
        most: u64,
    },
    #[error("{institution} declares {found} held-out sentences: expected 1 to {largest}")]
    HeldOut {
        institution: InstitutionId,
        found: u32,
        largest: u32,
    },
    #[error(
        "round {found} cannot be without an institution any more: expected one from {first} to {last}"
    )]
    Round { found: u32, first: u32, last: u32 },
    #[error(
        "without {institution} {left} institutions are left for round {round}: expected {quorum}"
    )]
    Quorum {
        institution: InstitutionId,
        round: u32,
        left: usize,
        quorum: usize,
    },
    #[error("{institution} is not set aside in run {run}")]
    NotAside {
        run: RunId,
        institution: InstitutionId,
    },
    #[error(
        "{institution} declares to annotate other types than {expected:?}, or one of them twice"
    )]
    Annotation {
        institution: InstitutionId,
        expected: Vec<String>,
    },
    #[error("the evaluation counts entities of type `{found}`: expected only {expected:?}")]
    Label {
        expected: Vec<String>,
        found: String,
    },
}

impl Rejection {
    pub fn code(&self) -> Code {
        match self {
            Self::State { .. } | Self::NotAside { .. } => Code::RunState,
            Self::NotInCohort { .. } => Code::NotInCohort,
            Self::NoConsent { .. } => Code::ConsentMissing,
            Self::OtherPlan { .. } | Self::Annotation { .. } => Code::ConsentInvalid,
            Self::Examples { .. } | Self::HeldOut { .. } => Code::ExamplesOutOfRange,
            Self::Stale { .. } | Self::Round { .. } => Code::RoundStale,
            Self::Quorum { .. } => Code::QuorumLost,
            Self::Unexpected { .. } | Self::Other { .. } => Code::UpdateUnexpected,
            Self::Repeated { .. } => Code::UpdateRepeated,
            Self::OtherAttempt { .. } => Code::SecureStep,
            Self::Base { .. } => Code::UpdateBase,
            Self::Manifest { .. } => Code::UpdateShape,
            Self::Weight { .. } => Code::UpdateWeight,
            Self::Version { .. } | Self::Label { .. } | Self::EvaluationPlan { .. } => {
                Code::EvaluationInvalid
            }
            Self::EvaluationRange { .. } => Code::EvaluationRange,
        }
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Self::new(rejection.code(), rejection.to_string())
    }
}
