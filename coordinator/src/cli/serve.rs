//! `serve`: the coordinator itself.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use fedner_host::machine::{Machine, ThisMachine};
use fedner_host::output::Output;
use fedner_host::service::{self, Word};
use fedner_host::signal::{Terminate, hangups};
use fedner_host::{disk, files};
use fedner_shared::keys::{Signs, line};
use fedner_shared::refusal::Code;
use fedner_shared::sign::PublicKey;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::failed::Failed;
use crate::blobs::Blobs;
use crate::cluster::{self, Front, Inner, Local, Process, Seat};
use crate::config::{Config, Paths};
use crate::door::Door;
use crate::keys::{Keys, Recorded};
use crate::limits::raise_open_files;
use crate::reload::{self, Reload};
use crate::store::{Lease, Place, Store, Taken, Terms};
use crate::{observe, rpc, tls, traces};

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
    let plans = read_operator_key(paths)?;
    let lock = lock(paths)?;
    let place = Place::from_config(paths, &config)?;
    let terms = Terms {
        holder: holder(&lock).map_err(Failed::io("look at", &paths.directory().join("lock")))?,
        address: config
            .cluster_address
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
        length: config.lease(),
    };
    let (store, recorded) = open(&place, &terms)?;
    let machine: Arc<dyn Machine> = Arc::new(ThisMachine);
    let names = reload::names(&config);
    let open = match place {
        Place::File(_) => Keys::open,
        Place::Server(_) => Keys::open_shared,
    };
    let keys = open(paths.clone(), names, plans, recorded, machine.clone())?;
    files::keep_owner(paths.directory(), &Paths::OURS);
    let mut reload = Reload::new(
        paths.clone(),
        config.clone(),
        keys.clone(),
        (door.clone(), open_files),
    );
    let blobs = Blobs::from_config(paths, &config).await?;
    let blobs = blobs.with_cache(config.blobs_cache())?;
    serve_metrics(&config)?;
    let traces = config.traces_to.as_deref().map(traces::collector);
    let traces = traces
        .transpose()
        .map_err(|message| Failed::refuse(Code::ConfigInvalid, message))?;
    let listener = listen(&config.listen).await?;
    let inner = match config.cluster_listen() {
        Some(address) => Some(listen(&address).await?),
        None => None,
    };
    let fault = |error: &dyn std::fmt::Display| Failed::fault(error.to_string());
    let local = listener.local_addr().map_err(|e| fault(&e))?;
    let (common, health) = rpc::common(keys.clone()).map_err(|e| fault(&e))?;
    let (seat, seats) = watch::channel(Seat::Nobody);
    let stop = CancellationToken::new();
    let process = Process {
        config: config.clone(),
        paths: paths.clone(),
        place,
        terms,
        keys: keys.clone(),
        plans,
        machine: machine.clone(),
        blobs,
        door: door.clone(),
        min_client: reload.min_client(),
        retention: reload.retention(),
        traces,
        health: health.clone(),
        seat,
        stop: stop.clone(),
    };
    let (known, at_work) = oneshot::channel();
    let mut process = tokio::spawn(async move { process.run(store, known).await });
    if at_work.await.is_err() {
        return Err(ended((&mut process).await));
    }
    output.data(
        &Listening {
            listening: local.to_string(),
        },
        |l| format!("listening on {}", l.listening),
    )?;

    if let Some(listener) = inner {
        let rations = rpc::Rations::new(door.clone(), machine.clone());
        let local = Local::new(seats.clone());
        let inner = Inner::new(keys.clone(), door.clone(), &rations, local);
        tokio::spawn(inner.accept(listener, stop.clone()));
    }
    let router = rpc::front((&door, machine), common, Front::new(seats.clone()));
    let connections = tls::accept(
        (listener, config.proxy_protocol_from.clone()),
        keys.tls(),
        door,
        stop.clone(),
    );
    let mut terminate = Terminate::new().map_err(|e| fault(&e))?;
    tokio::spawn(hangups(move || reload.look()));
    tokio::spawn(alive(seats.clone()));
    service::notify(Word::Ready);
    let serving = router.serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned());
    tokio::pin!(serving);
    let mut outcome = Ok(());
    tokio::select! {
        result = &mut process => {
            health.set(false, false).await;
            outcome = Err(ended(result));
            tracing::error!("the engine has ended; the coordinator ends with it");
            // Whoever watches its health is told before it is gone.
            tokio::time::sleep(NOTICE).await;
            stop.cancel();
            let _ = tokio::time::timeout(NOTICE, &mut serving).await;
        }
        result = &mut serving => result.map_err(|e| Failed::fault(format!("the server failed: {e}")))?,
        () = terminate.received() => {
            service::notify(Word::Stopping);
            output.say("stopping: finishing transfers under way");
            let lease = lease(&seats);
            stop.cancel();
            if config.cluster_address.is_some() {
                // Others are there to go on: nobody waits for the transfers.
                release(lease.clone()).await;
            }
            if tokio::time::timeout(GRACE, &mut serving).await.is_err() {
                output.say("transfers under way were cut; their senders will go on where they stopped");
            }
            release(lease).await;
        }
    }
    process.abort();
    outcome
}

