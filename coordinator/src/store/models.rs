//! Model versions, aliases, scores, and the signed statements they rest on.

use fedner_shared::digest::Digest;
use fedner_shared::id::{Alias, InstitutionId, PlanName, VersionName};
use fedner_shared::score::{Scores, pooled_and_median};
use fedner_shared::secure::SecureStep;
use fedner_shared::sign::{PublicKey, Signed};
use fedner_shared::version::Version;
use fedner_shared::view::{InstitutionScores, VersionRef, VersionView};

use super::sql::values;
use super::{Error, Tx, damaged};

/// What a stored statement is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementKind {
    Consent,
    Update,
    Evaluation,
    Audit,
    /// Of a step of secure aggregation.
    Secure(SecureStep),
}

impl StatementKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Consent => "consent",
            Self::Update => "update",
            Self::Evaluation => "evaluation",
            Self::Audit => "audit",
            Self::Secure(SecureStep::Keys) => "secure-keys",
            Self::Secure(SecureStep::Shares) => "secure-shares",
            Self::Secure(SecureStep::Consistency) => "secure-set",
            Self::Secure(SecureStep::Unmasking) => "secure-unmasking",
        }
    }

    fn parse(text: &str) -> Result<Self, Error> {
        let kinds = [Self::Consent, Self::Update, Self::Evaluation, Self::Audit];
        let secure = SecureStep::ALL.map(Self::Secure);
        let mut all = kinds.into_iter().chain(secure);
        all.find(|kind| kind.as_str() == text)
            .ok_or_else(|| damaged(text))
    }
}

/// A statement with the key by which it was verified when it came.
#[derive(Debug, Clone)]
pub struct StoredStatement {
    pub digest: Digest,
    pub kind: StatementKind,
    pub author: InstitutionId,
    pub key: PublicKey,
    pub signed: Signed,
}

