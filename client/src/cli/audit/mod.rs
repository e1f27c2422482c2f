//! `audit run`, `audit plant`, `audit verify`, `audit submit`.

mod run;
mod submit;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use fedner_host::output;
use fedner_shared::sign::PublicKey;

use super::Context;
use crate::audit::exposure;
use crate::audit::report::SignedReport;
use crate::identity::Identity;
use crate::state::Store;

/// Attack the privacy that is claimed, and say whether the claim stands
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::Arguments>),
    /// Write sentences with entities that nobody else has, to be trained on and looked for later
    Plant {
        /// The entity type
        #[arg(long, value_name = "LABEL")]
        label: String,
        #[arg(long, value_name = "N", default_value_t = 10)]
        count: usize,
        /// How often each sentence comes
        #[arg(long, value_name = "N", default_value_t = 1)]
        repeat: usize,
    },
    /// Check a report's signature and show it
    Verify {
        report: PathBuf,
        /// The public key of the institution that made it [default: this one's]
        #[arg(long, value_name = "HEX")]
        key: Option<PublicKey>,
    },
    Submit(submit::Arguments),
}

pub(super) fn run(context: &Context, arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Run(arguments) => run::run(context, &arguments),
        Command::Submit(arguments) => submit::run(context, arguments),
        Command::Plant {
            label,
            count,
            repeat,
        } => {
            let text = exposure::plant(&label, count, repeat)?;
            output::raw(text.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Verify { report, key } => {
            let keys = match key {
                Some(key) => vec![key],
                None => own_keys(context)?,
            };
            let report = SignedReport::read(&report)?.verify_by_any(&keys)?;
            context.output.data(&report, |report| {
                format!("signed by {}\n{}", report.institution, text::render(report))
            })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The keys that signed for this institution.
fn own_keys(context: &Context) -> anyhow::Result<Vec<PublicKey>> {
    let store = Store::open(&context.directory()?.database())?;
    super::receipts::own_keys(&store, &own_identity(context)?)
}

fn own_identity(context: &Context) -> anyhow::Result<Identity> {
    let directory = context.directory()?;
    let settings = directory.settings()?;
    Ok(Identity::load(&directory.identity(), settings.institution)?)
}
