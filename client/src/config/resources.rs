//! What this institution's machine gives to training.

use std::thread::available_parallelism;

use fedner_host::memory;
use fedner_model::device::Device;
use fedner_shared::plan::Plan;
use fedner_shared::refusal::{Code, Refusal};
use serde::{Deserialize, Serialize};

const GIB: u64 = 1 << 30;

/// What is declared; of what is left out, the machine has what it has.
///
/// Nothing of it depends on the text: memory in use would, so the whole memory counts, not what is free.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Whether there is a device other than the processor; what `device` names, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<bool>,
    /// Memory in GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_gib: Option<u32>,
    /// Cores of the processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<u32>,
}

impl Resources {
    /// Whether the machine has what the plan requires. `device` is that of `client.toml`.
    pub fn allow(&self, plan: &Plan, device: &str) -> Result<(), Refusal> {
        let Some(requires) = &plan.requires else {
            return Ok(());
        };
        let lacks = |wanted: Option<u32>, here: Option<u64>, what: &str| {
            let (wanted, here) = (wanted?, here?);
            (here < u64::from(wanted)).then(|| format!("{here}{what}"))
        };
        let gpu = self.gpu.unwrap_or_else(|| is_gpu(device));
        let lacking = [
            (requires.gpu && !gpu).then(|| "no GPU".to_owned()),
            lacks(requires.memory_gib, self.memory(), " GiB of memory"),
            lacks(requires.cores, self.cores(), " cores"),
        ];
        let lacking: Vec<String> = lacking.into_iter().flatten().collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let message = format!(
            "the plan {} requires {}: here are {}",
            plan.name,
            requires.in_words(),
            lacking.join(", ")
        );
        Err(Refusal::new(Code::ResourcesLacking, message))
    }

    /// In GiB, rounded: firmware keeps a part of what was bought.
    fn memory(&self) -> Option<u64> {
        let whole = || memory::whole().map(|bytes| (bytes + GIB / 2) / GIB);
        self.memory_gib.map(u64::from).or_else(whole)
    }

    fn cores(&self) -> Option<u64> {
        let found = || available_parallelism().ok().map(|n| n.get() as u64);
        self.cores.map(u64::from).or_else(found)
    }
}

/// Whether a name that may be one of a device is that of another than the processor.
fn is_gpu(device: &str) -> bool {
    device.parse().is_ok_and(Device::is_gpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(requires: &str) -> Plan {
        Plan::parse(&format!(
            "name = \"p\"\nbase = \"b@1\"\nlabels = [\"Drug\"]\nmethod = \"head\"\nrounds = 1\n\
             [cohort]\ninstitutions = [\"st-anna\"]\nquorum = 1\n[privacy]\nunit = \"none\"\n{requires}"
        ))
        .expect("plan")
    }

    #[test]
    fn what_is_declared_counts_and_what_is_lacking_is_named() {
        let declared = Resources {
            gpu: Some(false),
            memory_gib: Some(8),
            cores: Some(4),
        };
        let allowed = |resources: &Resources, requires: &str| {
            resources.allow(&plan(&format!("[requires]\n{requires}")), "auto")
        };
        assert_eq!(declared.allow(&plan(""), "auto"), Ok(()));
        assert_eq!(allowed(&declared, "memory_gib = 8\ncores = 4"), Ok(()));
        let refused = allowed(&declared, "gpu = true\nmemory_gib = 9\ncores = 4");
        let refusal = refused.expect_err("a larger machine is asked for");
        assert_eq!(refusal.code, Code::ResourcesLacking);
        assert_eq!(
            refusal.message,
            "the plan p requires a GPU, 9 GiB of memory and 4 cores: here are no GPU, 8 GiB of memory"
        );
    }

    #[test]
    fn what_is_not_declared_is_what_the_machine_has() {
        let none = Resources::default();
        let of = |requires: &str, device: &str| {
            none.allow(&plan(&format!("[requires]\n{requires}")), device)
                .is_ok()
        };
        assert!(of("cores = 1\nmemory_gib = 1", "cpu"));
        assert!(!of("cores = 65536", "cpu"));
        assert!(!of("memory_gib = 65536", "cpu"));
        assert!(!of("gpu = true", "cpu"));
        assert!(!of("gpu = true", "auto"));
    }
}
