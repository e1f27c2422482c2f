//! An attempt by the names of its members, from what they signed. Both programs compute with it: the institution its
//! shares, masks and answers, the coordinator the sum.

use std::collections::BTreeMap;

use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::secure::{
    AttemptId, Hex, SecureKeys, SecureSet, SecureShares, SecureUnmasking, Signers, dealt_digest,
    roster_digest, verified,
};
use fedner_shared::sign::Signed;

use crate::{
    Answer, Context, Error, Held, Masker, Opening, PublicKeys, Roster, Secret, Share, Width,
};

/// Those who sent keys.
#[derive(Debug, Clone)]
pub struct Members {
    of: AttemptId,
    signers: Signers,
    names: Vec<InstitutionId>,
    roster: Roster,
    digest: Digest,
}

/// The context of all keys of an attempt.
pub(crate) fn context(of: &AttemptId) -> Context {
    Context(*of.digest().as_bytes())
}

fn key(bytes: &Hex) -> Result<[u8; 32], Error> {
    let bytes = bytes.0.as_slice().try_into();
    bytes.map_err(|_| Error::Share("a key has another length than 32 bytes"))
}

impl Secret {
    /// What an institution signs of itself before anything else.
    pub fn keys_of(
        &self,
        of: &AttemptId,
        institution: &InstitutionId,
    ) -> Result<SecureKeys, Error> {
        let keys = self.public_keys(&context(of))?;
        Ok(SecureKeys {
            of: of.clone(),
            institution: institution.clone(),
            mask: Hex(keys.mask.to_vec()),
            seal: Hex(keys.seal.to_vec()),
            commitment: Hex(keys.commitment.to_vec()),
        })
    }
}

impl Members {
    /// From statements that are signed by `signers`, for this attempt.
    pub fn new(of: &AttemptId, signers: &Signers, keys: &[Signed]) -> Result<Self, Error> {
        let said: BTreeMap<InstitutionId, SecureKeys> = verified(of, signers, keys)?;
        let public = said.values().map(|said| {
            Ok(PublicKeys {
                mask: key(&said.mask)?,
                seal: key(&said.seal)?,
                commitment: key(&said.commitment)?,
            })
        });
        let public = public.collect::<Result<_, Error>>()?;
        Ok(Self {
            digest: roster_digest(of, signers, keys)?,
            of: of.clone(),
            signers: signers.clone(),
            roster: Roster::new(context(of), public)?,
            names: said.into_keys().collect(),
        })
    }

    pub const fn digest(&self) -> Digest {
        self.digest
    }

    pub fn names(&self) -> &[InstitutionId] {
        &self.names
    }

    pub const fn threshold(&self) -> usize {
        self.roster.group().threshold()
    }

    /// The keys that the institution's own statement has, as everybody was shown it.
    pub fn keys(&self, institution: &InstitutionId) -> Result<&PublicKeys, Error> {
        self.roster.keys(self.place(institution)?)
    }

    fn place(&self, name: &InstitutionId) -> Result<usize, Error> {
        let place = self.names.binary_search(name);
        place.map_err(|_| Error::Stranger(name.clone()))
    }

    fn places(&self, names: &[InstitutionId]) -> Result<Vec<usize>, Error> {
        names.iter().map(|name| self.place(name)).collect()
    }

    /// The shares that an institution deals; the same bytes whenever it is asked.
    pub fn deal(&self, secret: &Secret, own: &InstitutionId) -> Result<SecureShares, Error> {
        let sealed = secret.deal(&self.roster, self.place(own)?)?;
        let sealed = self.names.iter().cloned().zip(sealed.into_iter().map(Hex));
        Ok(SecureShares {
            of: self.of.clone(),
            institution: own.clone(),
            roster: self.digest,
            sealed: sealed.collect(),
        })
    }

    /// Those who dealt shares, from statements that they signed over this roster.
    pub fn dealt(self, shares: &[Signed]) -> Result<Dealt, Error> {
        let said: BTreeMap<InstitutionId, SecureShares> =
            verified(&self.of, &self.signers, shares)?;
        for (name, shares) in &said {
            self.place(name)?;
            let all = shares.sealed.keys().eq(&self.names);
            if shares.roster != self.digest || !all {
                return Err(Error::Stranger(name.clone()));
            }
        }
        let threshold = self.threshold();
        if said.len() < threshold {
            let found = said.len();
            return Err(Error::TooFew { found, threshold });
        }
        Ok(Dealt {
            digest: dealt_digest(shares),
            members: self,
            shares: said,
        })
    }
}

/// Those who dealt shares: they have masks with each other.
#[derive(Debug, Clone)]
pub struct Dealt {
    members: Members,
    shares: BTreeMap<InstitutionId, SecureShares>,
    digest: Digest,
}

impl Dealt {
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    pub const fn members(&self) -> &Members {
        &self.members
    }

