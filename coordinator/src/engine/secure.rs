//! Secure aggregation: what members are told of an attempt, and what is taken of their steps.
//!
//! The pure core counts who has taken which step. Here it is looked whether a statement fits those before it, so that
//! one member's fault is refused when it is made and spoils nobody's sum.

use fedner_round::{Agreement, Effect, Input, Phase, Run};
use fedner_secagg::{Dealt, Error, Members, SEALED_BYTES, Width, is_usable};
use fedner_shared::digest::Digest;
use fedner_shared::id::{InstitutionId, RunId};
use fedner_shared::plan::Plan;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::secure::{
    OfAttempt, SecureKeys, SecureSet, SecureShares, SecureStep, SecureUnmasking, Signers, Told,
    Transcript,
};
use fedner_shared::sign::Signed;
use fedner_shared::statement::Masked;

use super::statements::Vouched;
use super::{Engine, Failure, Fault};
use crate::store::{StatementKind, StoredStatement};

/// The width of a plan's masked updates.
pub fn width(plan: &Plan) -> Result<Option<Width>, Refusal> {
    if plan.secure_aggregation.is_none() {
        return Ok(None);
    }
    let width = Width::of_sums(plan.masked_sum_bound());
    width.map(Some).map_err(|error| error.refusal())
}

/// The statement does not fit.
fn unfit(what: impl Into<String>) -> Failure {
    Failure::refuse(Code::SecureStep, what.into())
}

fn wrong(error: Error) -> Failure {
    error.refusal().into()
}

impl Engine {
    /// Those of a plan's cohort that are enrolled, by their signing keys; nobody where updates are not masked.
    pub(super) fn roster_of(&mut self, id: &RunId) -> Result<Signers, Failure> {
        let run = self.require(id)?;
        if run.plan.secure_aggregation.is_none() {
            return Ok(Signers::new());
        }
        let names: Vec<InstitutionId> = run.members.names().cloned().collect();
        let all = self.store.read(|tx| tx.institutions())?;
        let of = all.into_iter().filter(|known| names.contains(&known.name));
        Ok(of.map(|known| (known.name, known.signing_key)).collect())
    }

    /// What a member is told of the attempt under way; nothing where updates are not masked.
    pub(super) fn told_of(&mut self, id: &RunId) -> Result<Option<Told>, Failure> {
        let run = self.require(id)?;
        let (of, phase) = (run.attempt_id(), run.phase.clone());
        let Some(agreement) = run.agreement.clone() else {
            return Ok(None);
        };
        let keys = self.statements_of(&agreement, SecureStep::Keys)?;
        let before_keys = matches!(
            phase,
            Phase::Agreeing {
                step: SecureStep::Keys,
                ..
            }
        );
        let signers = if before_keys {
            let mut signers = self.roster_of(id)?;
            signers.retain(|name, _| agreement.asked.contains(name));
            signers
        } else {
            let each = keys.iter().map(|one| (one.author.clone(), one.key));
            each.collect()
        };
        let signed = |all: Vec<StoredStatement>| all.into_iter().map(|one| one.signed).collect();
        Ok(Some(Told {
            number: of.number,
            signers,
            keys: signed(keys),
            shares: signed(self.statements_of(&agreement, SecureStep::Shares)?),
            members: agreement.members.clone(),
            sets: signed(self.statements_of(&agreement, SecureStep::Consistency)?),
        }))
    }

    /// In the order of the institutions' names.
    fn statements_of(
        &mut self,
        agreement: &Agreement,
        step: SecureStep,
    ) -> Result<Vec<StoredStatement>, Failure> {
        let digests: Vec<Digest> = agreement.answers(step).values().copied().collect();
        let found = self.store.read(|tx| {
            let each = digests.iter().map(|digest| tx.statement(*digest));
            each.collect::<Result<Vec<_>, _>>()
        })?;
        let missing = || Fault::Inconsistent(format!("a statement of the step {step} is missing"));
        let all: Option<Vec<StoredStatement>> = found.into_iter().collect();
        Ok(all.ok_or_else(missing)?)
    }

    /// The signed statements of those who sent keys, and what they amount to.
    fn members_of(&mut self, run: &Run) -> Result<Members, Failure> {
        let Some(agreement) = &run.agreement else {
            return Err(unfit("nobody was asked for keys"));
        };
        let keys = self.statements_of(agreement, SecureStep::Keys)?;
        let signers: Signers = keys
            .iter()
            .map(|one| (one.author.clone(), one.key))
            .collect();
        let keys: Vec<Signed> = keys.into_iter().map(|one| one.signed).collect();
        Members::new(&run.attempt_id(), &signers, &keys).map_err(wrong)
    }

    fn dealt_of(&mut self, run: &Run) -> Result<Dealt, Failure> {
        let members = self.members_of(run)?;
        let shares = match &run.agreement {
            Some(agreement) => self.statements_of(agreement, SecureStep::Shares)?,
            None => Vec::new(),
        };
        let shares: Vec<Signed> = shares.into_iter().map(|one| one.signed).collect();
        members.dealt(&shares).map_err(wrong)
    }

    /// Whether an announced update is under the masks of this attempt.
    pub(super) fn check_masks(
        &mut self,
        run: &RunId,
        found: Option<Masked>,
    ) -> Result<(), Failure> {
        let run = self.require(run)?.clone();
        if run.agreement.is_none() {
            return Ok(());
        }
        let dealt = self.dealt_of(&run)?;
        let expected = Masked {
            roster: dealt.members().digest(),
            dealt: dealt.digest(),
        };
        if found == Some(expected) {
            return Ok(());
        }
        Err(unfit("the update is under the masks of other members"))
    }

