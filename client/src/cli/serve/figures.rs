//! What `/metrics` shows. Names, units and meanings stand here and in the institution's guide.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;

const REQUESTS: &str = "fedner_serve_requests_total";
const TEXTS: &str = "fedner_serve_texts_total";
const BYTES: &str = "fedner_serve_text_bytes_total";
const GROUPS: &str = "fedner_serve_groups_total";
const WAITING: &str = "fedner_serve_waiting_bytes";

/// Classes of answers; labels come from here.
const CLASSES: [&str; 3] = ["2xx", "4xx", "5xx"];

/// Counted since the start.
#[derive(Debug, Default)]
pub(super) struct Figures {
    requests: [AtomicU64; CLASSES.len()],
    texts: AtomicU64,
    bytes: AtomicU64,
    groups: AtomicU64,
}

impl Figures {
    pub(super) fn answered(&self, status: StatusCode) {
        let class = if status.is_success() {
            0
        } else if status.is_client_error() {
            1
        } else {
            2
        };
        self.requests[class].fetch_add(1, Ordering::Relaxed);
    }

    /// Texts that were tagged together.
    pub(super) fn grouped(&self, texts: usize, bytes: usize) {
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.texts.fetch_add(texts as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn text(&self, waiting: usize) -> String {
        let mut text = String::new();
        let mut head = |name: &str, kind: &str, help: &str| {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
            std::mem::take(&mut text)
        };
        let mut all = head(
            REQUESTS,
            "counter",
            "Requests, by the class of their answer",
        );
        for (class, count) in CLASSES.iter().zip(&self.requests) {
            let count = count.load(Ordering::Relaxed);
            let _ = writeln!(all, "{REQUESTS}{{status=\"{class}\"}} {count}");
        }
        for (name, help, count) in [
            (TEXTS, "Texts that were tagged", &self.texts),
            (BYTES, "Their bytes", &self.bytes),
            (GROUPS, "Groups in which they were tagged", &self.groups),
        ] {
            all += &head(name, "counter", help);
            let _ = writeln!(all, "{name} {}", count.load(Ordering::Relaxed));
        }
        all += &head(
            WAITING,
            "gauge",
            "Bytes of text that wait or are being tagged",
        );
        let _ = writeln!(all, "{WAITING} {waiting}");
        all
    }
}
