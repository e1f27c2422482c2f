//! Several addresses of one server, tried in turn over TLS.

use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{fmt, io};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::address::{Address, Addresses};
use crate::dial::{self, Dialler};

/// For all that one address takes: the addresses of its name, a proxy and the handshake.
const CONNECT: Duration = Duration::from_secs(12);
/// The next address is tried beside one that is silent for so long.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Dial(#[from] dial::Error),
    #[error("`{name}` is not a name of a server: {reason}")]
    Name { name: String, reason: String },
}

/// The ways to one server. Cheap to clone; clones share which address answered last.
#[derive(Clone)]
pub struct Turn {
    ways: Arc<[Way]>,
    tls: TlsConnector,
    first: Arc<AtomicUsize>,
}

struct Way {
    address: Address,
    /// That the certificate must have.
    name: ServerName<'static>,
    dialler: Dialler,
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.ways.iter().map(|way| way.address.to_string());
        f.debug_list().entries(addresses).finish()
    }
}

impl Turn {
    /// The certificate must have `server_name`, or else the host of the address that is dialled. For `proxy` see
    /// [`Dialler::new`].
    pub fn new(
        addresses: &Addresses,
        server_name: Option<&str>,
        proxy: Option<&str>,
        tls: ClientConfig,
    ) -> Result<Self, Error> {
        let way = |address: &Address| {
            let name = server_name.unwrap_or(&address.host).to_owned();
            let read = ServerName::try_from(name.clone());
            Ok(Way {
                address: address.clone(),
                name: read.map_err(|error| Error::Name {
                    name,
                    reason: error.to_string(),
                })?,
                dialler: Dialler::new(&address.host, address.port, proxy)?,
            })
        };
        let ways: Result<Arc<[Way]>, Error> = addresses.iter().map(way).collect();
        Ok(Self {
            ways: ways?,
            tls: TlsConnector::from(Arc::new(tls)),
            first: Arc::default(),
        })
    }

    /// What [`connect`](Self::connect) takes at most.
    pub fn limit(&self) -> Duration {
        CONNECT + PATIENCE * self.ways.len() as u32
    }

    /// A connection to whichever address answers, beginning with the one that answered last.
    pub async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        let (count, first) = (self.ways.len(), self.first.load(Ordering::Relaxed));
        let mut left = (0..count).map(|place| (first + place) % count);
        let (mut tries, mut failed) = (JoinSet::new(), Vec::new());
        loop {
            if let Some(place) = left.next() {
                let turn = self.clone();
                tries.spawn(async move { (place, turn.attempt(place).await) });
            }
            let ended = if left.len() == 0 {
                tries.join_next().await
            } else {
                let Ok(ended) = tokio::time::timeout(PATIENCE, tries.join_next()).await else {
                    continue;
                };
                ended
            };
            match ended.transpose().map_err(io::Error::other)? {
                Some((place, Ok(stream))) => {
                    self.first.store(place, Ordering::Relaxed);
                    return Ok(stream);
                }
                Some((place, Err(error))) => failed.push((place, error)),
                None => return Err(self.failed(failed)),
            }
        }
    }

    async fn attempt(&self, place: usize) -> io::Result<TlsStream<TcpStream>> {
        let way = &self.ways[place];
        let connect = async {
            let tcp = way.dialler.dial().await?;
            self.tls.connect(way.name.clone(), tcp).await
        };
        let connected = tokio::time::timeout(CONNECT, connect).await;
        connected.unwrap_or_else(|_| {
            let silent = format!("no answer within {} s", CONNECT.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, silent))
        })
    }

    fn failed(&self, mut failed: Vec<(usize, io::Error)>) -> io::Error {
        if failed.len() < 2 {
            let one = failed.pop().map(|(_, error)| error);
            return one.unwrap_or_else(|| io::ErrorKind::NotConnected.into());
        }
        let named = failed
            .into_iter()
            .map(|(place, error)| (self.ways[place].address.clone(), error));
        io::Error::other(Failed(named.collect()))
    }
}

/// Why none of the addresses gave a connection.
#[derive(Debug)]
struct Failed(Vec<(Address, io::Error)>);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (address, error)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "; " };
            write!(f, "{comma}{address}: {}", innermost(error))?;
        }
        Ok(())
    }
}

/// What refuses at one address says nothing of another that is only away. So a refusal is the cause only where
/// each address refused.
impl StdError for Failed {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let away = |(_, error): &(Address, io::Error)| !refuses(error);
        let (_, first) = self.0.first()?;
        (!self.0.iter().any(away)).then_some(first as _)
    }
}

/// Whether TLS or a proxy says no.
fn refuses(error: &io::Error) -> bool {
    let inner = error.get_ref();
    inner.is_some_and(|inner| inner.is::<rustls::Error>() || inner.is::<dial::Error>())
}

fn innermost(error: &io::Error) -> String {
    let mut text = error.to_string();
    let inner = error.get_ref();
    let mut next = inner.and_then(|inner| inner.source());
    while let Some(error) = next {
        text = error.to_string();
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
