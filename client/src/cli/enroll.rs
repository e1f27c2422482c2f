//! `enroll`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use fedner_host::address::Addresses;
use serde::Serialize;

use super::{Context, runtime};
use crate::config::Invite;
use crate::identity;

/// Make the keys here, get the certificate with an invite, and write the configuration
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The invite's file, or `-` for stdin
    invite: PathBuf,
    /// Corpora to train on, for client.toml
    #[arg(long, value_name = "FILE", num_args = 1..)]
    data: Vec<PathBuf>,
    /// Corpora to evaluate on, for client.toml
    #[arg(long, value_name = "FILE", num_args = 1..)]
    held_out: Vec<PathBuf>,
    /// The name that the coordinator's certificate has, where it is dialled by another one
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// A proxy, as http://HOST:PORT or socks5://HOST:PORT, or `direct` [default: by the environment]
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    institution: String,
    coordinator: Addresses,
    directory: PathBuf,
    certificate_expires: String,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let directory = context.directory()?;
    let text = read_invite(&arguments.invite)?;
    let invite = Invite::parse(&arguments.invite, &text)?;
    let data = absolute(&arguments.data)?;
    let held_out = absolute(&arguments.held_out)?;
    let way = identity::Way {
        server_name: arguments.server_name,
        proxy: arguments.proxy,
    };
    let enrolling = identity::enrol(&directory, &invite, data, held_out, way);
    let enrolled = runtime()?.block_on(enrolling)?;
    let again = enrolled.again;
    let report = Report {
        institution: enrolled.settings.institution.to_string(),
        coordinator: enrolled.settings.coordinator,
        directory: directory.root().to_owned(),
        certificate_expires: enrolled.validity.not_after.to_string(),
    };
    context.output.data(&report, |report| {
        format!(
            "{} is enrolled {}at {}; the certificate holds until {} and renews itself\n\
             see client.toml and policy.toml in {}, then `fedner-client check` and `fedner-client start`",
            report.institution,
            if again { "again, with its books, " } else { "" },
            report.coordinator,
            report.certificate_expires,
            report.directory.display()
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

fn read_invite(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("read the invite from stdin")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).map_err(|source| {
        crate::config::Error::Read {
            file: path.to_owned(),
            source,
        }
        .into()
    })
}

/// The daemon may be started from another folder.
fn absolute(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let absolute = |path: &PathBuf| {
        std::path::absolute(path).with_context(|| format!("resolve {}", path.display()))
    };
    paths.iter().map(absolute).collect()
}
