//! What a coordinator sees of an institution.

use std::time::Duration;

/// Times closer than this are not told apart: a busy machine's own noise.
const APART: Duration = Duration::from_millis(1200);

/// One call of the institution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// The method, with all of the request that the institution chose.
    pub(crate) what: String,
    pub(crate) after: Duration,
}

/// All calls from an assignment to its end. Signs of life that say the same one after another are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Transcript(pub(crate) Vec<Call>);

impl Transcript {
    pub(crate) fn add(&mut self, what: String, after: Duration) {
        // Until the files are there no text is read, and signs of life come beside the downloads.
        if what == "Progress STAGE_DOWNLOADING" {
            return;
        }
        let same = self.0.last().is_some_and(|last| last.what == what);
        if !same {
            self.0.push(Call { what, after });
        }
    }

    /// What is different, if the coordinator can tell.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let calls = |of: &Self| {
            of.0.iter()
                .map(|call| call.what.clone())
                .collect::<Vec<_>>()
        };
        let (own, others) = (calls(self), calls(other));
        if own != others {
            return Some(format!("{own:?}\nbeside\n{others:?}"));
        }
        let apart = self.0.iter().zip(&other.0).find(|(own, other)| {
            // When signs of life come is a beat of their own.
            let counts = !own.what.starts_with("Progress");
            counts && own.after.abs_diff(other.after) > APART
        });
        apart.map(|(own, other)| format!("{own:?}\nbeside\n{other:?}"))
    }

    pub(crate) fn has(&self, what: &str) -> bool {
        self.0.iter().any(|call| call.what.starts_with(what))
    }

    pub(crate) fn after(&self, what: &str) -> Option<Duration> {
        let call = self.0.iter().find(|call| call.what.starts_with(what))?;
        Some(call.after)
    }
}
