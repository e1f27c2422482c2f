//! White-box canaries: an adversary who writes the whole update and reads what leaves.
//!
//! For the unit `institution` the worst neighbours are an update of the largest norm and none at
//! all. The adversary puts the whole clip, and more, along one direction it knows, and scores what
//! leaves by its projection onto that direction, the likelihood ratio's only argument. Every step
//! in between is the product's: clip, round, noise, encode, decode.

use fedner_shared::plan::Privacy;
use fedner_shared::update::{Decoder, encode};

use super::distinguish::Scores;
use super::{Error, Verdict};
use crate::accountant::{gdp, zcdp};
use crate::release::Releaser;

/// Confidence of the verdict.
const CONFIDENCE: f64 = 0.99;

/// Attacks releases under `privacy` of `dimension` weights, `runs` with a canary and as many
/// without, at the plan's δ. The claim is that of one round, in closed form: no claim is lower.
pub fn audit(privacy: &Privacy, dimension: usize, runs: usize) -> Result<Verdict, Error> {
    let releaser = Releaser::new(privacy, dimension)?;
    let scores = attack(privacy, dimension, runs, |update| {
        release_sum(&releaser, update, privacy.noise_shares)
    })?;
    let rho = zcdp::rho_per_round(privacy, dimension);
    let claimed = gdp::epsilon(gdp::mu_of_rho(rho), privacy.delta);
    scores.verdict(claimed, privacy.delta, CONFIDENCE)
}

/// The encoded sum of an update with those of others, `senders` in all, which are zero: what the coordinator sees where
/// noise is shared. Of one sender it is the update itself.
pub fn release_sum(releaser: &Releaser, update: &[f32], senders: u32) -> Result<Vec<u8>, Error> {
    let mut sum = releaser.release(update)?.values;
    let nothing = vec![0.0; update.len()];
    for _ in 1..senders {
        let other = releaser.release(&nothing)?.values;
        for (sum, other) in sum.iter_mut().zip(other) {
            *sum += other;
        }
    }
    let mut bytes = Vec::new();
    encode(&sum, &mut bytes)?;
    Ok(bytes)
}

/// The largest magnitude in such a sum.
pub fn sum_bound(privacy: &Privacy) -> i64 {
    let sum = privacy
        .value_bound()
        .saturating_mul(privacy.noise_shares.into());
    sum.min(i32::MAX.into())
}

/// The same attack on any path from an update to its encoded bytes.
pub fn attack(
    privacy: &Privacy,
    dimension: usize,
    runs: usize,
    release: impl Fn(&[f32]) -> Result<Vec<u8>, Error>,
) -> Result<Scores, Error> {
    // Twice the clip, evenly: a path that does not clip shows.
    let each = (2.0 * privacy.grid().clip / (dimension as f64).sqrt()) as f32;
    let run = |weight: f32| -> Result<f64, Error> {
        let bytes = release(&vec![weight; dimension])?;
        let decoder = Decoder::new(bytes.as_slice(), dimension, sum_bound(privacy))?;
        let sum: i64 = decoder.read_all()?.into_iter().map(i64::from).sum();
        Ok(sum as f64)
    };
    let several = |weight: f32| (0..runs).map(|_| run(weight)).collect::<Result<_, _>>();
    Ok(Scores {
        with: several(each)?,
        without: several(0.0)?,
    })
}
