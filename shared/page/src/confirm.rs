//! Questions that are asked before something is done, each of which counts once.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use maud::{Markup, html};

/// Questions that are open at the same time; the oldest is forgotten.
const OPEN: usize = 64;

/// What was asked and not answered yet, each with a number that nobody else knows.
#[derive(Debug)]
pub struct Confirmations<T>(Mutex<VecDeque<(String, T)>>);

impl<T> Default for Confirmations<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Confirmations<T> {
    /// The number by which the question is answered.
    pub fn ask(&self, deed: T) -> Result<String, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        let once = hex::encode(bytes);
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() == OPEN {
            open.pop_front();
        }
        open.push_back((once.clone(), deed));
        Ok(once)
    }

    /// What was asked about; each answer counts once.
    pub fn answer(&self, once: &str) -> Option<T> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = open.iter().position(|(number, _)| number == once)?;
        open.remove(at).map(|(_, deed)| deed)
    }
}

/// What is said to an answer that was given before.
pub fn answered_before() -> Markup {
    html! {
        h1 { "This was answered before" }
        p { "Each question counts once. Look at what came of it before you ask again." }
        p { a href="" { "Overview" } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_question_is_answered_once_and_old_ones_are_forgotten() {
        let open = Confirmations::default();
        let once = open.ask("pause").expect("drawn");
        assert_eq!(open.answer(&once), Some("pause"));
        assert_eq!(open.answer(&once), None);
        assert_eq!(open.answer(""), None);
        let old = open.ask("pause").expect("drawn");
        for _ in 0..OPEN {
            open.ask("pause").expect("drawn");
        }
        assert_eq!(open.answer(&old), None);
    }
}
