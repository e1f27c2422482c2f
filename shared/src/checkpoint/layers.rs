//! Models of fewer layers.

use std::collections::BTreeMap;

use super::Checkpoint;

/// What a model of fewer layers cannot begin with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayersError {
    #[error(
        "the layers are {found:?}: expected one or more below {layers}, each once and in order"
    )]
    Chosen { found: Vec<usize>, layers: usize },
    #[error("the model's head reads the layers {read:?}: expected a head on the last layer alone")]
    Read { read: Vec<usize> },
}

impl Checkpoint {
    /// The model with `layers` alone, counted from 0: what a smaller model begins with (Sanh et al. 2019,
    /// "DistilBERT", section 3, take every second). Adapters are merged.
    pub fn with_layers(self, layers: &[usize]) -> Result<Self, LayersError> {
        let depth = self.config.num_hidden_layers;
        let ordered = layers.is_sorted_by(|a, b| a < b);
        if layers.is_empty() || !ordered || layers.iter().any(|layer| *layer >= depth) {
            return Err(LayersError::Chosen {
                found: layers.to_vec(),
                layers: depth,
            });
        }
        let read = &self.config.head.layers;
        if !read.is_empty() && *read != [depth] {
            return Err(LayersError::Read { read: read.clone() });
        }
        let Self {
            mut config,
            tensors,
        } = self.merged();
        config.num_hidden_layers = layers.len();
        config.head.layers.clear();
        let places: BTreeMap<String, usize> = layers
            .iter()
            .enumerate()
            .map(|(place, layer)| (layer.to_string(), place))
            .collect();
        let renamed = tensors.into_iter().filter_map(|(name, tensor)| {
            let Some(rest) = name.strip_prefix(PREFIX) else {
                return Some((name, tensor));
            };
            let (layer, part) = rest.split_once('.')?;
            let place = places.get(layer)?;
            Some((format!("{PREFIX}{place}.{part}"), tensor))
        });
        Ok(Self {
            config,
            tensors: renamed.collect(),
        })
    }
}

const PREFIX: &str = "bert.encoder.layer.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bert::{BertConfig, HeadShape};
    use crate::plan::Method;

    fn deep() -> Checkpoint {
        let config = BertConfig::parse(
            r#"{"model_type": "bert", "vocab_size": 10, "hidden_size": 4, "num_hidden_layers": 12, "num_attention_heads": 2,
                "intermediate_size": 8, "max_position_embeddings": 6}"#,
        );
        Checkpoint::random(config.expect("a configuration"), 1).with_new_head(3, 2)
    }

    #[test]
    fn layers_move_up_and_everything_else_stays() {
        let deep = deep();
        let small = deep.clone().with_layers(&[0, 5, 11]).expect("three layers");
        let manifest = small.config.manifest(&Method::Full.into(), 3);
        assert!(small.flatten(&manifest).is_ok());
        assert_eq!(small.names().len(), manifest.tensors.len());
        let of = |model: &Checkpoint, name: &str| model.tensor(name).expect(name).to_vec();
        for (place, layer) in [(0, 0), (1, 5), (2, 11)] {
            let name = |layer| format!("{PREFIX}{layer}.attention.self.query.weight");
            assert_eq!(of(&small, &name(place)), of(&deep, &name(layer)));
        }
        for name in ["classifier.weight", "bert.embeddings.LayerNorm.bias"] {
            assert_eq!(of(&small, name), of(&deep, name));
        }
    }

    #[test]
    fn what_cannot_be_chosen_is_named() {
        for layers in [&[][..], &[1, 1], &[2, 1], &[12]] {
            let error = deep().with_layers(layers).expect_err("layers");
            assert!(
                matches!(error, LayersError::Chosen { layers: 12, .. }),
                "{error}"
            );
        }
        let mut several = deep();
        several.config.head = HeadShape {
            layers: vec![2, 12],
            ..HeadShape::default()
        };
        let error = several.with_layers(&[0]).expect_err("a head");
        assert!(matches!(error, LayersError::Read { .. }), "{error}");
    }
}
