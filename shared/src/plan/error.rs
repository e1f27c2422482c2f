//! What is wrong with a value of a plan.

use std::fmt;
use std::ops::RangeInclusive;

/// Why a text is no plan.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the plan cannot be read: {0}")]
    Syntax(#[from] toml::de::Error),
    #[error("the plan's `{key}` is {found}: expected {expected}")]
    Value {
        key: &'static str,
        found: String,
        expected: String,
    },
}

pub(super) fn value(key: &'static str, found: impl ToString, expected: impl Into<String>) -> Error {
    Error::Value {
        key,
        found: found.to_string(),
        expected: expected.into(),
    }
}

pub(super) fn between<N: PartialOrd + fmt::Display>(
    key: &'static str,
    n: N,
    low: N,
    high: N,
) -> Result<(), Error> {
    if n < low || n > high {
        return Err(value(key, n, format!("a number from {low} to {high}")));
    }
    Ok(())
}

pub(super) fn within(
    key: &'static str,
    x: f64,
    allowed: &RangeInclusive<f64>,
) -> Result<(), Error> {
    range(key, x, *allowed.start(), *allowed.end(), true)
}

/// `inclusive` says whether `low` itself is allowed; a NaN never is.
pub(super) fn range(
    key: &'static str,
    x: f64,
    low: f64,
    high: f64,
    inclusive: bool,
) -> Result<(), Error> {
    let inside = x <= high && (x > low || (inclusive && x >= low));
    if inside {
        return Ok(());
    }
    let above = if inclusive { "from" } else { "above" };
    Err(value(key, x, format!("a number {above} {low} to {high}")))
}
