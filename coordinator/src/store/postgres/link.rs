//! One connection to a server, asked from a thread that waits for each answer.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, maybe_done};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Runtime;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Statement};
use tokio_rustls::TlsConnector;

use super::address::BUNDLE;
use super::{Address, Error};
use crate::roots;
use crate::store::sql::{Row, Value};

/// The same for whoever does not say.
const PATIENCE: Duration = Duration::from_secs(15);

/// A transaction in which nothing happens for so long is given up by the server, and its locks with it: that of a
/// program that is suspended, or cut off, holds nobody up.
const SESSION: &str = "SET idle_in_transaction_session_timeout = '5s'; SET lock_timeout = '10s'; \
                       SET synchronous_commit = on; SET client_min_messages = warning; \
                       SET default_transaction_isolation = 'read committed'";

/// An open connection.
pub(super) struct Link {
    client: Arc<Client>,
    ready: Arc<Mutex<HashMap<String, Statement>>>,
    /// Where the connection itself lives.
    runtime: Arc<Worker>,
    /// A statement that takes longer has lost its server.
    patience: Duration,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link(closed: {})", self.client.is_closed())
    }
}

/// A thread that serves connections; it may be left from anywhere.
#[derive(Debug)]
pub(super) struct Worker(Option<Runtime>);

impl Worker {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("store")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Waits for what the thread does, from within another runtime too.
    fn wait<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let Some(runtime) = &self.0 else {
            return Err(Error::Silent);
        };
        let (sender, answer) = mpsc::sync_channel(1);
        runtime.spawn(async move {
            let done = tokio::time::timeout(patience, work).await;
            let _ = sender.send(done.unwrap_or(Err(Error::Silent)));
        });
        answer.recv().unwrap_or(Err(Error::Silent))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Link {
    pub(super) fn open(runtime: &Arc<Worker>, address: &Address) -> Result<Self, Error> {
        Self::open_for(runtime, address, PATIENCE)
    }

    /// One that waits for no answer longer than that.
    pub(super) fn open_for(
        runtime: &Arc<Worker>,
        address: &Address,
        patience: Duration,
    ) -> Result<Self, Error> {
        let Address { config, bundle } = address.clone();
        let tls = Tls(bundle);
        let client = runtime.wait(patience, async move {
            let (client, connection) = config.connect(tls).await?;
            // It ends with the client, or fails; then every question does.
            tokio::spawn(connection);
            client.batch_execute(SESSION).await?;
            Ok(client)
        })?;
        Ok(Self {
            client: Arc::new(client),
            ready: Arc::default(),
            runtime: runtime.clone(),
            patience,
        })
    }

    /// Asks all of it at once: each is sent without waiting for the answer to the one before, and the answers come in
    /// the same order. The first failure is told; within a transaction nothing after it is done.
    pub(super) fn ask(&self, asks: Vec<Ask>) -> Result<Vec<Answer>, Error> {
        let (client, ready) = (self.client.clone(), self.ready.clone());
        self.runtime.wait(self.patience, async move {
            let mut sent = Vec::with_capacity(asks.len());
            for ask in asks {
                let statement = match &ask {
                    Ask::Batch(_) => None,
                    Ask::Execute(sql, _) | Ask::Rows(sql, _) => {
                        Some(prepared(&client, &ready, sql).await?)
                    }
                };
                sent.push((ask, statement));
            }
            let answer = |(ask, statement)| Box::pin(maybe_done(answer(&client, ask, statement)));
            let mut answers: Vec<_> = sent.into_iter().map(answer).collect();
            // The first poll is what sends.
            for answer in &mut answers {
                let _ = futures::poll!(answer.as_mut());
            }
            let mut all = Vec::with_capacity(answers.len());
            for mut answer in answers {
                answer.as_mut().await;
                all.push(
                    answer
                        .as_mut()
                        .take_output()
                        .unwrap_or(Err(Error::Silent))?,
                );
            }
            Ok(all)
        })
    }

    /// Statements without values, one after another.
    pub(super) fn batch(&self, sql: &str) -> Result<(), Error> {
        self.ask(vec![Ask::Batch(sql.to_owned())]).map(drop)
    }

    pub(super) fn execute(&self, sql: &str, values: &[Value]) -> Result<usize, Error> {
        let asked = self.ask(vec![Ask::Execute(sql.to_owned(), values.to_vec())])?;
        asked.into_iter().next().unwrap_or(Answer::Done).changed()
    }

    pub(super) fn rows(&self, sql: &str, values: &[Value]) -> Result<Vec<Row>, Error> {
        let asked = self.ask(vec![Ask::Rows(sql.to_owned(), values.to_vec())])?;
        asked.into_iter().next().unwrap_or(Answer::Done).rows()
    }

    /// The one number that a query answers with.
    pub(super) fn one(&self, sql: &str) -> Result<i64, Error> {
        let rows = self.rows(sql, &[])?;
        match rows.first().and_then(|row| row.0.first()) {
            Some(Value::Integer(number)) => Ok(*number),
            _ => Err(Error::Unexpected("a number")),
        }
    }
}

/// What a server is asked.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    /// Statements without values, one after another.
    Batch(String),
    /// A statement that writes.
    Execute(String, Vec<Value>),
    Rows(String, Vec<Value>),
}

