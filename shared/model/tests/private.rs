//! Private training: what a mechanism is asked, and what comes of its releases.

mod common;

use std::ops::ControlFlow;

use common::{notes, tags, tokenizer, untrained};
use fedner_model::device::Device;
use fedner_model::{
    Error, Keep, Manner, Mechanism, Model, Private, Progress, Sentence, TrainOptions, Trained,
    evaluate, train_as,
};
use fedner_shared::checkpoint::Checkpoint;
use fedner_shared::plan::{Method, Training, Unit};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const CLIP: f64 = 0.5;
const BATCH: f64 = 40.0;
const STEPS: usize = 6;

/// Samples with a rate and releases sums as they are.
#[derive(Debug)]
struct Open {
    rate: f64,
    random: ChaCha8Rng,
    /// How many units each step had, and the norm of what it released.
    steps: Vec<(usize, f64)>,
    broken: bool,
}

impl Open {
    fn new(rate: f64) -> Self {
        Self {
            rate,
            random: ChaCha8Rng::seed_from_u64(9),
            steps: Vec::new(),
            broken: false,
        }
    }
}

impl Mechanism for Open {
    fn sample(&mut self, units: usize) -> Vec<usize> {
        let sampled: Vec<usize> = (0..units)
            .filter(|_| self.random.random_bool(self.rate))
            .collect();
        self.steps.push((sampled.len(), f64::NAN));
        sampled
    }

    fn release(&mut self, sum: &mut [f64]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        if self.broken {
            return Err("no randomness".into());
        }
        let norm = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
        let step = self.steps.iter_mut().find(|(_, norm)| norm.is_nan());
        step.expect("sampled before").1 = norm;
        Ok(())
    }
}

fn run(
    base: &Checkpoint,
    corpus: &[Sentence],
    (method, epochs, unit): (Method, u32, Unit),
    mechanism: &mut Open,
) -> Result<Trained, Error> {
    let options = TrainOptions {
        method,
        training: Training {
            local_epochs: epochs,
            learning_rate: 0.3,
            ..Training::default()
        },
        seed: 5,
        schedule: 0.0..1.0,
    };
    let private = Private {
        unit,
        clip: CLIP,
        noise_multiplier: 0.0,
        expected_batch: BATCH,
        steps_an_epoch: STEPS,
        mechanism,
    };
    let manner = Manner {
        keep: &Keep::default(),
        private: Some(private),
    };
    let mut observer = |_: Progress| ControlFlow::Continue(());
    train_as(
        base,
        &tokenizer(),
        &tags(),
        corpus,
        &options,
        manner,
        &mut observer,
    )
}

#[test]
fn it_learns_from_clipped_sums_alone() {
    let (base, corpus) = (untrained(1), notes(120));
    let mut mechanism = Open::new(1.0 / 3.0);
    let trained = run(
        &base,
        &corpus,
        (Method::Head, 20, Unit::Sentence),
        &mut mechanism,
    );
    let trained = trained.expect("trained");
    assert_eq!(
        (trained.steps, mechanism.steps.len()),
        (20 * STEPS, 20 * STEPS)
    );
    for (units, norm) in &mechanism.steps {
        assert!(
            *norm <= CLIP * *units as f64 * (1.0 + 1e-6),
            "{units} {norm}"
        );
    }
    let sizes: usize = mechanism.steps.iter().map(|(units, _)| units).sum();
    assert!(
        (sizes as f64 / (120.0 * BATCH) - 1.0).abs() < 0.1,
        "{sizes}"
    );
    let manifest = base.config.manifest(&Method::Head.into(), tags().len());
    let model = base
        .with_weights(&manifest, &trained.weights)
        .expect("weights");
    let model = Model::load(&model, Device::Cpu).expect("model");
    let mut observer = |_, _| ControlFlow::Continue(());
    let found = evaluate(
        &model,
        &tokenizer(),
        &tags(),
        &notes(60),
        40,
        16,
        &mut observer,
    );
    let f1 = found.expect("evaluation").scores.total().f1();
    assert!(f1 > 0.8, "F1 {f1}");
}

#[test]
fn an_empty_sample_is_released_all_the_same() {
    let mut mechanism = Open::new(0.0);
    let base = untrained(1);
    run(
        &base,
        &notes(8),
        (Method::Head, 2, Unit::Sentence),
        &mut mechanism,
    )
    .expect("trained");
    assert_eq!(mechanism.steps, vec![(0, 0.0); 2 * STEPS]);
}

#[test]
fn what_cannot_be_private_is_refused() {
    let (base, corpus) = (untrained(1), notes(8));
    let of = |method, unit| run(&base, &corpus, (method, 1, unit), &mut Open::new(0.5));
    let error = of(Method::Full, Unit::Sentence).expect_err("full");
    assert!(matches!(error, Error::NotPrivate { .. }), "{error}");
    let mut anonymous = corpus.clone();
    anonymous[2].person = None;
    let mut mechanism = Open::new(0.5);
    let error = run(
        &base,
        &anonymous,
        (Method::Head, 1, Unit::Person),
        &mut mechanism,
    );
    assert!(matches!(
        error,
        Err(Error::NoUnit {
            unit: Unit::Person,
            ..
        })
    ));
    assert!(mechanism.steps.is_empty(), "refused before the first step");
    mechanism.broken = true;
    let error = run(
        &base,
        &corpus,
        (Method::Head, 1, Unit::Sentence),
        &mut mechanism,
    );
    let error = error.expect_err("no release");
    assert!(error.to_string().contains("no randomness"), "{error}");
}
