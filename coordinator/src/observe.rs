//! Metrics. Names, units and meanings stand here and nowhere else; labels come from enums.

use std::net::SocketAddr;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use fedner_shared::refusal::Code;
use fedner_shared::state::{MemberState, RunState};
use fedner_shared::time::Time;
use fedner_shared::view::{InstitutionView, RunView};
use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use tokio::time::Instant;

use crate::limits::Bucket;

const REFUSALS: &str = "fedner_refusals_total";
const DECLINED: &str = "fedner_declined_total";
const STEPS: &str = "fedner_run_steps_total";
const COMMITS: &str = "fedner_store_commits_total";
const UPLOADED: &str = "fedner_uploaded_bytes_total";
const DOWNLOADED: &str = "fedner_downloaded_bytes_total";
const OBJECT_FAULTS: &str = "fedner_object_store_faults_total";
const AGGREGATION: &str = "fedner_aggregation_seconds";
const UNUSED: &str = "fedner_unused_connections_total";
const WAITING: &str = "fedner_waiting_institutions";
const EXPIRY: &str = "fedner_expiry_timestamp_seconds";
const LAST_SEEN: &str = "fedner_institution_last_seen_seconds";
const CERTIFICATE: &str = "fedner_institution_certificate_expires_seconds";
const RUNS: &str = "fedner_runs";
const DISK: &str = "fedner_disk_free_bytes";
const LEADER: &str = "fedner_leader";
const LEADER_SINCE: &str = "fedner_leader_since_timestamp_seconds";
const LEADER_CHANGES: &str = "fedner_leader_changes_total";
const EVENTS: &str = "fedner_run_events_total";
const COMMIT_SECONDS: &str = "fedner_store_commit_seconds";
const QUEUE: &str = "fedner_engine_queue";
const ROUND: &str = "fedner_run_round";
const ROUNDS: &str = "fedner_run_rounds";
const MEMBERS: &str = "fedner_run_members";
const AWAITED: &str = "fedner_run_members_at_work";
const EPSILON: &str = "fedner_run_epsilon";
const F1: &str = "fedner_run_f1";

/// Seconds between which times are counted.
const BUCKETS: [f64; 12] = [
    0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0,
];

/// Serves the metrics to Prometheus on `address`.
pub fn serve(address: SocketAddr) -> Result<(), metrics_exporter_prometheus::BuildError> {
    metrics_exporter_prometheus::PrometheusBuilder::new()
        .with_http_listener(address)
        .set_buckets(&BUCKETS)?
        .install()?;
    describe_counter!(REFUSALS, Unit::Count, "Requests refused, by code");
    describe_counter!(
        DECLINED,
        Unit::Count,
        "What institutions would not do, by code"
    );
    describe_counter!(STEPS, Unit::Count, "Inputs that changed a run");
    describe_counter!(COMMITS, Unit::Count, "Store transactions, by name");
    describe_counter!(UPLOADED, Unit::Bytes, "Bytes of updates received");
    describe_counter!(DOWNLOADED, Unit::Bytes, "Bytes of models sent");
    describe_counter!(
        OBJECT_FAULTS,
        Unit::Count,
        "Requests to an object store elsewhere that failed, also those that were tried again, by kind"
    );
    describe_histogram!(
        AGGREGATION,
        Unit::Seconds,
        "Time to add the updates of a round"
    );
    describe_counter!(
        UNUSED,
        Unit::Count,
        "Connections closed because nobody used them"
    );
    describe_gauge!(
        LAST_SEEN,
        Unit::Seconds,
        "When each institution was last heard of, since 1970"
    );
    describe_gauge!(
        CERTIFICATE,
        Unit::Seconds,
        "When each institution's certificate ends, since 1970"
    );
    describe_gauge!(RUNS, Unit::Count, "Runs, by state");
    describe_gauge!(
        DISK,
        Unit::Bytes,
        "Free space of the coordinator's directory"
    );
    describe_gauge!(LEADER, Unit::Count, "1 where this process leads, else 0");
    describe_gauge!(
        LEADER_SINCE,
        Unit::Seconds,
        "Since when the present process leads, in seconds since 1970"
    );
    describe_counter!(
        LEADER_CHANGES,
        Unit::Count,
        "How often the lead has been taken"
    );
    describe_counter!(EVENTS, Unit::Count, "Events of runs, by kind");
    describe_histogram!(
        COMMIT_SECONDS,
        Unit::Seconds,
        "Time of a store transaction with its commit"
    );
    describe_gauge!(QUEUE, Unit::Count, "Requests that wait for the engine");
    describe_gauge!(ROUND, Unit::Count, "The round of a run that has not ended");
    describe_gauge!(ROUNDS, Unit::Count, "How many rounds that run has");
    describe_gauge!(MEMBERS, Unit::Count, "Its members that have not left");
    describe_gauge!(
        AWAITED,
        Unit::Count,
        "Those of them that are assigned or at work"
    );
    describe_gauge!(
        EPSILON,
        "The largest epsilon that a member told of that run"
    );
    describe_gauge!(F1, "F1 of its newest version that was scored, pooled");
    // Those that nothing has happened to yet are 0, and not absent.
    for counter in [STEPS, UPLOADED, DOWNLOADED, UNUSED] {
        counter!(counter).absolute(0);
    }
    for fault in ObjectFault::ALL {
        counter!(OBJECT_FAULTS, "kind" => fault.as_str()).absolute(0);
    }
    for code in Code::ALL {
        counter!(REFUSALS, "code" => code.as_str()).absolute(0);
        counter!(DECLINED, "code" => code.as_str()).absolute(0);
    }
    gauge!(WAITING).set(0.0);
    describe_gauge!(WAITING, Unit::Count, "Institutions waiting in a check-in");
    describe_gauge!(
        EXPIRY,
        Unit::Seconds,
        "When the first certificate of that kind runs out, in seconds since 1970"
    );
    Ok(())
}

