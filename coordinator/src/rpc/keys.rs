//! What the operator does with keys and certificates.

use std::time::Duration;

use fedner_proto::v1::rotate_key_request::Which;
use fedner_proto::{convert, v1};
use fedner_shared::keys::is_due;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::time::Time;
use tonic::{Request, Status};

use super::Services;
use super::gate::{caller, status};
use crate::authority::{Life, Role, sha256_of_pem};
use crate::engine::Failure;
use crate::keys::Error;

/// Time for the answer to leave before connections are closed.
const FAREWELL: Duration = Duration::from_millis(500);
/// The longest name of an operator or a viewer.
const LONGEST_NAME: usize = 64;

impl Services {
    pub(super) async fn keys_known<T>(
        &self,
        request: &Request<T>,
    ) -> Result<v1::ListKeysResponse, Status> {
        let engine = self.operator(request)?;
        let now = engine.machine().now();
        let own = |what: &str, pem: &str| {
            let life = Life::of_pem(pem).map_err(status)?;
            let sha256 = sha256_of_pem(pem).map_err(status)?;
            Ok::<_, Status>(key(what, "", sha256, Some(life), now))
        };
        let (serving, issuing) = (self.keys.serving(), self.keys.issuing());
        let mut keys = vec![own("authority", serving.certificate_pem())?];
        if serving.sha256() != issuing.sha256() {
            keys.push(own("next-authority", issuing.certificate_pem())?);
        }
        keys.push(own("server", &self.keys.server_certificate())?);
        for person in self.keys.people() {
            let life = Life {
                from: person.issued,
                until: person.expires,
            };
            let revoked = person.revoked.is_some_and(|at| at >= person.issued);
            let mut key = key(
                person.role.as_str(),
                &person.name,
                String::new(),
                Some(life),
                now,
            );
            if revoked {
                "revoked".clone_into(&mut key.state);
            }
            keys.push(key);
        }
        let institutions = engine.call(|engine| engine.signing_keys());
        for (name, signing, life) in institutions.await.map_err(status)? {
            let name = name.as_str();
            keys.push(key(
                "institution",
                name,
                signing.to_string(),
                Some(life),
                now,
            ));
        }
        keys.push(key("plans", "", self.keys.plans().to_string(), None, now));
        let history = self.keys.history().public().to_string();
        keys.push(key("history", "", history, None, now));
        Ok(v1::ListKeysResponse { keys })
    }

    pub(super) async fn rotate(
        &self,
        request: Request<v1::RotateKeyRequest>,
    ) -> Result<v1::RotateKeyResponse, Status> {
        let engine = self.operator(&request)?;
        let fingerprint = match request.into_inner().which() {
            Which::Authority => {
                let (keys, federation) = (self.keys.clone(), self.federation.clone());
                // In one turn of the engine: nobody is told of a key that only this process has.
                let added = engine.call(move |engine| {
                    let sha256 = keys.add_authority(&federation)?;
                    engine.keep_keys(&keys)?;
                    engine.authority_added(sha256.clone())?;
                    Ok(sha256)
                });
                let sha256 = added.await.map_err(status)?;
                self.keys.renew_own(&engine).await.map_err(status)?;
                sha256
            }
            Which::Server => self.keys.replace_server().map_err(status)?,
            Which::History => {
                let keys = self.keys.clone();
                // In one turn of the engine: no check-in is answered with the one and not the other, and no other
                // rotation comes between.
                let replaced = engine.call(move |engine| {
                    let (present, (new, succession)) =
                        (keys.history().public(), keys.prepare_history_key()?);
                    let fingerprint = new.public().to_string();
                    engine.keep_keys(&keys)?;
                    engine.replace_history_key(&present, &succession)?;
                    keys.take_history_key(new, succession)?;
                    engine.keep_keys(&keys)?;
                    engine.call_everybody()?;
                    Ok(fingerprint)
                });
                replaced.await.map_err(status)?
            }
            Which::Unspecified => {
                let message = "no key is named";
                return Err(status(Refusal::new(Code::RequestInvalid, message)));
            }
        };
        Ok(v1::RotateKeyResponse { fingerprint })
    }

    pub(super) async fn withdraw_older(
        &self,
        request: Request<v1::WithdrawAuthorityRequest>,
    ) -> Result<v1::WithdrawAuthorityResponse, Status> {
        let engine = self.operator(&request)?;
        let force = request.into_inner().force;
        let keys = self.keys.clone();
        // In one turn of the engine: who is looked at is who is left behind.
        let left_behind = engine
            .call(move |engine| {
                let next = keys.next()?.sha256();
                let behind = engine.not_ready_for(&next)?;
                let names: Vec<String> = behind.iter().map(ToString::to_string).collect();
                if !force && !names.is_empty() {
                    let message = format!(
                        "no certificate of the new authority yet: {}; they get one when they check in, or \
                         with --force they have to enrol anew",
                        names.join(", ")
                    );
                    return Err(Refusal::new(Code::AuthorityState, message).into());
                }
                let old = keys.withdraw_authority()?;
                engine.keep_keys(&keys)?;
                engine.authority_withdrawn(old, &next)?;
                engine.call_everybody()?;
                Ok(names)
            })
            .await
            .map_err(status)?;
        let (door, until) = (self.door.clone(), self.door.newest());
        tokio::spawn(async move {
            tokio::time::sleep(FAREWELL).await;
            // Certificates of the older authority are worth nothing in open connections either.
            door.expel_everybody(until);
        });
        Ok(v1::WithdrawAuthorityResponse { left_behind })
    }

