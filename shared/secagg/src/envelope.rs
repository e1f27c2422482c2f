//! Shares on their way through the coordinator, for one member to open.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::{Zeroize, Zeroizing};

use crate::shamir::{SHARE_BYTES, split};
use crate::{Error, Roster, Secret, Share};

const TAG_BYTES: usize = 16;
/// Bytes of the two shares that one member has of another, sealed.
pub const SEALED_BYTES: usize = 2 * SHARE_BYTES + TAG_BYTES;

/// The shares that one member holds of another one's secrets. It tells one of them, never both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Of the mask key: for one who was lost.
    pub mask_key: Share,
    /// Of its own seed: for one whose vector is in the sum.
    pub own_seed: Share,
}

impl Secret {
    /// The shares that member `own` deals, in the order of the roster, each sealed for its holder. The one that it
    /// keeps is sealed as well, so that all are the same to look at.
    pub fn deal(&self, roster: &Roster, own: usize) -> Result<Vec<Vec<u8>>, Error> {
        let context = roster.context();
        let split = |secret: &[u8; 32], label| {
            let seed = self.derive(context, label)?;
            split(secret, roster.group(), &seed)
        };
        let mask_keys = split(&*self.mask_key(context)?, "polynomials of the mask key")?;
        let own_seeds = split(&*self.own_seed(context)?, "polynomials of the own seed")?;
        let seal_key = self.seal_key(context)?;
        let pairs = mask_keys.iter().zip(&own_seeds).enumerate();
        pairs
            .map(|(to, (mask_key, own_seed))| {
                let mut plain = Zeroizing::new(Vec::with_capacity(SEALED_BYTES));
                plain.extend_from_slice(mask_key.as_bytes());
                plain.extend_from_slice(own_seed.as_bytes());
                let key = roster.envelope_key(&seal_key, to, (own, to))?;
                seal(&key, &associated(roster, own, to)?, &mut plain)
            })
            .collect()
    }

    /// Opens what member `from` sealed for member `own`.
    pub fn open(
        &self,
        roster: &Roster,
        own: usize,
        from: usize,
        sealed: &[u8],
    ) -> Result<Held, Error> {
        let seal_key = self.seal_key(roster.context())?;
        let key = roster.envelope_key(&seal_key, from, (from, own))?;
        let broken = || Error::Envelope { from };
        let plain = open(&key, &associated(roster, from, own)?, sealed).ok_or_else(broken)?;
        let (mask_key, own_seed) = plain.split_at_checked(SHARE_BYTES).ok_or_else(broken)?;
        Ok(Held {
            mask_key: Share::from_bytes(own, mask_key)?,
            own_seed: Share::from_bytes(own, own_seed)?,
        })
    }
}

/// The attempt, and who seals for whom.
fn associated(roster: &Roster, from: usize, to: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = roster.context().0.to_vec();
    for member in [from, to] {
        let keys = roster.keys(member)?;
        bytes.extend_from_slice(&(member as u32).to_le_bytes());
        bytes.extend_from_slice(&keys.mask);
        bytes.extend_from_slice(&keys.seal);
    }
    Ok(bytes)
}

fn cipher(key: &[u8; 32]) -> Result<LessSafeKey, Error> {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key);
    let key = key.map_err(|_| Error::Primitive("the key of a sealed share"))?;
    Ok(LessSafeKey::new(key))
}

/// Each key seals one message, so that its number can be 0.
fn seal(key: &[u8; 32], associated: &[u8], plain: &mut Vec<u8>) -> Result<Vec<u8>, Error> {
    seal_as(key, [0; NONCE_LEN], associated, plain)
}

pub(crate) fn seal_as(
    key: &[u8; 32],
    nonce: [u8; NONCE_LEN],
    associated: &[u8],
    plain: &mut Vec<u8>,
) -> Result<Vec<u8>, Error> {
    let nonce = Nonce::assume_unique_for_key(nonce);
    let sealed = cipher(key)?.seal_in_place_append_tag(nonce, Aad::from(associated), plain);
    sealed.map_err(|_| Error::Primitive("sealing"))?;
    Ok(std::mem::take(plain))
}

fn open(key: &[u8; 32], associated: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(sealed.to_vec());
    let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
    let plain = cipher(key).ok()?;
    let opened = plain.open_in_place(nonce, Aad::from(associated), &mut bytes);
    let length = opened.ok()?.len();
    bytes[length..].zeroize();
    bytes.truncate(length);
    Some(bytes)
}
