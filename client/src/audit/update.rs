//! The update of a plan with the unit `institution`: clip, round, exact noise, encode.

use std::cell::RefCell;

use fedner_privacy::audit::{self, canary};
use fedner_privacy::release::Releaser;
use fedner_shared::plan::Plan;
use fedner_shared::update::encode;

use super::Error;
use super::claim::Claim;
use super::report::Part;
use crate::progress::Progress;

/// Releases `runs` updates of the largest norm and as many of none, of `weights` weights each, and
/// tells them apart by what was encoded. The claim is that of one round: no claim is lower.
pub fn attack(plan: &Plan, weights: usize, runs: usize, confidence: f64) -> Result<Part, Error> {
    let releaser = Releaser::new(&plan.privacy, weights).map_err(audit::Error::from)?;
    attack_path(plan, weights, runs, confidence, |update| {
        let release = releaser.release(update)?;
        let mut bytes = Vec::new();
        encode(&release.values, &mut bytes)?;
        Ok(bytes)
    })
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
