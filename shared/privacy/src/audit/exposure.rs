//! Exposure: how much a model gives away of a secret that was planted in its text (Carlini, Liu,
//! Erlingsson, Kos and Song 2019, "The Secret Sharer", Section 4).

use fedner_shared::audit::Exposure;

/// The place of a secret with the loss `secret`, among `candidates` drawn from where it was drawn.
/// Those of the same loss come before it, so that no secret seems known that is not.
pub fn rank(secret: f64, candidates: &[f64]) -> Exposure {
    let better = candidates.iter().filter(|loss| **loss <= secret).count();
    let (rank, among) = (better as u64 + 1, candidates.len() as u64 + 1);
    Exposure {
        rank,
        among,
        bits: libm::log2(among as f64) - libm::log2(rank as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_has_all_bits_and_the_last_none() {
        let candidates: Vec<f64> = (1..1024).map(f64::from).collect();
        let of = |loss| rank(loss, &candidates);
        assert_eq!((of(0.5).rank, of(0.5).among), (1, 1024));
        assert!((of(0.5).bits - 10.0).abs() < 1e-12);
        assert_eq!(of(255.5).rank, 256);
        assert!((of(255.5).bits - 2.0).abs() < 1e-12);
        assert!(of(5000.0).bits.abs() < 1e-12);
        // As good as one candidate: behind it.
        assert_eq!(of(1.0).rank, 2);
    }
}
