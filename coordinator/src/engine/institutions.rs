//! Institutions: invited, enrolled, recognised, excluded.

use fedner_round::{Input, Later};
use fedner_shared::digest::Digest;
use fedner_shared::event::Event;
use fedner_shared::id::InstitutionId;
use fedner_shared::refusal::Code;
use fedner_shared::sign::PublicKey;
use fedner_shared::state::InstitutionState;
use fedner_shared::time::Time;
use fedner_shared::view::InstitutionView;
use tokio_util::sync::CancellationToken;

use super::{Engine, Failure};
use crate::authority::{Authority, Issued};
use crate::identity::Caller;
use crate::store::{Institution, Invite, InviteUse, Tx};

impl Engine {
    /// Writes an invite; whether it lets a known name come back. A name that is enrolled, or was, needs
    /// one that says so, unless its certificate has run out.
    pub fn invite(
        &mut self,
        institution: InstitutionId,
        secret_hash: Digest,
        expires: Time,
        reenrol: bool,
    ) -> Result<bool, Failure> {
        let known = self.store.read(|tx| tx.institution(&institution))?;
        // Nobody is put out whose certificate has run out.
        let ended = known.as_ref().is_some_and(|known| {
            known.state == InstitutionState::Active && known.certificate_expires <= self.now()
        });
        match &known {
            Some(known) if !(reenrol || ended) => {
                let message = format!("{institution} is {}", known.state.as_str());
                return Err(Failure::refuse(Code::InviteRequired, message));
            }
            None if reenrol => {
                let message = format!("{institution} was never enrolled");
                return Err(Failure::refuse(Code::InstitutionUnknown, message));
            }
            Some(_) | None => {}
        }
        let event = Event::InviteWritten {
            institution: institution.clone(),
            expires,
        };
        let reenrol = known.is_some();
        let invite = Invite {
            secret_hash,
            institution,
            expires,
            reenrol,
        };
        self.record("write invite", event, |tx| tx.put_invite(&invite))?;
        Ok(reenrol)
    }

    /// Uses up an invite and enrols whoever holds its secret.
    pub fn enrol(
        &mut self,
        authority: &Authority,
        secret: &str,
        request: &str,
        signing_key: PublicKey,
    ) -> Result<(InstitutionId, Issued), Failure> {
        let time = self.now();
        let hash = Digest::of(secret.as_bytes());
        // Whether the request can be read is told to who has an invite.
        let keys = Authority::key_of_request(request).ok().map(|tls_key| {
            let both = [tls_key.as_bytes().as_slice(), signing_key.as_bytes()].concat();
            Digest::of(&both)
        });
        let newest = self.store.transact("enrol institution", |tx| {
            let (name, reenrol) = match tx.use_invite(time, hash)? {
                InviteUse::Accepted {
                    institution,
                    reenrol,
                } => (institution, reenrol),
                InviteUse::Voided(at) => {
                    return Err(Failure::refuse(
                        Code::InviteVoid,
                        format!("the invite is void since {at}"),
                    ));
                }
                InviteUse::Unknown => {
                    return Err(Failure::refuse(
                        Code::InviteUnknown,
                        "no invite has this secret",
                    ));
                }
                InviteUse::Expired(at) => {
                    return Err(Failure::refuse(
                        Code::InviteExpired,
                        format!("the invite expired at {at}"),
                    ));
                }
                // The answer was lost on its way: the same keys get it again.
                InviteUse::Used {
                    institution,
                    by: by @ Some(_),
                    ..
                } if by == keys && enrolled_with(tx, &institution, &signing_key)? => {
                    let issued = authority
                        .institution(institution.as_str(), request, time)
                        .map_err(|e| Failure::refuse(Code::CertificateRequest, e.to_string()))?;
                    tx.put_certificate(&institution, &issued)?;
                    return Ok((tx.last_sequence()?, institution, issued));
                }
                InviteUse::Used { at, .. } => {
                    return Err(Failure::refuse(
                        Code::InviteUsed,
                        format!("the invite was used at {at}"),
                    ));
                }
            };
            let before = tx.institution(&name)?;
            if let Some(before) = before.as_ref().filter(|_| !reenrol) {
                let message = format!("{name} is {}", before.state.as_str());
                return Err(Failure::refuse(Code::InviteVoid, message));
            }
            let issued = authority
                .institution(name.as_str(), request, time)
                .map_err(|error| Failure::refuse(Code::CertificateRequest, error.to_string()))?;
            let institution = Institution {
                name: name.clone(),
                state: InstitutionState::Active,
                signing_key,
                enrolled: time,
                certificate_expires: issued.expires,
            };
            tx.put_institution(&institution, &issued)?;
            if let Some(keys) = keys {
                tx.note_invite_used_by(hash, keys)?;
            }
            let institution = name.clone();
            let event = match before {
                None => Event::InstitutionEnrolled { institution },
                Some(before) => {
                    // Whoever holds another invite of that name is not who came back.
                    tx.void_invites(time, &name)?;
                    Event::InstitutionReenrolled {
                        institution,
                        was: before.state.as_str().to_owned(),
                    }
                }
            };
            tx.append_event(time, None, event)?;
            Ok((tx.last_sequence()?, name, issued))
        })?;
        let (sequence, name, issued) = newest;
        self.newest.send_replace(sequence);
        self.expel(&name);
        Ok((name, issued))
    }

