//! Tests that need a program of the machine which not every machine has.

use anyhow::{Result, bail};

/// Says that `what` cannot be tested on this machine at all, which is no error anywhere.
#[allow(
    clippy::print_stderr,
    reason = "whoever runs the tests is to see what was not tested"
)]
pub fn impossible(what: &str, why: &str) {
    eprintln!("skipped: {what} is not tested: {}", why.trim());
}

/// Says that `what` is not tested for want of `needed`. It is an error where the machine says `CI=true`: there
/// `.ci/run` has installed everything.
#[allow(
    clippy::print_stderr,
    reason = "whoever runs the tests is to see what was not tested"
)]
pub fn skipped(what: &str, needed: &str) -> Result<()> {
    if std::env::var("CI").is_ok_and(|value| value == "true") {
        bail!("{what} is not tested: install {needed}");
    }
    eprintln!("skipped: {what} is not tested without {needed}");
    Ok(())
}