pub fn count_refusal(code: Code) {
    counter!(REFUSALS, "code" => code.as_str()).increment(1);
}

/// Whether this process leads.
pub(crate) fn show_lead(leads: bool) {
    gauge!(LEADER).set(if leads { 1.0 } else { 0.0 });
}

/// Since when somebody leads, and how often that has changed.
pub(crate) fn show_leader(since: Time, changes: i64) {
    gauge!(LEADER_SINCE).set(since.as_millis() as f64 / 1000.0);
    counter!(LEADER_CHANGES).absolute(changes.try_into().unwrap_or_default());
}

/// Whether one more refusal is worth a line: a flood of them is counted, and fills no disk.
pub(crate) fn may_log_refusal() -> bool {
    static LINES: LazyLock<Mutex<Bucket>> =
        LazyLock::new(|| Mutex::new(Bucket::new(200, 600, Duration::from_mins(1))));
    let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.take(Instant::now())
}

/// Says when the first certificate of a kind runs out.
pub(crate) fn set_expiry(of: &'static str, until: Time) {
    gauge!(EXPIRY, "of" => of).set(until.as_millis() as f64 / 1000.0);
}

pub(crate) fn count_unused() {
    counter!(UNUSED).increment(1);
}

pub(crate) fn count_declined(code: Code) {
    counter!(DECLINED, "code" => code.as_str()).increment(1);
}

pub(crate) fn count_step() {
    counter!(STEPS).increment(1);
}

pub(crate) fn count_commit(name: &'static str, took: Duration) {
    counter!(COMMITS, "transaction" => name).increment(1);
    histogram!(COMMIT_SECONDS).record(took.as_secs_f64());
}

/// The kind is the event's own name.
pub(crate) fn count_event(kind: String) {
    counter!(EVENTS, "kind" => kind).increment(1);
}

pub(crate) fn show_queue(waiting: usize) {
    gauge!(QUEUE).set(waiting as f64);
}

pub(crate) fn count_uploaded(bytes: u64) {
    counter!(UPLOADED).increment(bytes);
}

/// How a request to an object store elsewhere failed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ObjectFault {
    /// The connection could not be made, or broke.
    Connection,
    /// There was no answer in time, or it stopped.
    Timeout,
    /// The store says that the fault is its own.
    Server,
}

impl ObjectFault {
    const ALL: [Self; 3] = [Self::Connection, Self::Timeout, Self::Server];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Timeout => "timeout",
            Self::Server => "server",
        }
    }
}

pub(crate) fn count_object_fault(fault: ObjectFault) {
    counter!(OBJECT_FAULTS, "kind" => fault.as_str()).increment(1);
}

pub(crate) fn count_downloaded(bytes: u64) {
    counter!(DOWNLOADED).increment(bytes);
}

pub(crate) fn record_aggregation(seconds: f64) {
    histogram!(AGGREGATION).record(seconds);
}

/// What an operator looks at daily. The names are of institutions that the operator let in.
pub(crate) fn show(institutions: &[InstitutionView], runs: &[RunView]) {
    let seconds = |time: Time| time.as_millis() as f64 / 1000.0;
    for view in institutions {
        let name = view.institution.to_string();
        if let Some(seen) = view.last_seen {
            gauge!(LAST_SEEN, "institution" => name.clone()).set(seconds(seen));
        }
        gauge!(CERTIFICATE, "institution" => name).set(seconds(view.certificate_expires));
    }
    for run in runs.iter().filter(|run| !run.state.is_end()) {
        show_run(run);
    }
    // Those without a run are 0.
    for state in RunState::ALL {
        let count = runs.iter().filter(|run| run.state == *state).count();
        gauge!(RUNS, "state" => state.as_str()).set(count as f64);
    }
}

/// The names are of runs that the operator created.
fn show_run(run: &RunView) {
    let name = run.run.to_string();
    let set = |metric: &'static str, value: f64| gauge!(metric, "run" => name.clone()).set(value);
    let count = |fits: fn(MemberState) -> bool| {
        let members = run.members.iter().filter(|member| fits(member.state));
        members.count() as f64
    };
    set(ROUND, f64::from(run.round));
    set(ROUNDS, f64::from(run.rounds));
    set(MEMBERS, count(|state| state != MemberState::Left));
    let at_work = |state| matches!(state, MemberState::Assigned | MemberState::Working);
    set(AWAITED, count(at_work));
    let spent = run.members.iter().filter_map(|member| member.epsilon);
    if let Some(largest) = spent.reduce(f64::max) {
        set(EPSILON, largest);
    }
    if let Some(f1) = run.f1 {
        set(F1, f1);
    }
}

pub(crate) fn show_disk(free: u64) {
    gauge!(DISK).set(free as f64);
}

/// Counts an institution as waiting for as long as it lives.
#[derive(Debug)]
pub(crate) struct Waiting(());

impl Waiting {
    pub(crate) fn new() -> Self {
        gauge!(WAITING).increment(1.0);
        Self(())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        gauge!(WAITING).decrement(1.0);
    }
}
