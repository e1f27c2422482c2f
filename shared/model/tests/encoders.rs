//! Encoders of other names give the logits that transformers gives; `tests/fixtures/make_encoders.py`
//! wrote the fixtures.

use std::path::Path;

use fedner_model::device::Device;
use fedner_model::{Model, Tokenizer};
use fedner_shared::checkpoint::{Checkpoint, Directory};
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    words: Vec<String>,
    /// Of each word's first sub-token.
    logits: Vec<Vec<f32>>,
}

#[test]
fn logits_are_those_of_transformers() {
    for name in [
        "bert-gelu_new",
        "bert-relu",
        "distilbert",
        "electra",
        "roberta",
        "xlm-roberta",
        "roberta-peft",
    ] {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/encoders");
        let directory = fixtures.join(name);
        let read = Directory::read(&directory).expect(name);
        let checkpoint = Checkpoint::read(&read.config_json, &read.weights).expect(name);
        let model = Model::load(&checkpoint, Device::default()).expect(name);
        let tokenizer = Tokenizer::parse(&read.tokenizer_json).expect(name);
        tokenizer
            .check_vocabulary(checkpoint.config.vocab_size)
            .expect(name);
        let expected = std::fs::read(directory.join("expected.json")).expect(name);
        let expected: Vec<Expected> = serde_json::from_slice(&expected).expect(name);
        assert!(!expected.is_empty());
        for Expected { words, logits } in expected {
            let encoded = tokenizer.encode(&words, 40).expect(name);
            let found = model.logits(&[&encoded]).expect(name);
            assert_eq!(found.len(), words.len() * 3, "{name}: {words:?}");
            for (found, expected) in found.iter().zip(logits.iter().flatten()) {
                let apart = (found - expected).abs();
                assert!(apart < 1e-4, "{name}, {words:?}: {found} for {expected}");
            }
        }
    }
}
