//! Metrics of the daemon, on loopback. Names, units and meanings stand here and nowhere else.
//!
//! Each is looked up in the database, which holds what `status`, `privacy show` and `receipts list` show. So none
//! can depend on text in a way that these do not.

use std::net::SocketAddr;
use std::time::Duration;

use fedner_host::disk;
use fedner_host::machine::{Machine as _, ThisMachine};
use fedner_page::server;
use fedner_session::State;
use fedner_shared::refusal::Code;
use fedner_shared::statement::UpdateReceipt;
use fedner_shared::time::Time;
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

use crate::config::Directory;
use crate::identity::Identity;
use crate::state::{self, Decision, ReceiptKind, Standing, Store};
use crate::{egress, rules};

const SPENT: &str = "fedner_client_epsilon_spent";
const LEFT: &str = "fedner_client_epsilon_left";
const RUN_EPSILON: &str = "fedner_client_run_epsilon";
const CONTACT: &str = "fedner_client_contact_timestamp_seconds";
const CERTIFICATE: &str = "fedner_client_certificate_expires_timestamp_seconds";
const STATE: &str = "fedner_client_state";
const ROUND: &str = "fedner_client_round";
const REFUSALS: &str = "fedner_client_refusals_total";
const RECEIPTS: &str = "fedner_client_receipts";
const NOT_TAKEN: &str = "fedner_client_receipts_not_taken";
const BYTES: &str = "fedner_client_update_bytes_total";
const PENDING: &str = "fedner_client_plans_pending";
const WAITING: &str = "fedner_client_update_waiting";
const DISK: &str = "fedner_client_disk_free_bytes";

const EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot serve metrics on {address}: {source}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("metrics cannot be kept: {0}")]
    Recorder(#[from] metrics_exporter_prometheus::BuildError),
}

/// Serves the metrics of the directory to Prometheus on `address`, until `stop`.
pub async fn serve(
    address: SocketAddr,
    directory: Directory,
    stop: CancellationToken,
) -> Result<(), Error> {
    let listener = tokio::net::TcpListener::bind(address).await;
    let listener = listener.map_err(|source| Error::Listen { address, source })?;
    let handle = PrometheusBuilder::new().install_recorder()?;
    describe();
    let shown = handle.clone();
    tokio::spawn(server::serve_figures(
        listener,
        move || shown.render(),
        stop.clone(),
    ));
    tokio::spawn(regularly(directory, handle, stop));
    Ok(())
}

fn describe() {
    describe_gauge!(SPENT, "Epsilon of all releases together, by account");
    describe_gauge!(
        LEFT,
        "Epsilon that is left of the policy's total, by account"
    );
    describe_gauge!(RUN_EPSILON, "Epsilon that a run has cost here");
    describe_gauge!(
        CONTACT,
        Unit::Seconds,
        "When the coordinator answered last, since 1970"
    );
    describe_gauge!(
        CERTIFICATE,
        Unit::Seconds,
        "When the certificate ends, since 1970"
    );
    describe_gauge!(STATE, "1 for what the session does now");
    describe_gauge!(ROUND, Unit::Count, "The round it works on; 0 for none");
    describe_counter!(
        REFUSALS,
        Unit::Count,
        "What was said instead of doing what was asked, by code"
    );
    describe_gauge!(RECEIPTS, Unit::Count, "Receipts of what left, by kind");
    describe_gauge!(
        NOT_TAKEN,
        Unit::Count,
        "Receipts that the coordinator has not taken"
    );
    describe_counter!(BYTES, Unit::Bytes, "Bytes of updates that were released");
    describe_gauge!(PENDING, Unit::Count, "Plans on which nobody has decided");
    describe_gauge!(WAITING, Unit::Count, "1 while an update waits for a person");
    describe_gauge!(DISK, Unit::Bytes, "Free space where the directory lies");
    for code in Code::ALL {
        counter!(REFUSALS, "code" => code.as_str()).absolute(0);
    }
}

