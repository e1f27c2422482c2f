//! Consents as they were signed, and those that were revoked.

use fedner_shared::digest::Digest;
use fedner_shared::sign::Signed;
use fedner_shared::statement::Consent;
use fedner_shared::time::Time;
use rusqlite::{Row, params};
use serde::Serialize;

use super::{Error, Store, signed_of};

/// A consent and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentRecord {
    pub consent: Consent,
    pub signed: Signed,
    pub revoked: Option<Time>,
}

/// Where a plan stands with this institution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Nobody has decided yet.
    Pending,
    Granted,
    Expired,
    Revoked,
}

impl Standing {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Granted => "granted",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl ConsentRecord {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let signed = signed_of(row)?;
        let consent = signed.peek().map_err(|e| super::unreadable(Box::new(e)))?;
        let revoked: Option<i64> = row.get("revoked_ms")?;
        Ok(Self {
            consent,
            signed,
            revoked: revoked.map(Time::from_millis),
        })
    }

    pub fn standing(&self, now: Time) -> Standing {
        match self.revoked {
            Some(_) => Standing::Revoked,
            None if self.consent.expires <= now => Standing::Expired,
            None => Standing::Granted,
        }
    }
}

impl Store {
    pub fn add_consent(&self, consent: &Consent, signed: &Signed) -> Result<(), Error> {
        self.transaction("add consent", |transaction| {
            transaction.execute(
                "INSERT INTO consents (plan, body, signature) VALUES (?1, ?2, ?3)",
                params![
                    consent.plan.to_string(),
                    signed.body,
                    signed.signature.as_bytes()
                ],
            )?;
            Ok(())
        })
    }

    /// Revokes every consent to the plan; answers whether there was one in force.
    pub fn revoke_consents(&self, plan: &Digest, now: Time) -> Result<bool, Error> {
        self.transaction("revoke consent", |transaction| {
            let changed = transaction.execute(
                "UPDATE consents SET revoked_ms = ?2 WHERE plan = ?1 AND revoked_ms IS NULL",
                params![plan.to_string(), now.as_millis()],
            )?;
            Ok(changed > 0)
        })
    }

    /// The digests of all consents that were ever signed here.
    pub fn consent_digests(&self) -> Result<Vec<Digest>, Error> {
        self.query("read consents", |connection| {
            let mut statement = connection.prepare("SELECT body FROM consents ORDER BY id")?;
            let bodies = statement.query_map([], |row| row.get::<_, String>(0))?;
            bodies
                .map(|body| Ok(Digest::of(body?.as_bytes())))
                .collect()
        })
    }

    /// The newest consent to the plan.
    pub fn consent(&self, plan: &Digest) -> Result<Option<ConsentRecord>, Error> {
        Ok(self.consents(Some(plan))?.pop())
    }

    /// How the institution stands to the plan at the instant `now`.
    pub fn standing(&self, plan: &Digest, now: Time) -> Result<Standing, Error> {
        let newest = self.consent(plan)?;
        Ok(newest.map_or(Standing::Pending, |record| record.standing(now)))
    }

    /// The consents that cover an assignment at the instant `now`.
    pub fn consents_in_force(&self, now: Time) -> Result<Vec<ConsentRecord>, Error> {
        let mut records = self.consents(None)?;
        records.retain(|record| record.standing(now) == Standing::Granted);
        Ok(records)
    }

    /// The consent that covers an assignment of `plan` at the instant `now`.
    pub fn consent_in_force(&self, plan: &Digest, now: Time) -> Result<Option<Consent>, Error> {
        let newest = self.consent(plan)?;
        Ok(newest
            .filter(|record| record.standing(now) == Standing::Granted)
            .map(|record| record.consent))
    }

    /// Oldest first; the newest of each plan only.
    fn consents(&self, plan: Option<&Digest>) -> Result<Vec<ConsentRecord>, Error> {
        self.query("read consents", |connection| {
            let mut statement = connection.prepare(
                "SELECT * FROM consents WHERE id IN (SELECT max(id) FROM consents GROUP BY plan)
                 AND (?1 IS NULL OR plan = ?1) ORDER BY id",
            )?;
            let plan = plan.map(ToString::to_string);
            statement.query_map([plan], ConsentRecord::of)?.collect()
        })
    }
}
