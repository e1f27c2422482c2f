//! What an attack would have noticed: the attack itself, on mechanisms with less noise than is claimed.

use fedner_privacy::audit::distinguish::Scores;
use fedner_privacy::audit::one_run::Guesses;
use fedner_privacy::noise::{Generator, Sampler, Shape};

use super::Error;
use super::claim::{Claim, Curve, bounds};

/// Parts of the claimed noise that are tried.
const FACTORS: [f64; 10] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95];
/// Attacks on each, of which one may miss.
const TRIED: usize = 20;
/// More runs than this make an attack no slower to judge: its power is at least that of so many.
const MOST_RUNS: usize = 10_000;
/// Steps of the grid to a deviation.
const SCALE: f64 = 1e6;

/// The largest part of the claimed noise with which the claim would be refuted 19 times of 20; 0 where it
/// would not with any. `score` makes the score of a run, with the canary or without, on so much noise.
pub(super) fn power(
    claim: &Claim,
    (runs, delta, confidence): (usize, f64, f64),
    score: impl Fn(&mut Normal, bool, f64) -> f64,
) -> Result<f64, Error> {
    let (mut normal, levels) = (Normal::new()?, claim.levels(delta)?);
    let runs = runs.min(MOST_RUNS);
    largest_noticed(|factor| {
        let mut several = |with| {
            (0..runs)
                .map(|_| score(&mut normal, with, factor))
                .collect()
        };
        let scores = Scores {
            with: several(true),
            without: several(false),
        };
        let bounds = bounds(&levels, &scores, confidence)?;
        Ok(bounds.iter().any(|bound| !bound.holds()))
    })
}

/// The same of guesses in one run about `canaries` coins, of which the surest `guessed` are guessed. What is
/// released along a canary is normal, with the deviation `noise`. With the canary there, the mean is `shift`
/// larger, and `sampling` is the deviation that its sampling adds.
pub(super) fn power_of_guesses(
    curve: &Curve,
    (canaries, guessed, confidence): (usize, usize, f64),
    (noise, sampling, shift): (f64, f64, f64),
) -> Result<f64, Error> {
    let mut normal = Normal::new()?;
    largest_noticed(|factor| {
        let inside: Vec<bool> = (0..canaries).map(|_| normal.draw() > 0.0).collect();
        let scores: Vec<f64> = inside
            .iter()
            .map(|inside| {
                let drawn = factor * noise * normal.draw();
                let own = if *inside {
                    shift + sampling * normal.draw()
                } else {
                    0.0
                };
                drawn + own
            })
            .collect();
        let guesses = Guesses::by_score(&scores, &inside, guessed)?;
        Ok(!curve.verdict(&guesses, confidence)?.holds())
    })
}

/// The largest part of the noise at which the attack `notices` that there is so little, 19 times of 20.
fn largest_noticed(mut notices: impl FnMut(f64) -> Result<bool, Error>) -> Result<f64, Error> {
    let mut notices = |factor: f64| -> Result<bool, Error> {
        let mut missed = 0;
        for _ in 0..TRIED {
            missed += usize::from(!notices(factor)?);
            if missed > 1 {
                return Ok(false);
            }
        }
        Ok(true)
    };
    // The less noise, the easier.
    let (mut low, mut high) = (0, FACTORS.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        if notices(FACTORS[middle])? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(if low == 0 { 0.0 } else { FACTORS[low - 1] })
}

/// Normal variables of deviation 1.
#[derive(Debug)]
pub(super) struct Normal {
    sampler: Sampler,
    generator: Generator,
    ready: Vec<i64>,
}

impl Normal {
    fn new() -> Result<Self, Error> {
        let shape = Shape::Gaussian { sigma: SCALE };
        Ok(Self {
            sampler: Sampler::new(shape).map_err(fedner_privacy::audit::Error::from)?,
            generator: Generator::from_seed([0; 32]),
            ready: Vec::new(),
        })
    }

    pub(super) fn draw(&mut self) -> f64 {
        if self.ready.is_empty() {
            self.ready = vec![0; 4096];
            self.sampler.fill(&mut self.generator, &mut self.ready);
        }
        self.ready.pop().map_or(0.0, |x| x as f64 / SCALE)
    }

    /// Whether something of this probability happens.
    pub(super) fn happens(&mut self, rate: f64) -> bool {
        !fedner_privacy::sampling::poisson(rate, 1, &mut self.generator).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use fedner_privacy::accountant::Phase;

    use super::*;

    /// One release, in all of which the canary is.
    fn of(noise_multiplier: f64, runs: usize) -> f64 {
        let claim = Claim::Steps(Phase {
            sampling_rate: 1.0,
            noise_multiplier,
            steps: 1,
        });
        let shift = noise_multiplier.recip();
        let score = |normal: &mut Normal, with: bool, factor: f64| {
            factor * normal.draw() + if with { shift } else { 0.0 }
        };
        power(&claim, (runs, 1e-5, 0.99), score).expect("power")
    }

    #[test]
    fn more_runs_notice_more_and_hardly_any_privacy_loss_shows_nothing() {
        let (few, many) = (of(1.0, 200), of(1.0, 4_000));
        assert!(few < many && (0.4..1.0).contains(&many), "{few} {many}");
        assert!(of(200.0, 200) <= 0.0);
    }
}
