//! The coordinator: what it asks, what it forges, and what it hears.

use std::collections::BTreeMap;

use anyhow::Result;
use fedner_client::egress::attempt_id;
use fedner_secagg::{Members, Secret};
use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use fedner_shared::plan::Plan;
use fedner_shared::secure::{
    AttemptId, SecureKeys, SecureSet, SecureShares, SecureStep, SecureUnmasking, Told,
};
use fedner_shared::sign::{SecretKey, Signed};
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;

use super::knowledge::Knowledge;
use super::{Asked, Cohort, Member, site, task};

pub(super) struct Liar {
    pub(super) cohort: Cohort,
    plan: Plan,
    pub(super) honest: BTreeMap<InstitutionId, Box<dyn Member>>,
    pub(super) rng: ChaCha8Rng,
    pub(super) heard: Knowledge,
    /// Every statement that it has, to be shown wherever it likes.
    pub(super) pool: Vec<(SecureStep, Signed)>,
}

/// What a member that sides with it signs with, or one that it invents: of any name.
fn own_key(name: &InstitutionId) -> SecretKey {
    SecretKey::from_seed(*Digest::of(format!("own {name}").as_bytes()).as_bytes())
}

/// Its secrets of an attempt; with another salt others.
fn own_secret(name: &InstitutionId, of: &AttemptId, salt: u8) -> Secret {
    let text = format!("{name} {} {salt}", of.digest());
    Secret::from_bytes(*Digest::of(text.as_bytes()).as_bytes())
}

pub(super) fn author(signed: &Signed, step: SecureStep) -> Result<InstitutionId> {
    Ok(match step {
        SecureStep::Keys => signed.peek::<SecureKeys>()?.institution,
        SecureStep::Shares => signed.peek::<SecureShares>()?.institution,
        SecureStep::Consistency => signed.peek::<SecureSet>()?.institution,
        SecureStep::Unmasking => signed.peek::<SecureUnmasking>()?.institution,
    })
}

impl Liar {
    pub(super) fn new(
        cohort: Cohort,
        plan: Plan,
        honest: BTreeMap<InstitutionId, Box<dyn Member>>,
        rng: ChaCha8Rng,
    ) -> Self {
        Self {
            cohort,
            plan,
            honest,
            rng,
            heard: Knowledge::default(),
            pool: Vec::new(),
        }
    }

    /// Everybody in the plan.
    pub(super) fn all(&self) -> Vec<InstitutionId> {
        self.plan.cohort.institutions.clone()
    }

    /// Those who side with it.
    pub(super) fn siding(&self) -> Vec<InstitutionId> {
        let all = self.all().into_iter();
        all.filter(|name| !self.honest.contains_key(name)).collect()
    }

    /// Any honest member.
    pub(super) fn victim(&mut self) -> InstitutionId {
        let place = self.rng.random_range(0..self.honest.len());
        let mut names = self.honest.keys();
        names.nth(place).expect("honest ones").clone()
    }

    /// Some of them, `least` at the least, in order.
    pub(super) fn some(&mut self, of: &[InstitutionId], least: usize) -> Vec<InstitutionId> {
        let mut chosen = of.to_vec();
        chosen.shuffle(&mut self.rng);
        let count = self.rng.random_range(least.min(of.len())..=of.len());
        chosen.truncate(count);
        chosen.sort();
        chosen
    }

    fn asked(&mut self, number: u64) -> Result<Asked> {
        let mut secret = [0; 32];
        self.rng.fill_bytes(&mut secret);
        let task = task(&self.plan, number as u32)?;
        Ok(Asked { task, secret })
    }

    pub(super) fn of(&self, told: &Told) -> Result<AttemptId> {
        Ok(attempt_id(
            &task(&self.plan, told.number as u32)?,
            told.number,
        ))
    }

    /// Whether a name of a roster is the coordinator's own, by its signing key.
    fn is_own(told: &Told, name: &InstitutionId) -> bool {
        told.signers.get(name) == Some(&own_key(name).public())
    }

    /// Asks a member, and hears what it says; the statement.
    pub(super) fn ask(
        &mut self,
        name: &InstitutionId,
        step: SecureStep,
        told: &Told,
    ) -> Result<Option<Signed>> {
        let asked = self.asked(told.number)?;
        let Some(member) = self.honest.get_mut(name) else {
            return Ok(None);
        };
        let Some(signed) = member.ask(&asked, step, told)? else {
            return Ok(None);
        };
        match step {
            SecureStep::Keys => self.heard.hear_keys(&signed)?,
            SecureStep::Shares => {
                let own = told.signers.keys().filter(|name| Self::is_own(told, name));
                let own: Vec<InstitutionId> = own.cloned().collect();
                self.heard.hear_shares(told, &signed, &own)?;
            }
            SecureStep::Consistency => {}
            SecureStep::Unmasking => self.heard.hear_unmasking(told, &signed)?,
        }
        if !self.pool.contains(&(step, signed.clone())) {
            self.pool.push((step, signed.clone()));
        }
        Ok(Some(signed))
    }

