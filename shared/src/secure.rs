//! What members of a secure aggregation sign, each for one attempt of a round.
//!
//! | step | statement | says |
//! |---|---|---|
//! | keys | [`SecureKeys`] | public keys that are used once |
//! | shares | [`SecureShares`] | shares of the secrets behind them, sealed for each member of the roster |
//! | the update | `UpdateReceipt` | the digest of the masked vector, and the roster |
//! | consistency | [`SecureSet`] | whose vectors are in the sum |
//! | unmasking | [`SecureUnmasking`] | one share of each member: of its seed or of its mask key, never both |
//!
//! The digest of the roster is over every member's name, signing key and keys. So members to whom other rosters were
//! shown sign other digests, and take nothing from each other.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::id::{InstitutionId, RunId};
use crate::refusal::{Code, Refusal};
use crate::sign::{PublicKey, Signed, Statement};

/// A step that members take beside training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecureStep {
    Keys,
    Shares,
    Consistency,
    Unmasking,
}

impl SecureStep {
    pub const ALL: [Self; 4] = [Self::Keys, Self::Shares, Self::Consistency, Self::Unmasking];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Shares => "shares",
            Self::Consistency => "consistency",
            Self::Unmasking => "unmasking",
        }
    }
}

impl fmt::Display for SecureStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One attempt of a round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttemptId {
    pub run: RunId,
    pub plan: Digest,
    pub round: u32,
    pub attempt: u32,
    /// The version that is trained on.
    pub base: Digest,
    /// How often the run has asked for keys. A run that failed and is tried again has the same attempts again; this
    /// number it has once.
    pub number: u64,
}

impl AttemptId {
    pub fn digest(&self) -> Digest {
        Digest::of_json(self)
    }
}

/// Bytes, written as hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct Hex(pub Vec<u8>);

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hex(of {} bytes)", self.0.len())
    }
}

impl Serialize for Hex {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex::decode(&text)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

/// Public keys of one institution for one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecureKeys {
    pub of: AttemptId,
    pub institution: InstitutionId,
    /// X25519, for masks.
    pub mask: Hex,
    /// X25519, for sealing shares.
    pub seal: Hex,
    /// By which the institution's own seed is known once it is put together.
    pub commitment: Hex,
}

/// Shares of one institution's secrets, each sealed for one member of the roster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecureShares {
    pub of: AttemptId,
    pub institution: InstitutionId,
    pub roster: Digest,
    pub sealed: BTreeMap<InstitutionId, Hex>,
}

/// Whose masked vectors the coordinator has, as one of them was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecureSet {
    pub of: AttemptId,
    pub institution: InstitutionId,
    pub roster: Digest,
    /// Of the shares that were dealt: with whom everybody has masks.
    pub dealt: Digest,
    /// In the order of their names.
    pub members: Vec<InstitutionId>,
}

/// What takes the masks off the sum over a set that enough members have signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecureUnmasking {
    pub of: AttemptId,
    pub institution: InstitutionId,
    pub roster: Digest,
    pub dealt: Digest,
    /// Shares of the seeds of those whose vectors are in the sum.
    pub own_seeds: BTreeMap<InstitutionId, Hex>,
    /// Shares of the mask keys of those who dealt shares and were lost.
    pub mask_keys: BTreeMap<InstitutionId, Hex>,
}

impl Statement for SecureKeys {
    const KIND: &'static str = "secure-keys";
}
impl Statement for SecureShares {
    const KIND: &'static str = "secure-shares";
}
impl Statement for SecureSet {
    const KIND: &'static str = "secure-set";
}
impl Statement for SecureUnmasking {
    const KIND: &'static str = "secure-unmasking";
}

/// A statement of one institution about one attempt.
pub trait OfAttempt: Statement {
    const STEP: SecureStep;
    fn of(&self) -> &AttemptId;
    fn institution(&self) -> &InstitutionId;
}

macro_rules! of_attempt {
    ($($name:ident: $step:ident),+) => {$(
        impl OfAttempt for $name {
            const STEP: SecureStep = SecureStep::$step;
            fn of(&self) -> &AttemptId {
                &self.of
            }
            fn institution(&self) -> &InstitutionId {
                &self.institution
            }
        }
    )+};
}
of_attempt!(SecureKeys: Keys, SecureShares: Shares, SecureSet: Consistency, SecureUnmasking: Unmasking);

/// Who may take part in an attempt, by whose signing key.
pub type Signers = BTreeMap<InstitutionId, PublicKey>;

/// The statements of a step by who made them, after each was found to be signed by one of `signers`, for this attempt,
/// and no other of the same institution.
pub fn verified<T: OfAttempt>(
    of: &AttemptId,
    signers: &Signers,
    signed: &[Signed],
) -> Result<BTreeMap<InstitutionId, T>, Refusal> {
    let mut all = BTreeMap::new();
    for signed in signed {
        let invalid = |message: String| Refusal::new(Code::SignatureInvalid, message);
        let step = T::STEP;
        let claimed: T = signed
            .peek()
            .map_err(|error| invalid(format!("a statement of the step {step}: {error}")))?;
        let name = claimed.institution().clone();
        let Some(key) = signers.get(&name) else {
            return Err(invalid(format!("{name} is not in the roster")));
        };
        let said: T = signed
            .verify(key)
            .map_err(|error| invalid(format!("{step} of {name}: {error}")))?;
        if said.of() != of {
            return Err(invalid(format!("{step} of {name} are for another attempt")));
        }
        if all.insert(name.clone(), said).is_some() {
            return Err(invalid(format!("{name} has two statements of {step}")));
        }
    }
    Ok(all)
}

