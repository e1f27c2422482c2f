//! Masked vectors look like noise, whatever is under them.

use super::*;

/// χ² of the bytes of all vectors' values, which for uniform bytes has mean 255 and deviation √510.
fn chi_square(vectors: &[Vec<u8>]) -> f64 {
    let mut counts = [0u64; 256];
    for byte in vectors.iter().flat_map(|vector| &vector[HEADER_BYTES..]) {
        counts[usize::from(*byte)] += 1;
    }
    let expected = counts.iter().sum::<u64>() as f64 / 256.0;
    let squares = counts
        .iter()
        .map(|count| (*count as f64 - expected).powi(2));
    squares.sum::<f64>() / expected
}

/// Seven deviations above the mean: beyond it with a probability below 10^-9.
const LARGEST: f64 = 255.0 + 7.0 * 22.6;

/// Rounds of one run, each with fresh masks.
const ROUNDS: u64 = 64;

/// Every width fills whole bytes here.
const DIMENSION: usize = BLOCK;

fn rounds(vector: impl Fn(&Party) -> Vec<u8>) -> Vec<Vec<u8>> {
    (0..ROUNDS)
        .map(|round| vector(&Party::new(4, 5000 + 10 * round)))
        .collect()
}

const ALL: [usize; 4] = [0, 1, 2, 3];

#[test]
fn masked_vectors_of_many_rounds_are_uniform() {
    for constant in [0, 1, -1000] {
        let vectors = rounds(|party| party.masked(1, &ALL, &[constant; DIMENSION]));
        let found = chi_square(&vectors);
        assert!(found < LARGEST, "{found} for {constant}");
    }
}

/// Whoever keeps all rounds learns no more from them together: no mask comes back.
#[test]
fn vectors_of_successive_rounds_differ_by_what_is_uniform() {
    let party = Party::new(4, 1);
    let update = values(1, DIMENSION);
    let vectors = rounds(|party| party.masked(1, &ALL, &update));
    let apart = |distance: usize| {
        let pairs = vectors.iter().zip(&vectors[distance..]);
        let differences: Vec<Vec<u8>> = pairs.map(|(a, b)| difference(&party, a, b)).collect();
        chi_square(&differences)
    };
    for distance in [1, 2, 7] {
        let found = apart(distance);
        assert!(found < LARGEST, "{found} at {distance}");
    }
    // Of one round with itself there is nothing but zeros.
    assert!(apart(0) > 10.0 * LARGEST);
}

#[test]
fn what_two_of_three_masks_hide_is_uniform_too() {
    // Of one who sides with the coordinator, the masks are known.
    let vectors = rounds(|party| {
        let own = party.masked(1, &ALL, &[5; DIMENSION]);
        let without = party.masked(1, &[0, 1, 2], &[0; DIMENSION]);
        difference(party, &own, &without)
    });
    let found = chi_square(&vectors);
    assert!(found < LARGEST, "{found}");
}

fn difference(party: &Party, a: &[u8], b: &[u8]) -> Vec<u8> {
    let width = party.width;
    let mut words = vec![0; DIMENSION];
    for (bytes, minus) in [(a, false), (b, true)] {
        let mut room = buffer(width);
        let payload = &bytes[HEADER_BYTES..];
        room[..payload.len()].copy_from_slice(payload);
        add(&mut words, &room, width, minus);
    }
    let mut out = a[..HEADER_BYTES].to_vec();
    out.extend(pack(&words, width));
    out
}

#[test]
fn the_test_notices_a_vector_without_masks_and_a_mask_used_twice() {
    let bare = rounds(|party| {
        let words: Vec<u64> = values(1, DIMENSION).iter().map(|v| *v as u64).collect();
        let mut out = vec![0; HEADER_BYTES];
        out.extend(pack(&words, party.width));
        out
    });
    let found = chi_square(&bare);
    assert!(found > 10.0 * LARGEST, "{found}");
    let reused = rounds(|party| {
        let first = party.masked(1, &ALL, &values(1, DIMENSION));
        let second = party.masked(1, &ALL, &values(2, DIMENSION));
        difference(party, &first, &second)
    });
    let found = chi_square(&reused);
    assert!(found > 10.0 * LARGEST, "{found}");
}
