//! `serve`: the coordinator itself.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use fedner_host::machine::ThisMachine;
use fedner_host::output::Output;
use fedner_host::service::{self, Word};
use fedner_host::signal::{Terminate, hangups};
use fedner_host::{disk, files};
use fedner_shared::keys::{Signs, line};
use fedner_shared::refusal::Code;
use fedner_shared::sign::PublicKey;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::failed::Failed;
use crate::blobs::Blobs;
use crate::config::{Config, Paths};
use crate::door::Door;
use crate::engine::Handle;
use crate::intake::Intake;
use crate::keys::{Keys, Recorded, upkeep};
use crate::limits::raise_open_files;
use crate::registry::Registry;
use crate::reload::{self, Reload};
use crate::rpc::{self, Services};
use crate::store::{Place, Store};
use crate::{daily, engine, garbage, observe, pruning, tls, traces};

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
    let open_files = raise_open_files();
    let door = Door::new(config.limits.clone().within_files(open_files));
    for secret in paths.secrets() {
        files::check_secret(&secret)?;
    }
    let closed = files::tighten(paths.directory(), &Paths::OURS);
    for path in closed.map_err(Failed::io("close to others", paths.directory()))? {
        tracing::warn!(path = %path.display(), "others on this machine could read this; it was closed to them");
    }
    if let Some(warning) = disk::warning(paths.directory()) {
        tracing::warn!("{warning}");
    }
    let operator_key = read_operator_key(paths)?;
    let _lock = lock(paths)?;
    let mut store = Store::open_at(&Place::from_config(paths, &config)?)?;
    store
        .check_pages()
        .map_err(|e| Failed::refuse(Code::StateInvalid, e.to_string()))?;
    let recorded = store.read(|tx| {
        Ok(Recorded {
            successions: tx.own_successions()?,
            people: tx.people()?,
        })
    });
    let recorded = recorded?;
    let machine = Arc::new(ThisMachine);
    let names = reload::names(&config)?;
    let keys = Keys::open(
        paths.clone(),
        names,
        operator_key,
        recorded,
        machine.clone(),
    )?;
    files::keep_owner(paths.directory(), &Paths::OURS);
    let mut reload = Reload::new(
        paths.clone(),
        config.clone(),
        keys.clone(),
        (door.clone(), open_files),
    );
    let blobs = Blobs::from_config(paths, &config).await?;
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

    let traces = config.traces_to.as_deref().map(traces::collector);
    let traces = traces
        .transpose()
        .map_err(|message| Failed::refuse(Code::ConfigInvalid, message))?;

    let listener = listen(&config.listen).await.map_err(|error| {
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
    let collector = tokio::spawn(garbage::collect_regularly(
        engine.clone(),
        blobs.clone(),
        paths.garbage_lock(),
        stop.clone(),
    ));
    let daily = tokio::spawn(daily::regularly(
        engine.clone(),
        paths.clone(),
        stop.clone(),
    ));
    let retention = tokio::spawn(pruning::regularly(
        engine.clone(),
        reload.retention(),
        stop.clone(),
    ));
    let traces = traces.map(|to| {
        let (engine, name) = (engine.clone(), config.name.clone());
        tokio::spawn(traces::export(engine, to, name, stop.clone()))
    });
    let intake = Intake::new(engine.clone(), blobs.clone());
    let sweeper = tokio::spawn(garbage::sweep_uploads(
        engine.clone(),
        intake.clone(),
        stop.clone(),
    ));
    // Before anybody calls: the certificates of operator and viewer may have run out meanwhile.
    keys.renew_own(&engine).await?;
    let keeper = tokio::spawn(upkeep(keys.clone(), engine.clone(), stop.clone()));
    let alive_engine = engine.clone();
    let services = Services {
        intake,
        engine,
        blobs,
        registry,
        keys: keys.clone(),
        federation: config.name,
        address: config.address,
        door: door.clone(),
        min_client: reload.min_client(),
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
    )?;

    let (router, health) = rpc::router(services)
        .await
        .map_err(|e| Failed::fault(e.to_string()))?;
    let connections = tls::accept(
        (listener, config.proxy_protocol_from),
        keys.tls(),
        door,
        stop.clone(),
    );
    let mut terminate = Terminate::new().map_err(|e| Failed::fault(e.to_string()))?;
    tokio::spawn(hangups(move || reload.look()));
    tokio::spawn(alive(alive_engine));
    service::notify(Word::Ready);
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
        () = terminate.received() => {
            service::notify(Word::Stopping);
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
    daily.abort();
    retention.abort();
    if let Some(traces) = traces {
        traces.abort();
    }
    outcome
}

/// Every interface means those of IPv4 alone where the machine has no IPv6.
async fn listen(address: &str) -> std::io::Result<TcpListener> {
    match (
        TcpListener::bind(address).await,
        address.strip_prefix("[::]:"),
    ) {
        (Err(error), Some(port)) if error.kind() != std::io::ErrorKind::AddrInUse => {
            TcpListener::bind(format!("0.0.0.0:{port}")).await
        }
        (bound, _) => bound,
    }
}

/// Tells a service manager that asks for it that the engine answers.
async fn alive(engine: Handle) {
    let Some(every) = service::watchdog() else {
        return;
    };
    while engine.call(|_| Ok(())).await.is_ok() {
        service::notify(Word::Alive);
        tokio::time::sleep(every).await;
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
    let successions = store.read(|tx| tx.own_successions())?;
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
