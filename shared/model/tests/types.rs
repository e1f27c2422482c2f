//! Entity types that are not annotated everywhere, and types that stay as they are.

mod common;

use std::ops::ControlFlow;

use common::{f1, notes, run, tags, tokenizer, untrained};
use fedner_model::{
    Clip, Mechanism, Parent, Private, Progress, Sentence, TrainHooks, TrainOptions, Trainer,
};
use fedner_shared::checkpoint::Checkpoint;
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

/// Diseases alone are annotated, as in text of a later year.
fn diseases_alone(sentence: &Sentence) -> Sentence {
    let outside = |tag: &String| {
        let tag = if tag.ends_with("-Drug") { "O" } else { tag };
        tag.to_owned()
    };
    Sentence {
        tags: sentence.tags.iter().map(outside).collect(),
        annotated: Some(["Disease".to_owned()].into()),
        ..sentence.clone()
    }
}

/// F1 of drugs before and after a year in which diseases alone are annotated.
fn drugs_before_and_after(method: Method, private: bool, asks: bool) -> [f64; 2] {
    let (held_out, all) = (notes(60), notes(150));
    let (first, later) = all.split_at(75);
    let manifest = |base: &Checkpoint| base.config.manifest(&Method::Head.into(), tags().len());
    let f1_of_drugs = |model: &Checkpoint| {
        let drugs: Vec<Sentence> = held_out.iter().map(|s| drugs_alone(s, true)).collect();
        f1(model, &drugs)
    };
    let first: Vec<Sentence> = first.iter().map(|s| drugs_alone(s, true)).collect();
    let later: Vec<Sentence> = later.iter().map(diseases_alone).collect();
    let mut of_head = options(20);
    (of_head.training.proximal_mu, of_head.training.weight_decay) = (0.0, 0.0);
    let base = untrained(1);
    let trained = run(&base, &first, &of_head).expect("trained");
    let parent = base
        .clone()
        .with_weights(&manifest(&base), &trained.weights);
    let parent = parent.expect("weights");
    // `O`, and the tags of drugs.
    let known = [0, 3, 4];
    let mut options = of_head;
    options.method = method;
    if method == Method::Full {
        options.training.learning_rate = 1e-3;
        options.training.dropout = Some(0.0);
    }
    // AdamW would make as much of noise as of what is to be learnt.
    let mut mechanism = Noisy(1, 0.0);
    let private = private.then(|| Private {
        unit: Unit::Sentence,
        clip: Clip::threshold(0.5),
        noise_multiplier: 0.01,
        expected_batch: 75.0,
        steps_an_epoch: 20,
        max_windows: 64,
        mechanism: &mut mechanism,
    });
    let hooks = TrainHooks {
        private,
        parent: asks.then_some(Parent {
            base: &parent,
            known: &known,
        }),
        ..TrainHooks::default()
    };
    let mut observer = |_: Progress| ControlFlow::Continue(());
    let trained = Trainer {
        base: &parent,
        tokenizer: &tokenizer(),
        tags: &tags(),
    }
    .run(&later, &options, hooks, &mut observer)
    .expect("trained");
    let manifest = parent.config.manifest(&method.into(), tags().len());
    let child = parent.clone().with_weights(&manifest, &trained.weights);
    [f1_of_drugs(&parent), f1_of_drugs(&child.expect("weights"))]
}

#[test]
fn a_parent_keeps_what_it_knows_from_being_forgotten() {
    for (method, private) in [
        (Method::Head, false),
        (Method::Full, false),
        (Method::Head, true),
    ] {
        let [before, taught] = drugs_before_and_after(method, private, true);
        let [_, alone] = drugs_before_and_after(method, private, false);
        assert!(before > 0.7, "{method}: {before}");
        assert!(taught > before - 0.05, "{method}: {before}, then {taught}");
        assert!(
            alone < taught - 0.1,
            "{method}: {taught} taught, {alone} alone"
        );
    }
}

/// Takes everybody, and adds noise of that size to every weight.
#[derive(Debug)]
struct Noisy(u32, f64);

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
            *value += self.1 * (f64::from(self.0) / f64::from(u32::MAX) - 0.5);
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
        let mut mechanism = Noisy(1, 1.0);
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
