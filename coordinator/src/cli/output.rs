//! What commands write, and how failures look. The only place of the program that prints.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this module is the program's voice"
)]

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::ValueEnum;
use comfy_table::{Table, presets};
use fedner_proto::convert;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::text;
use serde::Serialize;
use tracing_subscriber::EnvFilter;

use crate::engine::Failure;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON value, or one a line where there is a stream of them
    Json,
}

#[derive(Debug)]
pub(super) struct Output {
    format: Format,
    quiet: bool,
}

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// Exit status 1.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Exit status 3.
    #[error("{0}")]
    Fault(String),
}

impl Failed {
    pub(super) fn fault(message: impl Into<String>) -> Self {
        Self::Fault(message.into())
    }

    pub(super) fn refuse(code: Code, message: impl Into<String>) -> Self {
        Self::Refused(Refusal::new(code, message))
    }

    /// For input and output on files of our own.
    pub(super) fn io(verb: &str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let what = format!("cannot {verb} {}", path.display());
        move |error| Self::Fault(format!("{what}: {error}"))
    }
}

impl From<tonic::Status> for Failed {
    fn from(status: tonic::Status) -> Self {
        if let Some(refusal) = convert::refusal_of(&status) {
            return Self::Refused(refusal);
        }
        if status.code() == tonic::Code::Unavailable {
            return Self::refuse(
                Code::Unreachable,
                format!("the coordinator does not answer: {}", status.message()),
            );
        }
        Self::fault(format!("the coordinator failed: {}", status.message()))
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => Self::Refused(refusal),
            Failure::Fault(fault) => Self::fault(fault.to_string()),
        }
    }
}

impl From<crate::keys::Error> for Failed {
    fn from(error: crate::keys::Error) -> Self {
        use crate::keys::Error;
        match error {
            Error::Refused(refusal) => Self::Refused(refusal),
            Error::Authority { .. } | Error::Key { .. } => {
                Self::refuse(Code::StateInvalid, error.to_string())
            }
            Error::File { .. } | Error::Make(_) | Error::Sign(_) | Error::Tls(_) => {
                Self::fault(error.to_string())
            }
        }
    }
}

impl From<crate::blobs::Error> for Failed {
    fn from(error: crate::blobs::Error) -> Self {
        let damaged = matches!(error, crate::blobs::Error::Corrupt { .. }) || error.is_missing();
        if damaged {
            return Self::refuse(Code::StateInvalid, error.to_string());
        }
        Self::fault(error.to_string())
    }
}

impl From<crate::config::Error> for Failed {
    fn from(error: crate::config::Error) -> Self {
        Self::refuse(Code::ConfigInvalid, error.to_string())
    }
}

impl Output {
    pub(super) fn new(format: Format, quiet: bool) -> Self {
        Self { format, quiet }
    }

    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Data: `value` as JSON, or what `render` makes of it; nothing in it acts on a terminal.
    pub(super) fn data<T: Serialize>(&self, value: &T, render: impl FnOnce(&T) -> String) {
        match self.format {
            Format::Json => match serde_json::to_string(value) {
                Ok(json) => write_line(&text::json(&json)),
                Err(error) => eprintln!("cannot write JSON: {error}"),
            },
            Format::Text => write_line(&text::lines(render(value).trim_end())),
        }
    }

    /// Talk, on stderr.
    pub(super) fn say(&self, words: impl AsRef<str>) {
        if !self.quiet {
            eprintln!("{}", text::lines(words.as_ref()));
        }
    }

    pub(super) fn completions(shell: clap_complete::Shell, command: &mut clap::Command) {
        clap_complete::generate(shell, command, "fedner-coordinator", &mut std::io::stdout());
    }

    pub(super) fn fail(&self, failed: &Failed) -> ExitCode {
        let (code, hint, status) = match failed {
            Failed::Refused(refusal) => (refusal.code.as_str(), refusal.code.hint(), 1),
            Failed::Fault(_) => (
                "fault",
                "this is a fault of fedner or of its machine, not of yours; `-v` says more",
                3,
            ),
        };
        if self.is_json() {
            let error = serde_json::json!({ "error": { "code": code, "message": failed.to_string(), "hint": hint } });
            eprintln!("{}", text::json(&error.to_string()));
        } else {
            let failed = failed.to_string();
            eprintln!("error[{code}]: {}\nhint: {hint}", text::lines(&failed));
        }
        ExitCode::from(status)
    }
}

/// A closed pipe is the reader's wish, not an error.
fn write_line(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{text}");
}

/// A table without lines, as `column`s of text.
pub(super) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    table
        .lines()
        .map(|line| line.trim_end().trim_start_matches(' ').to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// A number, or a dash.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

pub(super) fn start_logging(verbose: u8, quiet: bool) {
    let level = match (quiet, verbose) {
        (true, _) => "error",
        (false, 0) => "warn,fedner_coordinator=info",
        (false, 1) => "info,fedner_coordinator=debug",
        (false, _) => "debug",
    };
    let filter = EnvFilter::try_from_env("FEDNER_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // A test kit may have started logging before.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || text::OneLine::new(std::io::stderr(), colour))
        .with_ansi(colour)
        .with_target(false)
        .try_init();
}
