//! Weights between checkpoints and tensors.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use fedner_shared::bert::{Adapters, BertConfig};
use fedner_shared::checkpoint::{self, Checkpoint, Standardiser, standardiser};
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::{Precision, Trainable};

use super::attention::Attention;
use super::layers::{Embeddings, Layer, LayerNorm};
use super::linear::{Adapter, Linear};
use super::{Bert, Field, GradientTap, WORDS};
use crate::{Error, crf};

impl Bert {
    /// The model of `checkpoint` to tag with, with a head where the checkpoint has one.
    pub(crate) fn load(checkpoint: &Checkpoint, device: &Device) -> Result<Self, Error> {
        Self::build(checkpoint, device, None)
    }

    /// The model of `checkpoint` with the weights that `trainable` trains on the tape of `device`.
    pub(crate) fn load_to_train(
        checkpoint: &Checkpoint,
        device: &Device,
        trainable: &Trainable,
    ) -> Result<Self, Error> {
        Self::build(checkpoint, device, Some(trainable))
    }

    fn build(
        checkpoint: &Checkpoint,
        device: &Device,
        trainable: Option<&Trainable>,
    ) -> Result<Self, Error> {
        let loader = Loader {
            checkpoint,
            device,
            trainable,
        };
        let config = &checkpoint.config;
        let layers = (0..config.num_hidden_layers).map(|layer| loader.layer(layer));
        let classifier = match checkpoint.tags() {
            Some(tags) => Some(loader.linear("classifier", config.head_width(), tags)?),
            None => None,
        };
        Ok(Self {
            embeddings: loader.embeddings()?,
            layers: layers.collect::<Result<_, _>>()?,
            classifier,
            read: config.read_layers(),
            head: config.head.clone(),
            standard: None,
            crf: loader.field(checkpoint.tags())?,
            trainable: trainable.cloned(),
        })
    }

    /// The same model with its head, which `base` has, in the coordinates of `standard`.
    pub(crate) fn standardised(
        mut self,
        standard: Standardiser,
        base: &Checkpoint,
    ) -> Result<Self, Error> {
        if let Some(classifier) = &mut self.classifier {
            let mut weight = base.tensor(standardiser::WEIGHT)?.to_vec();
            let mut bias = base.tensor(standardiser::BIASES)?.to_vec();
            standard.enter(&mut weight, &mut bias);
            let device = classifier.weight.device();
            let [input, output] = classifier.weight.dims();
            let weight = TensorData::new(transposed(&weight, input), [input, output]);
            classifier.weight = leaf(weight, &device);
            classifier.bias = leaf(TensorData::new(bias, [output]), &device);
            self.standard = Some(Arc::new(standard));
        }
        Ok(self)
    }

    /// The same model, the linear layers of its encoder computing in `precision`.
    pub(crate) fn with_precision(mut self, precision: Precision) -> Self {
        for linear in self.layers.iter_mut().flat_map(Layer::linears) {
            linear.mixed = precision == Precision::Mixed;
        }
        self
    }

    /// The weights of `manifest`, one tensor after another, as a Hugging Face file has them.
    pub(crate) fn weights(&mut self, manifest: &Manifest) -> Result<Vec<f32>, Error> {
        let slots: BTreeMap<String, Slot<'_>> = self
            .slots()
            .into_iter()
            .map(|slot| (slot.name.clone(), slot))
            .collect();
        let mut flat = Vec::with_capacity(manifest.dimension());
        for spec in &manifest.tensors {
            let slot = slots
                .get(&spec.name)
                .ok_or_else(|| checkpoint::Error::Missing(spec.name.clone()))?;
            flat.extend(slot.values()?);
        }
        drop(slots);
        if let Some(standard) = &self.standard {
            standard.leave_flat(&mut flat, manifest);
        }
        Ok(flat)
    }

