//! Loss and gradients of a padded batch, as PyTorch has them.

use std::fs;
use std::ops::ControlFlow;

use fedner_shared::bert::is_of_head;
use fedner_shared::plan::{Lora, Method, Target, Training};
use serde_json::Value;

use super::*;
use crate::Tokenizer;
use crate::device::Device;
use crate::train::cache::{Frozen, Grouping};
use crate::train::examples::Example;
use crate::train::frozen_layers::FrozenLayers;
use crate::train::{KeptFiles, Progress};

fn fixture(file: &str) -> Vec<u8> {
    let fixtures = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/tiny-bert"
    );
    fs::read(format!("{fixtures}/{file}")).expect("fixture")
}

/// A file with a value for each weight of the tiny model.
pub(in crate::train) fn checkpoint(file: &str) -> Checkpoint {
    let config = String::from_utf8(fixture("config.json")).expect("UTF-8");
    Checkpoint::read(&config, &fixture(file)).expect("checkpoint")
}

/// The batch of the fixture's sentences.
fn examples(golden: &Value) -> Vec<Example> {
    let tokenizer = Tokenizer::parse(&fixture("tokenizer.json")).expect("tokenizer");
    let cases = golden["cases"].as_array().expect("cases").iter();
    let gold = golden["gold"].as_array().expect("gold").iter();
    let example = |(case, gold): (&Value, &Value)| {
        let words: Vec<String> = serde_json::from_value(case["words"].clone()).expect("words");
        let gold: Vec<usize> = serde_json::from_value(gold.clone()).expect("gold");
        let encoded = tokenizer.encode(&words, 40).expect("encoded");
        let kept = gold
            .into_iter()
            .zip(&encoded.first)
            .filter(|(_, first)| first.is_some());
        Example {
            sentence: 0,
            targets: kept.map(|(target, _)| target).collect(),
            encoded,
        }
    };
    cases.zip(gold).map(example).collect()
}

/// A text for the processor.
pub(in crate::train) fn text<'a>(
    base: &'a Checkpoint,
    examples: &'a [Example],
    lower: Option<&'a FrozenLayers>,
) -> Text<'a> {
    Text {
        examples,
        lower,
        config: &base.config,
        device: Device::Cpu,
    }
}

/// What frozen layers make of a text; `None` where none are frozen.
pub(in crate::train) fn lower(
    base: &Checkpoint,
    examples: &[Example],
    training: &Training,
    grouping: Grouping,
) -> Option<FrozenLayers> {
    let frozen = Frozen {
        base,
        examples,
        device: Device::Cpu,
        grouping,
    };
    let observer = &mut |_: Progress| ControlFlow::Continue(());
    FrozenLayers::prepare(frozen, (training, 0.0), &KeptFiles::default(), observer)
        .expect("frozen layers")
}

/// The loss of a batch, and its gradient by each weight that is trained.
fn loss_and_gradients(
    base: &Checkpoint,
    examples: &[Example],
    trainable: &Trainable,
    device: Device,
) -> (f32, Vec<(String, Vec<f32>)>) {
    let options = TrainOptions {
        method: trainable.method,
        training: Training {
            dropout: Some(0.0),
            ..Training::default()
        },
        seed: 1,
        schedule: 0.0..1.0,
    };
    let tags = vec!["O".to_owned(); base.tags().expect("head")];
    let sets = TagSets::new(&tags, &[]);
    let text = Text {
        device,
        ..text(base, examples, None)
    };
    let mut learner = EncoderLearner::new(base, text, &options, trainable, &sets).expect("learner");
    let batch: Vec<usize> = (0..examples.len()).collect();
    let total = learner
        .loss
        .total(examples.iter().flat_map(|e| e.targets.iter().copied()));
    let (loss, gradient) = learner.gradient(&batch, total, 1).expect("gradient");
    (loss, gradient.as_filed(&mut learner.bert))
}

