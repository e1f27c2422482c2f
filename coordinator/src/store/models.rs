//! Model versions, aliases, scores, and the signed statements they rest on.

use fedner_shared::digest::Digest;
use fedner_shared::id::{Alias, InstitutionId, PlanName, VersionName};
use fedner_shared::score::{Scores, pooled_and_median};
use fedner_shared::sign::{PublicKey, Signed};
use fedner_shared::version::Version;
use fedner_shared::view::{InstitutionScores, VersionRef, VersionView};
use rusqlite::{OptionalExtension, params};

use super::{Error, Tx, damaged, named};

/// What a stored statement is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementKind {
    Consent,
    Update,
    Evaluation,
    Audit,
}

impl StatementKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Consent => "consent",
            Self::Update => "update",
            Self::Evaluation => "evaluation",
            Self::Audit => "audit",
        }
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
        self.0
            .execute(
                "INSERT INTO statements (digest, kind, author, author_key, signed) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (digest) DO NOTHING",
                params![digest.to_string(), kind.as_str(), author.as_str(), key.as_bytes(), json],
            )
            .map_err(named("put statement"))?;
        Ok(())
    }

    pub fn has_statement(&self, digest: Digest) -> Result<bool, Error> {
        let sql = "SELECT EXISTS (SELECT 1 FROM statements WHERE digest = ?1)";
        self.0
            .query_row(sql, [digest.to_string()], |row| row.get(0))
            .map_err(named("look for statement"))
    }

    pub fn statements(&self) -> Result<Vec<StoredStatement>, Error> {
        let failed = named("list statements");
        let sql = "SELECT digest, kind, author, author_key, signed FROM statements ORDER BY rowid";
        let mut statement = self.0.prepare(sql).map_err(&failed)?;
        let rows = statement
            .query_map([], |row| {
                let key: [u8; 32] = row.get(3)?;
                let text = |index| row.get::<_, String>(index);
                Ok((text(0)?, text(1)?, text(2)?, key, text(4)?))
            })
            .map_err(&failed)?;
        rows.map(|row| {
            let (digest, kind, author, key, signed) = row.map_err(&failed)?;
            let kinds = [
                StatementKind::Consent,
                StatementKind::Update,
                StatementKind::Evaluation,
                StatementKind::Audit,
            ];
            let kind = kinds
                .into_iter()
                .find(|k| k.as_str() == kind)
                .ok_or_else(|| damaged(&kind))?;
            Ok(StoredStatement {
                digest: digest.parse().map_err(damaged)?,
                kind,
                author: author.parse().map_err(damaged)?,
                key: PublicKey::from_bytes(&key).map_err(damaged)?,
                signed: serde_json::from_str(&signed).map_err(damaged)?,
            })
        })
        .collect()
    }

    /// The newest statement of this kind by an institution that was accepted.
    pub fn newest_statement(
        &self,
        author: &InstitutionId,
        kind: StatementKind,
    ) -> Result<Option<Signed>, Error> {
        let sql = "SELECT signed FROM statements WHERE author = ?1 AND kind = ?2
                   ORDER BY rowid DESC LIMIT 1";
        let key = params![author.as_str(), kind.as_str()];
        let json: Option<String> = self
            .0
            .query_row(sql, key, |row| row.get(0))
            .optional()
            .map_err(named("read newest statement"))?;
        json.map(|json| serde_json::from_str(&json).map_err(damaged))
            .transpose()
    }

    /// Receipts of updates and evaluations by this institution that were accepted after that place, oldest first.
    pub fn receipts_of(
        &self,
        author: &InstitutionId,
        after: u64,
        most: usize,
    ) -> Result<Vec<(u64, StatementKind, Signed)>, Error> {
        let failed = named("list receipts");
        let sql = "SELECT rowid, kind, signed FROM statements
                   WHERE author = ?1 AND rowid > ?2 AND kind IN ('update', 'evaluation')
                   ORDER BY rowid LIMIT ?3";
        let mut statement = self.0.prepare(sql).map_err(&failed)?;
        let key = params![author.as_str(), after as i64, most as i64];
        let rows = statement
            .query_map(key, |row| {
                let kind: String = row.get(1)?;
                Ok((row.get::<_, i64>(0)?, kind, row.get::<_, String>(2)?))
            })
            .map_err(&failed)?;
        rows.map(|row| {
            let (place, kind, signed) = row.map_err(&failed)?;
            let kind = if kind == StatementKind::Update.as_str() {
                StatementKind::Update
            } else {
                StatementKind::Evaluation
            };
            Ok((
                place as u64,
                kind,
                serde_json::from_str(&signed).map_err(damaged)?,
            ))
        })
        .collect()
    }

    /// The number the next version of `model` will have.
    pub fn next_number(&self, model: &PlanName) -> Result<u32, Error> {
        self.0
            .query_row(
                "SELECT coalesce(max(number), 0) + 1 FROM versions WHERE model = ?1",
                [model.as_str()],
                |row| row.get(0),
            )
            .map_err(named("number version"))
    }

    pub fn put_version(&self, version: &Version) -> Result<Digest, Error> {
        let record = serde_json::to_string(version).map_err(damaged)?;
        let digest = version.digest();
        self.0
            .execute(
                "INSERT INTO versions (digest, model, number, record) VALUES (?1, ?2, ?3, ?4)",
                params![
                    digest.to_string(),
                    version.name.model.as_str(),
                    version.name.number,
                    record
                ],
            )
            .map_err(named("put version"))?;
        Ok(digest)
    }

    pub fn version(&self, digest: Digest) -> Result<Option<Version>, Error> {
        let record: Option<String> = self
            .0
            .query_row(
                "SELECT record FROM versions WHERE digest = ?1",
                [digest.to_string()],
                |row| row.get(0),
            )
            .optional()
            .map_err(named("find version"))?;
        record
            .map(|record| serde_json::from_str(&record).map_err(damaged))
            .transpose()
    }

    /// All versions in the order in which they were made.
    pub fn versions(&self) -> Result<Vec<Digest>, Error> {
        let failed = named("list versions");
        let mut statement = self
            .0
            .prepare("SELECT digest FROM versions ORDER BY rowid")
            .map_err(&failed)?;
        let rows = statement
            .query_map([], |row| row.get::<_, String>(0))
            .map_err(&failed)?;
        rows.map(|row| row.map_err(&failed)?.parse().map_err(damaged))
            .collect()
    }

    /// The digest of the version that goes by that name, alias or digest.
    pub fn resolve(&self, reference: &VersionRef) -> Result<Option<Digest>, Error> {
        let found: Option<String> = match reference {
            VersionRef::Digest(digest) => self.0.query_row(
                "SELECT digest FROM versions WHERE digest = ?1",
                [digest.to_string()],
                |row| row.get(0),
            ),
            VersionRef::Alias(alias) => self.0.query_row(
                "SELECT version FROM aliases WHERE alias = ?1",
                [alias.as_str()],
                |row| row.get(0),
            ),
            VersionRef::Name(VersionName { model, number }) => self.0.query_row(
                "SELECT digest FROM versions WHERE model = ?1 AND number = ?2",
                params![model.as_str(), number],
                |row| row.get(0),
            ),
        }
        .optional()
        .map_err(named("resolve version"))?;
        found
            .map(|digest| digest.parse().map_err(damaged))
            .transpose()
    }

    pub fn put_alias(&self, alias: &Alias, version: Digest) -> Result<(), Error> {
        self.0
            .execute(
                "INSERT INTO aliases (alias, version) VALUES (?1, ?2) ON CONFLICT (alias) DO UPDATE SET version = ?2",
                [alias.as_str(), &version.to_string()],
            )
            .map_err(named("put alias"))?;
        Ok(())
    }

    pub fn put_scores(
        &self,
        version: Digest,
        institution: &InstitutionId,
        scores: &Scores,
    ) -> Result<(), Error> {
        let json = serde_json::to_string(scores).map_err(damaged)?;
        self.0
            .execute(
                "INSERT INTO scores (version, institution, scores) VALUES (?1, ?2, ?3)
                 ON CONFLICT (version, institution) DO UPDATE SET scores = ?3",
                [&version.to_string(), institution.as_str(), &json],
            )
            .map_err(named("put scores"))?;
        Ok(())
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
        let failed = named("list aliases");
        let sql = "SELECT alias FROM aliases WHERE version = ?1 ORDER BY alias";
        let mut statement = self.0.prepare(sql).map_err(&failed)?;
        let rows = statement
            .query_map([version.to_string()], |row| row.get::<_, String>(0))
            .map_err(&failed)?;
        rows.map(|row| row.map_err(&failed)?.parse().map_err(damaged))
            .collect()
    }

    fn scores(&self, version: Digest) -> Result<Vec<InstitutionScores>, Error> {
        let failed = named("list scores");
        let sql = "SELECT institution, scores FROM scores WHERE version = ?1 ORDER BY institution";
        let mut statement = self.0.prepare(sql).map_err(&failed)?;
        let rows = statement
            .query_map([version.to_string()], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            })
            .map_err(&failed)?;
        rows.map(|row| {
            let (institution, scores) = row.map_err(&failed)?;
            let scores = serde_json::from_str(&scores).map_err(damaged)?;
            Ok(InstitutionScores {
                institution: institution.parse().map_err(damaged)?,
                scores,
            })
        })
        .collect()
    }
}
