//! Names and identifiers.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A name has a character that names may not have, or no characters, or too many.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a name: expected 1 to 64 of a-z, A-Z, 0-9, `-`, `_`, `.`, beginning with a letter or digit"
)]
pub struct NotAName(String);

/// Names stand in certificates, file names and metric labels, so one small alphabet serves all.
fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=64).contains(&text.len())
        && text.chars().all(allowed)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NotAName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                if is_name(text) { Ok(Self(text.into())) } else { Err(NotAName(crate::text::brief(text))) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name_type! {
    /// The name of an institution, as it stands in its certificate.
    InstitutionId
}
name_type! {
    /// The name of a plan; the versions it publishes are `NAME@1`, `NAME@2`, ….
    PlanName
}
name_type! {
    /// The name of a run: the plan's name and the first digits of the plan's digest.
    RunId
}
name_type! {
    /// A movable name for a model version: `champion`, `challenger`, or the operator's own.
    Alias
}

/// `NAME@NUMBER`: a model version in words; its digest is its identity.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionName {
    pub model: PlanName,
    pub number: u32,
}

/// The text is not `NAME@NUMBER`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a model version: expected NAME@NUMBER, as in `minilm@1`")]
pub struct NotAVersion(String);

impl NotAVersion {
    pub(crate) fn new(text: &str) -> Self {
        Self(crate::text::brief(text))
    }
}

impl FromStr for VersionName {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || NotAVersion(crate::text::brief(text));
        let (model, number) = text.rsplit_once('@').ok_or_else(wrong)?;
        let number: u32 = number.parse().map_err(|_| wrong())?;
        if number == 0 {
            return Err(wrong());
        }
        Ok(Self {
            model: model.parse().map_err(|_| wrong())?,
            number,
        })
    }
}

impl fmt::Display for VersionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}@{}", self.model, self.number))
    }
}

impl fmt::Debug for VersionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for VersionName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VersionName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_alphabet() {
        for good in ["st-anna", "a", "North.2", "0x"] {
            assert!(good.parse::<InstitutionId>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a/b", "a b", "ä", "../x", &"x".repeat(65)] {
            assert!(bad.parse::<InstitutionId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn versions_have_a_name_and_a_positive_number() {
        let version: VersionName = "minilm@12".parse().expect("version");
        assert_eq!((version.model.as_str(), version.number), ("minilm", 12));
        for bad in ["minilm", "minilm@", "minilm@0", "@1", "minilm@x"] {
            assert!(bad.parse::<VersionName>().is_err(), "{bad}");
        }
    }
}