/// The store, where it may be written to at present, and what it says of keys.
fn open(place: &Place, terms: &Terms) -> Result<(Option<Store>, Recorded), Failed> {
    if let Taken::Ours(mut store) = Store::take_at(place, terms)? {
        store
            .check_pages()
            .map_err(|e| Failed::refuse(Code::StateInvalid, e.to_string()))?;
        let recorded = Recorded::read(&mut store)?;
        return Ok((Some(store), recorded));
    }
    Ok((None, Recorded::read(&mut Store::look_at(place)?)?))
}

fn serve_metrics(config: &Config) -> Result<(), Failed> {
    let Some(address) = &config.metrics_listen else {
        return Ok(());
    };
    let address = address.parse().map_err(|_| {
        Failed::refuse(
            Code::ConfigInvalid,
            format!("metrics_listen is `{address}`: expected IP:PORT"),
        )
    })?;
    observe::serve(address)
        .map_err(|e| Failed::fault(format!("cannot serve metrics on {address}: {e}")))
}

/// Why the process ended that was to go on.
fn ended(result: Result<Result<(), cluster::Error>, JoinError>) -> Failed {
    match result {
        Ok(Err(cluster::Error::Store(error))) => error.into(),
        Ok(Err(cluster::Error::Keys(error))) => error.into(),
        Ok(Err(error)) => Failed::fault(error.to_string()),
        Ok(Ok(())) => Failed::fault("the coordinator ended without a reason"),
        Err(error) => Failed::fault(format!("a task of the coordinator failed: {error}")),
    }
}

fn lease(seats: &watch::Receiver<Seat>) -> Option<Lease> {
    match &*seats.borrow() {
        Seat::Leading(leading) => leading.lease.clone(),
        Seat::Nobody | Seat::Following(_) => None,
    }
}

/// Lets another process lead at once.
async fn release(lease: Option<Lease>) {
    if let Some(lease) = lease {
        let _ = tokio::task::spawn_blocking(move || lease.release()).await;
    }
}

/// Every interface means those of IPv4 alone where the machine has no IPv6.
async fn listen(address: &str) -> Result<TcpListener, Failed> {
    let bound = match (
        TcpListener::bind(address).await,
        address.strip_prefix("[::]:"),
    ) {
        (Err(error), Some(port)) if error.kind() != std::io::ErrorKind::AddrInUse => {
            TcpListener::bind(format!("0.0.0.0:{port}")).await
        }
        (bound, _) => bound,
    };
    bound.map_err(|error| {
        let message = format!("cannot listen on {address}: {error}");
        Failed::refuse(Code::ConfigInvalid, message)
    })
}

/// Tells a service manager that asks for it that the engine answers, where this process has it.
async fn alive(seats: watch::Receiver<Seat>) {
    let Some(every) = service::watchdog() else {
        return;
    };
    loop {
        let seat = seats.borrow().clone();
        if let Seat::Leading(leading) = seat {
            // An error is an answer too: the store may be away. One that hangs gives none.
            let _ = leading.engine.call(|_| Ok(())).await;
        }
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

/// Names a directory of this machine as it runs now: whoever has its lock is alone with it.
#[cfg(unix)]
fn holder(lock: &fs::File) -> std::io::Result<String> {
    use std::os::unix::fs::MetadataExt;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    if boot.is_empty() {
        return Ok(String::new());
    }
    let lock = lock.metadata()?;
    Ok(format!("{}/{}/{}", boot.trim(), lock.dev(), lock.ino()))
}

#[cfg(not(unix))]
fn holder(_lock: &fs::File) -> std::io::Result<String> {
    Ok(String::new())
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
