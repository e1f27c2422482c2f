//! How far long work has come: a bar on a terminal, now and then a line elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const LINE_EVERY: Duration = Duration::from_secs(15);

/// Shown until it is dropped.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    label: String,
    last: Instant,
}

impl Progress {
    /// Of work in steps.
    pub fn new(label: &str) -> Self {
        Self::with("{prefix} {bar:30} {pos}/{len} {msg} {eta}", label)
    }

    /// Of a transfer whose length is not known.
    pub fn bytes(label: &str) -> Self {
        Self::with("{prefix} {bytes}", label)
    }

    fn with(template: &str, label: &str) -> Self {
        let wanted = std::io::stderr().is_terminal() && tracing::enabled!(tracing::Level::INFO);
        let bar = wanted.then(|| {
            let bar = ProgressBar::new(0).with_prefix(label.to_owned());
            bar.with_style(
                ProgressStyle::with_template(template)
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            )
        });
        Self {
            bar,
            label: label.to_owned(),
            last: Instant::now(),
        }
    }

    /// So many bytes more have come.
    pub fn came(&self, bytes: usize) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes as u64);
        }
    }

    /// So many steps are done.
    pub fn at(&mut self, done: usize, total: usize, message: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            bar.set_message(message());
        } else if self.last.elapsed() >= LINE_EVERY {
            self.last = Instant::now();
            tracing::info!("{}: {done} of {total} {}", self.label, message());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
