//! The part of a secure aggregation that an institution takes without a model.

use anyhow::{Context, Result};
use fedner_proto::convert;
use fedner_proto::v1::{Assignment, SecureStepAssignment, TakeSecureStepRequest};
use fedner_secagg::{Dealt, Members, Secret, Width};
use fedner_shared::id::InstitutionId;
use fedner_shared::plan::Plan;
use fedner_shared::secure::{AttemptId, SecureSet, SecureStep, Told};
use fedner_shared::sign::{SecretKey, Signed};
use fedner_shared::statement::Masked;

/// An attempt as it was told, with the institution's secret of it.
pub(crate) struct Attempt {
    of: AttemptId,
    plan: Plan,
    told: Told,
    secret: Secret,
}

impl Attempt {
    pub(crate) fn new(assignment: &Assignment, key: &SecretKey) -> Result<Self> {
        let secure = assignment.secure.clone().context("a masked attempt")?;
        let told = convert::secure_attempt(secure)?;
        let plan = convert::signed("plan", assignment.plan.clone())?;
        let (base, _) = convert::version_from_record(&assignment.version)?;
        let of = AttemptId {
            run: assignment.run.parse()?,
            plan: plan.digest(),
            round: assignment.round,
            attempt: assignment.attempt,
            base,
            number: told.number,
        };
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(key.public().as_bytes())
            .update(of.digest().as_bytes());
        Ok(Self {
            plan: plan.peek()?,
            secret: Secret::from_bytes(*hasher.finalize().as_bytes()),
            of,
            told,
        })
    }

    fn members(&self) -> Result<Members> {
        Ok(Members::new(&self.of, &self.told.signers, &self.told.keys)?)
    }

    fn dealt(&self) -> Result<Dealt> {
        Ok(self.members()?.dealt(&self.told.shares)?)
    }

    /// The update under its masks, and what the receipt says of them.
    pub(crate) fn mask(&self, values: &[i32], own: &InstitutionId) -> Result<(Vec<u8>, Masked)> {
        let dealt = self.dealt()?;
        let width = Width::of_sums(self.plan.masked_sum_bound())?;
        let masker = dealt.masker(&self.secret, own, width)?;
        let scale = (self.plan.weight(own, 1), self.plan.privacy.value_bound());
        let mut bytes = Vec::new();
        masker.write(values, scale, &mut bytes)?;
        let masked = Masked {
            roster: dealt.members().digest(),
            dealt: dealt.digest(),
        };
        Ok((bytes, masked))
    }

    fn answer(&self, step: SecureStep, own: &InstitutionId, key: &SecretKey) -> Result<Signed> {
        Ok(match step {
            SecureStep::Keys => Signed::new(&self.secret.keys_of(&self.of, own)?, key),
            SecureStep::Shares => Signed::new(&self.members()?.deal(&self.secret, own)?, key),
            SecureStep::Consistency => {
                let dealt = self.dealt()?;
                let set = SecureSet {
                    of: self.of.clone(),
                    institution: own.clone(),
                    roster: dealt.members().digest(),
                    dealt: dealt.digest(),
                    members: self.told.members.clone(),
                };
                Signed::new(&set, key)
            }
            SecureStep::Unmasking => {
                let dealt = self.dealt()?;
                dealt.check_sets(&self.told.members, &self.told.sets)?;
                Signed::new(
                    &dealt.unmasking(&self.secret, own, &self.told.members)?,
                    key,
                )
            }
        })
    }
}

/// What an institution says to a step.
pub(crate) fn answer(
    asked: &SecureStepAssignment,
    own: &InstitutionId,
    key: &SecretKey,
) -> Result<TakeSecureStepRequest> {
    let assignment = asked.assignment.clone().unwrap_or_default();
    let step = convert::secure_step(asked.step())?;
    let statement = Attempt::new(&assignment, key)?.answer(step, own, key)?;
    Ok(TakeSecureStepRequest {
        step: asked.step,
        statement: Some(convert::signed_to_wire(&statement)),
    })
}
