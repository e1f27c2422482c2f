//! Ed25519 signatures over canonical JSON.

use std::fmt;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::digest::{Digest, canonical_text};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the signature does not match: expected one by {expected}")]
    Mismatch { expected: String },
    #[error("`{0}` is not an Ed25519 public key: expected 64 hexadecimal digits of a valid point")]
    PublicKey(String),
    #[error("the signing key cannot be read: {0}")]
    SecretKey(String),
    #[error("the signed text is not what it should be: {0}")]
    Content(#[from] serde_json::Error),
    #[error("the operating system gave no randomness: {0}")]
    Random(#[from] getrandom::Error),
}

/// An Ed25519 public key, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), Error> {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        self.0
            .verify_strict(message, &signature)
            .map_err(|_| Error::Mismatch {
                expected: self.to_string(),
            })
    }

    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, Error> {
        VerifyingKey::from_bytes(bytes)
            .map(Self)
            .map_err(|_| Error::PublicKey(hex::encode(bytes)))
    }

    /// Whether it is one of the few keys of small order, such as zeros: nothing that they sign is accepted.
    pub fn is_weak(&self) -> bool {
        self.0.is_weak()
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", &hex::encode(self.0.as_bytes())[..12])
    }
}

impl std::str::FromStr for PublicKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut bytes = [0u8; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| Error::PublicKey(text.to_owned()))?;
        Self::from_bytes(&bytes)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// An Ed25519 signature, 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl Signature {
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({}…)", hex::encode(&self.0[..6]))
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0u8; 64];
        hex::decode_to_slice(&text, &mut bytes).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes))
    }
}

/// An Ed25519 signing key. It never shows itself in `Debug`.
pub struct SecretKey(SigningKey);

impl SecretKey {
    pub fn generate() -> Result<Self, Error> {
        let mut seed = [0u8; 32];
        getrandom::fill(&mut seed)?;
        Ok(Self(SigningKey::from_bytes(&seed)))
    }

    /// The key whose seed is `seed`; for tests that must repeat themselves.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }

    /// PKCS#8 PEM, for a file that only its owner can read.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, Error> {
        self.0
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|e| Error::SecretKey(e.to_string()))
    }

    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        SigningKey::from_pkcs8_pem(pem)
            .map(Self)
            .map_err(|e| Error::SecretKey(e.to_string()))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {:?})", self.public())
    }
}

/// What a signature is about. It is signed with the statement, so that a signature over one kind
/// of statement can never be passed off as one over another.
pub trait Statement: Serialize + DeserializeOwned {
    const KIND: &'static str;
}

/// Canonical JSON of a statement with its author's signature. The bytes are kept as signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The canonical JSON, as text.
    pub body: String,
    pub signature: Signature,
}

impl Signed {
    pub fn new<T: Statement>(statement: &T, key: &SecretKey) -> Self {
        let body = canonical_text(statement);
        let signature = key.sign(&message::<T>(&body));
        Self { body, signature }
    }

    /// The statement, after its signature was found to be `author`'s.
    pub fn verify<T: Statement>(&self, author: &PublicKey) -> Result<T, Error> {
        author.verify(&message::<T>(&self.body), &self.signature)?;
        Ok(serde_json::from_str(&self.body)?)
    }

    /// The statement, its signature unchecked: for showing, never for deciding.
    pub fn peek<T: Statement>(&self) -> Result<T, Error> {
        Ok(serde_json::from_str(&self.body)?)
    }

    /// The digest of the statement, by which it is named.
    pub fn digest(&self) -> Digest {
        Digest::of(self.body.as_bytes())
    }
}

fn message<T: Statement>(body: &str) -> Vec<u8> {
    [b"fedner/v1/", T::KIND.as_bytes(), b"\0", body.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Note(u32);
    impl Statement for Note {
        const KIND: &'static str = "note";
    }
    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Order(u32);
    impl Statement for Order {
        const KIND: &'static str = "order";
    }

    #[test]
    fn a_signature_holds_for_one_author_one_text_and_one_kind() {
        let (anna, mercy) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let signed = Signed::new(&Note(7), &anna);
        assert_eq!(signed.verify::<Note>(&anna.public()).expect("own"), Note(7));
        assert!(signed.verify::<Note>(&mercy.public()).is_err());
        assert!(signed.verify::<Order>(&anna.public()).is_err());
        let edited = Signed {
            body: "8".into(),
            ..signed
        };
        assert!(edited.verify::<Note>(&anna.public()).is_err());
    }

    #[test]
    fn keys_survive_their_file_and_hide_from_debug() {
        let key = SecretKey::generate().expect("random");
        let pem = key.to_pem().expect("pem");
        assert_eq!(
            SecretKey::from_pem(&pem).expect("read").public(),
            key.public()
        );
        assert!(!format!("{key:?}").contains(pem.lines().nth(1).expect("body")));
        assert!(SecretKey::from_pem("nonsense").is_err());
    }
}
