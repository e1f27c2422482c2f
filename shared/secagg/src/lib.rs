//! The cryptography of secure aggregation (Bonawitz et al. 2017, on integers modulo 2^b). Pure: no clock, file,
//! socket or source of randomness; every secret of an attempt follows from one seed that the caller draws.
//!
//! ```text
//! y_i = n_i·x_i + PRG(s_i) + Σ_{j>i} PRG(k_ij) − Σ_{j<i} PRG(k_ij)   modulo 2^b
//! ```
//! x_i are the integers of member i's update and n_i is its weight. s_i is its own seed, and k_ij follows from X25519
//! between the mask keys of i and j. The masks of pairs cancel in the sum of all. For every member whose vector is in
//! the sum, s_i is put together from the shares of t members. So is the mask key of one who dealt shares and then was
//! lost. Of nobody both are ever told: who knew both could take all masks off one vector.
//!
//! | part | primitive | tested against |
//! |---|---|---|
//! | key agreement | X25519 of AWS-LC | RFC 7748 |
//! | derivation | HKDF-SHA-256 of AWS-LC | RFC 5869 |
//! | masks | AES-256 in counter mode of AWS-LC | NIST SP 800-38A |
//! | sealed shares | ChaCha20-Poly1305 of AWS-LC | RFC 8439 |
//! | shares | Shamir over GF(2^8) of blahaj | polynomials evaluated another way |
//!
//! AWS-LC is linked for TLS already. It runs in constant time, with the processor's AES where there is one. blahaj
//! multiplies by tables, so its time can depend on the secret. It splits secrets that are used once, on the member's
//! own machine, and puts together what becomes known to the coordinator anyway. It would take a share of index 0,
//! which is the secret itself, and two shares of one index. [`Share`] and [`recover`] refuse both.

mod attempt;
mod envelope;
mod group;
mod keys;
mod masking;
mod packed;
mod shamir;
mod stream;
#[cfg(test)]
mod tests;
mod unmasking;

pub use attempt::{Dealt, Members};
pub use envelope::{Held, SEALED_BYTES};
pub use group::Group;
pub use keys::{Context, PublicKeys, Roster, Secret, SeedBytes, is_usable};
pub use masking::Masker;
pub use packed::{BLOCK, Checker, HEADER_BYTES, LARGEST_WIDTH, Width};
pub use shamir::{SHARE_BYTES, Share, recover};
pub use unmasking::{Answer, MaskedSum, Opening};

use fedner_shared::id::InstitutionId;
use fedner_shared::plan::{LARGEST_GROUP, SMALLEST_GROUP};
use fedner_shared::refusal::{Code, Refusal};

/// What is wrong. None of them tells a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{found} members: expected {SMALLEST_GROUP} to {LARGEST_GROUP}")]
    Members { found: usize },
    #[error("{found} members have a part in the sum: expected at least {threshold}")]
    TooFew { found: usize, threshold: usize },
    #[error("member {member} has no place among {members}")]
    Place { member: usize, members: usize },
    #[error("two members have the same key")]
    SameKey,
    #[error("the key of member {member} agrees on nothing")]
    Agreement { member: usize },
    #[error(
        "the sealed shares of member {from} are not for this member and attempt, or were changed"
    )]
    Envelope { from: usize },
    #[error("a share is wrong: {0}")]
    Share(&'static str),
    #[error("{found} shares of the secret of member {member}: expected {threshold}")]
    Shares {
        member: usize,
        found: usize,
        threshold: usize,
    },
    #[error("the shares of member {member} make another secret than it announced")]
    Secret { member: usize },
    #[error("both kinds of share of member {member} are told")]
    Both { member: usize },
    #[error("sums as large as {0} do not fit {LARGEST_WIDTH} bits")]
    Width(u128),
    #[error("weight {index} is beyond the bound of the plan")]
    Range { index: usize },
    #[error(
        "the masked update begins with a wrong header: expected FNM1, {dimension} weights of {width} bits"
    )]
    Header { dimension: u64, width: u32 },
    #[error("the masked update ends too early")]
    Truncated,
    #[error("the masked update goes on after its last weight")]
    Trailing,
    #[error("the masked update has bits set after its last weight")]
    Padding,
    #[error("the masked update cannot be read or written: {0}")]
    Io(#[from] std::io::Error),
    #[error("a primitive failed: {0}")]
    Primitive(&'static str),
    #[error("{0} has no part in this attempt")]
    Stranger(InstitutionId),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Error {
    /// What is said to whoever sent what is wrong.
    pub fn refusal(&self) -> Refusal {
        if let Self::Refused(refusal) = self {
            return refusal.clone();
        }
        Refusal::new(Code::SecureStep, self.to_string())
    }
}
