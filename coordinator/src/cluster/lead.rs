//! The one process that leads: the engine, and all that works beside it.

use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::DropGuard;
use tonic::service::Routes;

use super::{Error, Leading, Process};
use crate::engine::{self, Handle, Lost};
use crate::intake::Intake;
use crate::keys::{Recorded, upkeep};
use crate::registry::Registry;
use crate::rpc::{self, Services};
use crate::store::{Lease, Store};
use crate::{daily, garbage, observe, pruning, traces};

/// Everything of it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Lead {
    routes: Routes,
    engine: Handle,
    lease: Option<Lease>,
    ended: Mutex<oneshot::Receiver<Lost>>,
    /// A sum under way is in the outbox, and is computed again by whoever leads next.
    _tasks: JoinSet<()>,
    _stop: DropGuard,
}

impl Lead {
    pub(super) async fn begin(process: &Process, mut store: Store) -> Result<Self, Error> {
        process.keys.adopt(Recorded::read(&mut store)?)?;
        if store.is_shared() && store.read(|tx| tx.keyring())?.is_none() {
            process.keys.keep_in(&mut store)?;
        }
        let lease = store.lease();
        match store.leader()? {
            Some(leader) => observe::show_leader(leader.since, leader.epoch),
            None => observe::show_leader(process.machine.now(), 1),
        }
        let loaded = engine::load(store, process.plans, process.machine.clone())?;
        let (engine, effects, ended) = loaded.serve_on_thread()?;
        let stop = process.stop.child_token();
        let blobs = process.blobs.clone();
        let registry = Registry::new(engine.clone(), blobs.clone());
        let intake = Intake::new(engine.clone(), blobs.clone());
        let keys = process.keys.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(registry.clone().carry_out(effects));
        tasks.spawn(garbage::collect_regularly(
            engine.clone(),
            blobs.clone(),
            process.paths.garbage_lock(),
            stop.clone(),
        ));
        tasks.spawn(garbage::sweep_uploads(
            engine.clone(),
            intake.clone(),
            stop.clone(),
        ));
        tasks.spawn(daily::regularly(
            engine.clone(),
            process.paths.clone(),
            stop.clone(),
        ));
        tasks.spawn(pruning::regularly(
            engine.clone(),
            process.retention.clone(),
            stop.clone(),
        ));
        if let Some(to) = &process.traces {
            let name = process.config.name.clone();
            tasks.spawn(traces::export(
                engine.clone(),
                to.clone(),
                name,
                stop.clone(),
            ));
        }
        // Before anybody calls: the certificates of operator and viewer may have run out meanwhile.
        keys.renew_own(&engine).await?;
        tasks.spawn(upkeep(keys.clone(), engine.clone(), stop.clone()));
        let routes = rpc::services(Services {
            intake,
            engine: engine.clone(),
            blobs,
            registry,
            keys,
            federation: process.config.name.clone(),
            address: process.config.address.clone(),
            door: process.door.clone(),
            min_client: process.min_client.clone(),
            stop: stop.clone(),
        });
        Ok(Self {
            routes,
            engine,
            lease,
            ended: Mutex::new(ended),
            _tasks: tasks,
            _stop: stop.drop_guard(),
        })
    }

    pub(super) fn leading(&self) -> Leading {
        Leading {
            routes: self.routes.clone(),
            engine: self.engine.clone(),
            lease: self.lease.clone(),
        }
    }

    /// Resolves when the engine has ended.
    pub(super) async fn ended(&self) -> Result<Lost, oneshot::error::RecvError> {
        let mut ended = self.ended.lock().await;
        (&mut *ended).await
    }
}