    /// Has a member train, and send its update under masks.
    pub(super) fn train(&mut self, name: &InstitutionId, told: &Told) -> Result<bool> {
        let asked = self.asked(told.number)?;
        let Some(member) = self.honest.get_mut(name) else {
            return Ok(false);
        };
        let sent = member.send(&asked, told)?;
        if let Some(blob) = sent {
            self.heard.hear_vector(told, name, blob)?;
        }
        Ok(sent.is_some())
    }

    /// Tells these that the plan is under way no more.
    pub(super) fn end(&mut self, among: &[InstitutionId]) -> Result<()> {
        let told = self.honest.iter_mut();
        let mut told = told.filter(|(name, _)| among.contains(name));
        told.try_for_each(|(_, member)| member.forget())
    }

    pub(super) fn restart(&mut self) {
        self.honest.values_mut().for_each(|member| member.restart());
    }

    /// The start of an attempt: these, by their own signing keys, apart from those that it says are its own.
    pub(super) fn roster(
        &self,
        number: u64,
        names: &[InstitutionId],
        own: &[InstitutionId],
    ) -> Told {
        let honest = (0..self.cohort.honest()).map(site);
        let honest: BTreeMap<_, _> = honest.map(|(name, key)| (name, key.public())).collect();
        let key = |name: &InstitutionId| match honest.get(name) {
            Some(key) if !own.contains(name) => *key,
            _ => own_key(name).public(),
        };
        Told {
            number,
            signers: names.iter().map(|name| (name.clone(), key(name))).collect(),
            ..Told::default()
        }
    }

    /// Asks everybody in the roster for keys, and adds its own.
    pub(super) fn keys(&mut self, mut told: Told) -> Result<Told> {
        let shown = told.clone();
        for name in shown.signers.keys() {
            let signed = if Self::is_own(&shown, name) {
                Some(self.own_keys(&shown, name, 0)?)
            } else {
                self.ask(name, SecureStep::Keys, &shown)?
            };
            match signed {
                Some(signed) => told.keys.push(signed),
                None => drop(told.signers.remove(name)),
            }
        }
        Ok(told)
    }

    pub(super) fn own_keys(&self, told: &Told, name: &InstitutionId, salt: u8) -> Result<Signed> {
        let of = self.of(told)?;
        let keys = own_secret(name, &of, salt).keys_of(&of, name)?;
        Ok(Signed::new(&keys, &own_key(name)))
    }

    /// Shares of its own members, as their keys of that salt say.
    pub(super) fn own_shares(&self, told: &Told, salt: u8) -> Result<Vec<Signed>> {
        let of = self.of(told)?;
        let own = told.signers.keys().filter(|name| Self::is_own(told, name));
        let shares = own.map(|name| {
            let members = Members::new(&of, &told.signers, &told.keys)?;
            let shares = members.deal(&own_secret(name, &of, salt), name)?;
            Ok(Signed::new(&shares, &own_key(name)))
        });
        shares.collect()
    }

    /// Has these deal to the roster, its own members too. What none of them deals is missing.
    pub(super) fn deal(&mut self, told: &mut Told, among: &[InstitutionId]) -> Result<()> {
        let shown = told.clone();
        for name in among {
            told.shares
                .extend(self.ask(name, SecureStep::Shares, &shown)?);
        }
        // A roster that is none has no shares.
        told.shares
            .extend(self.own_shares(&shown, 0).unwrap_or_default());
        told.shares
            .sort_by_key(|signed| author(signed, SecureStep::Shares).ok());
        Ok(())
    }

    /// Those of them who send an update.
    pub(super) fn send(&mut self, told: &Told, among: &[InstitutionId]) -> Result<()> {
        for name in among {
            self.train(name, told)?;
        }
        Ok(())
    }

    /// Its own members' signatures of a set.
    pub(super) fn own_sets(&self, told: &Told) -> Result<Vec<Signed>> {
        let of = self.of(told)?;
        let members = Members::new(&of, &told.signers, &told.keys)?;
        let dealt = members.dealt(&told.shares)?;
        let own = told.signers.keys().filter(|name| Self::is_own(told, name));
        let sets = own.map(|name| {
            let set = SecureSet {
                of: of.clone(),
                institution: name.clone(),
                roster: dealt.members().digest(),
                dealt: dealt.digest(),
                members: told.members.clone(),
            };
            Signed::new(&set, &own_key(name))
        });
        Ok(sets.collect())
    }

    /// Names a set to these, and gathers signatures of it.
    pub(super) fn name_set(
        &mut self,
        told: &Told,
        set: &[InstitutionId],
        among: &[InstitutionId],
    ) -> Result<Told> {
        let mut told = Told {
            members: set.to_vec(),
            sets: Vec::new(),
            ..told.clone()
        };
        let shown = told.clone();
        for name in among {
            told.sets
                .extend(self.ask(name, SecureStep::Consistency, &shown)?);
        }
        told.sets.extend(self.own_sets(&shown).unwrap_or_default());
        Ok(told)
    }

    /// Asks these to unmask.
    pub(super) fn unmask(&mut self, told: &Told, among: &[InstitutionId]) -> Result<()> {
        for name in among {
            self.ask(name, SecureStep::Unmasking, told)?;
        }
        Ok(())
    }
}
