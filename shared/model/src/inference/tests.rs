//! What is read without a tape is what tensors say of it, and the same to the last bit in any company.

use burn::tensor::Device;
use fedner_shared::plan::{Method, Trainable};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::bert::{Batch, Bert, Dropout, values};

const TAGS: usize = 5;
const VOCABULARY: usize = 50;

/// A model of random weights whose head reads `layers` and `context` neighbours of each word.
fn model(size: usize, activation: &str, layers: &[usize], context: usize) -> Checkpoint {
    let config = json!({
        "model_type": "bert", "vocab_size": VOCABULARY, "hidden_size": size, "hidden_act": activation,
        "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 3 * size,
        "max_position_embeddings": 256, "initializer_range": 0.2,
    });
    let config = BertConfig::parse(&config.to_string()).expect("config");
    let head = HeadShape {
        layers: layers.to_vec(),
        context,
        ..HeadShape::default()
    };
    let trainable = Trainable {
        head,
        ..Method::Head.into()
    };
    let encoder = Checkpoint::random(config, 3).prepared_for(&trainable, 1);
    encoder.with_new_head(TAGS, 4)
}

/// A sentence of so many sub-tokens, of which every other begins a word.
fn sentence(length: usize, seed: usize) -> Encoded {
    let id = |place: usize| ((place + seed) * 31 % VOCABULARY) as u32;
    Encoded {
        ids: (0..length).map(id).collect(),
        first: (1..length)
            .map(|place| (place % 2 == 1).then_some(place))
            .collect(),
    }
}

fn scores(checkpoint: &Checkpoint, sentences: &[&Encoded]) -> Vec<f32> {
    let encoder = Encoder::load(checkpoint).expect("encoder");
    let head = Head::load(checkpoint).expect("head");
    head.scores(sentences, &encoder.features(sentences))
}

#[test]
fn scores_are_those_of_the_tensors() {
    for (size, activation, layers, context) in [
        (20, "gelu", &[][..], 0),
        (20, "relu", &[0], 1),
        (64, "gelu_new", &[0, 2], 0),
        (128, "gelu", &[1], 2),
        (132, "gelu", &[0, 1, 2], 1),
    ] {
        let checkpoint = model(size, activation, layers, context);
        let lengths = [1, 2, 7, 130, 96, 31];
        let sentences: Vec<Encoded> = lengths.map(|length| sentence(length, length)).into();
        let sentences: Vec<&Encoded> = sentences.iter().collect();
        let (bert, device) = (Bert::load(&checkpoint, &Device::flex()), Device::flex());
        let (bert, batch) = (bert.expect("model"), Batch::new(&sentences, 0, &device));
        let expected = bert.logits(bert.begin(&batch), &batch, &mut Dropout::none());
        let expected = values(expected.expect("a head")).expect("float32");
        let found = scores(&checkpoint, &sentences);
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            let apart = (found - expected).abs();
            assert!(
                apart < 1e-4 * expected.abs().max(1.0),
                "{size}: {found} for {expected}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_sentence_has_the_same_scores_in_any_company(
        lengths in prop::collection::vec(1..140usize, 1..7), threads in 1..4usize,
    ) {
        let checkpoint = model(32, "gelu", &[1, 2], 1);
        let sentences: Vec<Encoded> = lengths.iter().map(|length| sentence(*length, 1)).collect();
        let all: Vec<&Encoded> = sentences.iter().collect();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let together = pool.install(|| scores(&checkpoint, &all));
        let alone: Vec<f32> = all.iter().flat_map(|own| scores(&checkpoint, &[own])).collect();
        prop_assert_eq!(together, alone);
    }
}
