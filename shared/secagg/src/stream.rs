//! Masks, as the bytes of a key stream that can be begun anywhere.

use aws_lc_rs::cipher::{AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;

use crate::Error;
use crate::packed::{BLOCK, Width};

/// Bytes that the cipher makes at a time.
const CIPHER_BLOCK: u128 = 16;

/// AES-256 in counter mode, from a key that is used for one mask. The key leaves no trace in memory.
#[derive(Debug)]
pub(crate) struct MaskStream(EncryptingKey);

impl MaskStream {
    pub(crate) fn new(seed: &[u8; 32]) -> Result<Self, Error> {
        let failed = |_| Error::Primitive("the key of a mask");
        let key = UnboundCipherKey::new(&AES_256, seed).map_err(failed)?;
        Ok(Self(EncryptingKey::ctr(key).map_err(failed)?))
    }

    /// The mask of the values of that block, packed as they are.
    pub(crate) fn fill(&self, block: usize, width: Width, out: &mut [u8]) -> Result<(), Error> {
        let bytes_before = block as u128 * width.payload_bytes(BLOCK) as u128;
        self.fill_from(bytes_before / CIPHER_BLOCK, out)
    }

    pub(crate) fn fill_from(&self, counter: u128, out: &mut [u8]) -> Result<(), Error> {
        out.fill(0);
        let context = EncryptionContext::Iv128(FixedLength::from(counter.to_be_bytes()));
        let made = self.0.less_safe_encrypt(out, context);
        made.map(drop).map_err(|_| Error::Primitive("a mask"))
    }
}
