//! The tables in PostgreSQL: those of SQLite's newest schema, the one row by which writers are told apart, and
//! the sealed keys that processes share.
//!
//! Text is ordered by its bytes, as SQLite orders it. `rowid` says in which order rows came, and is the next number,
//! as SQLite's is. `json_extract` is SQLite's function by its name. So queries have one text.

use super::Error;
use super::link::Link;

/// The versions that this program can open; the last is the one it writes. They are the numbers of SQLite's schema.
pub(super) const KNOWN: &[i64] = &[8];

/// The one that this program writes.
pub(super) fn newest() -> i64 {
    KNOWN.last().copied().unwrap_or_default()
}

/// What leads from each version to the next, the first from nothing. What has been released is never changed.
const STEPS: &[(i64, &str)] = &[(8, TO_VERSION_8)];

const TO_VERSION_8: &str = r#"
CREATE FUNCTION json_extract(record TEXT, path TEXT) RETURNS TEXT LANGUAGE sql IMMUTABLE AS
    $$ SELECT record::json ->> substr(path, 3) $$;
CREATE FUNCTION next_number(place TEXT, column_name TEXT) RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE
    free BIGINT;
BEGIN
    EXECUTE format('SELECT coalesce(max(%I), 0) + 1 FROM %I', column_name, place) INTO free;
    RETURN free;