#[test]
fn loss_and_gradients_are_those_of_transformers() {
    let base = checkpoint("model.safetensors");
    let golden: Value = serde_json::from_slice(&fixture("logits.json")).expect("JSON");
    let full = Method::Full.into();
    let (loss, gradients) = loss_and_gradients(&base, &examples(&golden), &full, Device::Cpu);

    let expected = golden["loss"].as_f64().expect("loss");
    let difference = (f64::from(loss) - expected).abs();
    assert!(difference < 1e-5, "loss {loss} for {expected}");

    let golden = checkpoint("gradients.safetensors");
    let weights = base.config.model_tensors(base.tags().expect("head"));
    assert_eq!(gradients.len(), weights.len());
    for (name, gradient) in &gradients {
        let expected = golden.tensor(name).expect(name);
        assert_eq!(gradient.len(), expected.len(), "{name}");
        for (index, (found, expected)) in gradient.iter().zip(expected).enumerate() {
            let difference = (found - expected).abs();
            assert!(difference < 1e-5, "{name}[{index}]: {found} for {expected}");
        }
        // A shift of all scores of a row changes no weight of attention.
        let moved = gradient.iter().any(|value| value.abs() > 1e-3);
        assert_eq!(moved, !name.ends_with("key.bias"), "{name}");
    }
}

/// The tiny model with adapters in all linear layers, no factor of which is zero.
pub(in crate::train) fn adapted(trainable: &Trainable) -> Checkpoint {
    let base = checkpoint("model.safetensors");
    let tags = base.tags().expect("head");
    let mut base = base.prepared_for(trainable, 3);
    if base.config.head_width() != base.config.hidden_size {
        base = base.with_new_head(tags, 3);
    }
    let manifest = base.config.manifest(trainable, base.tags().expect("head"));
    let moved = base.flatten(&manifest).expect("weights").into_iter();
    let moved = moved
        .enumerate()
        .map(|(index, weight)| weight + 0.05 * (index as f32).sin());
    base.with_weights(&manifest, &moved.collect::<Vec<_>>())
        .expect("weights")
}

fn assert_close(found: &[f32], expected: &[f32], name: &str) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (found - expected).abs();
        assert!(difference < 1e-5, "{name}[{index}]: {found} for {expected}");
    }
    assert!(found.iter().any(|value| value.abs() > 1e-4), "{name}");
}

/// With W' = W + s·B·A, the chain rule gives ∂/∂A = s·Bᵀ·∂/∂W' and ∂/∂B = s·∂/∂W'·Aᵀ; the
/// gradient by W' is that of the merged model, which is checked against PyTorch's.
#[test]
fn loss_and_gradients_of_adapters_follow_from_the_merged_model() {
    let golden: Value = serde_json::from_slice(&fixture("logits.json")).expect("JSON");
    let examples = examples(&golden);
    for method in [Method::Lora, Method::FfaLora] {
        let trainable = Trainable {
            lora: Lora {
                rank: 3,
                targets: Target::ALL.to_vec(),
                ..Lora::default()
            },
            ..method.into()
        };
        let base = adapted(&trainable);
        let (loss, gradients) = loss_and_gradients(&base, &examples, &trainable, Device::Cpu);
        let (full, merged) = (Method::Full.into(), base.clone().merged());
        let (expected, by_merged) = loss_and_gradients(&merged, &examples, &full, Device::Cpu);
        assert!((loss - expected).abs() < 1e-5, "{loss} for {expected}");
        let by_merged = |name: &str| {
            let (_, gradient) = by_merged.iter().find(|(n, _)| n == name).expect(name);
            gradient.as_slice()
        };

        let mut expected = Vec::new();
        for (module, outputs, inputs) in base.config.adapted() {
            let by_weight = by_merged(&format!("{module}.weight"));
            let [name_a, name_b] = ["A", "B"].map(|f| format!("{module}.lora_{f}.weight"));
            let (a, b) = (base.tensor(&name_a), base.tensor(&name_b));
            let (a, b) = (a.expect("A"), b.expect("B"));
            let (rank, scale) = (trainable.lora.rank, trainable.lora.scale() as f32);
            let by_a = (0..rank * inputs).map(|index| {
                let (row, input) = (index / inputs, index % inputs);
                let products =
                    (0..outputs).map(|o| b[o * rank + row] * by_weight[o * inputs + input]);
                scale * products.sum::<f32>()
            });
            let by_b = (0..outputs * rank).map(|index| {
                let (output, column) = (index / rank, index % rank);
                let products =
                    (0..inputs).map(|i| by_weight[output * inputs + i] * a[column * inputs + i]);
                scale * products.sum::<f32>()
            });
            if method == Method::Lora {
                expected.push((name_a, by_a.collect::<Vec<_>>()));
            }
            expected.push((name_b, by_b.collect()));
        }
        for name in ["classifier.weight", "classifier.bias"] {
            expected.push((name.to_owned(), by_merged(name).to_vec()));
        }
        assert_eq!(gradients.len(), expected.len(), "{method}");
        for (name, expected) in &expected {
            let (_, found) = gradients.iter().find(|(n, _)| n == name).expect(name);
            assert_close(found, expected, name);
        }
    }
}

