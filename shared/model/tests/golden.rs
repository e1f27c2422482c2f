//! The same numbers as Python's transformers, on the committed tiny model.

mod common;

use std::ops::ControlFlow;

use common::{fixture, golden, tags, tiny_bert, tiny_weights, tokenizer};
use fedner_model::device::Device;
use fedner_model::{Encoded, Model, Progress, Sentence, TrainHooks, TrainOptions, Trainer};
use fedner_shared::checkpoint;
use fedner_shared::plan::{Method, Training};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f32> {
    let array = value.as_array().expect("array");
    array
        .iter()
        .map(|n| n.as_f64().expect("number") as f32)
        .collect()
}

fn words(case: &Value) -> Vec<String> {
    serde_json::from_value(case["words"].clone()).expect("words")
}

#[test]
fn sub_tokens_and_logits_agree() {
    let tokenizer = tokenizer();
    let model = Model::load(&tiny_bert(), Device::Cpu).expect("model");
    let golden = golden();
    let cases = golden["cases"].as_array().expect("cases");
    let mut batch: Vec<(Encoded, Vec<f32>)> = Vec::new();
    for case in cases {
        let limit = case["max_tokens"].as_u64().expect("limit") as usize;
        let encoded = tokenizer.encode(&words(case), limit).expect("encoded");
        let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).expect("ids");
        let first: Vec<Option<usize>> =
            serde_json::from_value(case["first"].clone()).expect("first");
        assert_eq!((&encoded.ids, &encoded.first), (&ids, &first), "{case}");
        let expected: Vec<f32> = case["logits"]
            .as_array()
            .expect("rows")
            .iter()
            .flat_map(numbers)
            .collect();
        let logits = model.logits(&[&encoded]).expect("logits");
        assert_close(&logits, &expected);
        batch.push((encoded, expected));
    }
    // Padding changes nothing.
    let encoded: Vec<&Encoded> = batch.iter().map(|(encoded, _)| encoded).collect();
    let together = model.logits(&encoded).expect("logits");
    let expected: Vec<f32> = batch
        .iter()
        .flat_map(|(_, logits)| logits.clone())
        .collect();
    assert_close(&together, &expected);
}

fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-4, "{found} for {expected}");
    }
}

#[test]
fn words_without_a_sub_token_shift_no_other() {
    let golden = golden();
    let words = words(&golden["cases"][3]);
    let (tokenizer, model) = (
        tokenizer(),
        Model::load(&tiny_bert(), Device::Cpu).expect("model"),
    );
    let whole = tokenizer.encode(&words, 40).expect("whole");
    assert_eq!(whole.first[3], None, "a zero-width space is deleted");
    let cut = tokenizer.encode(&words, 5).expect("cut");
    assert_eq!((cut.ids.len(), cut.ids.last()), (5, whole.ids.last()));
    assert_eq!(cut.first[2..], [Some(3), None, None, None, None]);
    let tagged = model.tag(&[&whole, &cut]).expect("tagged");
    for (words, sentence) in tagged.iter().zip([&whole, &cut]) {
        let present = |word: &Option<_>| word.is_some();
        assert_eq!(
            words.iter().map(present).collect::<Vec<_>>(),
            sentence
                .first
                .iter()
                .map(Option::is_some)
                .collect::<Vec<_>>()
        );
    }
    assert!(tokenizer.encode(&[], 40).expect("empty").first.is_empty());
}

#[test]
fn the_tags_are_those_of_the_file() {
    let config = std::fs::read_to_string(fixture("config.json")).expect("config");
    assert_eq!(
        checkpoint::tags_of_config(&config).expect("JSON"),
        Some(tags())
    );
}

/// The sentences of the fixture's batch with their tags.
fn corpus(golden: &Value) -> Vec<Sentence> {
    let cases = golden["cases"].as_array().expect("cases").iter();
    let gold = golden["gold"].as_array().expect("gold").iter();
    let sentence = |(case, gold): (&Value, &Value)| {
        let gold: Vec<usize> = serde_json::from_value(gold.clone()).expect("gold");
        Sentence {
            words: words(case),
            tags: gold.into_iter().map(|tag| tags()[tag].clone()).collect(),
            ..Sentence::default()
        }
    };
    cases.zip(gold).map(sentence).collect()
}

/// AdamW with decay of matrices only, a warm-up, and every gradient clipped: ten epochs of one
/// batch each.
#[test]
fn ten_steps_are_those_of_pytorch() {
    let (base, golden) = (tiny_bert(), golden());
    let setting = |name: &str| golden["training"][name].as_f64().expect("setting");
    let losses = numbers(&golden["losses"]);
    let options = TrainOptions {
        method: Method::Full,
        training: Training {
            local_epochs: losses.len() as u32,
            learning_rate: setting("learning_rate"),
            warmup: setting("warmup"),
            weight_decay: setting("weight_decay"),
            max_grad_norm: setting("max_grad_norm"),
            dropout: Some(0.0),
            device: "cpu".to_owned(),
            ..Training::default()
        },
        seed: 1,
        schedule: 0.0..1.0,
    };
    let mut found = Vec::new();
    let mut observer = |progress: Progress| {
        found.push(progress.loss);
        ControlFlow::Continue(())
    };
    let corpus = corpus(&golden);
    let trained = Trainer {
        base: &base,
        tokenizer: &tokenizer(),
        tags: &tags(),
    }
    .run(&corpus, &options, TrainHooks::default(), &mut observer);
    let trained = trained.expect("trained");

    assert!(
        numbers(&golden["norms"]).iter().all(|norm| *norm > 0.5),
        "all are clipped"
    );
    assert_eq!(found.len(), losses.len());
    for (step, (found, expected)) in found.iter().zip(&losses).enumerate() {
        assert!(
            (found - expected).abs() < 1e-3,
            "step {step}: loss {found} for {expected}"
        );
    }
    let manifest = base.config.manifest(&Method::Full.into(), tags().len());
    let expected = tiny_weights("ten-steps.safetensors");
    let mut furthest = 0.0_f32;
    for (offset, spec) in manifest.segments() {
        // The loss does not depend on it: its gradient is rounding, which AdamW makes a step of.
        if spec.name.ends_with("key.bias") {
            continue;
        }
        let before = base.tensor(&spec.name).expect("before");
        let expected = expected.tensor(&spec.name).expect("after");
        let found = &trained.weights[offset..offset + spec.len()];
        for ((found, expected), before) in found.iter().zip(expected).zip(before) {
            let difference = (found - expected).abs();
            assert!(difference < 1e-3, "{}: {found} for {expected}", spec.name);
            furthest = furthest.max((before - expected).abs());
        }
    }
    assert!(
        furthest > 0.02,
        "the steps moved a weight by {furthest} at most"
    );
}
