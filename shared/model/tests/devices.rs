//! Other devices compute what `cpu` does: those that this build has features for and this machine
//! has.
#![cfg(any(feature = "libtorch", feature = "cuda", feature = "wgpu"))]

mod common;

use std::ops::ControlFlow;

use common::{notes, tags, tiny_bert, tokenizer, untrained};
use fedner_model::device::Device;
use fedner_model::{
    Clip, Encoded, Mechanism, Model, Private, Progress, TrainHooks, TrainOptions, Trainer,
};
use fedner_shared::plan::{Method, Training, Unit};

/// How far a device may be from `cpu`.
const CLOSE: f64 = 1e-4;

/// With the feature `libtorch` there is at least one.
fn others() -> Vec<&'static str> {
    let names = ["libtorch", "libtorch-cuda:0", "cuda:0", "wgpu", "wgpu-cpu"];
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
        let difference = largest_difference(&found, &expected);
        say(&format!("{device}: logits differ by {difference:.1e}"));
        assert!(difference < CLOSE, "{device}: {difference}");
    }
}

/// Dropout is on: the same seed drops the same activations on every device.
#[test]
fn losses_of_an_epoch_agree() {
    for method in [Method::Full, Method::Head] {
        let expected = losses(method, "cpu");
        for device in others() {
            let found = losses(method, device);
            let difference = largest_difference(&found, &expected);
            say(&format!(
                "{device}, {method}: losses differ by {difference:.1e}"
            ));
            assert!(difference < CLOSE, "{method} on {device}: {difference}");
        }
    }
}

/// What is clipped and added up: of some units by themselves, and of all.
#[test]
fn private_gradients_agree() {
    for method in Method::ALL {
        let expected = clipped_sums(method, "cpu");
        // Two sentences are farther apart than two devices.
        assert!(distance(&expected[0], &expected[1]) > 100.0 * CLOSE);
        for device in others() {
            let found = clipped_sums(method, device);
            assert_eq!(found.len(), expected.len());
            let pairs = found.iter().zip(&expected);
            let largest = largest(pairs.map(|(found, expected)| distance(found, expected)));
            say(&format!("{device}, {method}: sums differ by {largest:.1e}"));
            assert!(largest < CLOSE, "{method} on {device}: {largest}");
        }
    }
}

fn losses(method: Method, device: &str) -> Vec<f32> {
    let mut losses = Vec::new();
    let mut observer = |progress: Progress| {
        losses.push(progress.loss);
        ControlFlow::Continue(())
    };
    train((method, 1e-3), device, TrainHooks::default(), &mut observer);
    losses
}

/// Takes some units alone, then all of them, and releases sums as they are.
#[derive(Debug, Default)]
struct Kept {
    sampled: usize,
    sums: Vec<Vec<f64>>,
}

impl Kept {
    const ALONE: usize = 4;
}

impl Mechanism for Kept {
    fn sample(&mut self, units: usize) -> Vec<usize> {
        let step = self.sampled;
        self.sampled += 1;
        if step < Self::ALONE {
            return vec![step];
        }
        (0..units).collect()
    }

    fn choose(&mut self, _: usize, count: usize) -> Vec<usize> {
        (0..count).collect()
    }

    fn release(&mut self, sum: &mut [f64]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.sums.push(sum.to_vec());
        Ok(())
    }
}

/// With a learning rate so small that each step has the weights of the first.
fn clipped_sums(method: Method, device: &str) -> Vec<Vec<f64>> {
    let mut kept = Kept::default();
    let private = Private {
        unit: Unit::Sentence,
        clip: Clip::threshold(0.5),
        noise_multiplier: 0.0,
        expected_batch: 8.0,
        steps_an_epoch: Kept::ALONE + 1,
        max_windows: 64,
        mechanism: &mut kept,
    };
    let hooks = TrainHooks {
        private: Some(private),
        ..TrainHooks::default()
    };
    let mut observer = |_: Progress| ControlFlow::Continue(());
    train((method, 1e-9), device, hooks, &mut observer);
    kept.sums
}

/// One epoch over notes, on a device.
fn train(
    (method, learning_rate): (Method, f64),
    device: &str,
    hooks: TrainHooks<'_>,
    observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) {
    let base = untrained(1).prepared_for(&method.into(), 1);
    let training = Training {
        batch_size: 8,
        learning_rate,
        device: device.to_owned(),
        ..Training::default()
    };
    let options = TrainOptions {
        method,
        training,
        seed: 5,
        schedule: 0.0..1.0,
    };
    let mut observer = |progress: Progress| observer(progress);
    Trainer {
        base: &base,
        tokenizer: &tokenizer(),
        tags: &tags(),
    }
    .run(&notes(120), &options, hooks, &mut observer)
    .expect("trained");
}

fn largest_difference(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().zip(expected);
    largest(pairs.map(|(found, expected)| f64::from(found - expected)))
}

/// The largest absolute value; what is no number counts as larger than any.
fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.map(f64::abs).max_by(f64::total_cmp).expect("some")
}

/// ‖found - expected‖ / ‖expected‖.
fn distance(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut found.iter().zip(expected).map(|(f, e)| f - e));
    difference / norm(&mut expected.iter().copied())
}
