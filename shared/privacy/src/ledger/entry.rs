//! One line of the ledger.

use fedner_shared::digest::Digest;
use fedner_shared::id::RunId;
use fedner_shared::plan::{Unit, ranges};
use fedner_shared::time::Time;
use serde::{Deserialize, Serialize};

use super::Cost;
use fedner_shared::serde_helpers::nullable;

/// What the first entry names as the one before it.
pub const GENESIS: Digest = Digest::from_bytes([0; 32]);

/// Whose privacy is spent. Accounts of different units are never added into one number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// The private data, by a name the institution gave it. The same people under two names are
    /// two accounts: the institution must not do that.
    pub cohort: String,
    pub unit: Unit,
}

/// What leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A round's update.
    Update,
    /// Evaluation counts.
    Evaluation,
}

/// A release to be paid for. Every attempt is a debit of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debit {
    pub account: Account,
    pub plan: Digest,
    pub run: RunId,
    pub round: u32,
    pub attempt: u32,
    pub kind: Kind,
    pub cost: Cost,
    /// The δ at which the plan counts ε.
    pub delta: f64,
    /// Of a document or a sentence: how many of them one person has at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_person: Option<u32>,
}

impl Debit {
    /// A figure that cannot be accounted: key, what was found, what was expected.
    pub(super) fn fault(&self) -> Option<(&'static str, f64, &'static str)> {
        if let Some(fault) = self.cost.fault() {
            return Some(fault);
        }
        if !ranges::DELTA.contains(&self.delta) {
            return Some(("delta", self.delta, "a number from 1e-30 to 0.5"));
        }
        None
    }
}

/// What an entry says of its debit. Of a release that went well there are two entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Work had begun whose result would cost this. Nothing is spent. Older programs wrote it.
    Planned,
    /// Spent, before the first private byte is read. Only this stage counts.
    Debited,
    /// The coordinator has what was paid for. Nothing more is spent.
    Confirmed,
}

/// One stage of a debit, linked to the entry before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// 1, 2, 3, … without gaps.
    pub sequence: u64,
    pub time: Time,
    pub stage: Stage,
    pub debit: Debit,
    /// ε of the plan on this account after this entry, at its δ; infinite (`null`) without noise.
    #[serde(with = "nullable")]
    pub epsilon_after: f64,
    /// ε of the whole account after this entry, at its δ; infinite (`null`) without noise.
    #[serde(with = "nullable")]
    pub epsilon_account: f64,
    /// The digest of the entry before.
    pub previous: Digest,
}

impl Entry {
    /// What this entry adds to its account.
    pub fn spends(&self) -> Option<&Cost> {
        match self.stage {
            Stage::Debited => Some(&self.debit.cost),
            Stage::Planned | Stage::Confirmed => None,
        }
    }

    /// The digest of the canonical JSON, `previous` included.
    pub fn digest(&self) -> Digest {
        Digest::of_json(self)
    }
}