END $$;
CREATE TABLE institutions (
    name         TEXT COLLATE "C" PRIMARY KEY,
    state        TEXT NOT NULL CHECK (state IN ('active', 'suspended', 'revoked')),
    signing_key  BYTEA NOT NULL,
    enrolled_ms  BIGINT NOT NULL,
    expires_ms   BIGINT NOT NULL
);
CREATE TABLE certificates (
    serial       TEXT COLLATE "C" PRIMARY KEY,
    institution  TEXT COLLATE "C" NOT NULL REFERENCES institutions (name),
    expires_ms   BIGINT NOT NULL,
    revoked      BIGINT NOT NULL DEFAULT 0,
    authority    TEXT NOT NULL DEFAULT ''
);
CREATE TABLE invites (
    rowid        BIGINT NOT NULL UNIQUE DEFAULT next_number('invites', 'rowid'),
    secret_hash  BYTEA PRIMARY KEY,
    institution  TEXT COLLATE "C" NOT NULL,
    expires_ms   BIGINT NOT NULL,
    used_ms      BIGINT,
    reenrol      BIGINT NOT NULL DEFAULT 0,
    voided_ms    BIGINT,
    used_by      TEXT
);
CREATE TABLE plans (
    digest       TEXT COLLATE "C" PRIMARY KEY,
    signed       TEXT NOT NULL
);
CREATE TABLE runs (
    id           TEXT COLLATE "C" PRIMARY KEY,
    number       BIGINT NOT NULL UNIQUE,
    plan         TEXT COLLATE "C" NOT NULL UNIQUE REFERENCES plans (digest),
    snapshot     TEXT NOT NULL
);
CREATE TABLE members (
    run          TEXT COLLATE "C" NOT NULL REFERENCES runs (id),
    institution  TEXT COLLATE "C" NOT NULL,
    member       TEXT NOT NULL,
    PRIMARY KEY (run, institution)
);
CREATE TABLE outbox (
    run          TEXT COLLATE "C" NOT NULL REFERENCES runs (id),
    round        BIGINT NOT NULL,
    sequence     BIGINT NOT NULL,
    effect       TEXT NOT NULL,
    PRIMARY KEY (run, round, sequence)
);
CREATE TABLE events (
    sequence     BIGINT PRIMARY KEY,
    run          TEXT COLLATE "C",
    digest       TEXT NOT NULL,
    entry        TEXT NOT NULL
);
CREATE INDEX events_by_run ON events (run, sequence);
CREATE TABLE statements (
    rowid        BIGINT NOT NULL UNIQUE DEFAULT next_number('statements', 'rowid'),
    digest       TEXT COLLATE "C" PRIMARY KEY,
    kind         TEXT NOT NULL,
    author       TEXT COLLATE "C" NOT NULL,
    author_key   BYTEA NOT NULL,
    signed       TEXT NOT NULL
);
CREATE INDEX statements_by_author ON statements (author, kind, rowid);
CREATE TABLE versions (
    rowid        BIGINT NOT NULL UNIQUE DEFAULT next_number('versions', 'rowid'),
    digest       TEXT COLLATE "C" PRIMARY KEY,
    model        TEXT COLLATE "C" NOT NULL,
    number       BIGINT NOT NULL,
    record       TEXT NOT NULL,
    UNIQUE (model, number)
);
CREATE TABLE aliases (
    alias        TEXT COLLATE "C" PRIMARY KEY,
    version      TEXT COLLATE "C" NOT NULL REFERENCES versions (digest)
);
CREATE TABLE scores (
    version      TEXT COLLATE "C" NOT NULL REFERENCES versions (digest),
    institution  TEXT COLLATE "C" NOT NULL,
    scores       TEXT NOT NULL,
    PRIMARY KEY (version, institution)
);
CREATE TABLE audit_reports (
    rowid        BIGINT NOT NULL UNIQUE DEFAULT next_number('audit_reports', 'rowid'),
    version      TEXT COLLATE "C" NOT NULL REFERENCES versions (digest),
    report       TEXT COLLATE "C" NOT NULL REFERENCES statements (digest),
    PRIMARY KEY (version, report)
);
CREATE TABLE exports (
    version      TEXT COLLATE "C" PRIMARY KEY REFERENCES versions (digest),
    weights      TEXT COLLATE "C" NOT NULL
);
CREATE INDEX exports_by_weights ON exports (weights);
CREATE TABLE histories_seen (
    institution  TEXT COLLATE "C" PRIMARY KEY REFERENCES institutions (name),
    size         BIGINT NOT NULL,
    author_key   BYTEA NOT NULL,
    signed       TEXT NOT NULL
);
CREATE TABLE successions (
    number       BIGINT PRIMARY KEY DEFAULT next_number('successions', 'number'),
    institution  TEXT COLLATE "C" REFERENCES institutions (name),
    digest       TEXT NOT NULL UNIQUE,
    signed       TEXT NOT NULL
);
CREATE TABLE people (
    role         TEXT COLLATE "C" NOT NULL CHECK (role IN ('operator', 'viewer')),
    name         TEXT COLLATE "C" NOT NULL,
    issued_ms    BIGINT NOT NULL,
    expires_ms   BIGINT NOT NULL,
    revoked_ms   BIGINT,
    PRIMARY KEY (role, name)
);
CREATE TABLE ledger_heads (
    rowid        BIGINT NOT NULL UNIQUE DEFAULT next_number('ledger_heads', 'rowid'),
    institution  TEXT COLLATE "C" NOT NULL REFERENCES institutions (name),
    head         TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (institution, head)
);
CREATE TABLE presence (
    institution  TEXT COLLATE "C" PRIMARY KEY,
    seen_ms      BIGINT NOT NULL,
    software     TEXT
);
CREATE TABLE pruned (
    version      TEXT COLLATE "C" PRIMARY KEY REFERENCES versions (digest),
    what         TEXT NOT NULL CHECK (what IN ('updates', 'files'))
);
CREATE TABLE writer (
    alone        BOOLEAN PRIMARY KEY DEFAULT true CHECK (alone),
    epoch        BIGINT NOT NULL,
    commits      BIGINT NOT NULL,
    holder       TEXT NOT NULL DEFAULT '',
    address      TEXT NOT NULL DEFAULT '',
    since        TIMESTAMPTZ NOT NULL DEFAULT 'epoch',
    until        TIMESTAMPTZ NOT NULL DEFAULT 'epoch'
);
INSERT INTO writer (epoch, commits) VALUES (0, 0);
CREATE TABLE keyring (
    alone        BOOLEAN PRIMARY KEY DEFAULT true CHECK (alone),
    generation   BIGINT NOT NULL,
    sealed       BYTEA NOT NULL
);
"#;

/// The version of the schema; 0 where there are no tables yet.
pub(super) fn version(link: &Link) -> Result<i64, Error> {
    let there = link.one("SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'fedner_schema'")?;
    if there == 0 {
        return Ok(0);
    }
    link.one("SELECT coalesce(max(version), 0) FROM fedner_schema")
}

/// Makes the tables, or brings them up to date, all of it or nothing. Answers with the version there is then.
pub(super) fn migrate(link: &Link) -> Result<i64, Error> {
    // Of two programs that do this at the same time one waits.
    link.batch("BEGIN; SELECT pg_advisory_xact_lock(7351927); CREATE TABLE IF NOT EXISTS fedner_schema (version BIGINT PRIMARY KEY)")?;
    let found = version(link)?;
    for (to, step) in STEPS.iter().filter(|(to, _)| *to > found) {
        link.batch(step)?;
        link.batch(&format!(
            "INSERT INTO fedner_schema (version) VALUES ({to})"
        ))?;
    }
    let now = version(link)?;
    link.batch("COMMIT")?;
    Ok(now)
}
