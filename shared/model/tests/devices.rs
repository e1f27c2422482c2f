//! Other devices compute what `cpu` does: those that this build has features for and this machine
//! has.
#![cfg(any(feature = "libtorch", feature = "cuda", feature = "wgpu"))]

mod common;

use std::ops::ControlFlow;

use common::{notes, tags, tiny_bert, tokenizer, untrained};
use fedner_model::device::Device;
use fedner_model::{Encoded, Model, Progress, TrainHooks, TrainOptions, Trainer};
use fedner_shared::plan::{Method, Training};

/// With the feature `libtorch` there is at least one.
fn others() -> Vec<&'static str> {
    let names = ["libtorch", "libtorch-cuda:0", "cuda:0", "wgpu"];
    let present = |name: &&str| match name.parse::<Device>() {
        Ok(_) => true,
        Err(error) => {
            say(&format!("skipped: {error}"));
            false
        }
    };
    let found: Vec<&str> = names.into_iter().filter(present).collect();
    assert!(!cfg!(feature = "libtorch") || found.contains(&"libtorch"));
    found
}

#[allow(clippy::print_stderr, reason = "a test says what it does not run")]
fn say(what: &str) {
    eprintln!("{what}");
}

#[test]
fn logits_agree() {
    let (tokenizer, corpus) = (tokenizer(), notes(12));
    let encoded: Vec<Encoded> = corpus
        .iter()
        .map(|sentence| tokenizer.encode(&sentence.words, 40).expect("encoded"))
        .collect();
    let batch: Vec<&Encoded> = encoded.iter().collect();
    let logits = |device: Device| {
        let model = Model::load(&tiny_bert(), device).expect("model");
        model.logits(&batch).expect("logits")
    };
    let expected = logits(Device::Cpu);
    for device in others() {
        let found = logits(device.parse().expect("present"));
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            let difference = (found - expected).abs();
            assert!(difference < 1e-4, "{device}: {found} for {expected}");
        }
    }
}

/// Dropout is on: the same seed drops the same activations on every device.
#[test]
fn losses_of_an_epoch_agree() {
    let (base, corpus) = (untrained(1), notes(120));
    let losses = |method: Method, device: &str| {
        let training = Training {
            batch_size: 8,
            learning_rate: 1e-3,
            device: device.to_owned(),
            ..Training::default()
        };
        let options = TrainOptions {
            method,
            training,
            seed: 5,
            schedule: 0.0..1.0,
        };
        let mut losses = Vec::new();
        let mut observer = |progress: Progress| {
            losses.push(progress.loss);
            ControlFlow::Continue(())
        };
        Trainer {
            base: &base,
            tokenizer: &tokenizer(),
            tags: &tags(),
        }
        .run(&corpus, &options, TrainHooks::default(), &mut observer)
        .expect("trained");
        losses
    };
    for method in [Method::Full, Method::Head] {
        let expected = losses(method, "cpu");
        for device in others() {
            let found = losses(method, device);
            assert_eq!(found.len(), expected.len());
            for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let difference = (found - expected).abs();
                let place = format!("{method} on {device}, step {step}");
                assert!(difference < 1e-3, "{place}: {found} for {expected}");
            }
        }
    }
}