impl Tx<'_> {
    pub fn put_statement(&self, statement: &StoredStatement) -> Result<(), Error> {
        let StoredStatement {
            digest,
            kind,
            author,
            key,
            signed,
        } = statement;
        let json = serde_json::to_string(signed).map_err(damaged)?;
        let sql = "INSERT INTO statements (digest, kind, author, author_key, signed) VALUES (?1, ?2, ?3, ?4, ?5)
                   ON CONFLICT (digest) DO NOTHING";
        let row = values![
            digest.to_string(),
            kind.as_str(),
            author,
            key.as_bytes(),
            json
        ];
        self.write("put statement", sql, row)
    }

    pub fn statement(&self, digest: Digest) -> Result<Option<StoredStatement>, Error> {
        let sql = "SELECT kind, author, author_key, signed FROM statements WHERE digest = ?1";
        self.first("read statement", sql, values![digest.to_string()], |row| {
            let key: [u8; 32] = row.get(2)?;
            Ok(StoredStatement {
                digest,
                kind: StatementKind::parse(&row.get::<String>(0)?)?,
                author: row.parse(1)?,
                key: PublicKey::from_bytes(&key).map_err(damaged)?,
                signed: row.json(3)?,
            })
        })
    }

    pub fn has_statement(&self, digest: Digest) -> Result<bool, Error> {
        let sql = "SELECT EXISTS (SELECT 1 FROM statements WHERE digest = ?1)";
        self.one("look for statement", sql, values![digest.to_string()])
    }

    pub fn statements(&self) -> Result<Vec<StoredStatement>, Error> {
        let sql = "SELECT digest, kind, author, author_key, signed FROM statements ORDER BY rowid";
        self.list("list statements", sql, values![], |row| {
            let key: [u8; 32] = row.get(3)?;
            Ok(StoredStatement {
                digest: row.parse(0)?,
                kind: StatementKind::parse(&row.get::<String>(1)?)?,
                author: row.parse(2)?,
                key: PublicKey::from_bytes(&key).map_err(damaged)?,
                signed: row.json(4)?,
            })
        })
    }

    /// The newest statement of this kind by an institution that was accepted.
    pub fn newest_statement(
        &self,
        author: &InstitutionId,
        kind: StatementKind,
    ) -> Result<Option<Signed>, Error> {
        let sql = "SELECT signed FROM statements WHERE author = ?1 AND kind = ?2
                   ORDER BY rowid DESC LIMIT 1";
        let key = values![author, kind.as_str()];
        self.first("read newest statement", sql, key, |row| row.json(0))
    }

    /// Receipts of updates and evaluations by this institution that were accepted after that place, oldest first.
    pub fn receipts_of(
        &self,
        author: &InstitutionId,
        after: u64,
        most: usize,
    ) -> Result<Vec<(u64, StatementKind, Signed)>, Error> {
        let sql = "SELECT rowid, kind, signed FROM statements
                   WHERE author = ?1 AND rowid > ?2 AND kind IN ('update', 'evaluation')
                   ORDER BY rowid LIMIT ?3";
        let key = values![author, after as i64, most as i64];
        self.list("list receipts", sql, key, |row| {
            let place: i64 = row.get(0)?;
            let kind = StatementKind::parse(&row.get::<String>(1)?)?;
            Ok((place as u64, kind, row.json(2)?))
        })
    }

    /// The number the next version of `model` will have.
    pub fn next_number(&self, model: &PlanName) -> Result<u32, Error> {
        let sql = "SELECT coalesce(max(number), 0) + 1 FROM versions WHERE model = ?1";
        self.one("number version", sql, values![model.as_str()])
    }

    pub fn put_version(&self, version: &Version) -> Result<Digest, Error> {
        let record = serde_json::to_string(version).map_err(damaged)?;
        let digest = version.digest();
        let sql = "INSERT INTO versions (digest, model, number, record) VALUES (?1, ?2, ?3, ?4)";
        let row = values![
            digest.to_string(),
            version.name.model.as_str(),
            version.name.number,
            record
        ];
        self.write("put version", sql, row)?;
        Ok(digest)
    }

    pub fn version(&self, digest: Digest) -> Result<Option<Version>, Error> {
        let sql = "SELECT record FROM versions WHERE digest = ?1";
        self.first("find version", sql, values![digest.to_string()], |row| {
            row.json(0)
        })
    }

    /// All versions in the order in which they were made.
    pub fn versions(&self) -> Result<Vec<Digest>, Error> {
        let sql = "SELECT digest FROM versions ORDER BY rowid";
        self.list("list versions", sql, values![], |row| row.parse(0))
    }

    /// The digest of the version that goes by that name, alias or digest.
    pub fn resolve(&self, reference: &VersionRef) -> Result<Option<Digest>, Error> {
        let name = "resolve version";
        match reference {
            VersionRef::Digest(digest) => {
                let sql = "SELECT digest FROM versions WHERE digest = ?1";
                self.first(name, sql, values![digest.to_string()], |row| row.parse(0))
            }
            VersionRef::Alias(alias) => {
                let sql = "SELECT version FROM aliases WHERE alias = ?1";
                self.first(name, sql, values![alias.as_str()], |row| row.parse(0))
            }
            VersionRef::Name(VersionName { model, number }) => {
                let sql = "SELECT digest FROM versions WHERE model = ?1 AND number = ?2";
                let key = values![model.as_str(), *number];
                self.first(name, sql, key, |row| row.parse(0))
            }
        }
    }

    pub fn put_alias(&self, alias: &Alias, version: Digest) -> Result<(), Error> {
        let sql = "INSERT INTO aliases (alias, version) VALUES (?1, ?2)
                   ON CONFLICT (alias) DO UPDATE SET version = excluded.version";
        let row = values![alias.as_str(), version.to_string()];
        self.write("put alias", sql, row)
    }

    pub fn put_scores(
        &self,
        version: Digest,
        institution: &InstitutionId,
        scores: &Scores,
    ) -> Result<(), Error> {
        let json = serde_json::to_string(scores).map_err(damaged)?;
        let sql = "INSERT INTO scores (version, institution, scores) VALUES (?1, ?2, ?3)
                   ON CONFLICT (version, institution) DO UPDATE SET scores = excluded.scores";
        let row = values![version.to_string(), institution, json];
        self.write("put scores", sql, row)
    }

    /// The version with its aliases and scores, and without its audits.
    pub fn version_view(&self, digest: Digest) -> Result<Option<VersionView>, Error> {
        let Some(version) = self.version(digest)? else {
            return Ok(None);
        };
        let scores = self.scores(digest)?;
        let figures = pooled_and_median(scores.iter().map(|shared| &shared.scores));
        Ok(Some(VersionView {
            digest,
            version,
            aliases: self.aliases(digest)?,
            scores,
            f1: figures.map(|(pooled, _)| pooled),
            median_f1: figures.map(|(_, median)| median),
            audits: Vec::new(),
            pruned: self.pruned_of(digest)?,
        }))
    }

    fn aliases(&self, version: Digest) -> Result<Vec<Alias>, Error> {
        let sql = "SELECT alias FROM aliases WHERE version = ?1 ORDER BY alias";
        self.list("list aliases", sql, values![version.to_string()], |row| {
            row.parse(0)
        })
    }

    fn scores(&self, version: Digest) -> Result<Vec<InstitutionScores>, Error> {
        let sql = "SELECT institution, scores FROM scores WHERE version = ?1 ORDER BY institution";
        self.list("list scores", sql, values![version.to_string()], |row| {
            Ok(InstitutionScores {
                institution: row.parse(0)?,
                scores: row.json(1)?,
            })
        })
    }
}
