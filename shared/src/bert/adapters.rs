//! Adapters of low rank (Hu et al. 2022), as a version's config.json records them.

use serde::{Deserialize, Serialize};

use super::BertConfig;
use crate::manifest::TensorSpec;
use crate::plan::{Lora, Target};

/// Which adapters stand beside the weights of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adapters {
    pub lora: Lora,
    /// The lowest layer that has adapters.
    pub first_layer: usize,
}

impl BertConfig {
    /// The two factors of every adapter, under the names that PEFT gives them.
    pub fn adapter_tensors(&self) -> Vec<TensorSpec> {
        let factors = self.adapted().flat_map(|(module, output, input)| {
            let rank = self
                .adapters
                .as_ref()
                .map_or(0, |adapters| adapters.lora.rank);
            [
                TensorSpec::new(format!("{module}.lora_A.weight"), [rank, input]),
                TensorSpec::new(format!("{module}.lora_B.weight"), [output, rank]),
            ]
        });
        factors.collect()
    }

    /// The linear layers that have an adapter: module, outputs, inputs.
    pub fn adapted(&self) -> impl Iterator<Item = (String, usize, usize)> {
        let (first, targets) = match &self.adapters {
            Some(adapters) => (adapters.first_layer, adapters.lora.targets.as_slice()),
            None => (self.num_hidden_layers, &[][..]),
        };
        (first..self.num_hidden_layers).flat_map(move |layer| {
            targets.iter().map(move |target| {
                let (output, input) = self.shape(*target);
                let module = format!("bert.encoder.layer.{layer}.{}", target.module());
                (module, output, input)
            })
        })
    }

    fn shape(&self, target: Target) -> (usize, usize) {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        match target {
            Target::Query | Target::Key | Target::Value | Target::AttentionOutput => {
                (hidden, hidden)
            }
            Target::Intermediate => (inner, hidden),
            Target::Output => (hidden, inner),
        }
    }
}
