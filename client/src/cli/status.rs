//! `status`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use fedner_host::address::Addresses;
use fedner_host::machine::{Machine as _, ThisMachine};
use fedner_host::output::table;
use fedner_session::State;
use fedner_shared::time::Time;
use serde::Serialize;

use super::Context;
use crate::cli::figures::epsilon;
use crate::config::Directory;
use crate::egress;
use crate::identity::Identity;
use crate::state::{Contact, Standing, Store};

/// Show the daemon, the assignment at hand, and the plans
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

#[derive(Debug, Serialize)]
struct Report {
    institution: String,
    coordinator: Addresses,
    running: bool,
    certificate_expires: Time,
    contact: Contact,
    session: Assignment,
    /// How often each code was said to the coordinator instead of doing what it asked.
    refusals: BTreeMap<String, u64>,
    plans: Vec<PlanRow>,
}

#[derive(Debug, Serialize)]
struct Assignment {
    /// `idle`, `fetching`, `training`, `releasing`, `uploading` or `evaluating`.
    state: &'static str,
    since: Option<Time>,
    run: Option<String>,
    round: Option<u32>,
    attempt: Option<u32>,
}

#[derive(Debug, Serialize)]
struct PlanRow {
    plan: String,
    name: String,
    run: String,
    rounds: u32,
    consent: Standing,
    examples: Option<u32>,
    consent_expires: Option<Time>,
    updates_released: usize,
    updates_taken: usize,
    /// Absent without noise.
    epsilon: Option<f64>,
    max_epsilon: Option<f64>,
}

pub(super) fn run(context: &Context, _: Arguments) -> anyhow::Result<ExitCode> {
    let directory = context.directory()?;
    let report = Report::of(&directory)?;
    context.output.data(&report, text)?;
    Ok(ExitCode::SUCCESS)
}

impl Report {
    fn of(directory: &Directory) -> anyhow::Result<Self> {
        let settings = directory.settings()?;
        let identity = Identity::load(&directory.identity(), settings.institution.clone())?;
        let store = Store::open(&directory.database())?;
        let session = store.session()?;
        let task = session.task();
        Ok(Self {
            running: directory.is_running(),
            certificate_expires: identity.validity.not_after,
            contact: store.contact()?,
            refusals: store.refusals()?,
            plans: plans(&store, &identity)?,
            session: Assignment {
                state: State::name(&session.state),
                since: session.since,
                run: task.map(|task| task.run.to_string()),
                round: task.map(|task| task.round),
                attempt: task.map(|task| task.attempt),
            },
            institution: settings.institution.to_string(),
            coordinator: settings.coordinator,
        })
    }
}

fn plans(store: &Store, identity: &Identity) -> anyhow::Result<Vec<PlanRow>> {
    let now = ThisMachine.now();
    let ledger = store.ledger()?;
    let receipts = store.receipts()?;
    let mut rows = Vec::new();
    for record in store.plans()? {
        let newest = store.consent(&record.digest)?;
        let updates = || {
            receipts
                .iter()
                .filter(|receipt| receipt.is_for(&record.digest) && receipt.blob.is_some())
        };
        let spent = egress::spent(&ledger, &identity.institution, &record.plan);
        rows.push(PlanRow {
            plan: record.digest.to_string(),
            name: record.plan.name.to_string(),
            run: record.run.to_string(),
            rounds: record.plan.rounds,
            consent: newest
                .as_ref()
                .map_or(Standing::Pending, |newest| newest.standing(now)),
            examples: newest.as_ref().map(|newest| newest.consent.examples),
            consent_expires: newest.as_ref().map(|newest| newest.consent.expires),
            updates_released: updates().count(),
            updates_taken: updates().filter(|receipt| receipt.taken.is_some()).count(),
            epsilon: spent,
            max_epsilon: spent.map(|_| record.plan.privacy.max_epsilon),
        });
    }
    Ok(rows)
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<13}{value}");
    };
    line("institution", report.institution.clone());
    line("coordinator", report.coordinator.to_string());
    line(
        "certificate",
        format!("holds until {}", report.certificate_expires),
    );
    line(
        "daemon",
        if report.running {
            "running"
        } else {
            "not running"
        }
        .to_owned(),
    );
    let contact = match (&report.contact.succeeded, &report.contact.failure) {
        (None, None) => "none yet".to_owned(),
        (Some(at), None) => format!("last at {at}"),
        (at, Some(failure)) => {
            let at = at.map_or("never".to_owned(), |at| at.to_string());
            format!("last at {at}; now: {failure}")
        }
    };
    line("contact", contact);
    let session = &report.session;
    let work = match (&session.run, session.round) {
        (Some(run), Some(round)) => format!("{}: run {run}, round {round}", session.state),
        _ => session.state.to_owned(),
    };
    line("session", work);
    if !report.refusals.is_empty() {
        let counts = report.refusals.iter();
        let counts: Vec<String> = counts.map(|(code, n)| format!("{code} {n}")).collect();
        line("refused", counts.join(", "));
    }
    if report.plans.is_empty() {
        return text;
    }
    let rows = report.plans.iter().map(|row| {
        [
            row.name.clone(),
            row.plan[..12].to_owned(),
            row.consent.as_str().to_owned(),
            format!("{}/{}", row.updates_taken, row.rounds),
            row.epsilon.map_or("-".to_owned(), epsilon),
            row.max_epsilon
                .map_or("-".to_owned(), |max| max.to_string()),
        ]
    });
    let head = ["PLAN", "DIGEST", "CONSENT", "UPDATES", "EPSILON", "LIMIT"];
    format!("{text}\n{}", table(head, &[3, 4, 5], rows))
}
