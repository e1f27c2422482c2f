//! `policy`.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Subcommand;
use fedner_host::machine::{Machine as _, ThisMachine};
use fedner_host::output::table;
use fedner_shared::digest::Digest;
use fedner_shared::time::Time;
use serde::Serialize;

use super::{Context, runtime};
use crate::config::{Directory, Hours, Policy};
use crate::rules;
use crate::state::{PolicyRecord, PolicySource, Store};

/// What this institution allows, whatever a plan says
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the policy in force
    Show,
    /// Put policy.toml in force as it stands, also where it allows more than before
    Apply,
    /// Show which policies were in force, since when and by what
    History,
}

#[derive(Debug, Serialize)]
struct Applied {
    before: Option<Digest>,
    policy: Digest,
    /// The keys in which more is allowed than before.
    looser: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct Row {
    since: Time,
    policy: Digest,
    by: PolicySource,
    /// The keys in which more was allowed than before.
    looser: Vec<&'static str>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let directory = context.directory()?;
    directory.settings()?;
    let store = Store::open(&directory.database())?;
    match arguments.command {
        Command::Show => show(context, &store, &directory)?,
        Command::Apply => apply(context, &store, &directory)?,
        Command::History => {
            let rows = rows(&store.policies()?);
            context.output.data(&rows, |rows| text(rows))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(context: &Context, store: &Store, directory: &Directory) -> anyhow::Result<()> {
    let shown = rules::shown(store, directory)?;
    if let Some(fault) = &shown.fault {
        tracing::warn!("nothing is allowed now: {fault}");
    }
    let policy = &shown.policy;
    context.output.data(policy, |policy| {
        let digest = policy.digest();
        let keys = toml::to_string(policy).unwrap_or_default();
        let mut text = format!("# {}\n{keys}", digest.short());
        if policy.hours.is_some()
            && let Some(local) = Hours::wall_clock(ThisMachine.now())
        {
            let _ = writeln!(text, "# hours are by this clock: {local}");
        }
        if !shown.looser.is_empty() {
            let keys = shown.looser.join(", ");
            let _ = writeln!(
                text,
                "# policy.toml would allow more in {keys}: `fedner-client policy apply`"
            );
        }
        text
    })?;
    Ok(())
}

fn apply(context: &Context, store: &Store, directory: &Directory) -> anyhow::Result<()> {
    let applying = rules::apply(store, directory, ThisMachine.now());
    let (before, policy) = runtime()?.block_on(applying)?;
    let applied = Applied {
        looser: looser(before.as_ref(), &policy),
        before: before.map(|policy| policy.digest()),
        policy: policy.digest(),
    };
    context.output.data(&applied, |applied| {
        let digest = applied.policy.short();
        if applied.before == Some(applied.policy) {
            format!("the policy {digest} was in force already")
        } else if applied.looser.is_empty() {
            format!("the policy {digest} is in force")
        } else {
            let keys = applied.looser.join(", ");
            format!("the policy {digest} is in force; it allows more in {keys}")
        }
    })?;
    Ok(())
}

fn looser(before: Option<&Policy>, policy: &Policy) -> Vec<&'static str> {
    before.map_or_else(Vec::new, |before| before.tightened_by(policy).looser)
}

fn rows(records: &[PolicyRecord]) -> Vec<Row> {
    let mut before = None;
    let mut rows = Vec::new();
    for record in records {
        rows.push(Row {
            since: record.at,
            policy: record.digest,
            by: record.source,
            looser: looser(before, &record.policy),
        });
        before = Some(&record.policy);
    }
    rows
}

fn text(rows: &[Row]) -> String {
    let cells = rows.iter().map(|row| {
        [
            row.since.to_string(),
            row.policy.short(),
            row.by.as_str().to_owned(),
            row.looser.join(", "),
        ]
    });
    table(["SINCE", "POLICY", "BY", "ALLOWS MORE IN"], &[], cells)
}
