//! `serve`: the coordinator itself.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use fedner_shared::keys::{Signs, line};
use fedner_shared::private;
use fedner_shared::refusal::Code;
use fedner_shared::sign::PublicKey;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::output::{Failed, Output};
use crate::blobs::Blobs;
use crate::config::{Config, Paths, host_and_port};
use crate::door::Door;
use crate::intake::Intake;
use crate::keys::{Keys, Recorded, upkeep};
use crate::limits::raise_open_files;
use crate::machine::ThisMachine;
use crate::registry::Registry;
use crate::rpc::{self, Services};
use crate::store::Store;
use crate::{collect, engine, observe, tls};

/// How long transfers under way may take to finish after SIGTERM.
const GRACE: Duration = Duration::from_secs(8);

/// How long health says NOT_SERVING before a coordinator without its engine ends.
const NOTICE: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct Arguments {}

#[derive(Serialize)]
struct Listening {
    listening: String,
}

pub(super) async fn run(_: Arguments, paths: &Paths, output: &Output) -> Result<(), Failed> {
    let config = Config::read(paths)?;
    let (host, _) = host_and_port(&config.address)?;
    let limits = config.limits.clone().within_files(raise_open_files());
    let door = Door::new(limits);
    for secret in paths.secrets() {
        private::check_secret(&secret)?;
    }
    let closed = private::tighten(paths.directory(), &Paths::OURS);
    for path in closed.map_err(Failed::io("close to others", paths.directory()))? {
        tracing::warn!(path = %path.display(), "others on this machine could read this; it was closed to them");
    }
    let operator_key = read_operator_key(paths)?;
    let _lock = lock(paths)?;
    let mut store = Store::open(&paths.store()).map_err(|e| Failed::fault(e.to_string()))?;
    store
        .check_pages()
        .map_err(|e| Failed::refuse(Code::StateInvalid, e.to_string()))?;
    let recorded = store.read(|tx| {
        Ok(Recorded {
            successions: tx.own_successions()?,
            people: tx.people()?,
        })
    });
    let recorded = recorded.map_err(|e| Failed::fault(e.to_string()))?;
    let machine = Arc::new(ThisMachine);
    let keys = Keys::open(paths.clone(), host, operator_key, recorded, machine.clone())?;
    let blobs = Blobs::of(paths, &config)?;
    if let Some(address) = &config.metrics_listen {
        let address = address.parse().map_err(|_| {
            Failed::refuse(
                Code::ConfigInvalid,
                format!("metrics_listen is `{address}`: expected IP:PORT"),
            )
        })?;
        observe::serve(address)
            .map_err(|e| Failed::fault(format!("cannot serve metrics on {address}: {e}")))?;
    }

    let listener = TcpListener::bind(&config.listen).await.map_err(|error| {
        Failed::refuse(
            Code::ConfigInvalid,
            format!("cannot listen on {}: {error}", config.listen),
        )
    })?;
    let (engine, effects, ended) = engine::load(store, operator_key, machine)
        .map_err(|e| Failed::fault(e.to_string()))?
        .serve_on_thread()
        .map_err(|e| Failed::fault(e.to_string()))?;
    let registry = Registry::new(engine.clone(), blobs.clone());
    let publisher = tokio::spawn(registry.clone().carry_out(effects));
    let stop = CancellationToken::new();
    let collector = tokio::spawn(collect::regularly(
        engine.clone(),
        blobs.clone(),
        paths.collecting(),
        stop.clone(),
    ));
    let intake = Intake::new(engine.clone(), blobs.clone());
    let sweeper = tokio::spawn(collect::sweep(engine.clone(), intake.clone(), stop.clone()));
    // Before anybody calls: the certificates of operator and viewer may have run out meanwhile.
    keys.renew_own(&engine).await?;
    let keeper = tokio::spawn(upkeep(keys.clone(), engine.clone(), stop.clone()));
    let services = Services {
        intake,
        engine,
        blobs,
        registry,
        keys: keys.clone(),
        federation: config.name,
        address: config.address,
        door: door.clone(),
        stop: stop.clone(),
    };
    let local = listener
        .local_addr()
        .map_err(|e| Failed::fault(e.to_string()))?;
    output.data(
        &Listening {
            listening: local.to_string(),
        },
        |l| format!("listening on {}", l.listening),
    );

    let (router, health) = rpc::router(services)
        .await
        .map_err(|e| Failed::fault(e.to_string()))?;
    let connections = tls::accept(listener, keys.tls(), door, stop.clone());
    let serving = router.serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned());
    tokio::pin!(serving);
    let mut outcome = Ok(());
    tokio::select! {
        _ = ended => {
            health.not_serving().await;
            tracing::error!("the engine has ended; the coordinator ends with it");
            outcome = Err(Failed::fault("the engine has ended by a fault; its message is above".to_owned()));
            // Whoever watches its health is told before it is gone.
            tokio::time::sleep(NOTICE).await;
            stop.cancel();
            let _ = tokio::time::timeout(NOTICE, &mut serving).await;
        }
        result = &mut serving => result.map_err(|e| Failed::fault(format!("the server failed: {e}")))?,
        () = asked_to_stop() => {
            output.say("stopping: finishing transfers under way");
            stop.cancel();
            if tokio::time::timeout(GRACE, &mut serving).await.is_err() {
                output.say("transfers under way were cut; their senders will go on where they stopped");
            }
        }
    }
    // A sum under way is in the outbox, and is computed again after the next start.
    publisher.abort();
    collector.abort();
    sweeper.abort();
    keeper.abort();
    outcome
}

async fn asked_to_stop() {
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                terminate.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = terminate => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

fn read_operator_key(paths: &Paths) -> Result<PublicKey, Failed> {
    let path = paths.signing_public_key();
    let text = fs::read_to_string(&path).map_err(Failed::io("read", &path))?;
    text.trim()
        .parse()
        .map_err(|error: fedner_shared::sign::Error| {
            Failed::refuse(Code::StateInvalid, error.to_string())
        })
}

/// The keys by which plans were signed, one after another.
pub(super) fn plan_keys(paths: &Paths, store: &mut Store) -> Result<Vec<PublicKey>, Failed> {
    let successions = store
        .read(|tx| tx.own_successions())
        .map_err(|error| Failed::fault(error.to_string()))?;
    Ok(line(&Signs::Plans, read_operator_key(paths)?, &successions))
}

/// Two coordinators over one directory would each think themselves the only writer.
fn lock(paths: &Paths) -> Result<fs::File, Failed> {
    let path = paths.directory().join("lock");
    let file = fs::File::create(&path).map_err(Failed::io("create", &path))?;
    file.try_lock().map_err(|_| {
        let message = format!("another coordinator serves {}", paths.directory().display());
        Failed::refuse(Code::AlreadyExists, message)
    })?;
    Ok(file)
}
