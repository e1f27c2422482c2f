//! What members of a secure aggregation have said in an attempt.

use std::collections::BTreeMap;

use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use fedner_shared::plan::{SMALLEST_GROUP, threshold};
use fedner_shared::secure::SecureStep;
use serde::{Deserialize, Serialize};

type Answers = BTreeMap<InstitutionId, Digest>;

/// What was said in the attempt under way: the digest of each signed statement.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Agreement {
    /// Who was there when the round began.
    pub asked: Vec<InstitutionId>,
    /// Who said that it will not take part in the attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub declined: Vec<InstitutionId>,
    #[serde(default)]
    pub keys: Answers,
    #[serde(default)]
    pub shares: Answers,
    /// Whose masked updates are in the sum.
    #[serde(default)]
    pub members: Vec<InstitutionId>,
    #[serde(default)]
    pub sets: Answers,
    #[serde(default)]
    pub unmaskings: Answers,
}

impl Agreement {
    pub const fn answers(&self, step: SecureStep) -> &Answers {
        match step {
            SecureStep::Keys => &self.keys,
            SecureStep::Shares => &self.shares,
            SecureStep::Consistency => &self.sets,
            SecureStep::Unmasking => &self.unmaskings,
        }
    }

    pub(crate) const fn answers_mut(&mut self, step: SecureStep) -> &mut Answers {
        match step {
            SecureStep::Keys => &mut self.keys,
            SecureStep::Shares => &mut self.shares,
            SecureStep::Consistency => &mut self.sets,
            SecureStep::Unmasking => &mut self.unmaskings,
        }
    }

    /// Who is asked to take the step.
    fn expected(&self, step: SecureStep) -> Vec<&InstitutionId> {
        let all: Vec<&InstitutionId> = match step {
            SecureStep::Keys => self.asked.iter().collect(),
            SecureStep::Shares => self.keys.keys().collect(),
            SecureStep::Consistency | SecureStep::Unmasking => self.members.iter().collect(),
        };
        let taking_part = |name: &&InstitutionId| !self.declined.contains(name);
        all.into_iter().filter(taking_part).collect()
    }

    /// Those who have not answered.
    pub(crate) fn open(&self, step: SecureStep) -> impl Iterator<Item = &InstitutionId> {
        let answers = self.answers(step);
        let expected = self.expected(step).into_iter();
        expected.filter(|name| !answers.contains_key(*name))
    }

    /// How many must take the step.
    pub(crate) fn least(&self, step: SecureStep, quorum: usize) -> usize {
        match step {
            SecureStep::Keys => quorum.max(SMALLEST_GROUP),
            SecureStep::Shares => quorum.max(threshold(self.keys.len())),
            SecureStep::Consistency | SecureStep::Unmasking => threshold(self.keys.len()),
        }
    }
}
