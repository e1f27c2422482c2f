//! The names, shapes and order of a model's weights.

use super::{Adapters, BertConfig, is_of_head};
use crate::manifest::{Manifest, TensorSpec};
use crate::plan::{Method, Trainable};

impl BertConfig {
    /// Every weight of the encoder; no pooler, which tagging never uses.
    pub fn encoder_tensors(&self) -> Vec<TensorSpec> {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let mut tensors = Vec::new();
        let mut push = |name: String, shape: Vec<usize>| tensors.push(TensorSpec::new(name, shape));
        let embeddings = "bert.embeddings";
        push(
            format!("{embeddings}.word_embeddings.weight"),
            vec![self.vocab_size, hidden],
        );
        let positions = vec![self.max_position_embeddings, hidden];
        push(
            format!("{embeddings}.position_embeddings.weight"),
            positions,
        );
        let kinds = vec![self.type_vocab_size, hidden];
        push(format!("{embeddings}.token_type_embeddings.weight"), kinds);
        push(format!("{embeddings}.LayerNorm.weight"), vec![hidden]);
        push(format!("{embeddings}.LayerNorm.bias"), vec![hidden]);
        for layer in 0..self.num_hidden_layers {
            let prefix = format!("bert.encoder.layer.{layer}");
            let mut linear = |name: &str, output: usize, input: usize| {
                push(format!("{prefix}.{name}.weight"), vec![output, input]);
                push(format!("{prefix}.{name}.bias"), vec![output]);
            };
            linear("attention.self.query", hidden, hidden);
            linear("attention.self.key", hidden, hidden);
            linear("attention.self.value", hidden, hidden);
            linear("attention.output.dense", hidden, hidden);
            push(
                format!("{prefix}.attention.output.LayerNorm.weight"),
                vec![hidden],
            );
            push(
                format!("{prefix}.attention.output.LayerNorm.bias"),
                vec![hidden],
            );
            let mut linear = |name: &str, output: usize, input: usize| {
                push(format!("{prefix}.{name}.weight"), vec![output, input]);
                push(format!("{prefix}.{name}.bias"), vec![output]);
            };
            linear("intermediate.dense", inner, hidden);
            linear("output.dense", hidden, inner);
            push(format!("{prefix}.output.LayerNorm.weight"), vec![hidden]);
            push(format!("{prefix}.output.LayerNorm.bias"), vec![hidden]);
        }
        tensors
    }

    /// Encoder, adapters and head: every tensor of a model version, sorted by name as its file is.
    pub fn model_tensors(&self, tags: usize) -> Vec<TensorSpec> {
        let mut tensors = self.encoder_tensors();
        tensors.extend(self.adapter_tensors());
        tensors.extend(self.head_tensors(tags));
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        tensors
    }

    /// The model as a run that trains `trainable` has it: with the adapters of that run, or none,
    /// and the head that it names.
    #[must_use]
    pub fn prepared_for(&self, trainable: &Trainable) -> Self {
        let adapters = trainable.method.adapts().then(|| Adapters {
            lora: trainable.lora.clone(),
            first_layer: trainable.freeze_layers,
        });
        let mut head = trainable.head.clone();
        // Said in the one way in which Hugging Face reads it too.
        if head.layers == [self.num_hidden_layers] {
            head.layers.clear();
        }
        Self {
            adapters,
            head,
            ..self.clone()
        }
    }

