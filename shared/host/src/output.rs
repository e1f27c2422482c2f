//! What commands write, and how failures look: data goes to stdout, talk and errors to stderr.

#![allow(
    clippy::print_stderr,
    reason = "everything that a program prints goes through here"
)]

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{ArgAction, Args, Parser, ValueEnum};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use fedner_shared::refusal::Refusal;
use fedner_shared::text;
use serde::Serialize;
use serde_json::json;
use tracing_subscriber::EnvFilter;

use crate::log::{self, LogFormat};

/// Of a fault, which has no code of its own.
const FAULT_HINT: &str =
    "this is a fault of fedner or of its machine, not of yours; `-v` says more";

/// How data is written: for people, or one JSON value a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    // Doc comments here would be printed with each command's help.
    #[default]
    Text,
    Json,
}

/// The options of every command.
#[derive(Debug, Args)]
pub struct OutputArguments {
    /// How data is written to stdout: for people, or one JSON value a line
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    output: Format,
    /// Print nothing but data and errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print more (`-vv` for debug)
    #[arg(long, short, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// How the log is written to stderr: for people, or one JSON record a line
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    log_format: LogFormat,
}

impl OutputArguments {
    /// Starts the log of the crate `program`, on stderr, and says where data goes.
    pub fn open(&self, program: &str) -> Output {
        let level = match (self.quiet, self.verbose) {
            (true, _) => "error".to_owned(),
            (false, 0) => format!("warn,{program}=info,fedner_host=info"),
            (false, 1) => format!("info,{program}=debug,fedner_host=debug"),
            (false, _) => "debug".to_owned(),
        };
        let filter =
            EnvFilter::try_from_env("FEDNER_LOG").unwrap_or_else(|_| EnvFilter::new(level));
        log::start(self.log_format, filter);
        Output {
            format: self.output,
            quiet: self.quiet,
        }
    }
}

/// Reads a command line. Otherwise it has been answered, and this is the exit status: 0 for help and
/// version, 2 for wrong usage, 3 where the answer could not be written.
pub fn parse<P: Parser>(arguments: impl IntoIterator<Item = OsString>) -> Result<P, ExitCode> {
    P::try_parse_from(arguments).map_err(|error| match error.print() {
        Ok(()) => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)),
        Err(_) => ExitCode::from(3),
    })
}

/// Where data and talk go.
#[derive(Debug)]
pub struct Output {
    format: Format,
    quiet: bool,
}

impl Output {
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Writes `value` as JSON, or what `render` makes of it; nothing in it acts on a terminal.
    pub fn data<T: Serialize>(
        &self,
        value: &T,
        render: impl FnOnce(&T) -> String,
    ) -> io::Result<()> {
        raw(self.text(value, render)?.as_bytes())
    }

    /// The same of several values at once.
    pub fn data_of_all<T: Serialize>(
        &self,
        values: &[T],
        render: impl Fn(&T) -> String,
    ) -> io::Result<()> {
        let texts = values.iter().map(|value| self.text(value, &render));
        raw(texts.collect::<io::Result<String>>()?.as_bytes())
    }

    fn text<T: Serialize>(
        &self,
        value: &T,
        render: impl FnOnce(&T) -> String,
    ) -> io::Result<String> {
        let text = match self.format {
            Format::Json => text::json(&serde_json::to_string(value)?).into_owned(),
            Format::Text => text::lines(&render(value)).into_owned(),
        };
        Ok(format!("{}\n", text.trim_end()))
    }

    /// Writes a list. Where it is empty, people are told what comes next, and nothing is written for them.
    pub fn list<T: Serialize>(
        &self,
        rows: &[T],
        next: &str,
        render: impl FnOnce(&[T]) -> String,
    ) -> io::Result<()> {
        if rows.is_empty() && !self.is_json() {
            self.say(next);
            return Ok(());
        }
        self.data(&rows, |rows| render(rows))
    }

    /// Talk, on stderr.
    pub fn say(&self, words: impl AsRef<str>) {
        if !self.quiet {
            eprintln!("{}", text::lines(words.as_ref()));
        }
    }

    /// The user or a peer is at fault: the error line and its hint, on stderr.
    pub fn refused(&self, refusal: &Refusal) -> ExitCode {
        let code = refusal.code;
        self.error(code.as_str(), &refusal.message, code.hint());
        ExitCode::from(1)
    }

    /// We are at fault.
    pub fn fault(&self, message: &str) -> ExitCode {
        self.error("fault", message, FAULT_HINT);
        ExitCode::from(3)
    }

    fn error(&self, code: &str, message: &str, hint: &str) {
        if self.is_json() {
            let error = json!({"error": {"code": code, "message": message, "hint": hint}});
            eprintln!("{}", text::json(&error.to_string()));
        } else {
            eprintln!("error[{code}]: {}\nhint: {hint}", text::lines(message));
        }
    }
}

/// Writes bytes to stdout. A reader that went away is no fault.
pub fn raw(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// A table of text; the columns in `right` hold numbers.
pub fn table<const N: usize>(
    head: [&str; N],
    right: &[usize],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let head = head.into_iter().map(str::to_owned).collect();
    table_of(head, right, rows.into_iter().map(Vec::from))
}

/// The same with as many columns as `head` has.
pub fn table_of(
    head: Vec<String>,
    right: &[usize],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(head);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for index in right {
        if let Some(column) = table.column_mut(*index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n")
}

/// A number, or a dash.
pub fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_and_no_line_ends_in_blanks() {
        let rows = [
            ["a".to_owned(), "1".to_owned(), "x".to_owned()],
            [String::new(), "100".to_owned(), String::new()],
        ];
        let found = table(["NAME", "COUNT", "NOTE"], &[1], rows);
        let expected = "NAME  COUNT  NOTE\na         1  x\n        100";
        assert_eq!(found, expected);
    }
}
