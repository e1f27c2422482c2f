//! Training from random weights on notes made here: it learns, repeats, and stops when asked.

#[path = "../common/mod.rs"]
mod common;
mod features;

use std::ops::ControlFlow;
use std::time::Duration;

use common::{f1, notes, run, tags, tokenizer, untrained};
use fedner_model::{
    EarlyStopping, Error, KeptFiles, Progress, Sentence, Stage, TrainHooks, TrainOptions, Trained,
    Trainer,
};
use fedner_shared::checkpoint::Checkpoint;
use fedner_shared::digest::Digest;
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::{Lora, Method, Precision, Target, Trainable, Training};
use fedner_shared::seal::StorageKey;

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

fn with_weights(base: &Checkpoint, manifest: &Manifest, weights: &[f32]) -> Checkpoint {
    base.clone()
        .with_weights(manifest, weights)
        .expect("weights")
}

#[test]
fn full_training_learns_the_notes() {
    let base = untrained(1);
    let options = options(Method::Full, 8);
    let trained = run(&base, &notes(120), &options).expect("trained");
    assert_eq!(trained.steps, 8 * 15);
    assert!(trained.loss < trained.first_loss / 4.0, "{trained:?}");
    let manifest = base.config.manifest(&Method::Full.into(), tags().len());
    let model = with_weights(&base, &manifest, &trained.weights);
    let f1 = f1(&model, &notes(60));
    assert!(f1 > 0.95, "F1 {f1}");
}

