//! PostgreSQL: one connection that writes, which outlives the connections below it.
//!
//! The one row of `writer` is the lease (`lease.rs`): it names the epoch of whoever writes, and counts commits. A
//! transaction begins by locking that row and comparing both, so nobody writes but the newest coordinator. Where the connection is lost, the statements
//! that wrote are run again in a new one: nobody else has written meanwhile, so they do what they did. After a commit
//! whose answer was lost the count says whether it was made.

mod address;
mod lease;
mod link;
mod schema;

use std::cell::RefCell;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fedner_host::crash;
use fedner_host::machine::Machine;
use fedner_host::sqlite::CommitError;
use fedner_shared::refusal::Code;
use fedner_shared::time::Time;
use tokio_postgres::error::SqlState;

pub use address::Address;
pub(super) use lease::Lease;
use link::{Link, Worker};

use super::Failure;
use super::leader::{Leader, Terms};
use super::sql::{Row, Statements, Value};

/// For so long a lost connection is made anew before what was asked has failed. A service manager waits longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// For so long a command that writes waits for whoever holds the lease.
const HANDOVER: Duration = Duration::from_secs(12);
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

const READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const WRITER: &str = "SELECT epoch, commits FROM writer";
const LEADER: &str = "SELECT epoch, address, CAST(extract(epoch FROM since) * 1000 AS BIGINT), \
                      until > clock_timestamp(), coalesce((SELECT generation FROM keyring), 0) FROM writer";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}", said(.0))]
    Server(#[from] tokio_postgres::Error),
    #[error("the server does not answer")]
    Silent,
    #[error("another coordinator works with the database")]
    Held,
    #[error("another coordinator has taken the store: this one must not write any more")]
    Fenced,
    #[error("what became of the last commit is not known: the server was away for too long")]
    InDoubt,
    #[error("the server did not answer with {0}")]
    Unexpected(&'static str),
    #[error("the thread of the store cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// What the server says, and why.
fn said(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{}: {}", error.code().code(), error.message());
    }
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

impl Error {
    fn state(&self) -> Option<&SqlState> {
        match self {
            Self::Server(error) => error.code(),
            Self::Silent
            | Self::Held
            | Self::Fenced
            | Self::InDoubt
            | Self::Unexpected(_)
            | Self::Thread(_) => None,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.state() == Some(&SqlState::DISK_FULL)
    }

    /// Whether the same may go well in another connection.
    fn passes(&self) -> bool {
        match self {
            Self::Silent => true,
            Self::Server(error) => match error.code() {
                None => {
                    let broken = std::error::Error::source(error)
                        .is_some_and(|source| source.is::<std::io::Error>());
                    error.is_closed() || broken
                }
                Some(state) => {
                    let class = &state.code()[..2];
                    // Connections, transactions to be tried again, locks, interventions by an operator.
                    ["08", "40", "55", "57", "53"].contains(&class) && *state != SqlState::DISK_FULL
                        || *state == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
                }
            },
            Self::Held | Self::Fenced | Self::InDoubt | Self::Unexpected(_) | Self::Thread(_) => {
                false
            }
        }
    }

    pub(super) fn code(&self) -> Option<Code> {
        match self.state() {
            Some(state) if *state == SqlState::INVALID_CATALOG_NAME => Some(Code::StoreUnknown),
            Some(state) if ["28", "42"].contains(&&state.code()[..2]) => Some(Code::StoreForbidden),
            _ if matches!(self, Self::Held | Self::Fenced) => Some(Code::StoreTaken),
            _ if self.passes() || matches!(self, Self::InDoubt) => Some(Code::StoreUnreachable),
            _ => None,
        }
    }
}

/// What is under way.
#[derive(Debug, Default)]
struct Work {
    link: Option<Link>,
    /// Whether the connection is within the transaction.
    open: bool,
    kind: Kind,
    /// What this transaction has written, in order.
    written: Vec<(String, Vec<Value>)>,
    /// Whether something has been read in it.
    asked: bool,
    /// Commits that have been made.
    commits: i64,
    /// It is certain that nothing may be written any more.
    lost: bool,
}

/// What a transaction is for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Kind {
    #[default]
    Reading,
    Writing,
    /// It has been written, and may have been committed.
    Committing,
}

impl Work {
    fn begin(&mut self, kind: Kind) {
        if self.open {
            // What somebody left behind by a panic.
            self.link = None;
        }
        (self.open, self.kind, self.asked) = (false, kind, false);
        self.written.clear();
    }
}

/// The way to the database of whoever holds it.
#[derive(Debug)]
pub(super) struct Session {
    address: Address,
    worker: Arc<Worker>,
    /// Of whoever writes; `None` looks only.
    lease: Option<Lease>,
    keeper: Option<JoinHandle<()>>,
    work: RefCell<Work>,
}

impl Session {
    /// Brings the tables up to date, and becomes the one that writes: whoever did before is refused from now on. A
    /// lease that is held is waited for.
    pub(super) fn open(address: &Address) -> Result<Self, super::Error> {
        let began = Instant::now();
        loop {
            if let Some(session) = Self::take(address, &Terms::default())? {
                return Ok(session);
            }
            if began.elapsed() > HANDOVER {
                return Err(super::Error::Open(Error::Held.into()));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The same at once, or not at all where the lease is held.
    pub(super) fn take(address: &Address, terms: &Terms) -> Result<Option<Self>, super::Error> {
        let opened = |error: Error| super::Error::Open(error.into());
        let (worker, link) = Self::connect(address).map_err(opened)?;
        if schema::version(&link).map_err(opened)? != schema::newest() {
            known(schema::migrate(&link).map_err(opened)?)?;
        }
        let asked = Instant::now();
        let Some((epoch, commits)) = lease::take(&link, terms).map_err(opened)? else {
            return Ok(None);
        };
        let way = (worker.clone(), address.clone());
        let kept = Lease::keep(epoch, terms.length, asked, way).map_err(opened)?;
        Ok(Some(Self::of(address, worker, link, Some(kept), commits)))
    }

    /// The same of a database in which nothing has happened yet.
    pub(super) fn make(address: &Address) -> Result<Self, super::Error> {
        let opened = |error: Error| super::Error::Open(error.into());
        let (_, link) = Self::connect(address).map_err(opened)?;
        let there = schema::version(&link).map_err(opened)? > 0;
        let events = "SELECT count(*) FROM events";
        if there && link.one(events).map_err(opened)? > 0 {
            return Err(super::Error::Taken);
        }
        Self::open(address)
    }

    /// Reads, beside the one that writes.
    pub(super) fn look(address: &Address) -> Result<Self, super::Error> {
        let opened = |error: Error| super::Error::Open(error.into());
        let (worker, link) = Self::connect(address).map_err(opened)?;
        known(schema::version(&link).map_err(opened)?)?;
        Ok(Self::of(address, worker, link, None, 0))
    }

    /// Who writes at present.
    pub(super) fn leader(&self) -> Result<Leader, Error> {
        self.begin_reading()?;
        let rows = self
            .work
            .borrow()
            .link
            .as_ref()
            .map(|link| link.rows(LEADER, &[]));
        self.roll_back();
        let rows = rows.ok_or(Error::Silent)??;
        match rows.first().map(|row| row.0.as_slice()) {
            Some(
                [
                    Value::Integer(epoch),
                    Value::Text(address),
                    Value::Integer(since),
                    Value::Integer(holds),
                    Value::Integer(keys),
                ],
            ) => Ok(Leader {
                epoch: *epoch,
                address: address.clone(),
                since: Time::from_millis(*since),
                holds: *holds != 0,
                keys: *keys,
            }),
            _ => Err(Error::Unexpected("who leads")),
        }
    }

    pub(super) fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// That the lease holds; it is renewed where it has run out and nobody has taken it. What is in memory is the
    /// newest there is then.
    pub(super) fn confirm(&self) -> Result<(), Error> {
        let Some(lease) = self.lease.as_ref().filter(|lease| !lease.is_good()) else {
            return Ok(());
        };
        // Whoever asks is told soon that this process cannot answer: another one may.
        self.begin_within(lease.length().min(PATIENCE))?;
        self.make_durable()
    }

    fn connect(address: &Address) -> Result<(Arc<Worker>, Link), Error> {
        let worker = Arc::new(Worker::start()?);
        let link = Link::open(&worker, address)?;
        Ok((worker, link))
    }

    fn of(
        address: &Address,
        worker: Arc<Worker>,
        link: Link,
        kept: Option<(Lease, JoinHandle<()>)>,
        commits: i64,
    ) -> Self {
        let (lease, keeper) = kept.unzip();
        let work = Work {
            link: Some(link),
            commits,
            ..Work::default()
        };
        Self {
            address: address.clone(),
            worker,
            lease,
            keeper,
            work: RefCell::new(work),
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.work.borrow().lost || self.lease.as_ref().is_some_and(Lease::is_lost)
    }

    fn set_writing(&self, writing: bool) {
        if let Some(lease) = &self.lease {
            lease.set_writing(writing);
        }
    }

    /// Begins a transaction, which nobody else can hold meanwhile.
    pub(super) fn begin(&self) -> Result<(), Error> {
        self.begin_within(PATIENCE)
    }

    fn begin_within(&self, patience: Duration) -> Result<(), Error> {
        let Some(lease) = &self.lease else {
            return Err(Error::Unexpected("leave to write"));
        };
        let mut work = self.work.borrow_mut();
        if lease.is_lost() {
            work.lost = true;
            return Err(Error::Fenced);
        }
        lease.set_writing(true);
        work.begin(Kind::Writing);
        let begun = self.going_on_for(patience, &mut work, |_, _| Ok(()));
        if begun.is_err() {
            lease.set_writing(false);
        }
        begun
    }

    /// Begins a transaction that sees everything as it is now.
    pub(super) fn begin_reading(&self) -> Result<(), Error> {
        let mut work = self.work.borrow_mut();
        work.begin(Kind::Reading);
        self.going_on(&mut work, |_, _| Ok(()))
    }

    pub(super) fn roll_back(&self) {
        let mut work = self.work.borrow_mut();
        let done = work.link.as_ref().map(|link| link.batch("ROLLBACK"));
        if !matches!(done, Some(Ok(()))) {
            work.link = None;
        }
        work.open = false;
        self.set_writing(false);
    }

    pub(super) fn commit(
        &self,
        name: &'static str,
        machine: &dyn Machine,
    ) -> Result<(), CommitError<Failure>> {
        if let Err(error) = machine.before_write(name) {
            self.roll_back();
            return Err(CommitError::Disk(error));
        }
        crash::point("before commit", name);
        let committed = self.make_durable();
        committed.map_err(|error| CommitError::Database(error.into()))?;
        crash::point("after commit", name);
        machine.after_write(name).map_err(CommitError::Disk)
    }

    fn make_durable(&self) -> Result<(), Error> {
        let mut work = self.work.borrow_mut();
        work.kind = Kind::Committing;
        let next = work.commits + 1;
        let renewal = self.lease.as_ref().map(Lease::renewal).unwrap_or_default();
        let count = format!("UPDATE writer SET commits = commits + 1, {renewal}; COMMIT");
        let committed = self.going_on(&mut work, |link, found| {
            if found == Some(next) {
                // It was made, and its answer was lost.
                return link.batch("ROLLBACK").map(|()| None);
            }
            let asked = Instant::now();
            link.batch(&count).map(|()| Some(asked))
        });
        work.open = false;
        self.set_writing(false);
        match committed {
            Ok(asked) => {
                work.commits = next;
                if let (Some(lease), Some(asked)) = (&self.lease, asked) {
                    lease.renewed(asked);
                }
                Ok(())
            }
            Err(error) => {
                work.link = None;
                if !error.passes() {
                    return Err(error);
                }
                work.lost = true;
                Err(Error::InDoubt)
            }
        }
    }

    /// Does something within the transaction. Where the connection is lost the transaction goes on in another: what
    /// it wrote is written again. `ask` is told how many commits there are, where that was looked at anew.
    fn going_on<T>(
        &self,
        work: &mut Work,
        ask: impl Fn(&Link, Option<i64>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.going_on_for(PATIENCE, work, ask)
    }

    fn going_on_for<T>(
        &self,
        patience: Duration,
        work: &mut Work,
        ask: impl Fn(&Link, Option<i64>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let began = Instant::now();
        let mut pause = PAUSE;
        loop {
            let found = if work.open {
                Ok(None)
            } else {
                self.begin_anew(work).map(Some)
            };
            let done = found.and_then(|found| ask(self.linked(work)?, found));
            let error = match done {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            // Who only looks has seen what may have changed since.
            let torn = self.lease.is_none() && work.asked;
            if torn || !error.passes() || began.elapsed() > patience {
                return Err(error);
            }
            tracing::warn!(%error, "the store's connection is made anew");
            (work.link, work.open) = (None, false);
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A transaction in which everything that was written stands; how many commits there were before.
    fn begin_anew(&self, work: &mut Work) -> Result<i64, Error> {
        let kind = work.kind;
        let link = self.linked(work)?;
        let (begin, writer) = match kind {
            Kind::Reading => (READ, WRITER.to_owned()),
            Kind::Writing | Kind::Committing => ("BEGIN", format!("{WRITER} FOR UPDATE")),
        };
        link.batch(begin)?;
        let (epoch, commits) = of_writer(&link.rows(&writer, &[])?)?;
        let Some(mine) = self.lease.as_ref().map(Lease::epoch) else {
            work.open = true;
            return Ok(commits);
        };
        let made = i64::from(kind == Kind::Committing);
        if epoch != mine || !(work.commits..=work.commits + made).contains(&commits) {
            work.lost = true;
            return Err(Error::Fenced);
        }
        if commits == work.commits {
            for (sql, values) in &work.written {
                link_of(work)?.execute(sql, values)?;
            }
        }
        work.open = true;
        Ok(commits)
    }

    fn linked<'a>(&self, work: &'a mut Work) -> Result<&'a Link, Error> {
        if work.link.is_none() {
            work.link = Some(Link::open(&self.worker, &self.address)?);
        }
        link_of(work)
    }
}

impl Drop for Session {
    /// Gives the lease away, so that nobody waits for its end.
    fn drop(&mut self) {
        // A transaction that was left open holds the row.
        self.work.get_mut().link = None;
        if let Some(lease) = &self.lease {
            lease.end();
        }
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

impl Statements for Session {
    fn execute(&self, sql: &str, values: &[Value]) -> Result<usize, Failure> {
        let mut work = self.work.borrow_mut();
        let changed = self.going_on(&mut work, |link, _| link.execute(sql, values))?;
        work.written.push((sql.to_owned(), values.to_vec()));
        Ok(changed)
    }

    fn rows(&self, sql: &str, values: &[Value]) -> Result<Vec<Row>, Failure> {
        let mut work = self.work.borrow_mut();
        let rows = self.going_on(&mut work, |link, _| link.rows(sql, values))?;
        work.asked = true;
        Ok(rows)
    }
}

fn link_of(work: &Work) -> Result<&Link, Error> {
    work.link.as_ref().ok_or(Error::Silent)
}

fn of_writer(rows: &[Row]) -> Result<(i64, i64), Error> {
    match rows.first().map(|row| row.0.as_slice()) {
        Some([Value::Integer(epoch), Value::Integer(commits)]) => Ok((*epoch, *commits)),
        _ => Err(Error::Unexpected("who writes")),
    }
}

fn known(found: i64) -> Result<(), super::Error> {
    if schema::KNOWN.contains(&found) {
        return Ok(());
    }
    Err(super::Error::Schema {
        found,
        known: schema::KNOWN,
    })
}
