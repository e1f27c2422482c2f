//! Which weights a run trains.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which weights are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Every weight.
    Full,
    /// The tagging head on a frozen encoder.
    Head,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Full => "full",
            Self::Head => "head",
        })
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "full" => Ok(Self::Full),
            "head" => Ok(Self::Head),
            other => Err(format!("`{other}` is not a method: expected full or head")),
        }
    }
}