/// What it answers.
#[derive(Debug, Default)]
pub(super) enum Answer {
    #[default]
    Done,
    /// How many rows a statement changed.
    Changed(usize),
    Rows(Vec<Row>),
}

impl Answer {
    pub(super) fn changed(self) -> Result<usize, Error> {
        match self {
            Self::Changed(count) => Ok(count),
            Self::Done | Self::Rows(_) => Err(Error::Unexpected("how many rows changed")),
        }
    }

    pub(super) fn rows(self) -> Result<Vec<Row>, Error> {
        match self {
            Self::Rows(rows) => Ok(rows),
            Self::Done | Self::Changed(_) => Err(Error::Unexpected("rows")),
        }
    }
}

/// Sends it at the first poll.
async fn answer(client: &Client, ask: Ask, statement: Option<Statement>) -> Result<Answer, Error> {
    match (ask, statement) {
        (Ask::Execute(_, values), Some(statement)) => {
            let changed = client.execute_raw(&statement, &values).await?;
            Ok(Answer::Changed(changed as usize))
        }
        (Ask::Rows(_, values), Some(statement)) => {
            let parameters: Vec<&(dyn ToSql + Sync)> = values
                .iter()
                .map(|value| value as &(dyn ToSql + Sync))
                .collect();
            let rows = client.query(&statement, &parameters).await?;
            let row = |row: tokio_postgres::Row| {
                let values = (0..row.len()).map(|column| row.try_get(column));
                values.collect::<Result<_, _>>().map(Row)
            };
            let rows = rows.into_iter().map(row).collect::<Result<_, _>>()?;
            Ok(Answer::Rows(rows))
        }
        (Ask::Batch(sql) | Ask::Execute(sql, _) | Ask::Rows(sql, _), _) => {
            client.batch_execute(&sql).await?;
            Ok(Answer::Done)
        }
    }
}

/// The statement, which the server keeps ready from its first use on.
async fn prepared(
    client: &Client,
    ready: &Mutex<HashMap<String, Statement>>,
    sql: &str,
) -> Result<Statement, Error> {
    let kept = |sql: &str| {
        let ready = ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.get(sql).cloned()
    };
    if let Some(statement) = kept(sql) {
        return Ok(statement);
    }
    // No text of ours has a question mark but for a value.
    let statement = client.prepare(&sql.replace('?', "$")).await?;
    let mut ready = ready.lock().unwrap_or_else(PoisonError::into_inner);
    ready.insert(sql.to_owned(), statement.clone());
    Ok(statement)
}

type Unfit = Box<dyn std::error::Error + Sync + Send>;

impl ToSql for Value {
    fn to_sql(&self, kind: &Type, out: &mut bytes::BytesMut) -> Result<IsNull, Unfit> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Integer(number) if *kind == Type::INT4 => {
                i32::try_from(*number)?.to_sql(kind, out)
            }
            Self::Integer(number) => number.to_sql(kind, out),
            Self::Text(text) => text.to_sql(kind, out),
            Self::Bytes(bytes) => bytes.to_sql(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Unfit> {
        Ok(match *kind {
            Type::INT8 => Self::Integer(i64::from_sql(kind, raw)?),
            Type::INT4 => Self::Integer(i32::from_sql(kind, raw)?.into()),
            Type::BOOL => Self::Integer(bool::from_sql(kind, raw)?.into()),
            Type::BYTEA => Self::Bytes(Vec::from_sql(kind, raw)?),
            _ => Self::Text(String::from_sql(kind, raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Unfit> {
        Ok(Self::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// TLS by rustls, against the machine's authorities and those of a file.
#[derive(Clone)]
struct Tls(Option<PathBuf>);

struct Handshake {
    bundle: Option<PathBuf>,
    host: String,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Tls {
    type Stream = Secured<S>;
    type TlsConnect = Handshake;
    type Error = Unfit;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, Unfit> {
        Ok(Handshake {
            bundle: self.0.clone(),
            host: host.to_owned(),
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Handshake {
    type Stream = Secured<S>;
    type Error = Unfit;
    type Future = BoxFuture<'static, Result<Secured<S>, Unfit>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let config = roots::trusting(self.bundle.as_deref(), BUNDLE)?;
            let name = ServerName::try_from(self.host)?;
            let connector = TlsConnector::from(Arc::new(config));
            Ok(Secured(connector.connect(name, stream).await?))
        })
    }
}

/// A connection in TLS.
struct Secured<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Secured<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Secured<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Secured<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