    pub fn names(&self) -> impl Iterator<Item = &InstitutionId> {
        self.shares.keys()
    }

    fn places(&self) -> Result<Vec<usize>, Error> {
        let names: Vec<InstitutionId> = self.shares.keys().cloned().collect();
        self.members.places(&names)
    }

    /// The masks of an institution. That the shares which others dealt to it can be opened is found out now: later it
    /// would be too late for them.
    pub fn masker(
        &self,
        secret: &Secret,
        own: &InstitutionId,
        width: Width,
    ) -> Result<Masker, Error> {
        for name in self.shares.keys() {
            self.held(secret, own, name)?;
        }
        let place = self.members.place(own)?;
        Masker::new(secret, &self.members.roster, place, &self.places()?, width)
    }

    fn held(
        &self,
        secret: &Secret,
        own: &InstitutionId,
        from: &InstitutionId,
    ) -> Result<Held, Error> {
        let (place, sender) = (self.members.place(own)?, self.members.place(from)?);
        let dealt = self.shares.get(from);
        let sealed = dealt.and_then(|shares| shares.sealed.get(own));
        let sealed = sealed.ok_or_else(|| Error::Stranger(from.clone()))?;
        secret.open(&self.members.roster, place, sender, &sealed.0)
    }

    /// What an institution tells so that the sum over `present` can be unmasked: one share of each who dealt.
    pub fn unmasking(
        &self,
        secret: &Secret,
        own: &InstitutionId,
        present: &[InstitutionId],
    ) -> Result<SecureUnmasking, Error> {
        let (mut own_seeds, mut mask_keys) = (BTreeMap::new(), BTreeMap::new());
        for name in self.shares.keys() {
            let held = self.held(secret, own, name)?;
            let (all, share) = if present.contains(name) {
                (&mut own_seeds, &held.own_seed)
            } else {
                (&mut mask_keys, &held.mask_key)
            };
            all.insert(name.clone(), Hex(share.as_bytes().to_vec()));
        }
        Ok(SecureUnmasking {
            of: self.members.of.clone(),
            institution: own.clone(),
            roster: self.members.digest,
            dealt: self.digest,
            own_seeds,
            mask_keys,
        })
    }

    /// Whether a set is over these, among those who dealt.
    pub fn is_set(&self, set: &SecureSet, present: &[InstitutionId]) -> bool {
        set.roster == self.members.digest && set.dealt == self.digest && set.members == present
    }

    /// Whether enough of these have signed the set that is over them.
    pub fn check_sets(&self, present: &[InstitutionId], sets: &[Signed]) -> Result<(), Error> {
        let sets: BTreeMap<InstitutionId, SecureSet> =
            verified(&self.members.of, &self.members.signers, sets)?;
        let same =
            |set: &&SecureSet| self.is_set(set, present) && present.contains(&set.institution);
        let agreed = sets.values().filter(same).count();
        let least = self.members.threshold();
        if agreed >= least {
            return Ok(());
        }
        let message = format!("{agreed} members signed the set: expected at least {least}");
        Err(Refusal::new(Code::SecureStep, message).into())
    }

    /// Whether the institution tells one share of each who dealt, of the right kind for this set.
    pub fn check_unmasking(
        &self,
        said: &SecureUnmasking,
        present: &[InstitutionId],
    ) -> Result<(), Error> {
        let lost = self.shares.keys().filter(|name| !present.contains(name));
        let fits = said.roster == self.members.digest
            && said.dealt == self.digest
            && said.own_seeds.keys().eq(present)
            && said.mask_keys.keys().eq(lost);
        if !fits {
            return Err(Error::Stranger(said.institution.clone()));
        }
        self.answer(said).map(drop)
    }

    fn answer(&self, said: &SecureUnmasking) -> Result<Answer, Error> {
        let holder = self.members.place(&said.institution)?;
        let shares = |told: &BTreeMap<InstitutionId, Hex>| {
            let shares = told.iter().map(|(name, share)| {
                let share = Share::from_bytes(holder, &share.0)?;
                Ok((self.members.place(name)?, share))
            });
            shares.collect::<Result<Vec<_>, Error>>()
        };
        Ok(Answer {
            own_seeds: shares(&said.own_seeds)?,
            mask_keys: shares(&said.mask_keys)?,
        })
    }

    /// What unmasks the sum over `present`, from statements that enough members signed.
    pub fn opening(&self, present: &[InstitutionId], said: &[Signed]) -> Result<Opening, Error> {
        let said: BTreeMap<InstitutionId, SecureUnmasking> =
            verified(&self.members.of, &self.members.signers, said)?;
        let answers = said.values().map(|said| {
            self.check_unmasking(said, present)?;
            self.answer(said)
        });
        let answers: Vec<Answer> = answers.collect::<Result<_, Error>>()?;
        let present = self.members.places(present)?;
        Opening::new(&self.members.roster, &self.places()?, &present, &answers)
    }
}
