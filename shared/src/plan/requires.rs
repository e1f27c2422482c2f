//! What a plan asks of the machines that train.

use serde::{Deserialize, Serialize};

use super::error::{Error, between, value};
use crate::serde_helpers::is_default;

/// What an institution's machine must have to take part. What is left out is not asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requires {
    /// A device other than the processor.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gpu: bool,
    /// Memory in GiB, in use or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_gib: Option<u32>,
    /// Cores of the processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<u32>,
}

impl Requires {
    pub(super) fn check(&self) -> Result<(), Error> {
        if *self == Self::default() {
            let expected = "gpu, memory_gib or cores, or no table [requires]";
            return Err(value("requires", "empty", expected));
        }
        between(
            "requires.memory_gib",
            self.memory_gib.unwrap_or(1),
            1,
            65_536,
        )?;
        between("requires.cores", self.cores.unwrap_or(1), 1, 65_536)
    }

    /// In words, such as `a GPU, 16 GiB of memory and 8 cores`.
    pub fn in_words(&self) -> String {
        let memory = self.memory_gib.map(|gib| format!("{gib} GiB of memory"));
        let cores = self.cores.map(|cores| format!("{cores} cores"));
        let gpu = self.gpu.then(|| "a GPU".to_owned());
        let all: Vec<String> = [gpu, memory, cores].into_iter().flatten().collect();
        match all.as_slice() {
            [others @ .., last] if !others.is_empty() => {
                format!("{} and {last}", others.join(", "))
            }
            all => all.concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use crate::plan::tests::EXAMPLE;

    #[test]
    fn what_is_required_is_something_and_within_reason() {
        let with = |keys: &str| Plan::parse(&format!("{EXAMPLE}\n[requires]\n{keys}"));
        let all = with("gpu = true\nmemory_gib = 16\ncores = 8").expect("plan");
        let words = all.requires.map(|requires| requires.in_words());
        assert_eq!(
            words.as_deref(),
            Some("a GPU, 16 GiB of memory and 8 cores")
        );
        let one = with("cores = 2").expect("plan").requires.expect("table");
        assert_eq!(one.in_words(), "2 cores");
        for (keys, key) in [
            ("", "requires"),
            ("gpu = false", "requires"),
            ("memory_gib = 0", "requires.memory_gib"),
            ("cores = 100000", "requires.cores"),
        ] {
            let error = with(keys).expect_err(keys);
            assert!(
                matches!(error, Error::Value { key: k, .. } if k == key),
                "{keys}: {error}"
            );
        }
        // A plan without it has the digest that it had before there was such a table.
        let json = serde_json::to_string(&Plan::parse(EXAMPLE).expect("plan")).expect("json");
        assert!(!json.contains("requires"), "{json}");
    }
}
