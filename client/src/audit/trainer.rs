//! The private trainer, watched: what each of its steps released.

use std::collections::VecDeque;
use std::fmt;

use fedner_model::{Clip, Mechanism, Private, Sentence, TrainHooks, TrainOptions};
use fedner_shared::plan::Plan;

use super::Error;
use super::worst_case::WorstCase;
use crate::dp_sgd::Steps;
use crate::training::{self, Stop};

/// Is given what every step released.
pub(super) trait Sink: fmt::Debug + Sync {
    fn released(&mut self, sum: &[f64]);

    /// The same with what only the mechanism itself knows.
    fn inside(&mut self, _: &Step<'_>) {}
}

/// A step as the mechanism made it.
#[derive(Debug)]
pub(super) struct Step<'a> {
    /// The numbers of the units in it.
    pub(super) sampled: &'a [usize],
    /// The sum of what they added, before noise.
    pub(super) sum: &'a [f64],
    pub(super) released: &'a [f64],
}

/// A training to be made and watched.
#[derive(Debug)]
pub(super) struct Watched<'a> {
    pub(super) case: &'a WorstCase,
    pub(super) corpus: &'a [Sentence],
    pub(super) plan: &'a Plan,
    /// Declared: public, and the same whoever is in the corpus.
    pub(super) units: u32,
    pub(super) sink: &'a mut dyn Sink,
}

/// A way to train: [`product`], and in the tests ways that break a rule.
pub(super) type Path<'p> = dyn Fn(Watched<'_>) -> Result<(), Error> + 'p;

/// As a round trains: the same sampling, clip and noise, by the same trainer.
pub(super) fn product(watched: Watched<'_>) -> Result<(), Error> {
    let (plan, units) = (watched.plan, watched.units);
    let steps = Steps::private(plan, units, watched.case.dimension())?;
    match steps {
        Some(steps) if plan.privacy.is_synchronous() => {
            let fellows = plan.privacy.noise_shares.saturating_sub(1);
            watched.train_with(steps, fellows)
        }
        Some(mut steps) => watched.train(steps.settings(plan)),
        None => Ok(()),
    }
}

/// A step that a cohort takes together, as it is opened: the institution's share, and the noise of its fellow members.
/// What these add beside it does not depend on the institution.
#[derive(Debug)]
struct Opened {
    own: Steps,
    fellows: u32,
    gamma: f64,
}

impl Mechanism for Opened {
    fn sample(&mut self, units: usize) -> Vec<usize> {
        self.own.sample(units)
    }

    fn choose(&mut self, windows: usize, count: usize) -> Vec<usize> {
        self.own.choose(windows, count)
    }

    fn release(&mut self, sum: &mut [f64]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut total = vec![0i64; sum.len()];
        for _ in 0..=self.fellows {
            // The first share is the institution's. It leaves zeros, which are what the others have.
            self.own.release(sum)?;
            for (total, share) in total
                .iter_mut()
                .zip(self.own.take_share().unwrap_or_default())
            {
                *total += i64::from(share);
            }
        }
        for (sum, total) in sum.iter_mut().zip(total) {
            *sum = total as f64 * self.gamma;
        }
        Ok(())
    }
}

impl Watched<'_> {
    /// Steps of a cohort in which so many others add noise.
    pub(super) fn train_with(self, mut own: Steps, fellows: u32) -> Result<(), Error> {
        let Private {
            unit,
            clip,
            noise_multiplier,
            expected_batch,
            steps_an_epoch,
            max_windows,
            ..
        } = own.settings(self.plan);
        let gamma = self.plan.privacy.grid().gamma();
        self.train(Private {
            unit,
            clip,
            noise_multiplier,
            expected_batch,
            steps_an_epoch,
            max_windows,
            mechanism: &mut Opened {
                own,
                fellows,
                gamma,
            },
        })
    }

    pub(super) fn train(self, private: Private<'_>) -> Result<(), Error> {
        let Self {
            case,
            corpus,
            plan,
            sink,
            ..
        } = self;
        let options = TrainOptions {
            method: plan.method,
            training: plan.training.clone(),
            seed: 0,
            schedule: 0.0..1.0,
        };
        let mut watch = Watch {
            inner: private.mechanism,
            sink,
            sampled: VecDeque::new(),
        };
        let private = Private {
            mechanism: &mut watch,
            ..private
        };
        let hooks = TrainHooks {
            private: Some(private),
            ..TrainHooks::default()
        };
        let stop = Stop::default();
        training::train(&case.material, corpus, &case.tags, &options, hooks, &stop)?;
        Ok(())
    }
}

/// The mechanism, and an ear at what it lets out.
#[derive(Debug)]
struct Watch<'a> {
    inner: &'a mut dyn Mechanism,
    sink: &'a mut dyn Sink,
    /// Of the steps to come: an epoch's are drawn together.
    sampled: VecDeque<Vec<usize>>,
}

impl Mechanism for Watch<'_> {
    fn sample(&mut self, units: usize) -> Vec<usize> {
        let sampled = self.inner.sample(units);
        self.sampled.push_back(sampled.clone());
        sampled
    }

    fn choose(&mut self, windows: usize, count: usize) -> Vec<usize> {
        self.inner.choose(windows, count)
    }

    fn release(&mut self, sum: &mut [f64]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let sampled = self.sampled.pop_front().unwrap_or_default();
        let before = sum.to_vec();
        self.inner.release(sum)?;
        self.sink.released(sum);
        self.sink.inside(&Step {
            sampled: &sampled,
            sum: &before,
            released: sum,
        });
        Ok(())
    }
}

/// Gives `sink` the clipped gradient of each unit of the corpus alone, in their order.
pub(super) fn gradients(
    case: &WorstCase,
    corpus: &[Sentence],
    plan: &Plan,
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    let once = super::worst_case::attacked(plan, 1);
    clipped(
        case,
        corpus,
        (&once, Clip::from_privacy(&plan.privacy)),
        sink,
    )
}

/// The same with a clip of its own, by the method of `plan`.
pub(super) fn clipped(
    case: &WorstCase,
    corpus: &[Sentence],
    (plan, clip): (&Plan, Clip),
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    let units = fedner_model::count_units(plan.privacy.unit, corpus)?;
    let mut each = Each { next: 0 };
    let private = Private {
        unit: plan.privacy.unit,
        clip,
        noise_multiplier: 0.0,
        expected_batch: 1.0,
        steps_an_epoch: units,
        max_windows: plan.max_windows().unwrap_or(usize::MAX),
        mechanism: &mut each,
    };
    let watched = Watched {
        case,
        corpus,
        plan,
        units: units as u32,
        sink,
    };
    watched.train(private)
}

/// One unit after another, and no noise.
#[derive(Debug)]
struct Each {
    next: usize,
}

impl Mechanism for Each {
    fn sample(&mut self, _: usize) -> Vec<usize> {
        self.next += 1;
        vec![self.next - 1]
    }

    fn choose(&mut self, _: usize, count: usize) -> Vec<usize> {
        (0..count).collect()
    }

    fn release(&mut self, _: &mut [f64]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(())
    }
}
