//! The programs, as the simulated machines run them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use fedner_client::agent::{Agent, Defences, Environment};
use fedner_client::config::Directory;
use fedner_coordinator::blobs::Blobs;
use fedner_coordinator::door::Door;
use fedner_coordinator::engine;
use fedner_coordinator::intake::Intake;
use fedner_coordinator::keys::Keys;
use fedner_coordinator::limits::Limits;
use fedner_coordinator::registry::Registry;
use fedner_coordinator::rpc::{self, Services};
use fedner_coordinator::store::Store;
use fedner_host::address::Addresses;
use fedner_shared::sign::SecretKey;
use tokio_util::sync::CancellationToken;

use crate::machine::SimMachine;
use crate::network::{self, SimNetwork};
use crate::objects::SimObjects;
use crate::prepared::{operator_key, prepared};
use crate::trainer::SimTrainer;

/// How soon a program that ended is started again.
const SUPERVISOR: Duration = Duration::from_secs(2);

/// The coordinator's machine. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct CoordinatorHost {
    pub(crate) directory: PathBuf,
    pub(crate) machine: Arc<SimMachine>,
    pub(crate) objects: Arc<SimObjects>,
}

impl CoordinatorHost {
    /// `serve`, started again whenever it ends.
    pub(crate) async fn run(self) -> turmoil::Result {
        self.machine.start();
        loop {
            let ended = self.serve().await;
            tracing::info!(?ended, "the coordinator ended");
            tokio::time::sleep(SUPERVISOR).await;
        }
    }

    async fn serve(&self) -> Result<()> {
        let store = Store::open(&self.directory.join("state.sqlite"))?;
        store.check_pages()?;
        let key = operator_key().public();
        let loaded = engine::load(store, key, self.machine.clone())?;
        let (engine, effects, serving) = loaded.serve();
        tokio::spawn(serving);
        let blobs = Blobs::new(self.objects.clone(), &self.directory.join("staging"))?;
        let registry = Registry::new(engine.clone(), blobs.clone());
        tokio::spawn(registry.clone().carry_out(effects));
        let door = Door::new(Limits::default());
        let services = Services {
            intake: Intake::new(engine.clone(), blobs.clone()),
            engine,
            blobs,
            registry,
            keys: Keys::in_memory(
                prepared().authority()?,
                key,
                SecretKey::from_seed([7; 32]),
                self.machine.clone(),
            )?,
            federation: "simulated".to_owned(),
            address: Addresses::new(vec![network::address()])?,
            door: door.clone(),
            min_client: tokio::sync::watch::channel(None).1,
            stop: CancellationToken::new(),
        };
        let connections = network::listen(self.machine.clone(), door).await?;
        let (router, _) = rpc::router(services).await?;
        router.serve_with_incoming(connections).await?;
        Ok(())
    }
}

/// An institution's machine. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct SiteHost {
    pub(crate) directory: PathBuf,
    pub(crate) machine: Arc<SimMachine>,
    pub(crate) trainer: Arc<SimTrainer>,
}

impl SiteHost {
    /// `start`, started again whenever it ends.
    pub(crate) async fn run(self) -> turmoil::Result {
        self.machine.start();
        loop {
            let ended = Box::pin(self.serve()).await;
            tracing::info!(?ended, "a client ended");
            tokio::time::sleep(SUPERVISOR).await;
        }
    }

    async fn serve(&self) -> Result<()> {
        let outside = Environment {
            machine: self.machine.clone(),
            network: Arc::new(SimNetwork(self.machine.clone())),
            trainer: self.trainer.clone(),
            defences: Defences::default(),
        };
        let directory = Directory::new(Some(self.directory.clone()))?;
        Agent::open(directory, outside)?
            .run(CancellationToken::new())
            .await?;
        Ok(())
    }
}