/// The digest of who takes part: every name, signing key and statement of keys.
pub fn roster_digest(
    of: &AttemptId,
    signers: &Signers,
    keys: &[Signed],
) -> Result<Digest, Refusal> {
    let said: BTreeMap<InstitutionId, SecureKeys> = verified(of, signers, keys)?;
    let digests = digests::<SecureKeys>(keys);
    let members: BTreeMap<&InstitutionId, (&PublicKey, &Digest)> = said
        .keys()
        .filter_map(|name| Some((name, (signers.get(name)?, digests.get(name)?))))
        .collect();
    Ok(Digest::of_json(&(of, members)))
}

/// The digest of the shares that were dealt.
pub fn dealt_digest(shares: &[Signed]) -> Digest {
    Digest::of_json(&digests::<SecureShares>(shares))
}

fn digests<T: OfAttempt>(signed: &[Signed]) -> BTreeMap<InstitutionId, Digest> {
    let each = signed.iter().filter_map(|signed| {
        let said: T = signed.peek().ok()?;
        Some((said.institution().clone(), signed.digest()))
    });
    each.collect()
}

/// What members have said so far, as the coordinator hands it out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// How often the run has asked for keys.
    pub number: u64,
    /// Before keys were sent, of those who are asked for them; then of those who sent keys.
    pub signers: Signers,
    pub keys: Vec<Signed>,
    pub shares: Vec<Signed>,
    /// Whose masked updates are in the sum.
    pub members: Vec<InstitutionId>,
    pub sets: Vec<Signed>,
}

/// All that was said in an attempt: with the masked vectors, everything that its sum is computed from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transcript {
    pub of: AttemptId,
    pub told: Told,
    pub unmaskings: Vec<Signed>,
}

/// A signing key in a form that people can read to each other: 128 bits of a digest of it.
pub fn fingerprint(key: &PublicKey) -> String {
    let digest = Digest::of(key.as_bytes()).to_string();
    let groups: Vec<&str> = (0..8)
        .filter_map(|g| digest.get(4 * g..4 * g + 4))
        .collect();
    groups.join(" ")
}

/// Whether what a person wrote is that key's fingerprint, or the whole key; spaces and case do not matter.
pub fn is_fingerprint(text: &str, key: &PublicKey) -> bool {
    let plain = |text: &str| -> String {
        let digits = text.chars().filter(char::is_ascii_alphanumeric);
        digits.map(|c| c.to_ascii_lowercase()).collect()
    };
    let text = plain(text);
    text == plain(&fingerprint(key)) || text == key.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::SecretKey;

    fn attempt(attempt: u32) -> AttemptId {
        AttemptId {
            run: "notes.1".parse().expect("name"),
            plan: Digest::of(b"plan"),
            round: 2,
            attempt,
            base: Digest::of(b"base"),
            number: u64::from(attempt),
        }
    }

    fn name(text: &str) -> InstitutionId {
        text.parse().expect("name")
    }

    fn keys(of: &AttemptId, who: &str, byte: u8) -> SecureKeys {
        SecureKeys {
            of: of.clone(),
            institution: name(who),
            mask: Hex(vec![byte; 32]),
            seal: Hex(vec![byte + 1; 32]),
            commitment: Hex(vec![byte + 2; 32]),
        }
    }

    #[test]
    fn a_statement_counts_for_one_author_one_attempt_and_once() {
        let (anna, mercy) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let signers: Signers = [
            (name("anna"), anna.public()),
            (name("mercy"), mercy.public()),
        ]
        .into();
        let of = attempt(1);
        let signed = Signed::new(&keys(&of, "anna", 1), &anna);
        let check = |of: &AttemptId, signed: &[Signed]| {
            verified::<SecureKeys>(of, &signers, signed).map(|all| all.len())
        };
        assert_eq!(check(&of, std::slice::from_ref(&signed)).expect("sound"), 1);
        let repeated = [signed.clone(), signed.clone()];
        assert!(check(&of, &repeated).is_err(), "twice");
        assert!(
            check(&attempt(2), std::slice::from_ref(&signed)).is_err(),
            "another attempt"
        );
        let forged = Signed::new(&keys(&of, "anna", 1), &mercy);
        assert!(check(&of, &[forged]).is_err(), "another author");
        let stranger = Signed::new(&keys(&of, "north", 1), &anna);
        assert!(check(&of, &[stranger]).is_err(), "not in the roster");
    }

    #[test]
    fn other_worlds_have_other_digests() {
        let key = SecretKey::from_seed([1; 32]);
        let other = SecretKey::from_seed([2; 32]);
        let of = attempt(1);
        let signers = |key: &SecretKey| Signers::from([(name("anna"), key.public())]);
        let digest = |key: &SecretKey, byte| {
            let signed = Signed::new(&keys(&of, "anna", byte), key);
            roster_digest(&of, &signers(key), &[signed]).expect("sound")
        };
        let first = digest(&key, 1);
        assert_eq!(first, digest(&key, 1));
        assert_ne!(first, digest(&key, 2), "other keys");
        assert_ne!(first, digest(&other, 1), "another signer");
    }

    #[test]
    fn fingerprints_are_read_as_people_write_them() {
        let key = SecretKey::from_seed([1; 32]).public();
        let text = fingerprint(&key);
        assert_eq!(text.len(), 39, "{text}");
        assert!(is_fingerprint(&text, &key));
        assert!(is_fingerprint(&key.to_string(), &key));
        assert!(is_fingerprint(&text.replace(' ', "").to_uppercase(), &key));
        assert!(!is_fingerprint(&text[1..], &key));
        assert!(!is_fingerprint("", &key));
    }
}