#[test]
fn head_training_learns_on_a_frozen_encoder() {
    let base = untrained(1);
    let trained = run(&base, &notes(120), &options(Method::Head, 20)).expect("trained");
    let manifest = base.config.manifest(&Method::Head.into(), tags().len());
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
    for method in Method::ALL {
        let base = untrained(2).prepared_for(&trainable(method), 1);
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
    let stopped = Trainer {
        base: &base,
        tokenizer: &tokenizer(),
        tags: &tags(),
    }
    .run(&notes(40), &options, TrainHooks::default(), &mut observer);
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

fn trainable(method: Method) -> Trainable {
    method.into()
}

/// All six linear layers adapted: what PEFT calls `all-linear`.
fn wide(method: Method) -> Trainable {
    Trainable {
        lora: Lora {
            targets: Target::ALL.to_vec(),
            ..Lora::default()
        },
        ..method.into()
    }
}

#[test]
fn adapters_learn_and_the_encoder_stays() {
    for method in [Method::Lora, Method::FfaLora] {
        let trainable = wide(method);
        let base = untrained(1).prepared_for(&trainable, 3);
        let mut options = options(method, 12);
        options.training.learning_rate = 1e-2;
        let trained = run(&base, &notes(120), &options).expect("trained");
        let manifest = base.config.manifest(&trainable, tags().len());
        assert_eq!(trained.weights.len(), manifest.dimension(), "{method}");
        let model = base
            .clone()
            .with_weights(&manifest, &trained.weights)
            .expect("weights");
        let f1 = f1(&model, &notes(60));
        assert!(f1 > 0.9, "{method}: F1 {f1}");
        let name = "bert.encoder.layer.0.attention.self.query";
        let kept = |name: &str| model.tensor(name).expect("new") == base.tensor(name).expect("old");
        assert!(kept(&format!("{name}.weight")));
        assert!(!kept(&format!("{name}.lora_B.weight")));
        assert_eq!(
            kept(&format!("{name}.lora_A.weight")),
            method == Method::FfaLora
        );
    }
}

#[test]
fn adapters_of_a_base_that_was_not_made_ready_are_refused() {
    let error = run(&untrained(1), &notes(8), &options(Method::Lora, 1)).expect_err("no adapters");
    assert!(matches!(error, Error::Adapters { .. }), "{error}");
    let ready = untrained(1).prepared_for(&trainable(Method::Lora), 1);
    let error = run(&ready, &notes(8), &options(Method::Full, 1)).expect_err("adapters");
    assert!(matches!(error, Error::Adapters { .. }), "{error}");
}

/// Products in bfloat16 are close to those in float32, are not the same, and teach the same.
#[test]
fn mixed_precision_learns_what_single_does() {
    for method in [Method::Full, Method::Lora] {
        let base = untrained(1).prepared_for(&trainable(method), 1);
        let trained = |precision| {
            let mut options = options(method, 8);
            options.training.precision = precision;
            run(&base, &notes(120), &options).expect("trained")
        };
        let (single, mixed) = (trained(Precision::Single), trained(Precision::Mixed));
        assert_ne!(single.weights, mixed.weights, "{method}");
        let apart = (single.first_loss - mixed.first_loss).abs();
        assert!(apart < 0.05 * single.first_loss, "{method}: {apart}");
        let manifest = base.config.manifest(&method.into(), tags().len());
        let f1 = f1(&with_weights(&base, &manifest, &mixed.weights), &notes(60));
        assert!(f1 > 0.9, "{method}: F1 {f1}");
    }
}

#[test]
fn what_is_frozen_stays_and_the_rest_is_trained() {
    let base = untrained(4);
    let layers = base.config.num_hidden_layers;
    let mut options = options(Method::Full, 1);
    options.training.freeze_layers = layers;
    let trainable = Trainable::new(Method::Full, None, &options.training);
    let manifest = base.config.manifest(&trainable, tags().len());
    assert!(
        manifest
            .tensors
            .iter()
            .all(|t| t.name.starts_with("classifier."))
    );
    let trained = run(&base, &notes(40), &options).expect("trained");
    assert_eq!(trained.weights.len(), manifest.dimension());
    assert_ne!(trained.weights, base.flatten(&manifest).expect("flat"));
    options.training.freeze_layers = layers + 1;
    let error = run(&base, &notes(8), &options).expect_err("too deep");
    assert!(matches!(error, Error::Unfit(_)), "{error}");
}

#[test]
fn a_step_of_several_batches_is_a_step_of_one_large_batch() {
    let base = untrained(5);
    for method in [Method::Full, Method::Head] {
        let weights = |size, accumulation| {
            let mut options = options(method, 1);
            options.training.batch_size = size;
            options.training.gradient_accumulation = accumulation;
            options.training.dropout = Some(0.0);
            let trained = run(&base, &notes(32), &options).expect("trained");
            assert_eq!(trained.steps, 1);
            trained.weights
        };
        let (parts, whole) = (weights(8, 4), weights(32, 1));
        let largest = parts.iter().zip(&whole).map(|(a, b)| (a - b).abs());
        // The first step of AdamW is the sign of the gradient, nearly: where it is almost zero,
        // rounding decides.
        let differing = largest.filter(|difference| *difference > 1e-4).count();
        assert!(differing * 200 < whole.len(), "{method}: {differing}");
    }
}

#[test]
fn the_proximal_term_holds_weights_close_to_where_they_began() {
    for method in [Method::Full, Method::Head] {
        let base = untrained(6);
        let manifest = base.config.manifest(&method.into(), tags().len());
        let start = base.flatten(&manifest).expect("flat");
        let distance = |mu| {
            let mut options = options(method, 4);
            options.training.proximal_mu = mu;
            options.training.weight_decay = 0.0;
            let trained = run(&base, &notes(40), &options).expect("trained");
            let squares = trained
                .weights
                .iter()
                .zip(&start)
                .map(|(a, b)| (a - b).powi(2));
            squares.sum::<f32>().sqrt()
        };
        let (free, held) = (distance(0.0), distance(100.0));
        assert!(held < free / 2.0, "{method}: {held} {free}");
    }
}

/// Trains in pieces of five steps, the file being all that the next piece knows; the number of
/// stops. `cut_off`: what a stop writes is lost, as by `kill -9`, and the checkpoint is of the
/// step before.
fn train_in_pieces(
    base: &Checkpoint,
    corpus: &[Sentence],
    options: &TrainOptions,
    keep: &KeptFiles,
    cut_off: bool,
) -> (Trained, usize) {
    let checkpoint = keep.checkpoint.as_deref().expect("a path");
    let aside = checkpoint.with_extension("aside");
    let mut stops = 0;
    loop {
        let mut left = 5;
        let mut observer = |progress: Progress| {
            left -= i32::from(progress.stage == Stage::Training);
            if left == 0 && progress.step < progress.steps {
                std::fs::copy(checkpoint, &aside).expect("copied");
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        let (tokenizer, tags) = (tokenizer(), tags());
        let outcome = Trainer {
            base,
            tokenizer: &tokenizer,
            tags: &tags,
        }
        .run(
            corpus,
            options,
            TrainHooks {
                kept_files: keep,
                ..TrainHooks::default()
            },
            &mut observer,
        );
        match outcome {
            Err(Error::Stopped { .. }) => stops += 1,
            outcome => return (outcome.expect("trained"), stops),
        }
        if cut_off {
            std::fs::rename(&aside, checkpoint).expect("put back");
        }
    }
}

#[test]
fn a_training_that_is_stopped_and_resumed_ends_with_the_same_bits() {
    let corpus = notes(60);
    for (method, cut_off) in Method::ALL
        .into_iter()
        .flat_map(|m| [(m, false), (m, true)])
    {
        let base = untrained(7).prepared_for(&trainable(method), 2);
        let options = options(method, 2);
        let whole = run(&base, &corpus, &options).expect("trained");
        let directory = tempfile::tempdir().expect("directory");
        let keep = KeptFiles {
            checkpoint: Some(directory.path().join("checkpoint")),
            every: Duration::ZERO,
            features: Some(directory.path().join("features")),
            encoder: None,
            key: Some(StorageKey::from_bytes([5; 32])),
        };
        let (resumed, stops) = train_in_pieces(&base, &corpus, &options, &keep, cut_off);
        assert_eq!(stops, 3, "{method}");
        assert_eq!(resumed, whole, "{method}");
        assert!(!keep.checkpoint.expect("path").exists(), "{method}");
    }
}

/// Trains with scripted scores of the epochs, stopping for a resume at the given step of all; the
/// weights that were scored.
fn train_early(
    base: &Checkpoint,
    options: &TrainOptions,
    keep: &KeptFiles,
    (scores, stop_at): (&[f64], usize),
) -> (Result<Trained, Error>, Vec<Vec<f32>>) {
    let mut scored = Vec::new();
    let mut left = scores.iter().copied();
    let mut score = |weights: &[f32]| {
        scored.push(weights.to_vec());
        Ok(left.next().expect("a score"))
    };
    let hooks = TrainHooks {
        early_stopping: Some(EarlyStopping {
            patience: 2,
            held_out: Digest::of(b"held out"),
            score: &mut score,
        }),
        kept_files: keep,
        ..TrainHooks::default()
    };
    let mut observer = |progress: Progress| {
        if progress.stage == Stage::Training && progress.step == stop_at {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    };
    let (tokenizer, tags, corpus) = (tokenizer(), tags(), notes(40));
    let trained = Trainer {
        base,
        tokenizer: &tokenizer,
        tags: &tags,
    }
    .run(&corpus, options, hooks, &mut observer);
    (trained, scored)
}

#[test]
fn early_stopping_keeps_the_weights_of_the_best_epoch_also_over_a_resume() {
    let scores = [0.2, 0.4, 0.3, 0.4, 0.9];
    for method in [Method::Head, Method::Full] {
        let base = untrained(7);
        let options = options(method, 5);
        let nothing = KeptFiles::default();
        let (whole, scored) = train_early(&base, &options, &nothing, (&scores, usize::MAX));
        let whole = whole.expect("trained");
        // Two epochs after the second were no better: the fifth is not trained.
        assert_eq!(whole.scores, scores[..4], "{method}");
        assert_eq!(whole.best_epoch, Some(1), "{method}");
        assert_eq!(whole.weights, scored[1], "{method}");
        assert_ne!(whole.weights, scored[3], "{method}");
        let all = run(&base, &notes(40), &options).expect("all epochs");
        assert_eq!(whole.steps, all.steps / 5 * 4, "{method}");
        let losses = [whole.first_loss, all.first_loss].map(f32::to_bits);
        assert_eq!(losses[0], losses[1], "{method}");

        let directory = tempfile::tempdir().expect("directory");
        let keep = KeptFiles {
            checkpoint: Some(directory.path().join("checkpoint")),
            ..KeptFiles::default()
        };
        // In the third epoch; and after its last step, before it is scored.
        for in_third in [1, all.steps / 5] {
            let stop_at = all.steps / 5 * 2 + in_third;
            let (stopped, _) = train_early(&base, &options, &keep, (&scores, stop_at));
            assert!(matches!(stopped, Err(Error::Stopped { .. })), "{method}");
            let rest = (&scores[2..], usize::MAX);
            let (resumed, _) = train_early(&base, &options, &keep, rest);
            assert_eq!(resumed.expect("resumed"), whole, "{method}");
        }
    }
}