    /// The same weights on a tape of their own, to take the gradients of one pass; with
    /// `with_books`, the weights of the layers' linear maps are left off it and noted in books.
    ///
    /// Copies share no node, so that passes of several threads do not wait for each other.
    pub(crate) fn on_tape(&self, with_books: bool) -> Self {
        let mut own = self.clone();
        let trains = |name: &str| self.trainable.as_ref().is_some_and(|t| t.trains(name));
        for (index, layer) in own.layers.iter_mut().enumerate() {
            // Those of a layer are trained together.
            let trained = trains(&format!("bert.encoder.layer.{index}.output.dense.weight"));
            // Query, key and value read the same.
            for (linear, place) in layer.linears().into_iter().zip([0, 0, 0, 1, 2, 3]) {
                linear.book = (with_books && trained).then(|| GradientTap::new(4 * index + place));
            }
        }
        for slot in own.slots() {
            let on_tape = trains(&slot.name) && slot.book.is_none();
            match slot.tensor {
                SlotTensor::Vector(tensor) => lift(tensor, on_tape),
                SlotTensor::Matrix(tensor) | SlotTensor::Table(tensor) => lift(tensor, on_tape),
                SlotTensor::Words(_) => {}
            }
        }
        own
    }

    /// The weights that are trained.
    pub(crate) fn trained(&mut self) -> Vec<Slot<'_>> {
        let trainable = self.trainable.clone();
        let mut slots = self.slots();
        slots.retain(|slot| trainable.as_ref().is_some_and(|t| t.trains(&slot.name)));
        slots
    }

    /// Every weight, by its Hugging Face name.
    fn slots(&mut self) -> Vec<Slot<'_>> {
        let mut slots = Vec::new();
        let Embeddings {
            words,
            positions,
            types,
            norm,
        } = &mut self.embeddings;
        let prefix = "bert.embeddings";
        let tables = [
            ("word", SlotTensor::Words(words)),
            ("position", SlotTensor::Table(positions)),
            ("token_type", SlotTensor::Table(types)),
        ];
        for (name, table) in tables {
            slots.push(Slot::new(
                format!("{prefix}.{name}_embeddings.weight"),
                table,
            ));
        }
        norm.slots(prefix, &mut slots);
        for (index, layer) in self.layers.iter_mut().enumerate() {
            let prefix = format!("bert.encoder.layer.{index}");
            let name = |part: &str| format!("{prefix}.{part}");
            layer
                .attention
                .query
                .slots(&name("attention.self.query"), &mut slots);
            layer
                .attention
                .key
                .slots(&name("attention.self.key"), &mut slots);
            layer
                .attention
                .value
                .slots(&name("attention.self.value"), &mut slots);
            layer
                .attention_output
                .slots(&name("attention.output.dense"), &mut slots);
            layer
                .attention_norm
                .slots(&name("attention.output"), &mut slots);
            layer
                .intermediate
                .slots(&name("intermediate.dense"), &mut slots);
            layer.output.slots(&name("output.dense"), &mut slots);
            layer.output_norm.slots(&name("output"), &mut slots);
        }
        if let Some(classifier) = &mut self.classifier {
            classifier.slots("classifier", &mut slots);
        }
        if let Some(field) = &mut self.crf {
            let vector =
                |name: &str, tensor| Slot::new(name.to_owned(), SlotTensor::Vector(tensor));
            slots.push(vector(crf::START, &mut field.start));
            let transitions = SlotTensor::Table(&mut field.transitions);
            slots.push(Slot::new(crf::TRANSITIONS.to_owned(), transitions));
            slots.push(vector(crf::END, &mut field.end));
        }
        slots
    }
}

/// A named weight of a model.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    pub(crate) name: String,
    pub(crate) tensor: SlotTensor<'a>,
    /// Where the factors of its gradient are noted instead of its gradient.
    pub(crate) book: Option<GradientTap>,
}

