//! Which weights a run trains.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Training;
use super::error::{Error, between, range, value};
use crate::bert::HeadShape;

/// What a method is, beside which tensors it trains (`bert/tensors.rs`) and how (`fedner-model`).
#[derive(Debug, Clone, Copy)]
struct Spec {
    name: &'static str,
    /// Whether the encoder is trained through adapters.
    adapts: bool,
    /// Batch size and learning rate where units are sampled.
    sampled: (usize, f64),
}

/// Declares the methods, each with what it is.
macro_rules! methods {
    ($($(#[$doc:meta])* $method:ident = $spec:expr,)+) => {
        /// Which weights are trained.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Method {
            $($(#[$doc])* $method),+
        }

        impl Method {
            /// Those that train most first.
            pub const ALL: [Self; [$(stringify!($method)),+].len()] = [$(Self::$method),+];

            const fn spec(self) -> Spec {
                match self {
                    $(Self::$method => $spec),+
                }
            }
        }
    };
}

methods! {
    /// Every weight that is not frozen.
    Full = Spec { name: "full", adapts: false, sampled: (256, 1e-3) },
    /// Adapters of low rank beside the frozen encoder (Hu et al. 2022), and the head.
    Lora = Spec { name: "lora", adapts: true, sampled: (1024, 1e-3) },
    /// The same with the first factor of each adapter frozen too (Sun et al. 2024), so that the
    /// mean of the updates is the update of the means.
    FfaLora = Spec { name: "ffa-lora", adapts: true, sampled: (256, 5e-3) },
    /// Biases alone, those of the norms among them, and the head (Ben Zaken et al. 2022; with
    /// privacy Bu et al. 2022, "DP-BiTFiT").
    Bitfit = Spec { name: "bitfit", adapts: false, sampled: (256, 5e-3) },
    /// The tagging head on a frozen encoder.
    Head = Spec { name: "head", adapts: false, sampled: (1024, 0.3) },
}

impl Method {
    pub const fn as_str(self) -> &'static str {
        self.spec().name
    }

    /// Whether the encoder is trained through adapters.
    pub const fn adapts(self) -> bool {
        self.spec().adapts
    }

    /// The batch size and the learning rate that a plan file leaves out where its unit is sampled.
    pub(super) const fn sampled_defaults(self) -> (usize, f64) {
        self.spec().sampled
    }
}

/// The adapters of `lora` and `ffa-lora`: W + (α/r)·B·A in place of W, with A of shape
/// [r, input] and B of shape [output, r] (Hu et al. 2022, section 4.1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lora {
    /// r
    pub rank: usize,
    /// α
    pub alpha: f64,
    /// The linear layers that get an adapter, in every layer that is not frozen.
    pub targets: Vec<Target>,
}

impl Default for Lora {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 16.0,
            targets: vec![Target::Query, Target::Value],
        }
    }
}

impl Lora {
    /// What B·A is multiplied with.
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        between("lora.rank", self.rank, 1, 1024)?;
        range("lora.alpha", self.alpha, 0.0, 1e6, false)?;
        let mut distinct = self.targets.clone();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.is_empty() || distinct.len() != self.targets.len() {
            let found = format!("{:?}", self.targets);
            return Err(value(
                "lora.targets",
                found,
                "each layer at most once, at least one",
            ));
        }
        Ok(())
    }
}

/// A linear layer of a BERT layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    Query,
    Key,
    Value,
    AttentionOutput,
    Intermediate,
    Output,
}

impl Target {
    pub const ALL: [Self; 6] = [
        Self::Query,
        Self::Key,
        Self::Value,
        Self::AttentionOutput,
        Self::Intermediate,
        Self::Output,
    ];

    /// The name of its module within a layer of a Hugging Face model.
    pub const fn module(self) -> &'static str {
        match self {
            Self::Query => "attention.self.query",
            Self::Key => "attention.self.key",
            Self::Value => "attention.self.value",
            Self::AttentionOutput => "attention.output.dense",
            Self::Intermediate => "intermediate.dense",
            Self::Output => "output.dense",
        }
    }
}

/// All that a plan says about which weights are trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Trainable {
    pub method: Method,
    /// Means nothing for methods without adapters.
    pub lora: Lora,
    /// The embeddings stay as they are.
    pub freeze_embeddings: bool,
    /// The lowest layers that stay as they are.
    pub freeze_layers: usize,
    pub head: HeadShape,
}

impl Trainable {
    pub fn new(method: Method, lora: Option<&Lora>, training: &Training) -> Self {
        Self {
            method,
            lora: lora.cloned().unwrap_or_default(),
            freeze_embeddings: training.freeze_embeddings,
            freeze_layers: training.freeze_layers,
            head: training.head(),
        }
    }
}

impl From<Method> for Trainable {
    /// The method with its default options.
    fn from(method: Method) -> Self {
        Self::new(method, None, &Training::default())
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|method| method.as_str() == text);
        let names: Vec<_> = Self::ALL.iter().map(|method| method.as_str()).collect();
        let expected = names.join(", ");
        found
            .copied()
            .ok_or_else(|| format!("`{text}` is not a method: expected one of {expected}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_plans() {
        for method in Method::ALL {
            assert_eq!(method.as_str().parse(), Ok(method));
            let json = serde_json::to_string(&method).expect("json");
            assert_eq!(json, format!("\"{method}\""));
        }
        let error = "prefix".parse::<Method>().expect_err("unknown");
        assert!(
            error.ends_with("full, lora, ffa-lora, bitfit, head"),
            "{error}"
        );
    }
}
