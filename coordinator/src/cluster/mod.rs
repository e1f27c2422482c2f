//! Several processes of one federation: who leads, and what the others do meanwhile.
//!
//! One process leads: it holds the store's lease, and has the engine. The others stand by, and pass on to it what they
//! are asked. Each tries to take the lease once it runs out. A process with a file for its store always leads.

mod front;
mod identity;
mod inner;
mod lead;
mod link;
mod stand_by;

use std::io;
use std::sync::Arc;

use fedner_host::machine::Machine;
use fedner_shared::sign::PublicKey;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Endpoint;

use crate::blobs::Blobs;
use crate::config::{Config, Paths};
use crate::door::Door;
use crate::engine::Handle;
use crate::keys::{self, Keys};
use crate::observe;
use crate::reload::MinClient;
use crate::retention::Retention;
use crate::rpc::Health;
use crate::store::{self, Lease, Place, Store, Terms};

pub use front::Front;
pub use inner::{Inner, Local};
use lead::Lead;
pub use link::Link;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Keys(#[from] keys::Error),
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] io::Error),
    #[error("the engine has ended by a fault; its message is above")]
    Engine,
}

impl Error {
    /// Whether it is the store that was away, or another's, whoever asked it.
    fn passes(&self) -> bool {
        match self {
            Self::Store(error) | Self::Keys(keys::Error::Store(error)) => error.code().is_some(),
            Self::Keys(_) | Self::Thread(_) | Self::Engine => false,
        }
    }
}

/// What this process is at present.
#[derive(Debug, Clone, Default)]
pub enum Seat {
    /// Nobody leads, as far as is known.
    #[default]
    Nobody,
    /// This process leads.
    Leading(Box<Leading>),
    /// Another one does, by this way.
    Following(Arc<Link>),
}

/// The services of the one that leads.
#[derive(Debug, Clone)]
pub struct Leading {
    pub routes: Routes,
    pub engine: Handle,
    pub lease: Option<Lease>,
}

/// What a process has, whether it leads or not.
#[derive(Debug)]
pub struct Process {
    pub config: Config,
    pub paths: Paths,
    pub place: Place,
    pub terms: Terms,
    pub keys: Arc<Keys>,
    /// The first key by which plans were signed.
    pub plans: PublicKey,
    pub machine: Arc<dyn Machine>,
    pub blobs: Blobs,
    pub door: Arc<Door>,
    pub min_client: MinClient,
    pub retention: watch::Receiver<Option<Retention>>,
    pub traces: Option<Endpoint>,
    pub health: Health,
    pub seat: watch::Sender<Seat>,
    /// The process ends.
    pub stop: CancellationToken,
}

impl Process {
    /// Leads with `store`, or stands by until it may lead; and so on until the process ends. `known` is told once it
    /// is known which.
    pub async fn run(
        &self,
        mut store: Option<Store>,
        known: oneshot::Sender<()>,
    ) -> Result<(), Error> {
        let mut known = Some(known);
        loop {
            let taken = if store.is_some() {
                store.take()
            } else {
                tell(&mut known);
                self.stand_by().await
            };
            // What is under way to another leader ends: its callers ask again.
            self.take_seat(Seat::Nobody).await;
            let Some(taken) = taken else {
                return Ok(());
            };
            let starting = known.is_some();
            let lead = match Lead::begin(self, taken).await {
                Ok(lead) => lead,
                // The store is away, or another was quicker. Who starts says so and ends.
                Err(error) if !starting && error.passes() => {
                    tracing::warn!(%error, "this process could not lead: it stands by");
                    continue;
                }
                Err(error) => return Err(error),
            };
            tell(&mut known);
            self.take_seat(Seat::Leading(Box::new(lead.leading())))
                .await;
            let ended = lead.ended().await;
            self.take_seat(Seat::Nobody).await;
            match ended {
                // What was in memory is worth nothing any more: the next time it is read anew.
                Ok(_) => tracing::warn!("another process may write now: this one stands by"),
                Err(_) => return Err(Error::Engine),
            }
        }
    }

    async fn take_seat(&self, seat: Seat) {
        let leads = matches!(seat, Seat::Leading(_));
        let serving = !matches!(seat, Seat::Nobody);
        if let Seat::Following(link) = self.seat.send_replace(seat) {
            link.end();
        }
        self.health.set(serving, leads).await;
        observe::show_lead(leads);
    }
}

fn tell(known: &mut Option<oneshot::Sender<()>>) {
    if let Some(known) = known.take() {
        let _ = known.send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_is_taken_is_no_end_whoever_asked_it() {
        let taken = || store::Error::Taken;
        assert!(Error::Store(taken()).passes());
        assert!(Error::Keys(keys::Error::Store(taken())).passes());
        let damaged = || store::Error::Damaged("a row".to_owned());
        assert!(!Error::Keys(keys::Error::Store(damaged())).passes());
        assert!(!Error::Engine.passes());
    }
}
