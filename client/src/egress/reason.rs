//! What is said to the coordinator about a refusal.

use fedner_shared::refusal::{Class, Code};

/// The code that the coordinator is told. Every failure that depends on private text is one code, so
/// that the code tells nothing of which failure it was; the log here has the cause.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "every other code is decided before text is read"
)]
pub const fn told(code: Code) -> Code {
    match code {
        Code::CorpusInvalid
        | Code::CorpusTags
        | Code::CorpusEmpty
        | Code::TextInvalid
        | Code::LabelsMismatch
        | Code::CheckpointInvalid
        | Code::NotFinite => Code::NotDone,
        other => other,
    }
}

/// A reason from a fixed list. The messages that the institution's own people see may name files,
/// lines and figures; those stay here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason(&'static str);

impl Reason {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "every other code is told by its class"
    )]
    pub const fn from_code(code: Code) -> Self {
        Self(match code {
            Code::PolicyForbids
            | Code::UnitForbidden
            | Code::TooFewUnits
            | Code::OperatorForbidden => "the institution's policy does not allow it",
            Code::OutsideHours => "the institution's policy does not allow it at this hour",
            Code::ReleaseHeld => "the update waits for a person of the institution",
            Code::ReleaseRefused => "a person of the institution kept the update from leaving",
            Code::BudgetSpent => "the institution's privacy budget does not allow another round",
            Code::NotDone => "the institution did not do it; its own log says why",
            Code::ConsentMissing | Code::ConsentInvalid => "the institution has not consented",
            Code::PlanSignature => "the plan is not signed by the operator known here",
            Code::PlanTooNew => "the institution's program does not know all of the plan",
            Code::PlanInvalid => "the plan is not valid here",
            Code::ResourcesLacking => "the institution's machine lacks what the plan requires",
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A coordinator that could tell one fault of the text from another would read it.
    #[test]
    fn faults_of_the_text_are_one_code() {
        let faults = [
            Code::CorpusInvalid,
            Code::CorpusTags,
            Code::CorpusEmpty,
            Code::TextInvalid,
            Code::LabelsMismatch,
            Code::CheckpointInvalid,
            Code::NotFinite,
        ];
        let reason = Reason::from_code(told(Code::NotDone)).as_str();
        for code in faults {
            assert_eq!(told(code), Code::NotDone, "{code}");
            assert_eq!(Reason::from_code(told(code)).as_str(), reason, "{code}");
        }
        // What is decided before text is read keeps its code.
        for code in [Code::BudgetSpent, Code::PolicyForbids, Code::OutsideHours] {
            assert_eq!(told(code), code);
        }
    }
}
