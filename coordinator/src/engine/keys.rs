//! Keys that give way to others, and certificates that are no institution's own business.

use std::sync::Arc;

use fedner_round::Run;
use fedner_shared::event::Event;
use fedner_shared::id::InstitutionId;
use fedner_shared::keys::{Signs, Succession, newest, next};
use fedner_shared::plan::Plan;
use fedner_shared::refusal::Code;
use fedner_shared::sign::{PublicKey, Signed};
use fedner_shared::state::InstitutionState;
use fedner_shared::time::Time;

use super::{Engine, Failure};
use crate::authority::{INSTITUTION_LIFE, Life};
use crate::keys::Keys;
use crate::store::Person;

impl Engine {
    /// Lets every process have the keys of this directory.
    pub fn keep_keys(&mut self, keys: &Keys) -> Result<(), Failure> {
        Ok(keys.keep_in(&mut self.store)?)
    }

    /// The signed plans of runs that have not ended.
    pub fn open_plans(&mut self) -> Result<Vec<Arc<Signed>>, Failure> {
        let open = self.runs.iter().filter(|run| !run.phase.is_end());
        let digests: Vec<_> = open.map(|run: &Run| run.plan_digest).collect();
        let plans = digests.into_iter().map(|digest| self.signed_plan(digest));
        plans.collect()
    }

    /// Plans are signed with another key from now on, those of open runs too.
    pub fn replace_plan_key(
        &mut self,
        succession: &Signed,
        plans: &[Signed],
    ) -> Result<(), Failure> {
        let present = self.operator_key;
        let new = succeeds(&Signs::Plans, &present, succession)?;
        for plan in plans {
            let verified = plan.verify::<Plan>(&new);
            verified.map_err(|error| Failure::refuse(Code::PlanSignature, error.to_string()))?;
        }
        for open in self.open_plans()? {
            let digest = open.digest();
            if !plans.iter().any(|plan| plan.digest() == digest) {
                let message = format!(
                    "the plan {} of an open run is not signed with the new key",
                    digest.short()
                );
                return Err(Failure::refuse(Code::PlanSignature, message));
            }
        }
        let event = Event::KeyReplaced {
            signs: Signs::Plans,
            new,
            succession: succession.digest(),
        };
        self.record("replace plan key", event, |tx| {
            tx.put_succession(None, succession)?;
            for plan in plans {
                if tx.plan(plan.digest())?.is_some() {
                    tx.sign_plan_anew(plan)?;
                }
            }
            Ok(())
        })?;
        self.forget_plans();
        self.operator_key = new;
        self.wake_everybody();
        Ok(())
    }

    /// The history is signed with another key from now on. That is durable at once: the key on the disk takes its place
    /// next, and one that nobody names would be a stranger's after a power cut.
    pub fn replace_history_key(
        &mut self,
        present: &PublicKey,
        succession: &Signed,
    ) -> Result<(), Failure> {
        let new = succeeds(&Signs::History, present, succession)?;
        let event = Event::KeyReplaced {
            signs: Signs::History,
            new,
            succession: succession.digest(),
        };
        self.record("replace history key", event, |tx| {
            tx.put_succession(None, succession)
        })?;
        Ok(self.store.sync()?)
    }

    /// The institution signs with another key from now on. The same statement may come again.
    pub fn replace_signing_key(
        &mut self,
        institution: &InstitutionId,
        succession: &Signed,
    ) -> Result<(), Failure> {
        let present = self.signing_key(institution)?;
        let signs = Signs::Statements(institution.clone());
        let all = self.store.read(|tx| tx.all_successions())?;
        let said = succession.peek::<Succession>().ok();
        let same = |known: &Signed| {
            let known = known.peek::<Succession>().ok();
            known.zip(said.as_ref()).is_some_and(|(known, said)| {
                (&known.signs, known.old, known.new) == (&said.signs, said.old, said.new)
            })
        };
        if said.as_ref().is_some_and(|said| said.new == present) && all.iter().any(same) {
            return Ok(());
        }
        let digest = succession.digest();
        let new = succeeds(&signs, &present, succession)?;
        let event = Event::KeyReplaced {
            signs,
            new,
            succession: digest,
        };
        self.record("replace signing key", event, |tx| {
            tx.put_succession(Some(institution), succession)?;
            tx.set_signing_key(institution, &new)
        })
    }