    pub fn renew(
        &mut self,
        authority: &Authority,
        institution: &InstitutionId,
        request: &str,
    ) -> Result<Issued, Failure> {
        let issued = authority
            .institution(institution.as_str(), request, self.now())
            .map_err(|error| Failure::refuse(Code::CertificateRequest, error.to_string()))?;
        let event = Event::CertificateRenewed {
            institution: institution.clone(),
        };
        self.record("renew certificate", event, |tx| {
            tx.put_certificate(institution, &issued)
        })?;
        Ok(issued)
    }

    /// The institution behind a certificate, if it may still speak, and what is cancelled when it may not.
    pub fn recognise(
        &mut self,
        caller: &Caller,
    ) -> Result<(InstitutionId, CancellationToken), Failure> {
        let name = caller.institution()?;
        let (found, stands) = self.store.read(|tx| {
            Ok((
                tx.institution(&name)?,
                tx.certificate_stands(&name, &caller.serial)?,
            ))
        })?;
        let Some(institution) = found else {
            return Err(Failure::refuse(
                Code::InstitutionUnknown,
                format!("{name} is not enrolled"),
            ));
        };
        match institution.state {
            InstitutionState::Suspended => Err(Failure::refuse(
                Code::InstitutionSuspended,
                format!("{name} is suspended"),
            )),
            InstitutionState::Revoked => Err(Failure::refuse(
                Code::InstitutionRevoked,
                format!("{name} is revoked"),
            )),
            InstitutionState::Active if stands => {
                let standing = self.standing.entry(name.clone()).or_default().clone();
                Ok((name, standing))
            }
            InstitutionState::Active => Err(Failure::refuse(
                Code::InstitutionRevoked,
                format!("this certificate of {name} has been replaced"),
            )),
        }
    }

    pub fn set_state(
        &mut self,
        name: &InstitutionId,
        state: InstitutionState,
    ) -> Result<(), Failure> {
        let institution = name.clone();
        let found = self.store.read(|tx| tx.institution(name))?;
        let Some(found) = found else {
            return Err(Failure::refuse(
                Code::InstitutionUnknown,
                format!("{name} is not enrolled"),
            ));
        };
        if found.state == InstitutionState::Revoked {
            return Err(Failure::refuse(
                Code::InstitutionRevoked,
                format!("{name} is revoked"),
            ));
        }
        let (event, code) = match state {
            InstitutionState::Active => (Event::InstitutionReinstated { institution }, None),
            InstitutionState::Suspended => (
                Event::InstitutionSuspended { institution },
                Some(Code::InstitutionSuspended),
            ),
            InstitutionState::Revoked => (
                Event::InstitutionRevoked { institution },
                Some(Code::InstitutionRevoked),
            ),
        };
        let now = self.now();
        self.record("set institution state", event, |tx| {
            tx.set_institution_state(name, state)?;
            if state != InstitutionState::Active {
                tx.void_invites(now, name)?;
            }
            if state == InstitutionState::Revoked {
                tx.revoke_certificates(name)
            } else {
                Ok(())
            }
        })?;
        if let Some(code) = code {
            self.expel(name);
            for id in self.under_way() {
                let member = self.run(&id).is_some_and(|run| run.members.contains(name));
                if member {
                    self.step(
                        &id,
                        Input::Excluded {
                            institution: name.clone(),
                            code,
                        },
                    )?;
                }
            }
        }
        Ok(())
    }

    /// Ends at once whatever the institution has under way.
    fn expel(&mut self, name: &InstitutionId) {
        if let Some(standing) = self.standing.remove(name) {
            standing.cancel();
        }
    }

    pub fn signing_key(&mut self, name: &InstitutionId) -> Result<PublicKey, Failure> {
        let found = self.store.read(|tx| tx.institution(name))?;
        let unknown =
            || Failure::refuse(Code::InstitutionUnknown, format!("{name} is not enrolled"));
        Ok(found.ok_or_else(unknown)?.signing_key)
    }

    pub fn institution_views(&mut self) -> Result<Vec<InstitutionView>, Failure> {
        let all = self.store.read(|tx| tx.institutions())?;
        let now = self.now();
        let view = |institution: Institution| InstitutionView {
            software: self
                .presence
                .get(&institution.name)
                .and_then(|known| known.software.clone()),
            twice: self
                .presence
                .get(&institution.name)
                .is_some_and(|known| known.is_twice(now)),
            not_before: self.later(&institution.name).map(|later| later.from),
            not_before_code: self
                .later(&institution.name)
                .map(|later| later.code.to_string()),
            last_seen: self.seen.get(&institution.name).copied(),
            state: institution.state,
            enrolled: institution.enrolled,
            certificate_expires: institution.certificate_expires,
            institution: institution.name,
        };
        Ok(all.into_iter().map(view).collect())
    }

    /// What it announced, where that is still to come.
    fn later(&self, name: &InstitutionId) -> Option<Later> {
        let later = self.later.get(name).copied();
        later.filter(|later| later.from > self.now())
    }

    /// Writes something that concerns no run, with its event.
    pub(super) fn record(
        &mut self,
        name: &'static str,
        event: Event,
        work: impl FnOnce(&Tx<'_>) -> Result<(), crate::store::Error>,
    ) -> Result<(), Failure> {
        let now = self.now();
        let newest = self.store.transact(name, |tx| {
            work(tx)?;
            tx.append_event(now, None, event)?;
            tx.last_sequence()
        })?;
        self.newest.send_replace(newest);
        Ok(())
    }
}

/// Whether the institution is in good standing with that key.
fn enrolled_with(
    tx: &Tx<'_>,
    institution: &InstitutionId,
    signing_key: &PublicKey,
) -> Result<bool, crate::store::Error> {
    let found = tx.institution(institution)?;
    Ok(found.is_some_and(|found| {
        found.state == InstitutionState::Active && found.signing_key == *signing_key
    }))
}
