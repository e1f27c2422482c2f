//! What renews itself, and what people are told in time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fedner_shared::time::Time;
use tokio_util::sync::CancellationToken;

use super::{Error, Keys, read, read_secret, write};
use crate::authority::{Life, Role, belong_together};
use crate::engine::{Engine, Handle};
use crate::identity::Caller;
use crate::observe;
use crate::store::Person;

/// How often certificates are looked at, by the wall clock.
const EVERY: Duration = Duration::from_hours(1);
/// How often the wall clock is looked at: it goes on while a machine is suspended, and may be set.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the same warning is given.
const WARN_EVERY: Duration = Duration::from_hours(24);

/// Looks at all certificates, now and then every hour; within a second where the clock has jumped.
pub async fn upkeep(keys: Arc<Keys>, engine: Handle, stop: CancellationToken) {
    let mut warned: Option<Time> = None;
    let mut looked: Option<Time> = None;
    loop {
        let now = engine.machine().now();
        let due = looked.is_none_or(|last| now < last || now.since(last) >= EVERY);
        if !due {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            continue;
        }
        looked = Some(now);
        let warn = warned.is_none_or(|last| now.since(last) >= WARN_EVERY);
        if warn {
            warned = Some(now);
        }
        if let Err(error) = keys.renew_own(&engine).await {
            tracing::error!(%error, "a certificate could not be renewed");
        }
        if let Err(error) = report(&keys, &engine, warn).await {
            tracing::error!(%error, "certificates could not be looked at");
        }
    }
}

/// Whether one of the coordinator's own certificates has to be made anew: it runs out, or the clock was set to a time
/// before it.
fn wants_renewal(life: &Life, now: Time) -> bool {
    life.is_due(now) || now < life.from
}

/// Sets the gauges, and warns of what runs out.
async fn report(keys: &Keys, engine: &Handle, warn: bool) -> Result<(), Error> {
    let now = engine.machine().now();
    let mut lives = vec![
        ("server", String::new(), keys.server_life()?),
        (
            "authority",
            String::new(),
            Life::of_pem(keys.issuing().certificate_pem())?,
        ),
    ];
    for person in keys.people() {
        if person.revoked.is_none_or(|revoked| revoked < person.issued) {
            let life = Life {
                from: person.issued,
                until: person.expires,
            };
            lives.push((person.role.as_str(), person.name, life));
        }
    }
    match engine.call(|engine| engine.certificates()).await {
        Ok(certificates) => lives.extend(
            certificates
                .into_iter()
                .map(|(name, life)| (Role::Institution.as_str(), name.to_string(), life)),
        ),
        Err(failure) => failure.log("institutions could not be looked at"),
    }
    for what in ["server", "authority", "operator", "viewer", "institution"] {
        let soonest = lives.iter().filter(|(of, ..)| *of == what);
        if let Some(until) = soonest.map(|(_, _, life)| life.until).min() {
            observe::set_expiry(what, until);
        }
    }
    for (what, name, life) in lives.iter().filter(|(_, _, life)| warn && life.is_due(now)) {
        let until = life.until;
        if *what == "authority" {
            tracing::warn!(%until, "the authority runs out: `fedner-coordinator key rotate authority`");
        } else {
            tracing::warn!(what, name, %until, "a certificate runs out, and was not renewed");
        }
    }
    Ok(())
}

impl Keys {
    /// Renews the server's certificate and those of operator and viewer in the directory, where they are due or of
    /// an older authority. Their keys stay, but for the server's.
    pub async fn renew_own(self: &Arc<Self>, engine: &Handle) -> Result<(), Error> {
        let now = engine.machine().now();
        self.renew_server(now)?;
        let keys = self.clone();
        // In one turn of the engine: a revocation comes before it or after it.
        let renewed = engine.call(move |engine| Ok(keys.renew_people(engine, now)));
        match renewed.await {
            Ok(renewed) => renewed,
            Err(failure) => {
                failure.log("certificates could not be renewed");
                Ok(())
            }
        }
    }

    fn renew_people(&self, engine: &mut Engine, now: Time) -> Result<(), Error> {
        for (person, renewed) in self.people_at_hand(now)? {
            self.know(person.clone());
            if let Err(failure) = engine.record_person(&person, renewed) {
                tracing::error!(%failure, name = person.name, "a certificate could not be recorded");
            }
        }
        Ok(())
    }

    /// Renews the server's certificate where it is due.
    pub fn renew_server(&self, now: Time) -> Result<(), Error> {
        if wants_renewal(&self.server_life()?, now) {
            let sha256 = self.replace_server()?;
            tracing::info!(sha256, "renewed the server's certificate");
        }
        Ok(())
    }

    /// The holders of certificates in the directory that are not known yet or that were renewed now, and which of
    /// the two.
    fn people_at_hand(&self, now: Time) -> Result<Vec<(Person, bool)>, Error> {
        let Some(paths) = &self.paths else {
            return Ok(Vec::new());
        };
        let files = [
            (paths.operator_certificate(), paths.operator_key()),
            (paths.viewer_certificate(), paths.viewer_key()),
        ];
        let mut found = Vec::new();
        for (certificate, key) in files {
            if certificate.exists() && key.exists() {
                found.extend(self.person_at_hand(&certificate, &key, now)?);
            }
        }
        Ok(found)
    }

    fn person_at_hand(
        &self,
        certificate: &Path,
        key: &Path,
        now: Time,
    ) -> Result<Option<(Person, bool)>, Error> {
        let (pem, key) = (read(certificate)?, read_secret(key)?);
        // A command may be putting both in place.
        if !belong_together(&pem, &key)? {
            return Ok(None);
        }
        let der = crate::authority::der_of(&pem)?;
        let caller = Caller::of_certificate(&der)?;
        if self.check_person(&caller).is_err() {
            return Ok(None);
        }
        let (role, name) = (caller.role, caller.name.clone());
        let known = self.read().people.contains_key(&(role, name.clone()));
        let mut person = Person {
            role,
            name,
            issued: caller.issued,
            expires: caller.expires,
            revoked: None,
        };
        let authority = self.issuing();
        if authority.issued(&pem)? && !wants_renewal(&Life::of_pem(&pem)?, now) {
            return Ok((!known).then_some((person, false)));
        }
        let renewed = authority.person_again(&person.name, role, &key, now)?;
        write(certificate, &renewed)?;
        let caller = Caller::of_certificate(&crate::authority::der_of(&renewed)?)?;
        (person.issued, person.expires) = (caller.issued, caller.expires);
        tracing::info!(role = role.as_str(), name = person.name, until = %person.expires, "renewed a certificate");
        Ok(Some((person, true)))
    }
}
