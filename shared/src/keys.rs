//! Keys that give way to newer ones, and what members are told to trust.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::id::InstitutionId;
use crate::sign::{self, PublicKey, Signed, Statement};
use crate::time::Time;

/// What a key signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signs {
    /// The operator's key.
    Plans,
    /// The heads of the coordinator's history of events.
    History,
    /// Consents, receipts and reports of that institution.
    Statements(InstitutionId),
}

/// A key gives way to a new one: signed with the old one, so that nobody needs to enrol anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Succession {
    pub signs: Signs,
    pub old: PublicKey,
    pub new: PublicKey,
    pub at: Time,
}

impl Statement for Succession {
    const KIND: &'static str = "key-succession";
}

/// What members are told to trust, over a connection that they trust already.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Trust {
    /// Certificates of authorities (PEM). The first one signs certificates.
    pub authorities: Vec<String>,
    /// Of the keys for plans and for the history, oldest first.
    pub successions: Vec<Signed>,
}

impl Trust {
    pub fn digest(&self) -> Digest {
        Digest::of_json(self)
    }
}

/// Whether less than a third of a certificate's life is left.
pub fn is_due(from: Time, until: Time, now: Time) -> bool {
    until.since(now) < until.since(from) / 3
}

/// All keys from `first` on that each was given way to by the one before, `first` included.
pub fn line(signs: &Signs, first: PublicKey, successions: &[Signed]) -> Vec<PublicKey> {
    let mut line = vec![first];
    let mut present = first;
    for signed in successions {
        if let Some(next) = next(signs, &present, signed) {
            present = next;
            line.push(next);
        }
    }
    line
}

/// The key that `first` has led to.
pub fn newest(signs: &Signs, first: PublicKey, successions: &[Signed]) -> PublicKey {
    line(signs, first, successions).pop().unwrap_or(first)
}

/// The statement, signed by one of the keys; the newest stands last.
pub fn verify_by_any<T: Statement>(signed: &Signed, keys: &[PublicKey]) -> Result<T, sign::Error> {
    let mut outcome = Err(sign::Error::Mismatch {
        expected: "a known key".to_owned(),
    });
    for key in keys.iter().rev() {
        outcome = signed.verify(key);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// The key that `present` gives way to by this statement, if it does.
pub fn next(signs: &Signs, present: &PublicKey, signed: &Signed) -> Option<PublicKey> {
    let succession: Succession = signed.verify(present).ok()?;
    let fits = succession.signs == *signs
        && succession.old == *present
        && succession.new != *present
        && !succession.new.is_weak();
    fits.then_some(succession.new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::SecretKey;

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed([seed; 32])
    }

    fn passes(signs: Signs, old: u8, new: u8, signer: u8) -> Signed {
        let succession = Succession {
            signs,
            old: key(old).public(),
            new: key(new).public(),
            at: Time::from_millis(0),
        };
        Signed::new(&succession, &key(signer))
    }

    #[test]
    fn only_the_present_key_names_the_next_one_and_only_for_its_own_purpose() {
        let first = key(1).public();
        let chain = [
            passes(Signs::Plans, 1, 2, 1),
            passes(Signs::History, 7, 8, 7),
            passes(Signs::Plans, 2, 3, 2),
        ];
        let all = [key(1).public(), key(2).public(), key(3).public()];
        assert_eq!(line(&Signs::Plans, first, &chain), all);
        assert_eq!(newest(&Signs::Plans, key(2).public(), &chain), all[2]);
        for (what, wrong) in [
            ("a stranger's signature", passes(Signs::Plans, 1, 2, 9)),
            ("the new key's own", passes(Signs::Plans, 1, 2, 2)),
            ("for something else", passes(Signs::History, 1, 2, 1)),
            ("of another key", passes(Signs::Plans, 4, 2, 4)),
            ("a key that has given way", passes(Signs::Plans, 2, 4, 1)),
        ] {
            assert_eq!(newest(&Signs::Plans, first, &[wrong]), first, "{what}");
        }
        // A key that has given way names no other one.
        let late = [chain[0].clone(), passes(Signs::Plans, 1, 9, 1)];
        assert_eq!(newest(&Signs::Plans, first, &late), all[1]);
    }

    #[test]
    fn what_is_in_the_last_third_of_its_life_is_due() {
        let time = Time::from_millis;
        let due = |now| is_due(time(0), time(9_000), time(now));
        assert!(!due(5_999) && due(6_001));
        assert!(due(10_000), "what has run out is due too");
    }

    #[test]
    fn an_institution_cannot_pass_on_the_key_of_another() {
        let of = |name: &str| Signs::Statements(name.parse().expect("name"));
        let chain = [passes(of("anna"), 1, 2, 1)];
        assert_eq!(
            newest(&of("anna"), key(1).public(), &chain),
            key(2).public()
        );
        assert_eq!(
            newest(&of("mercy"), key(1).public(), &chain),
            key(1).public()
        );
    }
}
