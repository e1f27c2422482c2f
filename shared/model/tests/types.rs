//! Entity types that are not annotated everywhere, and types that stay as they are.

mod common;

use std::ops::ControlFlow;

use common::{f1, notes, run, tags, tokenizer, untrained};
use fedner_model::{
    Clip, Mechanism, Private, Progress, Sentence, TrainHooks, TrainOptions, Trainer,
};
use fedner_shared::plan::{Method, Training, Unit};

fn options(epochs: u32) -> TrainOptions {
    TrainOptions {
        method: Method::Head,
        training: Training {
            local_epochs: epochs,
            batch_size: 8,
            learning_rate: 3e-2,
            weight_decay: 0.1,
            proximal_mu: 0.1,
            ..Training::default()
        },
        seed: 5,
        schedule: 0.0..1.0,
    }
}

/// Drugs alone are annotated, though diseases are spoken of.
fn drugs_alone(sentence: &Sentence, declared: bool) -> Sentence {
    let outside = |tag: &String| {
        let tag = if tag.ends_with("-Disease") { "O" } else { tag };
        tag.to_owned()
    };
    Sentence {
        tags: sentence.tags.iter().map(outside).collect(),
        annotated: declared.then(|| ["Drug".to_owned()].into()),
        ..sentence.clone()
    }
}

#[test]
fn what_some_do_not_annotate_is_learnt_from_those_who_do() {
    let (base, all) = (untrained(1), notes(150));
    let score = |declared: bool| {
        let (whole, part) = all.split_at(30);
        let part = part.iter().map(|sentence| drugs_alone(sentence, declared));
        let corpus: Vec<Sentence> = whole.iter().cloned().chain(part).collect();
        let mut options = options(20);
        options.training.proximal_mu = 0.0;
        let trained = run(&base, &corpus, &options).expect("trained");
        let manifest = base.config.manifest(&Method::Head.into(), tags().len());
        let model = base.clone().with_weights(&manifest, &trained.weights);
        f1(&model.expect("weights"), &notes(60))
    };
    let (declared, taken_as_outside) = (score(true), score(false));
    assert!(
        declared > 0.7 && declared > taken_as_outside + 0.2,
        "F1 {declared} and {taken_as_outside}"
    );
}

/// Takes everybody, and adds noise to every weight.
#[derive(Debug)]
struct Noisy(u32);

impl Mechanism for Noisy {
    fn sample(&mut self, units: usize) -> Vec<usize> {
        (0..units).collect()
    }

    fn choose(&mut self, _: usize, count: usize) -> Vec<usize> {
        (0..count).collect()
    }

    fn release(&mut self, sum: &mut [f64]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        for value in sum {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *value += f64::from(self.0) / f64::from(u32::MAX) - 0.5;
        }
        Ok(())
    }
}

#[test]
fn rows_that_are_frozen_stay_to_the_last_bit_and_others_do_not() {
    let (base, corpus) = (untrained(1), notes(40));
    let manifest = base.config.manifest(&Method::Head.into(), tags().len());
    let before = base.flatten(&manifest).expect("weights");
    let (count, width) = (tags().len(), base.config.head_width());
    // `O` and the first type.
    let frozen_rows = [0, 1, 2];
    let is_frozen = |index: usize| {
        // Biases come first.
        let row = index.checked_sub(count).map_or(index, |at| at / width);
        frozen_rows.contains(&row)
    };
    for private in [false, true] {
        let mut mechanism = Noisy(1);
        let private = private.then(|| Private {
            unit: Unit::Sentence,
            clip: Clip::threshold(0.5),
            noise_multiplier: 1.0,
            expected_batch: 40.0,
            steps_an_epoch: 3,
            max_windows: 64,
            mechanism: &mut mechanism,
        });
        let hooks = TrainHooks {
            private,
            frozen_rows: &frozen_rows,
            ..TrainHooks::default()
        };
        let mut observer = |_: Progress| ControlFlow::Continue(());
        let trained = Trainer {
            base: &base,
            tokenizer: &tokenizer(),
            tags: &tags(),
        }
        .run(&corpus, &options(2), hooks, &mut observer)
        .expect("trained");
        for (index, (now, before)) in trained.weights.iter().zip(&before).enumerate() {
            let same = now.to_bits() == before.to_bits();
            assert_eq!(same, is_frozen(index), "weight {index}: {before} {now}");
        }
    }
}
