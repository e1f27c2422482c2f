//! The update of a plan with the unit `institution`: clip, round, exact noise, encode.

use std::cell::RefCell;

use fedner_host::progress::Progress;
use fedner_privacy::audit::mechanism::{self, Products};
use fedner_privacy::audit::{self, canary};
use fedner_privacy::release::Releaser;
use fedner_shared::audit::Check;
use fedner_shared::plan::Plan;
use fedner_shared::update::Decoder;

use super::Error;
use super::claim::Claim;
use super::power::{Normal, power};
use super::report::Part;
use super::steps::Attacked;

/// Releases `runs` updates of the largest norm and as many of none, of `weights` weights each, and
/// tells them apart by what was encoded. The claim is that of one round: no claim is lower. Where noise is shared, it
/// is the sum with as many updates of others that is released and claimed.
///
/// Beside it the noise of updates of zero is measured, weight by weight.
pub fn attack(
    plan: &Plan,
    weights: usize,
    runs: usize,
    confidence: f64,
) -> Result<Attacked, Error> {
    let releaser = Releaser::new(&plan.privacy, weights).map_err(audit::Error::from)?;
    let release =
        |update: &[f32]| canary::release_sum(&releaser, update, plan.privacy.noise_shares);
    let mut part = attack_path(plan, weights, runs, confidence, release)?;
    let shift = plan.privacy.noise_multiplier.recip();
    let score = |normal: &mut Normal, with: bool, factor: f64| {
        factor * normal.draw() + if with { shift } else { 0.0 }
    };
    let level = (runs, plan.privacy.delta, confidence);
    part.power = Some(power(&Claim::update(plan, weights), level, score)?);
    let checks = noise_of(plan, weights, runs.min(MEASURED), confidence, release)?;
    let parts = vec![part];
    Ok(Attacked { parts, checks })
}

/// Releases whose noise is measured: each has as many values as there are weights.
const MEASURED: usize = 1000;
/// The checks share the doubt, and are surer than an attack: there are values enough.
const CHECKS: f64 = 3000.0;

/// The noise of updates of zero on any path: its size, and whether one value tells of another.
pub(super) fn noise_of(
    plan: &Plan,
    weights: usize,
    runs: usize,
    confidence: f64,
    release: impl Fn(&[f32]) -> Result<Vec<u8>, audit::Error>,
) -> Result<Vec<Check>, Error> {
    let privacy = &plan.privacy;
    let scale = privacy.noise_multiplier * privacy.grid().steps();
    let nothing = vec![0.0; weights];
    let (mut squares, mut count) = (0.0, 0);
    let (mut by_release, mut by_weight) = (Products::default(), Products::default());
    let mut before: Vec<f64> = Vec::new();
    for _ in 0..runs {
        let bytes = release(&nothing)?;
        let bound = canary::sum_bound(privacy);
        let decoder = Decoder::new(bytes.as_slice(), weights, bound);
        let values = decoder
            .and_then(Decoder::read_all)
            .map_err(audit::Error::from)?;
        let noise: Vec<f64> = values.iter().map(|x| f64::from(*x) / scale).collect();
        squares += noise.iter().map(|x| x * x).sum::<f64>();
        count += noise.len() as u64;
        for (x, before) in noise.iter().zip(&before) {
            by_release.add(*x, *before);
        }
        for pair in noise.windows(2) {
            by_weight.add(pair[0], pair[1]);
        }
        before = noise;
    }
    let each = 1.0 - (1.0 - confidence) / CHECKS;
    let checks = [
        mechanism::noise(squares, count, each),
        by_release.independent("noise-releases", each),
        by_weight.independent("noise-weights", each),
    ];
    Ok(checks.into_iter().flatten().collect())
}

/// The same attack on any path from an update to its bytes.
pub(super) fn attack_path(
    plan: &Plan,
    weights: usize,
    runs: usize,
    confidence: f64,
    release: impl Fn(&[f32]) -> Result<Vec<u8>, audit::Error>,
) -> Result<Part, Error> {
    let shown = RefCell::new((Progress::new("releasing updates"), 0));
    let scores = canary::attack(&plan.privacy, weights, runs, |update| {
        let (progress, done) = &mut *shown.borrow_mut();
        *done += 1;
        progress.at(*done, 2 * runs, String::new);
        release(update)
    })?;
    Claim::update(plan, weights).judge("update", &scores, plan, confidence)
}
