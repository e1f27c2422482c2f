//! Reports of audits, kept with the versions that they are about.

use fedner_shared::audit::AuditReport;
use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use fedner_shared::sign::Signed;
use fedner_shared::view::AuditView;

use super::sql::values;
use super::{Error, Tx, damaged};

impl Tx<'_> {
    /// Keeps a report, which is a stored statement, with a version.
    pub fn put_report(&self, version: Digest, report: Digest) -> Result<(), Error> {
        let sql = "INSERT INTO audit_reports (version, report) VALUES (?1, ?2)
                   ON CONFLICT (version, report) DO NOTHING";
        let row = values![version.to_string(), report.to_string()];
        self.write("put report", sql, row)
    }

    pub fn has_report(&self, version: Digest, report: Digest) -> Result<bool, Error> {
        let sql = "SELECT EXISTS (SELECT 1 FROM audit_reports WHERE version = ?1 AND report = ?2)";
        let key = values![version.to_string(), report.to_string()];
        self.one("look for report", sql, key)
    }

    /// How many reports of that institution are kept with a version.
    pub fn count_reports(&self, version: Digest, author: &InstitutionId) -> Result<u32, Error> {
        let sql = "SELECT count(*) FROM audit_reports JOIN statements ON digest = report
                   WHERE version = ?1 AND author = ?2";
        self.one("count reports", sql, values![version.to_string(), author])
    }

    /// What the reports kept with a version say, in the order in which they came.
    pub fn reports(&self, version: Digest) -> Result<Vec<AuditView>, Error> {
        let sql = "SELECT signed FROM audit_reports JOIN statements ON digest = report
                   WHERE version = ?1 ORDER BY audit_reports.rowid";
        self.list("list reports", sql, values![version.to_string()], |row| {
            let signed: Signed = row.json(0)?;
            let said: AuditReport = signed.peek().map_err(damaged)?;
            Ok(AuditView::new(signed.digest(), said))
        })
    }

    /// The versions whose export has these weights: those that are that file, and those of which it is
    /// known.
    pub fn versions_of_weights(&self, weights: Digest) -> Result<Vec<Digest>, Error> {
        let sql = "SELECT digest FROM versions
                   WHERE json_extract(record, '$.weights') = ?1
                     AND json_extract(record, '$.frozen') IS NULL
                   UNION SELECT version FROM exports WHERE weights = ?1";
        let key = values![weights.to_string()];
        self.list("find versions of weights", sql, key, |row| row.parse(0))
    }

    /// Of the weights of a version in one file, if somebody has needed it before.
    pub fn export(&self, version: Digest) -> Result<Option<Digest>, Error> {
        let sql = "SELECT weights FROM exports WHERE version = ?1";
        self.first("find export", sql, values![version.to_string()], |row| {
            row.parse(0)
        })
    }

    pub fn put_export(&self, version: Digest, weights: Digest) -> Result<(), Error> {
        let sql = "INSERT INTO exports (version, weights) VALUES (?1, ?2) ON CONFLICT (version) DO NOTHING";
        let row = values![version.to_string(), weights.to_string()];
        self.write("put export", sql, row)
    }
}
