//! Secrets in shares, any t of which make them (Shamir 1979).

use std::fmt;

use blahaj::Sharks;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{Error, Group, SeedBytes};

/// Bytes of a share of 32 bytes: where the polynomials are evaluated, and what they are there.
pub const SHARE_BYTES: usize = 33;

/// One member's share of another one's secret.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Share([u8; SHARE_BYTES]);

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({}, …)", self.0[0])
    }
}

impl Share {
    /// The share of member `holder`, counted from 0. Shares of index 0 are secrets, and are nobody's.
    pub fn from_bytes(holder: usize, bytes: &[u8]) -> Result<Self, Error> {
        let share: [u8; SHARE_BYTES] = bytes
            .try_into()
            .map_err(|_| Error::Share("it has another length"))?;
        if share[0] == 0 || usize::from(share[0]) != holder + 1 {
            return Err(Error::Share("it is another member's"));
        }
        Ok(Self(share))
    }

    pub const fn as_bytes(&self) -> &[u8; SHARE_BYTES] {
        &self.0
    }

    pub(crate) const fn holder(&self) -> usize {
        self.0[0] as usize - 1
    }
}

/// One share for each member of the group, in order. The polynomials follow from `seed`, which is used for this alone.
pub(crate) fn split(secret: &[u8; 32], group: Group, seed: &[u8; 32]) -> Result<Vec<Share>, Error> {
    let threshold = u8::try_from(group.threshold()).map_err(|_| Error::Share("too many"))?;
    let mut generator = ChaCha20Rng::from_seed(*seed);
    let shares = Sharks(threshold).dealer_rng(secret, &mut generator);
    let shares = shares.take(group.members()).enumerate();
    shares
        .map(|(holder, share)| {
            let bytes = Zeroizing::new(Vec::from(&share));
            Share::from_bytes(holder, &bytes)
        })
        .collect()
}

/// The secret of `member` from the shares of t distinct holders or more. The shares do not say whether they belong
/// together: the caller compares the secret with what was announced.
pub fn recover(member: usize, group: Group, shares: &[&Share]) -> Result<SeedBytes, Error> {
    let mut holders: Vec<usize> = shares.iter().map(|share| share.holder()).collect();
    holders.sort_unstable();
    if holders.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Error::Share("one member has two"));
    }
    let threshold = group.threshold();
    if shares.len() < threshold || holders.iter().any(|holder| *holder >= group.members()) {
        return Err(Error::Shares {
            member,
            found: shares.len(),
            threshold,
        });
    }
    let wrong = |_| Error::Share("it cannot be read");
    let parts = shares.iter().take(threshold);
    let parts = parts.map(|share| blahaj::Share::try_from(share.0.as_slice()).map_err(wrong));
    let parts: Vec<blahaj::Share> = parts.collect::<Result<_, _>>()?;
    let least = u8::try_from(threshold).map_err(|_| Error::Share("too many"))?;
    let secret = Sharks(least).recover(&parts).map_err(|_| Error::Shares {
        member,
        found: parts.len(),
        threshold,
    });
    let secret = Zeroizing::new(secret?);
    let secret: [u8; 32] = secret
        .as_slice()
        .try_into()
        .map_err(|_| Error::Share("it has another length"))?;
    Ok(Zeroizing::new(secret))
}
