//! Steps of a secure aggregation.

use fedner_shared::secure::{SecureStep, Signers, Told};
use fedner_shared::sign::Signed;

use super::{Result, invalid, parsed, public_key, signed_to_wire, signed_within};
use crate::v1;
use fedner_shared::plan::LARGEST_GROUP;

/// The longest statement of a step: shares for as many members as there may be.
const STATEMENT_BYTES: usize = 64 << 10;

pub fn secure_step(step: v1::SecureStep) -> Result<SecureStep> {
    match step {
        v1::SecureStep::Keys => Ok(SecureStep::Keys),
        v1::SecureStep::Shares => Ok(SecureStep::Shares),
        v1::SecureStep::Consistency => Ok(SecureStep::Consistency),
        v1::SecureStep::Unmasking => Ok(SecureStep::Unmasking),
        v1::SecureStep::Unspecified => Err(invalid("step", "it is missing")),
    }
}

pub fn secure_step_to_wire(step: SecureStep) -> v1::SecureStep {
    match step {
        SecureStep::Keys => v1::SecureStep::Keys,
        SecureStep::Shares => v1::SecureStep::Shares,
        SecureStep::Consistency => v1::SecureStep::Consistency,
        SecureStep::Unmasking => v1::SecureStep::Unmasking,
    }
}

/// The statement of a step, its signature not yet verified.
pub fn secure_statement(field: &str, message: Option<v1::Signed>) -> Result<Signed> {
    signed_within(field, message, STATEMENT_BYTES)
}

pub fn roster(field: &str, members: &[v1::RosterMember]) -> Result<Signers> {
    at_most(field, members.len())?;
    let each = members.iter().map(|member| {
        let name = parsed(field, &member.institution)?;
        Ok((name, public_key(field, &member.signing_key)?))
    });
    let signers: Signers = each.collect::<Result<_>>()?;
    if signers.len() != members.len() {
        return Err(invalid(field, "an institution is named twice"));
    }
    Ok(signers)
}

pub fn roster_to_wire(signers: &Signers) -> Vec<v1::RosterMember> {
    let each = signers.iter().map(|(name, key)| v1::RosterMember {
        institution: name.to_string(),
        signing_key: key.as_bytes().to_vec(),
    });
    each.collect()
}

fn at_most(field: &str, count: usize) -> Result<()> {
    if count > LARGEST_GROUP {
        return Err(invalid(field, format!("{count} members")));
    }
    Ok(())
}

/// What members have said, no signature of it verified.
pub fn secure_attempt(message: v1::SecureAttempt) -> Result<Told> {
    let statements = |field: &str, all: Vec<v1::Signed>| {
        at_most(field, all.len())?;
        let each = all.into_iter();
        each.map(|signed| secure_statement(field, Some(signed)))
            .collect::<Result<Vec<_>>>()
    };
    at_most("members", message.members.len())?;
    let members = message.members.iter().map(|name| parsed("members", name));
    Ok(Told {
        number: message.number,
        signers: roster("signers", &message.signers)?,
        keys: statements("keys", message.keys)?,
        shares: statements("shares", message.shares)?,
        members: members.collect::<Result<_>>()?,
        sets: statements("sets", message.sets)?,
    })
}

pub fn secure_attempt_to_wire(told: &Told) -> v1::SecureAttempt {
    let wire = |all: &[Signed]| all.iter().map(signed_to_wire).collect();
    v1::SecureAttempt {
        number: told.number,
        signers: roster_to_wire(&told.signers),
        keys: wire(&told.keys),
        shares: wire(&told.shares),
        members: told.members.iter().map(ToString::to_string).collect(),
        sets: wire(&told.sets),
    }
}
