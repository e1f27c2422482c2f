//! Training from random weights on notes made here: it learns, repeats, and stops when asked.

mod common;

use std::ops::ControlFlow;

use common::{notes, tags, tokenizer, untrained};
use fedner_model::device::Device;
use fedner_model::{
    Error, Model, Progress, Sentence, Stage, TrainOptions, Trained, evaluate, train,
};
use fedner_shared::checkpoint::Checkpoint;
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::{Method, Training};

fn options(method: Method, epochs: u32) -> TrainOptions {
    let learning_rate = if method == Method::Full { 3e-3 } else { 3e-2 };
    let training = Training {
        local_epochs: epochs,
        batch_size: 8,
        learning_rate,
        ..Training::default()
    };
    TrainOptions {
        method,
        training,
        seed: 5,
        schedule: 0.0..1.0,
    }
}

fn run(base: &Checkpoint, corpus: &[Sentence], options: &TrainOptions) -> Result<Trained, Error> {
    let mut observer = |_: Progress| ControlFlow::Continue(());
    train(base, &tokenizer(), &tags(), corpus, options, &mut observer)
}

fn with_weights(base: &Checkpoint, manifest: &Manifest, weights: &[f32]) -> Checkpoint {
    let all = base.config.manifest(Method::Full, tags().len());
    let tensors = all.tensors.iter().map(|spec| {
        let new = manifest.segments().find(|(_, new)| new.name == spec.name);
        let values = match new {
            Some((offset, _)) => &weights[offset..offset + spec.len()],
            None => base.tensor(&spec.name).expect("tensor"),
        };
        (spec.clone(), values.to_vec())
    });
    Checkpoint::from_tensors(base.config.clone(), tensors)
}

fn f1(model: &Checkpoint, corpus: &[Sentence]) -> f64 {
    let model = Model::load(model, Device::Cpu).expect("model");
    let mut observer = |_, _| ControlFlow::Continue(());
    let evaluation = evaluate(&model, &tokenizer(), &tags(), corpus, 40, 16, &mut observer);
    evaluation.expect("evaluation").scores.total().f1()
}

#[test]
fn full_training_learns_the_notes() {
    let base = untrained(1);
    let options = options(Method::Full, 8);
    let trained = run(&base, &notes(120), &options).expect("trained");
    assert_eq!(trained.steps, 8 * 15);
    assert!(trained.loss < trained.first_loss / 4.0, "{trained:?}");
    let manifest = base.config.manifest(Method::Full, tags().len());
    let model = with_weights(&base, &manifest, &trained.weights);
    let f1 = f1(&model, &notes(60));
    assert!(f1 > 0.95, "F1 {f1}");
}

#[test]
fn head_training_learns_on_a_frozen_encoder() {
    let base = untrained(1);
    let trained = run(&base, &notes(120), &options(Method::Head, 20)).expect("trained");
    let manifest = base.config.manifest(Method::Head, tags().len());
    assert_eq!(trained.weights.len(), manifest.dimension());
    assert!(
        trained.loss < trained.first_loss / 2.0,
        "{} {}",
        trained.first_loss,
        trained.loss
    );
    let f1 = f1(
        &with_weights(&base, &manifest, &trained.weights),
        &notes(60),
    );
    assert!(f1 > 0.8, "F1 {f1}");
}

#[test]
fn the_same_seed_gives_the_same_weights() {
    let base = untrained(2);
    for method in [Method::Full, Method::Head] {
        let first = options(method, 1);
        let second = TrainOptions {
            seed: 6,
            ..first.clone()
        };
        let weights = |options| run(&base, &notes(40), options).expect("trained").weights;
        let trained = weights(&first);
        assert!(trained.iter().all(|weight| weight.is_finite()));
        assert_eq!(trained, weights(&first), "{method}");
        assert_ne!(trained, weights(&second), "{method}");
    }
}

#[test]
fn every_step_is_told_and_a_stop_is_obeyed() {
    let (base, mut seen) = (untrained(3), Vec::new());
    let mut observer = |progress: Progress| {
        seen.push((
            progress.stage,
            progress.step,
            progress.steps,
            progress.sentences,
        ));
        match progress.step {
            3 if progress.stage == Stage::Training => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    };
    let options = options(Method::Head, 1);
    let stopped = train(
        &base,
        &tokenizer(),
        &tags(),
        &notes(40),
        &options,
        &mut observer,
    );
    assert!(matches!(stopped, Err(Error::Stopped { step: 3, steps: 5 })));
    let (features, training) = (Stage::Features, Stage::Training);
    assert_eq!(
        seen,
        [
            (features, 1, 2, 32),
            (features, 2, 2, 8),
            (training, 1, 5, 8),
            (training, 2, 5, 8),
            (training, 3, 5, 8)
        ]
    );
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let (base, options) = (untrained(4), options(Method::Full, 1));
    assert!(matches!(run(&base, &[], &options), Err(Error::EmptyCorpus)));

    let mut corpus = notes(2);
    corpus[1].tags[0] = "B-Gene".to_owned();
    let error = run(&base, &corpus, &options).expect_err("unknown tag");
    assert!(
        matches!(&error, Error::UnknownTag { tag, line: 2, .. } if tag == "B-Gene"),
        "{error}"
    );

    let other_head = base.clone().with_new_head(3, 1);
    let error = run(&other_head, &notes(2), &options).expect_err("three tags");
    assert!(
        matches!(
            error,
            Error::Tags {
                expected: 5,
                found: 3
            }
        ),
        "{error}"
    );

    let headless = Checkpoint::random(base.config.clone(), 1);
    assert!(matches!(
        run(&headless, &notes(2), &options),
        Err(Error::NoHead)
    ));

    let mut diverging = options.clone();
    diverging.training.learning_rate = 1e30;
    diverging.training.local_epochs = 4;
    let error = run(&base, &notes(40), &diverging).expect_err("diverged");
    assert!(matches!(error, Error::NotFinite { .. }), "{error}");

    let mut elsewhere = options;
    elsewhere.training.device = "cuda:0".to_owned();
    assert!(matches!(
        run(&base, &notes(2), &elsewhere),
        Err(Error::Device(_))
    ));
}

#[test]
fn every_word_of_a_long_sentence_is_trained_on_once() {
    let base = untrained(5);
    let mut options = options(Method::Full, 1);
    options.training.max_tokens = 8;
    let mut corpus = notes(20);
    corpus[3]
        .words
        .iter_mut()
        .for_each(|word| *word = "\u{200b}".to_owned());
    let trained = run(&base, &corpus, &options).expect("trained");
    let whole: usize = corpus.iter().map(|s| s.words.len()).sum();
    assert_eq!(trained.words, whole - corpus[3].words.len());
    options.training.max_tokens = 2;
    let error = run(&base, &corpus, &options).expect_err("no room");
    assert!(matches!(error, Error::Window { found: 2, least: 3 }));
}
