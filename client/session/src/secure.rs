//! What an institution has said in one attempt of a secure aggregation, and so may say still.
//!
//! The first roster, masked vector and set that it answers for are the only ones. The same may be said again, since an
//! answer can be lost. Anything else is a contradiction, whoever asks for it: with two vectors under one mask their
//! difference would be open, and with two sets both kinds of share of one member would be told. The owner makes what
//! is said durable before it leaves.

use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// For which roster shares were dealt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    roster: Option<Digest>,
    /// With which members there are masks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dealt: Option<Digest>,
    /// The vector that is under the masks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    masked: Option<Digest>,
    /// Whose vectors are in the sum. Which share of whom is told follows from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    set: Option<Vec<InstitutionId>>,
}

/// Something else was said before in this attempt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("another {what} was answered for before in this attempt")]
pub struct Contradiction {
    what: &'static str,
}

fn only<T: PartialEq>(
    held: &mut Option<T>,
    value: T,
    what: &'static str,
) -> Result<(), Contradiction> {
    match held {
        Some(held) if *held == value => Ok(()),
        Some(_) => Err(Contradiction { what }),
        None => {
            *held = Some(value);
            Ok(())
        }
    }
}

impl Said {
    /// After shares were dealt to that roster.
    pub fn deal(&self, roster: Digest) -> Result<Self, Contradiction> {
        let mut said = self.clone();
        only(&mut said.roster, roster, "roster")?;
        Ok(said)
    }

    /// After masks with those who dealt to that roster were agreed on.
    pub fn agree(&self, roster: Digest, dealt: Digest) -> Result<Self, Contradiction> {
        let mut said = self.clone();
        if said.roster.is_none() {
            return Err(Contradiction { what: "roster" });
        }
        only(&mut said.roster, roster, "roster")?;
        only(&mut said.dealt, dealt, "set of dealers")?;
        Ok(said)
    }

    /// After a vector was masked. There is no second one under the same masks.
    pub fn mask(&self, vector: Digest) -> Result<Self, Contradiction> {
        let mut said = self.clone();
        if said.dealt.is_none() {
            let what = "set of dealers";
            return Err(Contradiction { what });
        }
        only(&mut said.masked, vector, "vector")?;
        Ok(said)
    }

    /// After a set was signed, or shares for it were told.
    pub fn settle(
        &self,
        (roster, dealt): (Digest, Digest),
        set: &[InstitutionId],
    ) -> Result<Self, Contradiction> {
        let mut said = self.agree(roster, dealt)?;
        if said.masked.is_none() {
            return Err(Contradiction { what: "vector" });
        }
        only(&mut said.set, set.to_vec(), "set")?;
        Ok(said)
    }

    /// Whether a vector is under the masks already.
    pub const fn has_masked(&self) -> bool {
        self.masked.is_some()
    }

    /// Whether it is this one.
    pub fn is_masked(&self, vector: &Digest) -> bool {
        self.masked.as_ref() == Some(vector)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(all: &[&str]) -> Vec<InstitutionId> {
        all.iter().map(|name| name.parse().expect("name")).collect()
    }

    fn digest(number: u8) -> Digest {
        Digest::from_bytes([number; 32])
    }

    #[test]
    fn the_first_answer_is_the_only_one() {
        let said = Said::default().deal(digest(1)).expect("first");
        assert_eq!(said.deal(digest(1)).expect("again"), said);
        said.deal(digest(2)).expect_err("another roster");
        said.agree(digest(2), digest(3))
            .expect_err("another roster");
        let said = said.agree(digest(1), digest(3)).expect("dealers");
        said.agree(digest(1), digest(4)).expect_err("other dealers");
        let (of, all) = ((digest(1), digest(3)), names(&["a", "b", "c"]));
        said.settle(of, &all).expect_err("nothing is masked yet");
        let said = said.mask(digest(5)).expect("masked");
        said.mask(digest(6)).expect_err("a mask used twice");
        let said = said.settle(of, &all).expect("a set");
        assert_eq!(said.settle(of, &all).expect("again"), said);
        said.settle(of, &names(&["a", "b"]))
            .expect_err("another set");
        said.settle((digest(9), digest(3)), &all)
            .expect_err("another roster");
        let json = serde_json::to_string(&said).expect("json");
        assert_eq!(serde_json::from_str::<Said>(&json).expect("read"), said);
    }

    #[test]
    fn nothing_is_masked_before_shares_are_dealt() {
        let none = Said::default();
        none.agree(digest(1), digest(2)).expect_err("no roster");
        none.mask(digest(1)).expect_err("no dealers");
    }

    proptest! {
        /// Whatever a coordinator asks for in whatever order, no member is in two sets' answers in two ways.
        #[test]
        fn no_order_of_questions_gets_two_answers(
            asked in prop::collection::vec((0u8..4, 0u8..3, 0u8..3), 1..40),
        ) {
            let mut said = Said::default();
            let (mut rosters, mut vectors, mut sets) = (Vec::new(), Vec::new(), Vec::new());
            for (kind, first, second) in asked {
                let (roster, other) = (digest(first), digest(10 + second));
                let set = names(&[["a", "b", "c"][first as usize], ["d", "e", "f"][second as usize]]);
                let next = match kind {
                    0 => said.deal(roster),
                    1 => said.agree(roster, other),
                    2 => said.mask(other),
                    _ => said.settle((roster, other), &set),
                };
                let Ok(next) = next else { continue };
                match kind {
                    0 | 1 => rosters.push(roster),
                    2 => vectors.push(other),
                    _ => sets.push(set),
                }
                said = next;
            }
            for all in [rosters, vectors] {
                prop_assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
            }
            prop_assert!(sets.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }
}
