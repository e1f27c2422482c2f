//! Batches of sentences of about the same length, so that little of a batch is padding.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Batches among which sentences are sorted by length.
const CHUNK: usize = 50;

/// The batches of one epoch, as indices: all shuffled, sorted by length within chunks of 50
/// batches, cut, and the batches shuffled.
pub(super) fn grouped(lengths: &[usize], size: usize, seed: u64, epoch: u32) -> Vec<Vec<usize>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(u64::from(epoch));
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.shuffle(&mut rng);
    let mut batches = Vec::with_capacity(order.len().div_ceil(size));
    for chunk in order.chunks_mut(size * CHUNK) {
        chunk.sort_by_key(|index| lengths[*index]);
        batches.extend(chunk.chunks(size).map(<[usize]>::to_vec));
    }
    batches.shuffle(&mut rng);
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sentence_is_in_one_batch_beside_its_like() {
        let lengths: Vec<usize> = (0..1000).map(|i| 5 + (i * 7919) % 60).collect();
        let batches = grouped(&lengths, 16, 3, 0);
        assert_eq!(batches.len(), 63);
        let mut seen: Vec<usize> = batches.concat();
        seen.sort_unstable();
        assert_eq!(seen, (0..1000).collect::<Vec<_>>());
        let padded: usize = batches
            .iter()
            .map(|b| b.len() * b.iter().map(|i| lengths[*i]).max().unwrap_or(0))
            .sum();
        let whole: usize = lengths.iter().sum();
        assert!(padded * 10 < whole * 11, "{padded} for {whole}");
        assert_eq!(batches, grouped(&lengths, 16, 3, 0));
        assert_ne!(batches, grouped(&lengths, 16, 3, 1));
        assert_ne!(batches, grouped(&lengths, 16, 4, 0));
    }
}
