//! What a run begins with, byte for byte.

use serde::{Deserialize, Serialize};

use super::{Error, KnownTypes, Plan, error};
use crate::digest::Digest;

/// The files and the manifest of the version that a run begins with. Whoever consents to the plan
/// consents to these bytes: config and tokenizer decide what is computed of private text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inputs {
    /// `config.json`.
    pub config: Pinned,
    /// `tokenizer.json`.
    pub tokenizer: Pinned,
    /// What the first round begins with. Later weights have the same length.
    pub weights: Pinned,
    /// The weights that the run leaves as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Pinned>,
    /// The types that the base knows; empty where the plan trains them as it trains new ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<String>,
    /// The manifest of trainable tensors.
    pub manifest: Digest,
}

/// A file that may not be another one, nor longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pinned {
    pub digest: Digest,
    pub bytes: u64,
}

/// Larger than any configuration and any tokenizer that is known.
const MOST_TEXT: u64 = 64 << 20;
/// Larger than any model of this kind.
const MOST_WEIGHTS: u64 = 1 << 40;

impl Inputs {
    /// The largest length of an object that a round may fetch; `None` for what is not of the run.
    /// `weights` are those of the round.
    pub fn length_of(&self, object: &Digest, weights: &Digest) -> Option<u64> {
        if object == weights {
            return Some(self.weights.bytes);
        }
        let files = [Some(self.config), Some(self.tokenizer), self.frozen];
        let mut files = files.into_iter().flatten();
        files
            .find(|file| file.digest == *object)
            .map(|file| file.bytes)
    }

    /// Bytes of all weights together.
    pub fn weight_bytes(&self) -> u64 {
        let frozen = self.frozen.map_or(0, |frozen| frozen.bytes);
        self.weights.bytes.saturating_add(frozen)
    }
}

impl Plan {
    /// The types of the base of which something is to be kept.
    pub fn known_types_of_base(&self) -> &[String] {
        self.inputs.as_ref().map_or(&[], |inputs| &inputs.known)
    }

    /// Those whose rows of the head stay as they are.
    pub fn frozen_types(&self) -> &[String] {
        match self.known_types {
            KnownTypes::Freeze => self.known_types_of_base(),
            KnownTypes::Train | KnownTypes::Distil => &[],
        }
    }

    /// The weights that say in every round what the base knew.
    pub fn weights_of_parent(&self) -> Option<Pinned> {
        let asked = self.known_types == KnownTypes::Distil;
        let inputs = self.inputs.as_ref().filter(|_| asked)?;
        Some(inputs.weights)
    }

    pub(super) fn check_inputs(&self) -> Result<(), Error> {
        let Some(inputs) = &self.inputs else {
            return Ok(());
        };
        error::between("inputs.config.bytes", inputs.config.bytes, 1, MOST_TEXT)?;
        error::between(
            "inputs.tokenizer.bytes",
            inputs.tokenizer.bytes,
            1,
            MOST_TEXT,
        )?;
        error::between(
            "inputs.weights.bytes",
            inputs.weights.bytes,
            1,
            MOST_WEIGHTS,
        )?;
        let of_plan = inputs.known.iter().all(|label| self.labels.contains(label));
        if !of_plan || (!inputs.known.is_empty() && self.known_types == KnownTypes::Train) {
            let found = format!("{:?}", inputs.known);
            let expected = "some of the labels, with `known_types = \"freeze\"` or \"distil\"";
            return Err(error::value("inputs.known", found, expected));
        }
        let frozen = inputs.frozen.map_or(1, |frozen| frozen.bytes);
        error::between("inputs.frozen.bytes", frozen, 1, MOST_WEIGHTS)
    }
}
