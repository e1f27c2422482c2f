//! A client of the tests' own, with one of the product's rules left out. It shows that each rule is needed, and that
//! the model notices.

use anyhow::Result;
use fedner_client::egress::attempt_id;
use fedner_secagg::{Dealt, Error, Members, Secret};
use fedner_session::secure::Said;
use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use fedner_shared::secure::{AttemptId, SecureSet, SecureStep, Signers, Told};
use fedner_shared::sign::{SecretKey, Signed};

use super::{Asked, Member};

/// A rule that protects single updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The first set is the only one.
    OneSet,
    /// After a restart it is known which set was the first.
    Durable,
    /// One vector is put under a mask.
    OneVector,
    /// One kind of share is told of each member.
    OneKind,
    /// Shares are dealt to a roster of the quorum at least.
    Roster,
    /// A sum is of the quorum at least, and not only of t members.
    Quorum,
    /// A sum is of t members at least, and t of them have signed it.
    Threshold,
    /// Signing keys are those of the institutions that are known.
    Known,
}

pub(crate) struct Reference {
    name: InstitutionId,
    key: SecretKey,
    known: Signers,
    quorum: usize,
    without: Option<Rule>,
    /// The newest attempt, as it is in memory and as it is on the disk.
    newest: Option<Attempt>,
    saved: Option<Attempt>,
    vectors: u64,
}

/// Its secret, and what was said in it.
type Attempt = (AttemptId, Secret, Said);

/// Why nothing is said: what it is does not matter.
struct No;

impl From<Error> for No {
    fn from(_: Error) -> Self {
        Self
    }
}

impl From<fedner_session::secure::Contradiction> for No {
    fn from(_: fedner_session::secure::Contradiction) -> Self {
        Self
    }
}

fn ensure(holds: bool) -> Result<(), No> {
    if holds { Ok(()) } else { Err(No) }
}

impl Reference {
    pub(crate) fn new(
        (name, key): (InstitutionId, SecretKey),
        known: Signers,
        quorum: usize,
        without: Option<Rule>,
    ) -> Self {
        Self {
            name,
            key,
            known,
            quorum,
            without,
            newest: None,
            saved: None,
            vectors: 0,
        }
    }

    fn lacks(&self, rule: Rule) -> bool {
        self.without == Some(rule)
    }

    fn check_roster(&self, told: &Told) -> Result<(), No> {
        ensure(told.signers.get(&self.name) == Some(&self.key.public()))?;
        let right =
            |(name, key): (&InstitutionId, _)| told.signers.get(name).is_none_or(|k| k == key);
        ensure(self.lacks(Rule::Known) || self.known.iter().all(right))
    }

    fn attempt(&self, of: &AttemptId) -> Result<(Secret, Said), No> {
        let newest = self.newest.as_ref().filter(|(newest, ..)| newest == of);
        let (_, secret, said) = newest.ok_or(No)?;
        Ok((secret.clone(), said.clone()))
    }

    fn save(&mut self, of: AttemptId, secret: Secret, said: Said) {
        self.newest = Some((of, secret, said));
        self.saved.clone_from(&self.newest);
    }

    fn members(&self, of: &AttemptId, secret: &Secret, told: &Told) -> Result<Members, No> {
        let members = Members::new(of, &told.signers, &told.keys)?;
        ensure(members.names().iter().eq(told.signers.keys()))?;
        ensure(told.signers.len() >= self.quorum || self.lacks(Rule::Roster))?;
        let own = secret.keys_of(of, &self.name)?;
        ensure(members.keys(&self.name)?.mask[..] == own.mask.0)?;
        Ok(members)
    }

    fn keys(&mut self, of: &AttemptId, fresh: [u8; 32]) -> Result<Signed, No> {
        if let Some((newest, ..)) = &self.newest
            && newest != of
        {
            ensure(newest.number < of.number)?;
            self.newest = None;
        }
        let (secret, said) = self
            .attempt(of)
            .unwrap_or_else(|_| (Secret::from_bytes(fresh), Said::default()));
        let keys = secret.keys_of(of, &self.name)?;
        self.save(of.clone(), secret, said);
        Ok(Signed::new(&keys, &self.key))
    }

