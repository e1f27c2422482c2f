//! Proof by attack: lower bounds on ε from what an adversary can tell.
//!
//! A claim of (ε, δ) bounds how well anybody can tell whether a unit was there. An attack that does
//! better refutes the claim; one that does not proves nothing, but one that comes close shows that
//! the attack is worth something. So each comes with controls that must fail.
//!
//! | module | attack | bound |
//! |---|---|---|
//! | [`distinguish`] | many runs with and without a canary, one score each | errors of a threshold test, by Clopper and Pearson |
//! | [`one_run`] | many canaries in one run, each in it by a coin | correct guesses, by Steinke, Nasr and Jagielski 2023 |
//! | [`canary`] | the largest update there is, on the path that real updates take | through [`distinguish`] |
//! | [`mechanism`] | none: noise, rate and clip as they were | limits of what chance gives |
//! | [`roc`] | scores of members and of others of one model | none: figures |
//! | [`exposure`] | the rank of a planted secret | none: figures |

mod binomial;
pub mod canary;
pub mod distinguish;
pub mod exposure;
pub mod mechanism;
pub mod one_run;
pub mod roc;
#[cfg(test)]
mod tests;

pub use fedner_shared::audit::Verdict;

/// Why an attack says nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the audit's {name} is {found}: expected {expected}")]
    Value {
        name: &'static str,
        found: f64,
        expected: &'static str,
    },
    #[error("the audited path released nothing: {0}")]
    Release(#[from] crate::release::Error),
    #[error("the audited path could not encode: {0}")]
    Encode(#[from] fedner_shared::update::Error),
    #[error(transparent)]
    Accountant(#[from] crate::accountant::Error),
    #[error(transparent)]
    Noise(#[from] crate::noise::Error),
}

fn value(name: &'static str, found: f64, holds: bool, expected: &'static str) -> Result<(), Error> {
    if holds {
        return Ok(());
    }
    Err(Error::Value {
        name,
        found,
        expected,
    })
}

/// The δ that a lower bound on ε is for, and how sure it shall be.
fn check_levels(delta: f64, confidence: f64) -> Result<(), Error> {
    let possible = (0.0..1.0).contains(&delta);
    value("δ", delta, possible, "a number from 0, below 1")?;
    let sure = confidence > 0.0 && confidence < 1.0;
    value("confidence", confidence, sure, "a number between 0 and 1")
}
