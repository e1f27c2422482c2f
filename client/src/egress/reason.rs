//! What is said to the coordinator about a refusal.

use fedner_shared::refusal::{Class, Code};

/// A reason from a fixed list. The messages that the institution's own people see may name files,
/// lines and figures; those stay here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason(&'static str);

impl Reason {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "every other code is told by its class"
    )]
    pub const fn of(code: Code) -> Self {
        Self(match code {
            Code::PolicyForbids
            | Code::UnitForbidden
            | Code::TooFewUnits
            | Code::OperatorForbidden => "the institution's policy does not allow it",
            Code::OutsideHours => "the institution's policy does not allow it at this hour",
            Code::ReleaseHeld => "the update waits for a person of the institution",
            Code::ReleaseRefused => "a person of the institution kept the update from leaving",
            Code::BudgetSpent => "the institution's privacy budget does not allow another round",
            Code::NotFinite => "the institution's training gave no usable update",
            Code::CorpusInvalid | Code::CorpusEmpty => "the institution's data needs mending",
            Code::LabelsMismatch => "the labels of plan, model and data differ",
            Code::ConsentMissing | Code::ConsentInvalid => "the institution has not consented",
            Code::PlanSignature => "the plan is not signed by the operator known here",
            Code::PlanInvalid => "the plan is not valid here",
            Code::DeviceUnknown => "the institution lacks the device that the plan asks for",
            Code::UpdateShape => "the plan's manifest is not that of the model",
            other => match other.class() {
                Class::Invalid => "what was asked for is not valid here",
                Class::Forbidden | Class::Unauthenticated => "the institution does not allow it",
                Class::Missing | Class::Exists | Class::State | Class::Exhausted => {
                    "the institution cannot do it now"
                }
            },
        })
    }

    pub const fn as_str(self) -> &'static str {
        self.0
    }
}
