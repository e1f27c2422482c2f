//! The committed tiny model, and small annotated corpora made here.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;

use fedner_model::device::Device;
use fedner_model::{
    Error, Model, Progress, Sentence, Tokenizer, TrainHooks, TrainOptions, Trained, Trainer,
    evaluate,
};
use fedner_shared::bert::{self, BertConfig};
use fedner_shared::checkpoint::Checkpoint;

pub(crate) fn fixture(file: &str) -> PathBuf {
    let fixtures = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/tiny-bert"
    );
    PathBuf::from(fixtures).join(file)
}

/// The folder of the public corpora, a folder each; `None`, said aloud, where nobody named it.
#[allow(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn corpora() -> Option<PathBuf> {
    let folder = std::env::var_os("FEDNER_CORPORA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: FEDNER_CORPORA names no folder with ncbi-disease and bionlp13cg");
    }
    folder
}

pub(crate) fn tokenizer() -> Tokenizer {
    Tokenizer::read(&fixture("tokenizer.json")).expect("tokenizer.json")
}

pub(crate) fn tiny_bert() -> Checkpoint {
    tiny_weights("model.safetensors")
}

/// Values for each weight of the tiny model.
pub(crate) fn tiny_weights(file: &str) -> Checkpoint {
    let config = fs::read_to_string(fixture("config.json")).expect("config.json");
    let weights = fs::read(fixture(file)).expect(file);
    Checkpoint::read(&config, &weights).expect("checkpoint")
}

pub(crate) fn golden() -> serde_json::Value {
    let json = fs::read(fixture("logits.json")).expect("logits.json");
    serde_json::from_slice(&json).expect("JSON")
}

pub(crate) fn tags() -> Vec<String> {
    bert::tags(&["Disease".to_owned(), "Drug".to_owned()])
}

/// An untrained model with a head for [`tags`], of the tokenizer's vocabulary.
pub(crate) fn untrained(seed: u64) -> Checkpoint {
    let json = fs::read_to_string(fixture("config.json")).expect("config.json");
    let mut config = BertConfig::parse(&json).expect("config");
    config.initializer_range = 0.05;
    Checkpoint::random(config, seed).with_new_head(tags().len(), seed)
}

/// A training with nobody looking on.
pub(crate) fn run(
    base: &Checkpoint,
    corpus: &[Sentence],
    options: &TrainOptions,
) -> Result<Trained, Error> {
    let mut observer = |_: Progress| ControlFlow::Continue(());
    Trainer {
        base,
        tokenizer: &tokenizer(),
        tags: &tags(),
    }
    .run(corpus, options, TrainHooks::default(), &mut observer)
}

/// The micro F1 of a model on a corpus.
pub(crate) fn f1(model: &Checkpoint, corpus: &[Sentence]) -> f64 {
    let model = Model::load(model, Device::Cpu).expect("model");
    let mut observer = |_, _| ControlFlow::Continue(());
    let evaluation = evaluate(&model, &tokenizer(), &tags(), corpus, 40, 16, &mut observer);
    evaluation.expect("evaluation").scores.total().f1()
}

/// Sentences in which single words decide on the entities, some of two words.
pub(crate) fn notes(count: usize) -> Vec<Sentence> {
    let diseases = [
        "influenza",
        "chronic asthma",
        "bronchitis",
        "leukemia",
        "anemia",
        "lung cancer",
    ];
    let drugs = ["aspirin", "ibuprofen", "insulin", "metformin"];
    (0..count)
        .map(|i| {
            let (disease, drug) = (diseases[i % 6], drugs[(i / 2) % 4]);
            let mut sentence = Sentence {
                document: Some((i / 4) as u32),
                line: i + 1,
                ..Sentence::default()
            };
            let mut say = |text: &str, label: Option<&str>| {
                for (position, word) in text.split(' ').enumerate() {
                    sentence.words.push(word.to_owned());
                    let prefix = if position == 0 { "B" } else { "I" };
                    sentence
                        .tags
                        .push(label.map_or("O".to_owned(), |l| format!("{prefix}-{l}")));
                }
            };
            match i % 3 {
                0 => {
                    say("the patient was diagnosed with", None);
                    say(disease, Some("Disease"));
                    say("and started on", None);
                    say(drug, Some("Drug"));
                }
                1 => {
                    say(drug, Some("Drug"));
                    say("was given for", None);
                    say(disease, Some("Disease"));
                }
                _ => say("no history of nausea , the woman was treated daily", None),
            }
            say(".", None);
            sentence
        })
        .collect()
}