    /// Whether the model is deep enough for what is to be frozen, and for what the head is to read.
    pub fn check_trainable(&self, trainable: &Trainable) -> Result<(), Unfit> {
        let (frozen, layers) = (trainable.freeze_layers, self.num_hidden_layers);
        // Adapters need a layer to stand in.
        let most = layers - usize::from(trainable.method.adapts());
        if frozen > most {
            return Err(Unfit::Frozen {
                frozen,
                layers,
                most,
            });
        }
        match trainable.head.layers.last() {
            Some(read) if *read > layers => Err(Unfit::Read {
                read: *read,
                layers,
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// The least length that a file of this model's weights has: two bytes a weight of the encoder.
    ///
    /// A short `config.json` can name any number of layers. Compare this with the length of the
    /// weights before anything is made of the configuration.
    pub fn least_bytes(&self) -> u128 {
        let size = |size: usize| size as u128;
        let (hidden, inner) = (size(self.hidden_size), size(self.intermediate_size));
        let layer = 4 * hidden * hidden + 2 * hidden * inner;
        let words = size(self.vocab_size) + size(self.max_position_embeddings);
        2 * (words * hidden + size(self.num_hidden_layers) * layer.max(1))
    }

    /// The tensors that are trained, sorted by name: the order of a safetensors file, so that
    /// an update can be applied in one pass over it.
    pub fn manifest(&self, trainable: &Trainable, tags: usize) -> Manifest {
        let mut tensors = self.prepared_for(trainable).model_tensors(tags);
        tensors.retain(|tensor| trainable.trains(&tensor.name));
        Manifest::new(tensors)
    }
}

/// The plan asks for more layers than the model has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error(
        "the plan's `training.freeze_layers` is {frozen}: expected at most {most}, as the model has {layers} layers"
    )]
    Frozen {
        frozen: usize,
        layers: usize,
        most: usize,
    },
    #[error(
        "the plan's `training.head_layers` has {read}: expected at most {layers}, as the model has {layers} layers"
    )]
    Read { read: usize, layers: usize },
}

impl Trainable {
    /// Whether the tensor of this name is trained, if the model has it.
    pub fn trains(&self, tensor: &str) -> bool {
        let head = is_of_head(tensor);
        match self.method {
            Method::Full => !self.freezes(tensor),
            Method::Lora => head || tensor.contains(".lora_"),
            Method::FfaLora => head || tensor.contains(".lora_B."),
            Method::Bitfit => head || (is_bias(tensor) && !self.freezes(tensor)),
            Method::Head => head,
        }
    }

    fn freezes(&self, tensor: &str) -> bool {
        match self.freeze_layers {
            0 => self.freeze_embeddings && is_of_embeddings(tensor),
            layers => is_of_lowest(tensor, layers),
        }
    }
}

/// Whether a tensor is of the embeddings or of the lowest `layers` layers.
pub fn is_of_lowest(tensor: &str, layers: usize) -> bool {
    is_of_embeddings(tensor) || layer(tensor).is_some_and(|layer| layer < layers)
}

fn is_bias(tensor: &str) -> bool {
    tensor.rsplit('.').next() == Some("bias")
}

fn is_of_embeddings(tensor: &str) -> bool {
    tensor.starts_with("bert.embeddings.")
}

