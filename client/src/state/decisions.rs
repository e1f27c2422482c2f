//! What a person said about an update that waits, and how often what was refused.

use std::collections::BTreeMap;

use fedner_shared::digest::Digest;
use fedner_shared::refusal::Code;
use serde::{Deserialize, Serialize};

use super::{Error, Store, values};

const REFUSALS: &str = "refusals";

/// A person's word on one release, by its receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Nobody has said anything yet.
    #[default]
    None,
    Granted,
    Refused,
}

impl Decision {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "waits",
            Self::Granted => "granted",
            Self::Refused => "refused",
        }
    }
}

fn key(receipt: &Digest) -> String {
    format!("word/{receipt}")
}

impl Store {
    pub fn decision(&self, receipt: &Digest) -> Result<Decision, Error> {
        self.value(&key(receipt))
    }

    /// Keeps the first word on a release; answers with the one that holds.
    pub fn decide(&self, receipt: &Digest, word: Decision) -> Result<Decision, Error> {
        let key = key(receipt);
        self.transaction("decide", |transaction| {
            let said = values::get::<Decision>(transaction, &key)?;
            if said != Decision::None {
                return Ok(said);
            }
            values::put(transaction, &key, &word)?;
            Ok(word)
        })
    }

    /// How often each code was said to the coordinator instead of doing what it asked.
    pub fn refusals(&self) -> Result<BTreeMap<String, u64>, Error> {
        self.value(REFUSALS)
    }

    pub fn count_refusal(&self, code: Code) -> Result<(), Error> {
        self.transaction("count refusal", |transaction| {
            let mut counts = values::get::<BTreeMap<String, u64>>(transaction, REFUSALS)?;
            *counts.entry(code.as_str().to_owned()).or_default() += 1;
            values::put(transaction, REFUSALS, &counts)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::Place;

    #[test]
    fn the_first_word_holds_and_is_kept() {
        let place = Place::new();
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        let store = place.open();
        assert_eq!(store.decision(&one).expect("read"), Decision::None);
        assert_eq!(
            store.decide(&one, Decision::Granted).expect("said"),
            Decision::Granted
        );
        assert_eq!(
            store.decide(&one, Decision::Refused).expect("said"),
            Decision::Granted
        );
        let again = place.open();
        assert_eq!(again.decision(&one).expect("read"), Decision::Granted);
        assert_eq!(again.decision(&other).expect("read"), Decision::None);
    }

    #[test]
    fn refusals_are_counted_by_code() {
        let place = Place::new();
        let store = place.open();
        for code in [Code::OutsideHours, Code::UnitForbidden, Code::OutsideHours] {
            store.count_refusal(code).expect("counted");
        }
        let counts = place.open().refusals().expect("read");
        assert_eq!(counts["outside-hours"], 2);
        assert_eq!(counts["unit-forbidden"], 1);
    }
}
