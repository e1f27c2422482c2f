//! Private training: what a mechanism is asked, and what comes of its releases.

mod common;

use std::ops::ControlFlow;
use std::time::Duration;

use common::{f1, notes, tags, tokenizer, untrained};
use fedner_model::{
    Clip, Error, KeptFiles, Mechanism, Private, Progress, Sentence, TrainHooks, TrainOptions,
    Trained, Trainer,
};
use fedner_shared::checkpoint::Checkpoint;
use fedner_shared::plan::{Clipping, Method, Training, Unit};
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
    /// How the trainer is told to clip.
    clip: Clip,
}

impl Open {
    fn new(rate: f64) -> Self {
        Self {
            rate,
            random: ChaCha8Rng::seed_from_u64(9),
            steps: Vec::new(),
            broken: false,
            clip: Clip::threshold(CLIP),
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

    fn choose(&mut self, _: usize, count: usize) -> Vec<usize> {
        (0..count).collect()
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
    how: (Method, u32, Unit),
    mechanism: &mut Open,
) -> Result<Trained, Error> {
    let mut observer = |_: Progress| ControlFlow::Continue(());
    run_keeping(
        base,
        corpus,
        how,
        mechanism,
        &KeptFiles::default(),
        &mut observer,
    )
}

fn run_keeping(
    base: &Checkpoint,
    corpus: &[Sentence],
    (method, epochs, unit): (Method, u32, Unit),
    mechanism: &mut Open,
    keep: &KeptFiles,
    observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Trained, Error> {
    let learning_rate = match method {
        Method::Head => 0.3,
        Method::Lora | Method::FfaLora | Method::Bitfit => 2e-2,
        Method::Full => 3e-3,
    };
    let options = TrainOptions {
        method,
        training: Training {
            local_epochs: epochs,
            learning_rate,
            ..Training::default()
        },
        seed: 5,
        schedule: 0.0..1.0,
    };
    let private = Private {
        unit,
        clip: mechanism.clip,
        noise_multiplier: 0.0,
        expected_batch: BATCH,
        steps_an_epoch: STEPS,
        max_windows: 64,
        mechanism,
    };
    let hooks = TrainHooks {
        kept_files: keep,
        private: Some(private),
        ..TrainHooks::default()
    };
    let base = base.clone().prepared_for(&method.into(), 1);
    let mut observer = |progress: Progress| observer(progress);
    Trainer {
        base: &base,
        tokenizer: &tokenizer(),
        tags: &tags(),
    }
    .run(corpus, &options, hooks, &mut observer)
}

#[test]
fn it_learns_from_clipped_sums_alone() {
    let (base, corpus) = (untrained(1), notes(120));
    for method in Method::ALL {
        let mut mechanism = Open::new(1.0 / 3.0);
        let trained = run(&base, &corpus, (method, 20, Unit::Sentence), &mut mechanism);
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
        let base = base.clone().prepared_for(&method.into(), 1);
        let manifest = base.config.manifest(&method.into(), tags().len());
        let model = base
            .with_weights(&manifest, &trained.weights)
            .expect("weights");
        let f1 = f1(&model, &notes(60));
        assert!(f1 > 0.8, "{method}: F1 {f1}");
    }
}

#[test]
fn an_empty_sample_is_released_all_the_same() {
    let base = untrained(1);
    for method in Method::ALL {
        let mut mechanism = Open::new(0.0);
        run(
            &base,
            &notes(8),
            (method, 2, Unit::Sentence),
            &mut mechanism,
        )
        .expect("trained");
        assert_eq!(mechanism.steps, vec![(0, 0.0); 2 * STEPS], "{method}");
    }
}

/// The norm of one unit's gradient g, unclipped, is what C/(‖g‖ + 0.01) is made of.
#[test]
fn automatic_clipping_makes_every_unit_count_about_the_same() {
    let base = untrained(1);
    for method in Method::ALL {
        let norm = |clip| {
            let mut mechanism = Open::new(1.0);
            mechanism.clip = clip;
            let how = (method, 1, Unit::Sentence);
            run(&base, &notes(1), how, &mut mechanism).expect("trained");
            mechanism.steps[0].1
        };
        let whole = norm(Clip::threshold(f64::INFINITY));
        let found = norm(Clip {
            bound: 0.25,
            clipping: Clipping::Automatic,
        });
        let expected = 0.25 * whole / (whole + 0.01);
        assert!(found < 0.25 && expected > 0.1, "{method}: {found} {whole}");
        assert!(
            (found / expected - 1.0).abs() < 1e-3,
            "{method}: {found} {whole}"
        );
    }
}

/// A document is a unit of four sentences: none of them alone adds as much as the clip.
#[test]
fn the_sentences_of_a_unit_are_clipped_together() {
    let (base, corpus) = (untrained(1), notes(40));
    for method in Method::ALL {
        let mut mechanism = Open::new(0.5);
        run(&base, &corpus, (method, 1, Unit::Document), &mut mechanism).expect("trained");
        for (units, norm) in &mechanism.steps {
            assert!(*units <= 10 && *norm <= CLIP * *units as f64 * (1.0 + 1e-6));
        }
        assert!(
            mechanism.steps.iter().any(|(_, norm)| *norm > CLIP),
            "{method}"
        );
    }
}

#[test]
fn a_stopped_training_goes_on_where_it_was() {
    let (base, corpus) = (untrained(1), notes(16));
    for method in Method::ALL {
        let directory = tempfile::tempdir().expect("directory");
        let keep = KeptFiles {
            checkpoint: Some(directory.path().join("training.checkpoint")),
            every: Duration::ZERO,
            ..KeptFiles::default()
        };
        let how = (method, 2, Unit::Document);
        let mut first = Open::new(1.0);
        let mut stop_at_4 = |progress: Progress| match progress.step {
            4 if progress.steps == 2 * STEPS => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        let stopped = run_keeping(&base, &corpus, how, &mut first, &keep, &mut stop_at_4);
        assert!(matches!(stopped, Err(Error::Stopped { step: 4, .. })));
        let mut rest = Open::new(1.0);
        let mut go_on = |_: Progress| ControlFlow::Continue(());
        let resumed = run_keeping(&base, &corpus, how, &mut rest, &keep, &mut go_on);
        let whole = run(&base, &corpus, how, &mut Open::new(1.0)).expect("trained");
        // Every unit is in every step, so that nothing is random.
        assert_eq!(resumed.expect("resumed").weights, whole.weights, "{method}");
        let released = |mechanism: &Open| {
            let released = mechanism.steps.iter().filter(|(_, norm)| !norm.is_nan());
            released.count()
        };
        assert_eq!(released(&first) + released(&rest), 2 * STEPS, "{method}");
    }
}

#[test]
fn what_cannot_be_private_is_refused() {
    let (base, corpus) = (untrained(1), notes(8));
    let mut anonymous = corpus.clone();
    anonymous[2].person = None;
    for method in Method::ALL {
        let mut mechanism = Open::new(0.5);
        let error = run(&base, &anonymous, (method, 1, Unit::Person), &mut mechanism);
        assert!(matches!(
            error,
            Err(Error::NoUnit {
                unit: Unit::Person,
                ..
            })
        ));
        assert!(mechanism.steps.is_empty(), "refused before the first step");
        mechanism.broken = true;
        let error = run(&base, &corpus, (method, 1, Unit::Sentence), &mut mechanism);
        let error = error.expect_err("no release");
        assert!(error.to_string().contains("no randomness"), "{error}");
    }
}