/// Neither a gradient nor a moment is there for what is frozen; the others' are as without.
#[test]
fn freezing_leaves_the_other_gradients_as_they_are() {
    let base = checkpoint("model.safetensors");
    let golden: Value = serde_json::from_slice(&fixture("logits.json")).expect("JSON");
    let examples = examples(&golden);
    let (_, all) = loss_and_gradients(&base, &examples, &Method::Full.into(), Device::Cpu);
    for (freeze_embeddings, freeze_layers) in [(true, 0), (false, 1)] {
        let trainable = Trainable {
            freeze_embeddings,
            freeze_layers,
            ..Method::Full.into()
        };
        let (_, found) = loss_and_gradients(&base, &examples, &trainable, Device::Cpu);
        let expected = all.iter().filter(|(name, _)| trainable.trains(name));
        let expected: Vec<_> = expected.cloned().collect();
        assert!(expected.len() < all.len());
        assert_eq!(found, expected);
    }
}

/// By how much one step of each learner moves weights: of the head, and of all others.
#[test]
fn the_head_may_have_a_learning_rate_of_its_own() {
    let base = checkpoint("model.safetensors");
    let golden: Value = serde_json::from_slice(&fixture("logits.json")).expect("JSON");
    let examples = examples(&golden);
    let full = Method::Full.into();
    let manifest = base.config.manifest(&full, base.tags().expect("head"));
    let moved = |head_learning_rate| {
        let options = TrainOptions {
            method: Method::Full,
            training: Training {
                dropout: Some(0.0),
                learning_rate: 1e-3,
                head_learning_rate,
                weight_decay: 0.0,
                ..Training::default()
            },
            seed: 1,
            schedule: 0.0..1.0,
        };
        let tags = vec!["O".to_owned(); base.tags().expect("head")];
        let sets = TagSets::new(&tags, &[]);
        let text = text(&base, &examples, None);
        let mut learner =
            EncoderLearner::new(&base, text, &options, &full, &sets).expect("learner");
        let weights =
            |learner: &mut EncoderLearner<'_>| learner.weights(&manifest).expect("weights");
        let before = weights(&mut learner);
        let rates = Rates {
            learning_rate: 1e-3,
            weight_decay: 0.0,
            step: 1,
        };
        let batch: Vec<usize> = (0..examples.len()).collect();
        learner.step(&[batch], rates).expect("step");
        let after = weights(&mut learner);
        let moves: Vec<f32> = before
            .iter()
            .zip(&after)
            .map(|(from, to)| to - from)
            .collect();
        let (mut head, mut rest, mut moves) = (Vec::new(), Vec::new(), moves.as_slice());
        for tensor in &manifest.tensors {
            let (own, others) = moves.split_at(tensor.len());
            moves = others;
            if is_of_head(&tensor.name) {
                head.extend_from_slice(own);
            } else {
                rest.extend_from_slice(own);
            }
        }
        (head, rest)
    };
    let (head, rest) = moved(None);
    assert_eq!(moved(Some(1e-3)), (head.clone(), rest.clone()));
    let (faster, others) = moved(Some(1e-2));
    assert_eq!(others, rest);
    for (slow, fast) in head.iter().zip(&faster) {
        assert!((fast - 10.0 * slow).abs() < 1e-5, "{slow} {fast}");
    }
}