/// The layer that a tensor is of, counted from 0.
fn layer(tensor: &str) -> Option<usize> {
    let rest = tensor.strip_prefix("bert.encoder.layer.")?;
    rest.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::HeadShape;
    use super::super::tests::MINILM;
    use super::*;
    use crate::plan::{Lora, Target};

    fn minilm() -> BertConfig {
        BertConfig::parse(MINILM).expect("config")
    }

    fn frozen(method: Method, embeddings: bool, layers: usize) -> Trainable {
        Trainable {
            freeze_embeddings: embeddings,
            freeze_layers: layers,
            ..method.into()
        }
    }

    #[test]
    fn adapters_train_only_themselves_and_the_head() {
        let head = 3 * 385;
        let lora = minilm().manifest(&Method::Lora.into(), 3);
        assert_eq!(lora.dimension(), 6 * 2 * 2 * 8 * 384 + head);
        let ffa = minilm().manifest(&Method::FfaLora.into(), 3);
        assert_eq!(ffa.dimension(), 6 * 2 * 8 * 384 + head);
        assert_eq!(
            ffa.tensors[0].name,
            "bert.encoder.layer.0.attention.self.query.lora_B.weight"
        );
        // Of a layer: four of attention, the inner one, the output's, and two norms'.
        let layer = 7 * 384 + 1536;
        let biases = minilm().manifest(&Method::Bitfit.into(), 3);
        assert_eq!(biases.dimension(), 384 + 6 * layer + head);
        let frozen_below = minilm().manifest(&frozen(Method::Bitfit, false, 4), 3);
        assert_eq!(frozen_below.dimension(), 2 * layer + head);
        let upper = minilm().manifest(&frozen(Method::FfaLora, false, 4), 3);
        assert_eq!(upper.dimension(), 2 * 2 * 8 * 384 + head);
        let wide = Trainable {
            lora: Lora {
                rank: 2,
                targets: Target::ALL.to_vec(),
                ..Lora::default()
            },
            ..Method::Lora.into()
        };
        let shapes = 4 * (384 + 384) + 2 * (384 + 1536);
        assert_eq!(
            minilm().manifest(&wide, 3).dimension(),
            6 * 2 * shapes + head
        );
    }

    #[test]
    fn what_is_frozen_is_not_in_the_manifest() {
        let (hidden, vocabulary) = (384, 30_522 + 512 + 2);
        let embeddings = vocabulary * hidden + 2 * hidden;
        let of = |trainable: &Trainable| minilm().manifest(trainable, 3).dimension();
        let full = of(&Method::Full.into());
        assert_eq!(of(&frozen(Method::Full, true, 0)), full - embeddings);
        let all = frozen(Method::Full, false, 6);
        assert_eq!(of(&all), of(&Method::Head.into()));
        let layer = (full - embeddings - of(&all)) / 6;
        assert_eq!(
            of(&frozen(Method::Full, false, 4)),
            full - embeddings - 4 * layer
        );
    }

    #[test]
    fn a_model_too_shallow_for_the_plan_is_named() {
        assert!(
            minilm()
                .check_trainable(&frozen(Method::Full, true, 6))
                .is_ok()
        );
        for trainable in [
            frozen(Method::Full, true, 7),
            frozen(Method::Lora, false, 6),
        ] {
            let error = minilm()
                .check_trainable(&trainable)
                .expect_err("too shallow");
            assert!(error.to_string().contains("freeze_layers"), "{error}");
        }
        let error = minilm().check_trainable(&reading(&[2, 7]));
        let error = error.expect_err("too shallow");
        assert!(error.to_string().contains("head_layers"), "{error}");
    }

    fn reading(layers: &[usize]) -> Trainable {
        head(HeadShape {
            layers: layers.to_vec(),
            ..HeadShape::default()
        })
    }

    fn head(head: HeadShape) -> Trainable {
        Trainable {
            head,
            ..Method::Head.into()
        }
    }

    #[test]
    fn a_head_has_a_weight_for_every_feature_of_the_layers_that_it_reads() {
        let of = |layers| minilm().manifest(&reading(layers), 3).dimension();
        assert_eq!(of(&[2, 4, 6]), 3 * (3 * 384 + 1));
        assert_eq!(of(&[0, 6]), 3 * (2 * 384 + 1));
        assert_eq!(of(&[6]), of(&[]));
        let prepared = minilm().prepared_for(&reading(&[6]));
        assert!(prepared.head.is_plain(), "as Hugging Face says it");
        assert_eq!(minilm().prepared_for(&reading(&[3])).read_layers(), [3]);
    }

    #[test]
    fn neighbours_widen_a_head_and_a_crf_adds_its_transitions() {
        let wide = HeadShape {
            layers: vec![2, 6],
            context: 1,
            crf: true,
            iob2: false,
        };
        let manifest = minilm().manifest(&head(wide), 3);
        assert_eq!(manifest.dimension(), 3 * (2 * 384 * 3 + 1) + 3 + 3 * 3 + 3);
        let names: Vec<&str> = manifest.tensors.iter().map(|t| t.name.as_str()).collect();
        let crf = [
            "crf.end_transitions",
            "crf.start_transitions",
            "crf.transitions",
        ];
        assert_eq!(names[2..], crf);
    }
}