#[derive(Debug)]
pub(crate) enum SlotTensor<'a> {
    Vector(&'a mut Tensor<1>),
    /// A linear weight, [input, output].
    Matrix(&'a mut Tensor<2>),
    /// An embedding or the transitions of a CRF: [rows, columns] here and in the file.
    Table(&'a mut Tensor<2>),
    /// The word embedding, which is not on the tape.
    Words(&'a mut Tensor<2>),
}

impl<'a> Slot<'a> {
    fn new(name: String, tensor: SlotTensor<'a>) -> Self {
        let book = None;
        Self { name, tensor, book }
    }

    /// Biases and LayerNorm are not decayed.
    pub(crate) fn decays(&self) -> bool {
        !matches!(self.tensor, SlotTensor::Vector(_))
    }

    /// The values as a Hugging Face file has them.
    pub(crate) fn values(&self) -> Result<Vec<f32>, Error> {
        match &self.tensor {
            SlotTensor::Vector(tensor) => values((**tensor).clone()),
            SlotTensor::Table(tensor) | SlotTensor::Words(tensor) => values((**tensor).clone()),
            SlotTensor::Matrix(tensor) => values((**tensor).clone().transpose()),
        }
    }
}

/// The values of a tensor, row-major.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, Error> {
    let data = tensor
        .try_into_data()
        .map_err(|error| Error::Tensor(format!("{error:?}")))?;
    data.try_into_vec()
        .map_err(|error| Error::Tensor(format!("{error:?}")))
}

/// Of a matrix in rows of `width`.
fn transposed(values: &[f32], width: usize) -> Vec<f32> {
    let rows = values.len() / width;
    let mut transposed = vec![0.0; values.len()];
    for (to, row) in values.chunks_exact(width).enumerate() {
        for (from, value) in row.iter().enumerate() {
            transposed[from * rows + to] = *value;
        }
    }
    transposed
}

struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    device: &'a Device,
    trainable: Option<&'a Trainable>,
}

impl Loader<'_> {
    fn config(&self) -> &BertConfig {
        &self.checkpoint.config
    }

    fn tensor<const D: usize>(&self, name: &str, shape: [usize; D]) -> Result<Tensor<D>, Error> {
        let values = self.checkpoint.tensor(name)?.to_vec();
        Ok(self.weight(name, TensorData::new(values, shape)))
    }

    /// One to take a gradient of, if it is trained.
    fn weight<const D: usize>(&self, name: &str, data: TensorData) -> Tensor<D> {
        if self.trainable.is_some_and(|t| t.trains(name)) {
            leaf(data, self.device)
        } else {
            Tensor::from_data(data, self.device)
        }
    }

    /// A matrix that the file has as [output, input].
    fn matrix(&self, name: &str, input: usize, output: usize) -> Result<Tensor<2>, Error> {
        let values = transposed(self.checkpoint.tensor(name)?, input);
        Ok(self.weight(name, TensorData::new(values, [input, output])))
    }

    fn linear(&self, name: &str, input: usize, output: usize) -> Result<Linear, Error> {
        Ok(Linear {
            weight: self.matrix(&format!("{name}.weight"), input, output)?,
            bias: self.tensor(&format!("{name}.bias"), [output])?,
            adapter: self.adapter(name, input, output)?,
            book: None,
            mixed: false,
        })
    }

    fn adapter(&self, module: &str, input: usize, output: usize) -> Result<Option<Adapter>, Error> {
        let Some(Adapters { lora, .. }) = &self.config().adapters else {
            return Ok(None);
        };
        if !self.config().adapted().any(|(name, ..)| name == module) {
            return Ok(None);
        }
        Ok(Some(Adapter {
            a: self.matrix(&format!("{module}.lora_A.weight"), input, lora.rank)?,
            b: self.matrix(&format!("{module}.lora_B.weight"), lora.rank, output)?,
            scale: lora.scale() as f32,
        }))
    }

    fn norm(&self, prefix: &str) -> Result<LayerNorm, Error> {
        let size = self.config().hidden_size;
        Ok(LayerNorm {
            weight: self.tensor(&format!("{prefix}.LayerNorm.weight"), [size])?,
            bias: self.tensor(&format!("{prefix}.LayerNorm.bias"), [size])?,
            epsilon: self.config().layer_norm_eps,
        })
    }

    fn embeddings(&self) -> Result<Embeddings, Error> {
        let config = self.config();
        let table = |name: &str, entries: usize| {
            let name = format!("bert.embeddings.{name}_embeddings.weight");
            self.tensor(&name, [entries, config.hidden_size])
        };
        let words = self.checkpoint.tensor(WORDS)?.to_vec();
        let words = TensorData::new(words, [config.vocab_size, config.hidden_size]);
        Ok(Embeddings {
            words: Tensor::from_data(words, &self.device.clone().inner()),
            positions: table("position", config.max_position_embeddings)?,
            types: table("token_type", config.type_vocab_size)?,
            norm: self.norm("bert.embeddings")?,
        })
    }

    fn field(&self, tags: Option<usize>) -> Result<Option<Field>, Error> {
        let Some(tags) = tags.filter(|_| self.config().head.crf) else {
            return Ok(None);
        };
        Ok(Some(Field {
            start: self.tensor(crf::START, [tags])?,
            transitions: self.tensor(crf::TRANSITIONS, [tags, tags])?,
            end: self.tensor(crf::END, [tags])?,
        }))
    }

    fn layer(&self, index: usize) -> Result<Layer, Error> {
        let config = self.config();
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let prefix = format!("bert.encoder.layer.{index}");
        let linear = |name: &str, input: usize, output: usize| {
            self.linear(&format!("{prefix}.{name}"), input, output)
        };
        Ok(Layer {
            attention: Attention {
                query: linear("attention.self.query", hidden, hidden)?,
                key: linear("attention.self.key", hidden, hidden)?,
                value: linear("attention.self.value", hidden, hidden)?,
                heads: config.num_attention_heads,
            },
            attention_output: linear("attention.output.dense", hidden, hidden)?,
            attention_norm: self.norm(&format!("{prefix}.attention.output"))?,
            intermediate: linear("intermediate.dense", hidden, inner)?,
            activation: config.activation(),
            output: linear("output.dense", inner, hidden)?,
            output_norm: self.norm(&format!("{prefix}.output"))?,
        })
    }
}

