//! Loss and gradients of a padded batch, as PyTorch has them.

use std::fs;

use serde_json::Value;

use super::*;
use crate::Tokenizer;

fn fixture(file: &str) -> Vec<u8> {
    let fixtures = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/tiny-bert"
    );
    fs::read(format!("{fixtures}/{file}")).expect("fixture")
}

/// A file with a value for each weight of the tiny model.
fn checkpoint(file: &str) -> Checkpoint {
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
            targets: kept.map(|(target, _)| target).collect(),
            encoded,
        }
    };
    cases.zip(gold).map(example).collect()
}

/// The loss of a batch, and its gradient by each weight.
fn loss_and_gradients(
    base: &Checkpoint,
    examples: &[Example],
    device: Device,
) -> (f32, Vec<(String, Vec<f32>)>) {
    let mut bert = Bert::load(base, &device.plain().autodiff()).expect("model");
    let encoded: Vec<&Encoded> = examples.iter().map(|e| &e.encoded).collect();
    let batch = Batch::new(&encoded, base.config.pad_token_id, &device.plain());
    let words = bert.look_up(&batch);
    let logits = bert.logits(words.clone(), &batch, &mut Dropout::none());
    let targets = examples.iter().flat_map(|e| &e.targets);
    let targets = targets.map(|target| *target as i32).collect();
    let loss = cross_entropy(logits.expect("head"), targets);
    let value = values(loss.clone().inner()).expect("loss")[0];

    let mut gradients = loss.backward();
    let by_words = values(words.grad_remove(&mut gradients).expect("gradient")).expect("rows");
    let rows = Rows::sum(batch.sub_tokens(), &by_words, base.config.hidden_size);
    let slots = bert.slots();
    let gradients = slots.iter().map(|slot| {
        let gradient = slot.gradient_as_filed(&mut gradients, &rows);
        (slot.name.clone(), gradient.expect("gradient"))
    });
    (value, gradients.collect())
}

#[test]
fn loss_and_gradients_are_those_of_transformers() {
    let base = checkpoint("model.safetensors");
    let golden: Value = serde_json::from_slice(&fixture("logits.json")).expect("JSON");
    let (loss, gradients) = loss_and_gradients(&base, &examples(&golden), Device::Cpu);

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
