//! The one place that writes to stdout and, for errors, to stderr.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "everything that the program prints goes through here"
)]

use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use fedner_shared::refusal::Refusal;
use fedner_shared::text;
use serde::Serialize;
use serde_json::json;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// Where data goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Format,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    /// Writes `value` as JSON, or what `render` makes of it; nothing in it acts on a terminal.
    pub(crate) fn data<T: Serialize>(
        self,
        value: &T,
        render: impl FnOnce(&T) -> String,
    ) -> io::Result<()> {
        let text = match self.format {
            Format::Json => text::json(&serde_json::to_string_pretty(value)?).into_owned(),
            Format::Text => text::lines(&render(value)).into_owned(),
        };
        raw(format!("{}\n", text.trim_end_matches('\n')).as_bytes())
    }

    /// The error line and its hint, on stderr.
    pub(super) fn refusal(self, refusal: &Refusal) {
        let (code, message) = (refusal.code, &refusal.message);
        self.error(code.as_str(), message, Some(code.hint()));
    }

    pub(super) fn fault(self, message: &str) {
        self.error("fault", message, None);
    }

    fn error(self, code: &str, message: &str, hint: Option<&str>) {
        match self.format {
            Format::Json => {
                let error = json!({"error": {"code": code, "message": message, "hint": hint}});
                eprintln!("{}", text::json(&error.to_string()));
            }
            Format::Text => {
                eprintln!("error[{code}]: {}", text::lines(message));
                if let Some(hint) = hint {
                    eprintln!("hint: {hint}");
                }
            }
        }
    }
}

/// Bytes to stdout. A reader that went away is no fault.
pub(super) fn raw(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// A table of text; the columns in `right` hold numbers.
pub(super) fn table<const N: usize>(
    head: [&str; N],
    right: &[usize],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(head);
    for row in rows {
        table.add_row(row);
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

/// An ε as people read it: rounded up.
pub(super) fn epsilon(epsilon: f64) -> String {
    if epsilon.is_finite() {
        format!("{:.3}", (epsilon * 1000.0).ceil() / 1000.0)
    } else {
        "none (no noise)".to_owned()
    }
}
