//! How far long work has come: a bar on a terminal, now and then a line elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const LINE_EVERY: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    label: &'static str,
    last: Instant,
}

impl Progress {
    pub(crate) fn new(label: &'static str) -> Self {
        let wanted = std::io::stderr().is_terminal() && tracing::enabled!(tracing::Level::INFO);
        let bar = wanted.then(|| {
            let bar = ProgressBar::new(0).with_prefix(label);
            let template = "{prefix} {bar:30} {pos}/{len} {msg} {eta}";
            bar.with_style(
                ProgressStyle::with_template(template)
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            )
        });
        Self {
            bar,
            label,
            last: Instant::now(),
        }
    }

    pub(crate) fn at(&mut self, done: usize, total: usize, message: impl FnOnce() -> String) {
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
