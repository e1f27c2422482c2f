//! Where random bits come from.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// ChaCha20 with a key of 256 bits, in two streams that never meet: one for the bulk, whose use
/// is the same for every draw, and one for the rare draws that need more bits.
///
/// A generator is used by one thread, is not copied, and is not kept.
pub struct Generator {
    bulk: ChaCha20Rng,
    spare: ChaCha20Rng,
}

impl std::fmt::Debug for Generator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Generator").finish_non_exhaustive()
    }
}

impl Generator {
    /// With a fresh key from the operating system.
    pub fn from_system() -> Result<Self, getrandom::Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        Ok(Self::from_seed(seed))
    }

    /// For tests and audits, which must be repeatable. Whoever knows the key knows the noise.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let bulk = ChaCha20Rng::from_seed(seed);
        let mut spare = bulk.clone();
        spare.set_stream(1);
        Self { bulk, spare }
    }

    /// Another one for another thread, its key drawn from this one.
    pub(crate) fn fork(&mut self) -> Self {
        let mut seed = [0; 32];
        self.bulk.fill_bytes(&mut seed);
        Self::from_seed(seed)
    }

    pub(crate) fn bulk(&mut self) -> &mut ChaCha20Rng {
        &mut self.bulk
    }

    /// Up to 128 further bits.
    pub(super) fn spare_bits(&mut self, count: u32) -> u128 {
        if count == 0 {
            return 0;
        }
        let (low, high) = (self.spare.next_u64(), self.spare.next_u64());
        (u128::from(high) << 64 | u128::from(low)) >> (128 - count)
    }
}