/// Puts a weight on the tape; as one to take a gradient of, or as a constant.
fn lift<const D: usize>(tensor: &mut Tensor<D>, trained: bool) {
    let lifted = tensor.clone().inner().autodiff();
    *tensor = if trained {
        lifted.require_grad()
    } else {
        lifted
    };
}

/// A weight on `device`; one to take a gradient of, if the device keeps a tape.
pub(crate) fn leaf<const D: usize>(data: TensorData, device: &Device) -> Tensor<D> {
    let tensor = Tensor::from_data(data, device);
    if device.is_autodiff() {
        tensor.require_grad()
    } else {
        tensor
    }
}

impl Linear {
    fn slots<'a>(&'a mut self, name: &str, slots: &mut Vec<Slot<'a>>) {
        let weight = SlotTensor::Matrix(&mut self.weight);
        let weight = Slot::new(format!("{name}.weight"), weight);
        let book = self.book.clone();
        slots.push(Slot { book, ..weight });
        let bias = SlotTensor::Vector(&mut self.bias);
        slots.push(Slot::new(format!("{name}.bias"), bias));
        if let Some(adapter) = &mut self.adapter {
            let (a, b) = (&mut adapter.a, &mut adapter.b);
            for (factor, tensor) in [("A", a), ("B", b)] {
                let name = format!("{name}.lora_{factor}.weight");
                slots.push(Slot::new(name, SlotTensor::Matrix(tensor)));
            }
        }
    }
}

impl LayerNorm {
    fn slots<'a>(&'a mut self, prefix: &str, slots: &mut Vec<Slot<'a>>) {
        let weight = SlotTensor::Vector(&mut self.weight);
        slots.push(Slot::new(format!("{prefix}.LayerNorm.weight"), weight));
        let bias = SlotTensor::Vector(&mut self.bias);
        slots.push(Slot::new(format!("{prefix}.LayerNorm.bias"), bias));
    }
}

#[cfg(test)]
mod tests {
    use fedner_shared::plan::Method;

    use super::*;

    #[test]
    fn weights_come_back_as_the_file_has_them() {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/fixtures/tiny-bert"
        );
        let config = std::fs::read_to_string(format!("{folder}/config.json")).expect("config");
        let file = std::fs::read(format!("{folder}/model.safetensors")).expect("weights");
        let checkpoint = Checkpoint::read(&config, &file).expect("checkpoint");
        let mut bert = Bert::load(&checkpoint, &Device::flex()).expect("model");
        for method in [Method::Full, Method::Head] {
            let tags = checkpoint.tags().expect("a head");
            let manifest = checkpoint.config.manifest(&method.into(), tags);
            let weights = bert.weights(&manifest).expect("weights");
            assert_eq!(weights, checkpoint.flatten(&manifest).expect("flat"));
        }
    }
}
