//! `key show`, `key rotate`.

use std::process::ExitCode;

use clap::Subcommand;
use fedner_shared::sign::PublicKey;
use fedner_shared::time::Time;
use serde::Serialize;

use super::Context;
use crate::identity::{self, Identity};
use crate::state::Store;

/// Show this institution's signing key, or replace it
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the keys that others may compare, and until when the certificate holds
    Show,
    /// Make a new signing key; the daemon has the old one sign that it comes next
    Rotate,
}

#[derive(Debug, Serialize)]
struct Shown {
    institution: String,
    /// By which this institution signs.
    signing: PublicKey,
    /// Takes its place once the coordinator knows of it.
    waiting: Option<PublicKey>,
    /// Those that signed before.
    earlier: Vec<PublicKey>,
    /// By which plans are signed.
    operator: PublicKey,
    certificate_expires: Time,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let directory = context.directory()?;
    let settings = directory.settings()?;
    let identity = Identity::load(&directory.identity(), settings.institution)?;
    if matches!(arguments.command, Command::Rotate) {
        identity::make_waiting_key(&directory)?;
        tracing::info!("the daemon takes the new key when it has nothing under way");
    }
    let waiting = identity::waiting_key(&directory)?;
    let shown = Shown {
        institution: identity.institution.to_string(),
        signing: identity.signing.public(),
        waiting: waiting.map(|key| key.public()),
        earlier: Store::open(&directory.database())?.earlier_keys()?,
        operator: identity.operator,
        certificate_expires: identity.validity.not_after,
    };
    context.output.data(&shown, text)?;
    Ok(ExitCode::SUCCESS)
}

fn text(shown: &Shown) -> String {
    let mut lines = vec![
        format!("institution  {}", shown.institution),
        format!("signing      {}", in_groups(&shown.signing)),
    ];
    if let Some(waiting) = &shown.waiting {
        lines.push(format!("waiting      {}", in_groups(waiting)));
    }
    for earlier in &shown.earlier {
        lines.push(format!("earlier      {}", in_groups(earlier)));
    }
    lines.push(format!("operator     {}", in_groups(&shown.operator)));
    lines.push(format!("certificate  until {}", shown.certificate_expires));
    lines.join("\n")
}

/// Digits as people read them to each other.
fn in_groups(key: &PublicKey) -> String {
    let digits = key.to_string();
    let groups = digits.as_bytes().chunks(4).map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(" ")
}
