//! Reports of audits, kept with the versions that they are about.

use fedner_shared::audit::AuditReport;
use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use fedner_shared::sign::Signed;
use fedner_shared::view::AuditView;
use rusqlite::{OptionalExtension, params};

use super::{Error, Tx, damaged, named};

impl Tx<'_> {
    /// Keeps a report, which is a stored statement, with a version.
    pub fn put_report(&self, version: Digest, report: Digest) -> Result<(), Error> {
        self.0
            .execute(
                "INSERT INTO audit_reports (version, report) VALUES (?1, ?2)
                 ON CONFLICT (version, report) DO NOTHING",
                [version.to_string(), report.to_string()],
            )
            .map_err(named("put report"))?;
        Ok(())
    }

    pub fn has_report(&self, version: Digest, report: Digest) -> Result<bool, Error> {
        let sql = "SELECT EXISTS (SELECT 1 FROM audit_reports WHERE version = ?1 AND report = ?2)";
        let key = [version.to_string(), report.to_string()];
        self.0
            .query_row(sql, key, |row| row.get(0))
            .map_err(named("look for report"))
    }

    /// How many reports of that institution are kept with a version.
    pub fn count_reports(&self, version: Digest, author: &InstitutionId) -> Result<u32, Error> {
        let sql = "SELECT count(*) FROM audit_reports JOIN statements ON digest = report
                   WHERE version = ?1 AND author = ?2";
        self.0
            .query_row(sql, params![version.to_string(), author.as_str()], |row| {
                row.get(0)
            })
            .map_err(named("count reports"))
    }

    /// What the reports kept with a version say, in the order in which they came.
    pub fn reports(&self, version: Digest) -> Result<Vec<AuditView>, Error> {
        let failed = named("list reports");
        let sql = "SELECT signed FROM audit_reports JOIN statements ON digest = report
                   WHERE version = ?1 ORDER BY audit_reports.rowid";
        let mut statement = self.0.prepare(sql).map_err(&failed)?;
        let rows = statement
            .query_map([version.to_string()], |row| row.get::<_, String>(0))
            .map_err(&failed)?;
        rows.map(|row| {
            let signed: Signed = serde_json::from_str(&row.map_err(&failed)?).map_err(damaged)?;
            let said: AuditReport = signed.peek().map_err(damaged)?;
            Ok(AuditView::new(signed.digest(), said))
        })
        .collect()
    }

    /// The versions whose export has these weights: those that are that file, and those of which it is
    /// known.
    pub fn versions_of_weights(&self, weights: Digest) -> Result<Vec<Digest>, Error> {
        let failed = named("find versions of weights");
        let sql = "SELECT digest FROM versions
                   WHERE json_extract(record, '$.weights') = ?1
                     AND json_extract(record, '$.frozen') IS NULL
                   UNION SELECT version FROM exports WHERE weights = ?1";
        let mut statement = self.0.prepare(sql).map_err(&failed)?;
        let rows = statement
            .query_map([weights.to_string()], |row| row.get::<_, String>(0))
            .map_err(&failed)?;
        rows.map(|row| row.map_err(&failed)?.parse().map_err(damaged))
            .collect()
    }

    /// Of the weights of a version in one file, if somebody has needed it before.
    pub fn export(&self, version: Digest) -> Result<Option<Digest>, Error> {
        let found: Option<String> = self
            .0
            .query_row(
                "SELECT weights FROM exports WHERE version = ?1",
                [version.to_string()],
                |row| row.get(0),
            )
            .optional()
            .map_err(named("find export"))?;
        found
            .map(|digest| digest.parse().map_err(damaged))
            .transpose()
    }

    pub fn put_export(&self, version: Digest, weights: Digest) -> Result<(), Error> {
        self.0
            .execute(
                "INSERT INTO exports (version, weights) VALUES (?1, ?2) ON CONFLICT (version) DO NOTHING",
                [version.to_string(), weights.to_string()],
            )
            .map_err(named("put export"))?;
        Ok(())
    }
}