    fn shares(&mut self, of: &AttemptId, told: &Told) -> Result<Signed, No> {
        let (secret, said) = self.attempt(of)?;
        let members = self.members(of, &secret, told)?;
        let said = said.deal(members.digest())?;
        let shares = members.deal(&secret, &self.name)?;
        self.save(of.clone(), secret, said);
        Ok(Signed::new(&shares, &self.key))
    }

    /// The set that is named, the only one of the attempt.
    fn settle(&mut self, of: &AttemptId, told: &Told) -> Result<(Secret, Dealt), No> {
        let (secret, said) = self.attempt(of)?;
        let dealt = self.members(of, &secret, told)?.dealt(&told.shares)?;
        let threshold = dealt.members().threshold();
        let least = match self.without {
            Some(Rule::Quorum) => threshold,
            Some(Rule::Threshold) => 0,
            _ => threshold.max(self.quorum),
        };
        let set = &told.members;
        ensure(set.is_sorted_by(|a, b| a < b) && set.len() >= least)?;
        // Without that rule others tell shares of a sum that they are not in.
        ensure(set.contains(&self.name) || self.lacks(Rule::Threshold))?;
        let rosters = (dealt.members().digest(), dealt.digest());
        let settled = said.settle(rosters, set);
        let said = if self.lacks(Rule::OneSet) {
            said
        } else {
            settled?
        };
        let before = self.saved.clone();
        self.save(of.clone(), secret.clone(), said);
        if self.lacks(Rule::Durable) {
            self.saved = before;
        }
        Ok((secret, dealt))
    }

    fn set(&mut self, of: &AttemptId, told: &Told) -> Result<Signed, No> {
        let (_, dealt) = self.settle(of, told)?;
        let set = SecureSet {
            of: of.clone(),
            institution: self.name.clone(),
            roster: dealt.members().digest(),
            dealt: dealt.digest(),
            members: told.members.clone(),
        };
        Ok(Signed::new(&set, &self.key))
    }

    fn unmasking(&mut self, of: &AttemptId, told: &Told) -> Result<Signed, No> {
        let (secret, dealt) = self.settle(of, told)?;
        if !self.lacks(Rule::Threshold) {
            dealt.check_sets(&told.members, &told.sets)?;
        }
        let mut unmasking = dealt.unmasking(&secret, &self.name, &told.members)?;
        if self.lacks(Rule::OneKind) {
            let nobody = dealt.unmasking(&secret, &self.name, &[])?;
            unmasking.mask_keys = nobody.mask_keys;
        }
        Ok(Signed::new(&unmasking, &self.key))
    }

    fn vector(&mut self, of: &AttemptId, told: &Told) -> Result<Digest, No> {
        self.check_roster(told)?;
        let (secret, said) = self.attempt(of)?;
        let dealt = self.members(of, &secret, told)?.dealt(&told.shares)?;
        let said = said.agree(dealt.members().digest(), dealt.digest())?;
        self.vectors += 1;
        let blob = Digest::of(format!("{} {}", self.name, self.vectors).as_bytes());
        let masked = if said.has_masked() {
            None
        } else {
            Some(said.mask(blob)?)
        };
        ensure(masked.is_some() || self.lacks(Rule::OneVector))?;
        self.save(of.clone(), secret, masked.unwrap_or(said));
        Ok(blob)
    }
}

impl Member for Reference {
    fn ask(&mut self, asked: &Asked, step: SecureStep, told: &Told) -> Result<Option<Signed>> {
        let of = attempt_id(&asked.task, told.number);
        if self.check_roster(told).is_err() {
            return Ok(None);
        }
        let answer = match step {
            SecureStep::Keys => self.keys(&of, asked.secret),
            SecureStep::Shares => self.shares(&of, told),
            SecureStep::Consistency => self.set(&of, told),
            SecureStep::Unmasking => self.unmasking(&of, told),
        };
        Ok(answer.ok())
    }

    fn send(&mut self, asked: &Asked, told: &Told) -> Result<Option<Digest>> {
        let of = attempt_id(&asked.task, told.number);
        Ok(self.vector(&of, told).ok())
    }

    fn restart(&mut self) {
        self.newest.clone_from(&self.saved);
    }

    fn forget(&mut self) -> Result<()> {
        (self.newest, self.saved) = (None, None);
        Ok(())
    }
}