async fn regularly(directory: Directory, handle: PrometheusHandle, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let looked_at = directory.clone();
        match tokio::task::spawn_blocking(move || look(&looked_at)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!("no metrics: {error:#}"),
            Err(error) => tracing::debug!("no metrics: {error}"),
        }
        handle.run_upkeep();
        tokio::time::sleep(EVERY).await;
    }
}

fn seconds(time: Time) -> f64 {
    time.as_millis() as f64 / 1000.0
}

fn look(directory: &Directory) -> anyhow::Result<()> {
    let settings = directory.settings()?;
    let identity = Identity::load(&directory.identity(), settings.institution.clone())?;
    let store = Store::open(&directory.database())?;
    let policy = rules::shown(&store, directory)?.policy;
    let ledger = store.ledger()?;
    let limit = egress::limit(&settings.institution, &policy);
    let account = limit.account.unit.to_string();
    let charged = ledger.charged(&limit.account, limit.delta).epsilon;
    gauge!(SPENT, "account" => account.clone()).set(charged);
    gauge!(LEFT, "account" => account).set((limit.max_epsilon - charged).max(0.0));
    let mut pending = 0;
    for record in store.plans()? {
        let standing = store.standing(&record.digest, ThisMachine.now())?;
        pending += usize::from(standing == Standing::Pending);
        if let Some(epsilon) = egress::spent(&ledger, &identity.institution, &record.plan) {
            gauge!(RUN_EPSILON, "run" => record.run.to_string()).set(epsilon);
        }
    }
    gauge!(PENDING).set(pending as f64);
    if let Some(at) = store.contact()?.succeeded {
        gauge!(CONTACT).set(seconds(at));
    }
    gauge!(CERTIFICATE).set(seconds(identity.validity.not_after));
    for (code, count) in store.refusals()? {
        counter!(REFUSALS, "code" => code).absolute(count);
    }
    look_at_session(&store, policy.hold)?;
    look_at_receipts(&store)?;
    if let Ok(Some(free)) = disk::free_space(directory.root()) {
        gauge!(DISK).set(free as f64);
    }
    Ok(())
}

fn look_at_session(store: &Store, hold: bool) -> Result<(), state::Error> {
    let session = store.session()?;
    for name in &State::NAMES {
        let now = f64::from(u8::from(*name == session.state.name()));
        gauge!(STATE, "state" => *name).set(now);
    }
    let round = session.task().map_or(0, |task| task.round);
    gauge!(ROUND).set(f64::from(round));
    let waits = match &session.state {
        State::Uploading { release, .. } if hold => {
            store.decision(&release.receipt)? == Decision::None
        }
        State::Idle
        | State::Fetching { .. }
        | State::Training { .. }
        | State::Releasing { .. }
        | State::Uploading { .. }
        | State::Evaluating { .. }
        | State::Submitting { .. } => false,
    };
    gauge!(WAITING).set(f64::from(u8::from(waits)));
    Ok(())
}

fn look_at_receipts(store: &Store) -> Result<(), state::Error> {
    let receipts = store.receipts()?;
    for kind in [
        ReceiptKind::Update,
        ReceiptKind::Evaluation,
        ReceiptKind::Audit,
    ] {
        let count = receipts
            .iter()
            .filter(|receipt| receipt.kind == kind)
            .count();
        gauge!(RECEIPTS, "kind" => kind.as_str()).set(count as f64);
    }
    let open = receipts.iter().filter(|receipt| receipt.taken.is_none());
    gauge!(NOT_TAKEN).set(open.count() as f64);
    let updates = receipts
        .iter()
        .filter(|receipt| receipt.kind == ReceiptKind::Update);
    let bytes = updates.filter_map(|receipt| receipt.signed.peek::<UpdateReceipt>().ok());
    counter!(BYTES).absolute(bytes.map(|update| update.bytes).sum());
    Ok(())
}