    pub fn take_keys(&mut self, said: &Vouched<SecureKeys>) -> Result<(), Failure> {
        self.take_step(said, |engine, run, said| {
            let lengths = [&said.mask, &said.seal, &said.commitment].map(|key| key.0.len());
            if lengths != [32; 3] {
                return Err(unfit(format!(
                    "keys of {lengths:?} bytes: expected 32 each"
                )));
            }
            if !is_usable(&said.mask.0) || !is_usable(&said.seal.0) || said.mask == said.seal {
                return Err(unfit(
                    "a key agrees on nothing, or one is used for two ends",
                ));
            }
            // Whoever repeats another's key would have its masks.
            let Some(agreement) = &run.agreement else {
                return Ok(());
            };
            for other in engine.statements_of(agreement, SecureStep::Keys)? {
                let other: SecureKeys = other.signed.peek().map_err(|e| unfit(e.to_string()))?;
                let theirs = [&other.mask, &other.seal];
                if theirs.contains(&&said.mask) || theirs.contains(&&said.seal) {
                    return Err(unfit(format!("{} has the same key", other.institution)));
                }
            }
            Ok(())
        })
    }

    pub fn take_shares(&mut self, said: &Vouched<SecureShares>) -> Result<(), Failure> {
        self.take_step(said, |engine, run, said| {
            let members = engine.members_of(run)?;
            let all = said.sealed.keys().eq(members.names());
            let sealed = said.sealed.values().all(|one| one.0.len() == SEALED_BYTES);
            if said.roster != members.digest() || !all || !sealed {
                return Err(unfit("the shares are for another roster"));
            }
            Ok(())
        })
    }

    pub fn take_set(&mut self, said: &Vouched<SecureSet>) -> Result<(), Failure> {
        self.take_step(said, |engine, run, said| {
            let dealt = engine.dealt_of(run)?;
            let agreement = run.agreement.as_ref();
            if !agreement.is_some_and(|agreement| dealt.is_set(said, &agreement.members)) {
                return Err(unfit(
                    "the set is another one than that of the masked updates",
                ));
            }
            Ok(())
        })
    }

    /// Shares that do not make what was announced spoil the attempt, which is tried again.
    pub fn take_unmasking(&mut self, said: &Vouched<SecureUnmasking>) -> Result<(), Failure> {
        let mut spoilt = None;
        self.take_step(said, |engine, run, statement| {
            let Some(agreement) = &run.agreement else {
                return Ok(());
            };
            let dealt = engine.dealt_of(run)?;
            let checked = dealt.check_unmasking(statement, &agreement.members);
            checked.map_err(wrong)?;
            let before = engine.statements_of(agreement, SecureStep::Unmasking)?;
            let mut all: Vec<Signed> = before.into_iter().map(|one| one.signed).collect();
            all.push(said.signed().clone());
            if all.len() >= dealt.members().threshold()
                && let Err(error) = dealt.opening(&agreement.members, &all)
            {
                spoilt = Some((run.id.clone(), run.round, run.attempt, error.to_string()));
                return Err(wrong(error));
            }
            Ok(())
        })
        .or_else(|failure| match spoilt {
            Some((id, round, attempt, reason)) => self.step(
                &id,
                Input::Spoilt {
                    round,
                    attempt,
                    reason,
                },
            ),
            None => Err(failure),
        })
    }

    /// Takes a statement that fits, with the step of the run that it is.
    fn take_step<T: OfAttempt>(
        &mut self,
        said: &Vouched<T>,
        fits: impl FnOnce(&mut Self, &Run, &T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (author, of, step) = (said.author().clone(), said.said.of().clone(), T::STEP);
        let statement = self.statement(StatementKind::Secure(step), &author, said)?;
        let run = self.require(&of.run)?.clone();
        let news = run.check_step(self.now(), &author, &of, (step, statement.digest))?;
        if !news {
            return Ok(());
        }
        fits(self, &run, &said.said)?;
        let input = Input::Agreed {
            institution: author,
            of: of.clone(),
            step,
            statement: statement.digest,
        };
        self.step_with("take secure step", &of.run, input, |tx| {
            tx.put_statement(&statement)
        })
    }

    /// All that was said in the attempt of a closed round; nothing where its updates are not masked.
    pub fn transcript(
        &mut self,
        id: &RunId,
        effect: &Effect,
    ) -> Result<Option<Transcript>, Failure> {
        let run = self.require(id)?.clone();
        let (Some(agreement), Some(told)) = (&run.agreement, self.told_of(id)?) else {
            return Ok(None);
        };
        if (run.round, run.attempt) != (effect.round, effect.attempt) {
            return Ok(None);
        }
        let unmaskings = self.statements_of(agreement, SecureStep::Unmasking)?;
        Ok(Some(Transcript {
            of: run.attempt_id(),
            told,
            unmaskings: unmaskings.into_iter().map(|one| one.signed).collect(),
        }))
    }
}

/// What a transcript's attempt dealt, after everything that it rests on was verified: signatures, rosters, that enough
/// members signed one set, and that it is over the updates named.
pub fn verify_transcript(
    transcript: &Transcript,
    updates: &[InstitutionId],
) -> Result<Dealt, Refusal> {
    let Transcript { of, told, .. } = transcript;
    let members = Members::new(of, &told.signers, &told.keys).map_err(|e| e.refusal())?;
    let dealt = members.dealt(&told.shares).map_err(|e| e.refusal())?;
    if told.members != updates {
        let message = "the masked updates are not those of the set";
        return Err(Refusal::new(Code::SecureStep, message));
    }
    let agreed = dealt.check_sets(&told.members, &told.sets);
    agreed.map_err(|e| e.refusal())?;
    Ok(dealt)
}