    pub(super) async fn replace_plans_key(
        &self,
        request: Request<v1::ReplacePlanKeyRequest>,
    ) -> Result<v1::ReplacePlanKeyResponse, Status> {
        let engine = self.operator(&request)?;
        let v1::ReplacePlanKeyRequest { succession, plans } = request.into_inner();
        let succession = convert::statement("succession", succession).map_err(status)?;
        let plans = plans
            .into_iter()
            .map(|plan| convert::signed("plans", Some(plan)));
        let plans: Vec<_> = plans.collect::<Result<_, _>>().map_err(status)?;
        let keys = self.keys.clone();
        engine
            .call(move |engine| {
                engine.replace_plan_key(&succession, &plans)?;
                keys.succeeded(succession);
                engine.call_everybody()
            })
            .await
            .map_err(status)?;
        Ok(v1::ReplacePlanKeyResponse {})
    }

    pub(super) async fn issue(
        &self,
        request: Request<v1::IssueCertificateRequest>,
    ) -> Result<v1::IssueCertificateResponse, Status> {
        let engine = self.operator(&request)?;
        let message = request.into_inner();
        let role = role(message.role())?;
        let name = name(&message.name)?;
        let v1::IssueCertificateRequest {
            certificate_request,
            replace,
            ..
        } = message;
        let (keys, of) = (self.keys.clone(), name.clone());
        // In one turn of the engine: a revocation comes before it or after it.
        let issued = engine
            .call(move |engine| {
                let made = keys.certify(&of, role, &certificate_request, replace);
                let (issued, person) = made.map_err(|error| {
                    if let Error::Make(error) = error {
                        return Failure::refuse(Code::CertificateRequest, error.to_string());
                    }
                    error.into()
                })?;
                engine.record_person(&person, true)?;
                keys.know(person);
                Ok(issued)
            })
            .await
            .map_err(status)?;
        if replace {
            self.cut_later(role, name);
        }
        Ok(v1::IssueCertificateResponse {
            certificate: issued.pem,
            authorities: self.keys.trust().authorities.clone(),
        })
    }

    pub(super) async fn revoke(
        &self,
        request: Request<v1::RevokeCertificateRequest>,
    ) -> Result<v1::RevokeCertificateResponse, Status> {
        let engine = self.operator(&request)?;
        let own = caller(&request)?;
        let message = request.into_inner();
        let role = role(message.role())?;
        let name = name(&message.name)?;
        if (own.role, &own.name) == (role, &name) {
            let message = format!(
                "{name} cannot revoke itself: another operator does, or `key rotate operator` replaces its key"
            );
            return Err(status(Refusal::new(Code::RoleForbidden, message)));
        }
        let (keys, of, now) = (self.keys.clone(), name.clone(), engine.machine().now());
        engine
            .call(move |engine| {
                let Some(mut person) = keys.person(role, &of) else {
                    let message = format!("no certificate of the {} {of} is known", role.as_str());
                    return Err(Refusal::new(Code::NothingFound, message).into());
                };
                person.revoked = Some(now.max(person.issued));
                engine.record_person(&person, true)?;
                keys.know(person);
                Ok(())
            })
            .await
            .map_err(status)?;
        self.door.expel(role, &name, self.door.newest());
        Ok(v1::RevokeCertificateResponse {})
    }

    fn cut_later(&self, role: Role, name: String) {
        let (door, until) = (self.door.clone(), self.door.newest());
        tokio::spawn(async move {
            tokio::time::sleep(FAREWELL).await;
            door.expel(role, &name, until);
        });
    }
}

fn key(what: &str, name: &str, fingerprint: String, life: Option<Life>, now: Time) -> v1::Key {
    let state = match life {
        Some(life) if life.until <= now => "expired",
        Some(life) if is_due(life.from, life.until, now) => "due",
        Some(_) | None => "in-force",
    };
    v1::Key {
        what: what.to_owned(),
        name: name.to_owned(),
        fingerprint,
        expires_ms: life.map(|life| life.until.as_millis()),
        state: state.to_owned(),
    }
}

fn role(person: v1::Person) -> Result<Role, Status> {
    match person {
        v1::Person::Operator => Ok(Role::Operator),
        v1::Person::Viewer => Ok(Role::Viewer),
        v1::Person::Unspecified => {
            let message = "no role is named";
            Err(status(Refusal::new(Code::RequestInvalid, message)))
        }
    }
}

fn name(text: &str) -> Result<String, Status> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if (1..=LONGEST_NAME).contains(&text.len()) && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    let message = format!("a name has 1 to {LONGEST_NAME} letters, digits, `-`, `_` and `.`");
    Err(status(Refusal::new(Code::RequestInvalid, message)))
}
