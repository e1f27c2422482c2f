//! Files that only the holder of a key can read, in records that are read each by itself.
//!
//! AES-256-GCM. Each file has a random name for its key, so that numbers of records never meet: its key is derived
//! from the holder's by BLAKE3 (`derive_key`), and the number of the record is the nonce.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes that a sealed record is longer.
pub const OVERHEAD: usize = 16;
/// Bytes of the name of a file's key.
pub const ID: usize = 16;

const CONTEXT: &str = "fedner 2026-11-29 key of a sealed file";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("it was sealed with another key, or changed")]
    Broken,
    #[error("`{0}` is no key: expected 64 hexadecimal digits")]
    Key(String),
    #[error("the operating system gave no randomness: {0}")]
    Random(#[from] getrandom::Error),
}

/// The holder's key. It never shows itself in `Debug`, and leaves no trace in memory.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct StorageKey([u8; 32]);

impl fmt::Debug for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StorageKey")
    }
}

impl StorageKey {
    pub fn generate() -> Result<Self, Error> {
        let mut key = Self([0; 32]);
        getrandom::fill(&mut key.0)?;
        Ok(key)
    }

    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// 64 hexadecimal digits, for a file that only its owner can read.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.0))
    }

    pub fn from_text(text: &str) -> Result<Self, Error> {
        let mut key = Self([0; 32]);
        let wrong = |_| Error::Key(format!("{} characters", text.len()));
        hex::decode_to_slice(text.trim(), &mut key.0).map_err(wrong)?;
        Ok(key)
    }

    /// A name for the key of a new file.
    pub fn new_id() -> Result<[u8; ID], Error> {
        let mut id = [0; ID];
        getrandom::fill(&mut id)?;
        Ok(id)
    }

    /// The key of the file with that name.
    pub fn of_file(&self, id: &[u8; ID]) -> FileKey {
        let mut material = Zeroizing::new([0; 32 + ID]);
        material[..32].copy_from_slice(&self.0);
        material[32..].copy_from_slice(id);
        let key = Zeroizing::new(blake3::derive_key(CONTEXT, material.as_slice()));
        FileKey(*key)
    }

    /// Seals all of a file at once.
    pub fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, Error> {
        let id = Self::new_id()?;
        let mut record = plain.to_vec();
        self.of_file(&id).seal(0, &mut record)?;
        Ok([id.as_slice(), &record].concat())
    }

    /// Opens what [`seal`](Self::seal) sealed.
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let (id, record) = sealed.split_first_chunk::<ID>().ok_or(Error::Broken)?;
        let mut record = record.to_vec();
        self.of_file(id).open(0, &mut record)?;
        Ok(record)
    }
}

/// The key of one file.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct FileKey([u8; 32]);

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileKey")
    }
}

impl FileKey {
    fn cipher(&self) -> Result<LessSafeKey, Error> {
        let key = UnboundKey::new(&AES_256_GCM, &self.0).map_err(|_| Error::Broken)?;
        Ok(LessSafeKey::new(key))
    }

    /// Seals the record with that number. A number is used once in a file.
    pub fn seal(&self, number: u64, record: &mut Vec<u8>) -> Result<(), Error> {
        self.cipher()?
            .seal_in_place_append_tag(nonce(number), Aad::empty(), record)
            .map_err(|_| Error::Broken)
    }

    pub fn open(&self, number: u64, record: &mut Vec<u8>) -> Result<(), Error> {
        let length = self
            .cipher()?
            .open_in_place(nonce(number), Aad::empty(), record)
            .map_err(|_| Error::Broken)?
            .len();
        record.truncate(length);
        Ok(())
    }
}

fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - 8..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_opens_it_and_only_unchanged() {
        let key = StorageKey::generate().expect("key");
        let plain = b"what was made of private text".repeat(9);
        let sealed = key.seal(&plain).expect("sealed");
        assert_eq!(key.open(&sealed).expect("opened"), plain);
        assert_ne!(
            key.seal(&plain).expect("sealed"),
            sealed,
            "another key for each file"
        );
        let visible = |text: &[u8]| sealed.windows(text.len()).any(|window| window == text);
        assert!(!visible(b"private"));
        let other = StorageKey::generate().expect("key");
        assert!(other.open(&sealed).is_err());
        for place in [0, ID, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(key.open(&changed).is_err(), "{place}");
        }
        for cut in [0, ID - 1, ID, sealed.len() - 1] {
            assert!(key.open(&sealed[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn records_open_in_any_order_and_not_in_each_others_place() {
        let key = StorageKey::from_bytes([7; 32]).of_file(&[3; ID]);
        let mut records: Vec<Vec<u8>> = (0..5u8).map(|n| vec![n; 40]).collect();
        for (number, record) in records.iter_mut().enumerate() {
            key.seal(number as u64, record).expect("sealed");
            assert_eq!(record.len(), 40 + OVERHEAD);
        }
        for number in [4, 0, 2] {
            let mut record = records[number].clone();
            key.open(number as u64, &mut record).expect("opened");
            assert_eq!(record, vec![number as u8; 40]);
            assert!(
                key.open(number as u64 + 1, &mut records[number].clone())
                    .is_err()
            );
        }
    }

    #[test]
    fn a_key_survives_its_file_and_hides_from_debug() {
        let key = StorageKey::generate().expect("key");
        let text = key.to_text();
        assert_eq!(
            StorageKey::from_text(&format!("{}\n", *text)).expect("read"),
            key
        );
        assert!(!format!("{key:?}").contains(&text[..8]));
        assert!(StorageKey::from_text("short").is_err());
    }
}