    /// Records an operator's or a viewer's certificate; as an event where it was issued or revoked now.
    pub fn record_person(&mut self, person: &Person, event: bool) -> Result<(), Failure> {
        let (name, role) = (person.name.clone(), person.role.as_str().to_owned());
        let revoked = person.revoked.is_some_and(|at| at >= person.issued);
        if !event {
            let put = |tx: &crate::store::Tx<'_>| tx.put_person(person);
            return Ok(self.store.transact("put person", put)?);
        }
        let event = if revoked {
            Event::CertificateRevoked { name, role }
        } else {
            Event::CertificateIssued { name, role }
        };
        self.record("record certificate", event, |tx| tx.put_person(person))
    }

    /// Members learn of it at once.
    pub fn authority_added(&mut self, sha256: String) -> Result<(), Failure> {
        let event = Event::AuthorityAdded { sha256 };
        self.record("add authority", event, |_| Ok(()))?;
        self.wake_everybody();
        Ok(())
    }

    /// Active institutions that have no certificate of that authority yet.
    pub fn not_ready_for(&mut self, authority: &str) -> Result<Vec<InstitutionId>, Failure> {
        Ok(self.store.read(|tx| tx.without_certificate_of(authority))?)
    }

    /// Certificates of other authorities than `present` are worth nothing.
    pub fn authority_withdrawn(&mut self, sha256: String, present: &str) -> Result<(), Failure> {
        let event = Event::AuthorityWithdrawn { sha256 };
        self.record("withdraw authority", event, |tx| {
            tx.revoke_certificates_not_of(present)
        })
    }

    /// Ends all held check-ins: there is something to learn.
    pub fn call_everybody(&mut self) -> Result<(), Failure> {
        self.wake_everybody();
        Ok(())
    }

    /// The signing keys of active institutions, and the lives of their certificates.
    pub fn signing_keys(&mut self) -> Result<Vec<(InstitutionId, PublicKey, Life)>, Failure> {
        let all = self.store.read(|tx| tx.institutions())?;
        let lives = self.certificates()?;
        let keys = all.into_iter().filter_map(|institution| {
            let (name, life) = lives.iter().find(|(name, _)| *name == institution.name)?;
            Some((name.clone(), institution.signing_key, *life))
        });
        Ok(keys.collect())
    }

    /// Until when the certificates of active institutions hold.
    pub fn certificates(&mut self) -> Result<Vec<(InstitutionId, Life)>, Failure> {
        let all = self.store.read(|tx| tx.institutions())?;
        let active = all
            .into_iter()
            .filter(|institution| institution.state == InstitutionState::Active);
        let life = |institution: crate::store::Institution| {
            let until = institution.certificate_expires;
            let life = INSTITUTION_LIFE.as_millis() as i64;
            let from = Time::from_millis(until.as_millis() - life);
            (institution.name, Life { from, until })
        };
        Ok(active.map(life).collect())
    }
}

/// The key that `present` gives way to.
fn succeeds(signs: &Signs, present: &PublicKey, succession: &Signed) -> Result<PublicKey, Failure> {
    next(signs, present, succession).ok_or_else(|| {
        let said = succession.peek::<Succession>();
        let by = said.map_or_else(|error| error.to_string(), |said| said.old.to_string());
        let message = format!("the succession is by {by}: expected one that {present} signed");
        Failure::refuse(Code::KeySuccession, message)
    })
}

/// The key for plans that the first one has led to.
pub(super) fn plan_key(first: PublicKey, successions: &[Signed]) -> PublicKey {
    newest(&Signs::Plans, first, successions)
}
