//! PostgreSQL: one connection that writes, which outlives the connections below it.
//!
//! The one row of `writer` is the lease (`lease.rs`): it names the epoch of whoever writes, and counts commits. A
//! transaction begins by locking that row and comparing both, so nobody writes but the newest coordinator. Where the
//! connection is lost, the statements that wrote are run again in a new one: nobody else has written meanwhile, so they
//! do what they did. After a commit whose answer was lost the count says whether it was made.
//!
//! What counts is how often the server is waited for. So what need not be waited for travels with the next question: the
//! beginning of a transaction, and what it writes. What was read is kept for as long as it is right (`memo.rs`).

mod address;
mod lease;
mod link;
mod memo;
mod schema;

use std::cell::RefCell;
use std::mem;
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
use link::{Answer, Ask, Link, Worker};
use memo::Memo;

use super::Failure;
use super::leader::{Leader, Terms};
use super::sql::{Row, Statements, Value};

/// For so long a lost connection is made anew before what was asked has failed. A service manager waits longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// For so long a command that writes waits for whoever holds the lease.
const HANDOVER: Duration = Duration::from_secs(12);
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Writes that are kept back until the next question at most.
const AT_ONCE: usize = 64;

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
    /// What this transaction writes, in order.
    written: Vec<(String, Vec<Value>)>,
    /// How many of them were sent over the present connection.
    sent: usize,
    /// Whether something has been read in it.
    asked: bool,
    /// Commits that have been made.
    commits: i64,
    /// It is certain that nothing may be written any more.
    lost: bool,
    /// Of whoever writes.
    memo: Memo,
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
        self.sent = 0;
    }

    /// What is still to be sent.
    fn unsent(&self) -> impl Iterator<Item = Ask> {
        let unsent = self.written.iter().skip(self.sent).cloned();
        unsent.map(|(sql, values)| Ask::Execute(sql, values))
    }

    /// The connection is worth nothing any more.
    fn let_go(&mut self) {
        (self.link, self.open, self.sent) = (None, false, 0);
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
        self.begin_reading();
        let rows = self.answer_of(Ask::Rows(LEADER.to_owned(), Vec::new()));
        self.roll_back();
        match rows?.rows()?.first().map(|row| row.0.as_slice()) {
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
        self.begin()?;
        let mut work = self.work.borrow_mut();
        let patience = lease.length().min(PATIENCE);
        let begun = self.insist(patience, &mut work, |work| self.exchange(work, None));
        drop(work);
        if begun.is_err() {
            self.set_writing(false);
        }
        begun?;
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

    /// Begins a transaction, which nobody else can hold meanwhile. The server hears of it with the first question.
    pub(super) fn begin(&self) -> Result<(), Error> {
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
        Ok(())
    }

    /// Begins to read. Whoever writes needs no transaction for it: nobody else does meanwhile. All others see everything
    /// as it is now.
    pub(super) fn begin_reading(&self) {
        self.work.borrow_mut().begin(Kind::Reading);
    }

    pub(super) fn roll_back(&self) {
        let mut work = self.work.borrow_mut();
        if work.open {
            let done = work.link.as_ref().map(|link| link.batch("ROLLBACK"));
            if !matches!(done, Some(Ok(()))) {
                work.link = None;
            }
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
        let next = work.commits + 1;
        let renewal = self.lease.as_ref().map(Lease::renewal).unwrap_or_default();
        let count = format!("UPDATE writer SET commits = commits + 1, {renewal}; COMMIT");
        let committed = self.insist(PATIENCE, &mut work, |work| {
            if !work.open {
                let mut begun = self.linked(work)?.ask(begin_writing())?;
                if self.check(work, begun.last_mut())? == next {
                    // It was made, and its answer was lost.
                    return link_of(work)?.batch("ROLLBACK").map(|()| None);
                }
                work.open = true;
            }
            let mut asks: Vec<Ask> = work.unsent().collect();
            asks.push(Ask::Batch(count.clone()));
            work.kind = Kind::Committing;
            let asked = Instant::now();
            self.linked(work)?.ask(asks).map(|_| Some(asked))
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
                work.let_go();
                if work.kind != Kind::Committing || !error.passes() {
                    return Err(error);
                }
                work.lost = true;
                Err(Error::InDoubt)
            }
        }
    }

    /// What the server answers, within what is under way.
    fn answer_of(&self, question: Ask) -> Result<Answer, Error> {
        let mut work = self.work.borrow_mut();
        let answer = self.insist(PATIENCE, &mut work, |work| {
            self.exchange(work, Some(question.clone()))
        });
        work.asked = true;
        answer
    }

    /// Does something within what is under way. Where the connection is lost it is done again in another: what the
    /// transaction wrote is written again.
    fn insist<T>(
        &self,
        patience: Duration,
        work: &mut Work,
        attempt: impl Fn(&mut Work) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let began = Instant::now();
        let mut pause = PAUSE;
        loop {
            let error = match attempt(work) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            // Who only looks has seen what may have changed since.
            let torn = self.lease.is_none() && work.asked;
            if torn || !error.passes() || began.elapsed() > patience {
                return Err(error);
            }
            tracing::warn!(%error, "the store's connection is made anew");
            work.let_go();
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Sends the question in one go with all that must come before it: the beginning, and what was to be written. The
    /// question's answer is the last.
    fn exchange(&self, work: &mut Work, question: Option<Ask>) -> Result<Answer, Error> {
        let reading = work.kind == Kind::Reading;
        let looks = self.lease.is_none();
        let mut asks = match (reading, work.open) {
            (true, false) if looks => vec![Ask::Batch(READ.to_owned())],
            (false, false) => begin_writing(),
            (true, _) | (false, true) => Vec::new(),
        };
        let begins = !reading && !work.open;
        asks.extend(work.unsent());
        let at = asks.len();
        asks.extend(question);
        if reading && !looks {
            // Looked at last, it says that nobody else has written before the answer.
            asks.push(Ask::Rows(WRITER.to_owned(), Vec::new()));
        }
        work.open = !reading || looks;
        let mut answers = self.linked(work)?.ask(asks)?;
        work.sent = work.written.len();
        if begins {
            self.check(work, answers.get_mut(1))?;
        } else if reading && !looks {
            self.check(work, answers.last_mut())?;
        }
        Ok(answers.into_iter().nth(at).unwrap_or(Answer::Done))
    }

    /// That nobody else has taken the lease or written; how many commits there are.
    fn check(&self, work: &mut Work, writer: Option<&mut Answer>) -> Result<i64, Error> {
        let writer = writer.map(mem::take).ok_or(Error::Silent)?;
        let rows = writer.rows()?;
        let (epoch, commits) = of_writer(&rows)?;
        let mine = self.lease.as_ref().map(Lease::epoch);
        let made = i64::from(work.kind == Kind::Committing);
        if mine != Some(epoch) || !(work.commits..=work.commits + made).contains(&commits) {
            work.lost = true;
            work.let_go();
            return Err(Error::Fenced);
        }
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
        let answer = self.answer_of(Ask::Execute(sql.to_owned(), values.to_vec()))?;
        let mut work = self.work.borrow_mut();
        work.memo.forget(sql);
        work.written.push((sql.to_owned(), values.to_vec()));
        work.sent = work.written.len();
        Ok(answer.changed()?)
    }

    fn write(&self, sql: &str, values: &[Value]) -> Result<(), Failure> {
        let mut work = self.work.borrow_mut();
        work.memo.forget(sql);
        work.written.push((sql.to_owned(), values.to_vec()));
        if work.written.len() - work.sent >= AT_ONCE {
            self.insist(PATIENCE, &mut work, |work| self.exchange(work, None))?;
        }
        Ok(())
    }

    fn rows(&self, sql: &str, values: &[Value]) -> Result<Vec<Row>, Failure> {
        // Within a transaction that writes, the server alone knows what it has written. And once the lease has run out,
        // somebody else may write.
        let good = self.lease.as_ref().is_some_and(Lease::is_good);
        let lasting = good && self.work.borrow().kind == Kind::Reading;
        if lasting && let Some(rows) = self.work.borrow().memo.get(sql, values) {
            return Ok(rows);
        }
        let answer = self.answer_of(Ask::Rows(sql.to_owned(), values.to_vec()))?;
        let rows = answer.rows()?;
        if lasting {
            self.work.borrow_mut().memo.keep(sql, values, &rows);
        }
        Ok(rows)
    }
}

/// A transaction that locks the row of whoever writes; the second answer is that row.
fn begin_writing() -> Vec<Ask> {
    vec![
        Ask::Batch("BEGIN".to_owned()),
        Ask::Rows(format!("{WRITER} FOR UPDATE"), Vec::new()),
    ]
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
