//! What is under masks, for an onlooker who reads every disk, and what institutions have said of it.
//!
//! Each update is stripped of its own masks by its sender's secret, on its own: no share and no other update is needed
//! for that. So the sum of what is found is the open sum, and owes nothing to how the coordinator opens its own.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use fedner_client::state::SecureAttempt;
use fedner_coordinator::store::{StatementKind, StoredStatement};
use fedner_secagg::{Dealt, HEADER_BYTES, Members, Width};
use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use fedner_shared::plan::{Plan, threshold};
use fedner_shared::secure::{SecureStep, SecureUnmasking, Transcript};
use fedner_shared::sign::Signed;
use fedner_shared::version::{Participant, Round};
use serde_json::{Map, Value};

use crate::objects::SimObjects;
use crate::place::Place;

/// What every directory held of each attempt that keys were sent for.
#[derive(Debug, Default)]
pub(crate) struct Masked {
    /// By institution, directory and keys: attempts are forgotten, and copies have their own.
    attempts: BTreeMap<(InstitutionId, usize, Vec<u8>), SecureAttempt>,
}

impl Masked {
    /// Reads what is new. What an institution has said in an attempt it never says otherwise.
    pub(crate) fn look(&mut self, place: &mut Place) -> Result<()> {
        let runs = place.runs()?;
        for name in place.institutions() {
            for (directory, store) in place.directories(&name)?.into_iter().enumerate() {
                for run in &runs {
                    if let Some(attempt) = store.secure_attempt(run.id.as_str())? {
                        self.note(&name, directory, attempt)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn note(
        &mut self,
        name: &InstitutionId,
        directory: usize,
        attempt: SecureAttempt,
    ) -> Result<()> {
        let keys = attempt.secret()?.keys_of(&attempt.of, name)?.mask.0;
        let key = (name.clone(), directory, keys);
        if let Some(before) = self.attempts.get(&key) {
            ensure!(
                before.of == attempt.of,
                "{name} has one key for two attempts"
            );
            let now = said(&attempt)?;
            for (what, answer) in said(before)? {
                ensure!(
                    now.get(&what) == Some(&answer),
                    "{name} took back or changed its {what} of {:?}",
                    attempt.of
                );
            }
        }
        self.attempts.insert(key, attempt);
        Ok(())
    }

    /// The integers of each update, in the order of the participants; nothing where none is masked.
    pub(crate) fn bare(
        &self,
        plan: &Plan,
        round: &Round,
        dimension: usize,
        objects: &SimObjects,
    ) -> Result<Option<Vec<Vec<i32>>>> {
        let object = |digest: Digest| objects.peek(digest).context("an object is gone");
        let digest = match (&plan.secure_aggregation, round.unmasking) {
            (None, None) => return Ok(None),
            (Some(_), Some(digest)) => digest,
            (_, found) => bail!("a version with {found:?} of what unmasks it"),
        };
        let transcript: Transcript = serde_json::from_slice(&object(digest)?)?;
        check_transcript(plan, round, &transcript)?;
        let told = &transcript.told;
        let members = Members::new(&transcript.of, &told.signers, &told.keys)?;
        let dealt = members.dealt(&told.shares)?;
        let width = Width::of_sums(plan.masked_sum_bound())?;
        let each = round.participants.iter().map(|participant| {
            let vector = object(participant.update)?;
            let values = self.strip(&dealt, participant, (dimension, width), &vector)?;
            let bound = plan.privacy.value_bound();
            divided(&values, participant, bound)
                .with_context(|| format!("of {}", participant.institution))
        });
        Ok(Some(each.collect::<Result<_>>()?))
    }

    /// A vector without the masks that its sender put over it.
    fn strip(
        &self,
        dealt: &Dealt,
        of: &Participant,
        (dimension, width): (usize, Width),
        vector: &[u8],
    ) -> Result<Vec<i64>> {
        let name = &of.institution;
        let shown = dealt.members().keys(name)?.mask;
        let mut held = self.attempts.iter();
        let held = held.find(|((who, _, keys), _)| who == name && keys[..] == shown[..]);
        let (_, attempt) = held.context("nobody had the secret of these masks")?;
        let mut masks = Vec::new();
        let masker = dealt.masker(&attempt.secret()?, name, width)?;
        masker.write(&vec![0; dimension], (1, 1), &mut masks)?;
        let (vector, masks) = (
            unpacked(vector, dimension, width)?,
            unpacked(&masks, dimension, width)?,
        );
        let modulus = 1i64 << width.bits();
        let bare = vector.into_iter().zip(masks).map(|(vector, mask)| {
            let value = (vector - mask).rem_euclid(modulus);
            if value >= modulus / 2 {
                value - modulus
            } else {
                value
            }
        });
        Ok(bare.collect())
    }
}

/// The weighted integers without their weight: each is within the bound that the plan has.
fn divided(values: &[i64], of: &Participant, bound: i64) -> Result<Vec<i32>> {
    let weight = i64::from(of.weight);
    let each = values.iter().map(|value| {
        ensure!(value % weight == 0, "{value} is no multiple of {weight}");
        ensure!((value / weight).abs() <= bound, "{value} is beyond {bound}");
        Ok(i32::try_from(value / weight)?)
    });
    each.collect()
}

/// The packed integers, bit by bit.
fn unpacked(bytes: &[u8], dimension: usize, width: Width) -> Result<Vec<i64>> {
    ensure!(
        bytes.len() as u64 == width.bytes(dimension),
        "a vector of another length"
    );
    let bits = width.bits() as usize;
    let bit = |at: usize| i64::from(bytes[HEADER_BYTES + at / 8] >> (at % 8) & 1);
    let value = |index: usize| (0..bits).map(|b| bit(index * bits + b) << b).sum();
    Ok((0..dimension).map(value).collect())
}

/// Nothing is opened of fewer members than the plan and the masks ask for, and of others than signed.
fn check_transcript(plan: &Plan, round: &Round, transcript: &Transcript) -> Result<()> {
    let Transcript { of, told, .. } = transcript;
    ensure!(
        (of.run == round.run) && (of.round, of.attempt) == (round.round, round.attempt),
        "unmasked by another attempt: {of:?}"
    );
    let least = plan.cohort.quorum.max(threshold(told.keys.len()));
    let summed = round.participants.iter().map(|one| &one.institution);
    ensure!(
        summed.eq(&told.members),
        "summed others than {:?}",
        told.members
    );
    let (members, sets) = (told.members.len(), told.sets.len());
    let answers = transcript.unmaskings.len();
    let enough = members >= least && sets.min(answers) >= threshold(told.keys.len());
    ensure!(
        enough,
        "{members} members, {sets} sets, {answers} answers: expected {least}"
    );
    apart(&transcript.unmaskings)
}

/// Of nobody both kinds of share are told in one attempt, by whomever.
fn apart(unmaskings: &[Signed]) -> Result<()> {
    let (mut seeds, mut keys) = (BTreeSet::new(), BTreeSet::new());
    for signed in unmaskings {
        let said: SecureUnmasking = signed.peek()?;
        seeds.extend(said.own_seeds.into_keys());
        keys.extend(said.mask_keys.into_keys());
    }
    let both: Vec<_> = seeds.intersection(&keys).collect();
    ensure!(both.is_empty(), "both kinds of share are told of {both:?}");
    Ok(())
}

/// The same of all that the coordinator has.
pub(crate) fn never_both(statements: &[StoredStatement]) -> Result<()> {
    let mut attempts: BTreeMap<Digest, Vec<Signed>> = BTreeMap::new();
    let kind = StatementKind::Secure(SecureStep::Unmasking);
    for statement in statements.iter().filter(|one| one.kind == kind) {
        let said: SecureUnmasking = statement.signed.peek()?;
        let all = attempts.entry(said.of.digest()).or_default();
        all.push(statement.signed.clone());
    }
    attempts.values().try_for_each(|all| apart(all))
}

/// What an institution has answered for, by what it is.
fn said(attempt: &SecureAttempt) -> Result<Map<String, Value>> {
    let said = serde_json::to_string(&attempt.said)?;
    Ok(serde_json::from_str(&said)?)
}

#[cfg(test)]
mod tests {
    use fedner_shared::secure::{AttemptId, Hex};
    use fedner_shared::sign::SecretKey;

    use super::*;

    fn attempt() -> AttemptId {
        AttemptId {
            run: "sim.1".parse().expect("a name"),
            plan: Digest::of(b"plan"),
            round: 1,
            attempt: 1,
            base: Digest::of(b"base"),
            number: 1,
        }
    }

    fn unmasking(of: &str, seeds: &[&str], keys: &[&str]) -> Signed {
        let shares = |names: &[&str]| {
            let each = names
                .iter()
                .map(|name| (name.parse().expect("a name"), Hex(vec![1])));
            each.collect()
        };
        let said = SecureUnmasking {
            of: attempt(),
            institution: of.parse().expect("a name"),
            roster: Digest::of(b"roster"),
            dealt: Digest::of(b"dealt"),
            own_seeds: shares(seeds),
            mask_keys: shares(keys),
        };
        Signed::new(&said, &SecretKey::from_seed([1; 32]))
    }

    #[test]
    fn both_kinds_of_share_are_noticed_whoever_tells_them() {
        let anna = unmasking("anna", &["anna", "bert"], &["cora"]);
        apart(&[
            anna.clone(),
            unmasking("bert", &["anna", "bert"], &["cora"]),
        ])
        .expect("one kind");
        apart(&[anna, unmasking("bert", &["anna", "cora"], &["bert"])]).expect_err("both kinds");
    }

    #[test]
    fn another_answer_than_before_is_noticed() {
        let name: InstitutionId = "anna".parse().expect("a name");
        let with = |roster: &[u8]| {
            let mut one = SecureAttempt::new(attempt(), [7; 32]);
            one.said = one.said.deal(Digest::of(roster)).expect("the first");
            one
        };
        let mut masked = Masked::default();
        masked.note(&name, 0, with(b"one")).expect("the first");
        masked.note(&name, 0, with(b"one")).expect("the same");
        // A copy of the directory knows nothing of it.
        masked
            .note(&name, 1, with(b"two"))
            .expect("another directory");
        masked
            .note(&name, 0, with(b"two"))
            .expect_err("another one");
    }
}
