//! Which part of the run's schedule a local training is.

use std::ops::Range;

use fedner_shared::plan::Training;

use super::options::TrainOptions;

/// The learning rates of one local training, which is a part of the run's schedule.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    /// Local steps.
    pub(super) steps: usize,
    range: Range<f64>,
    training: Training,
}

impl Schedule {
    pub(super) fn new(options: &TrainOptions, steps_an_epoch: usize) -> Self {
        let training = &options.training;
        Self {
            steps: steps_an_epoch * training.local_epochs as usize,
            range: options.schedule.clone(),
            training: training.clone(),
        }
    }

    /// The learning rate of local step `step`, counted from 0, taken in the middle of the step: so
    /// neither the first nor the last is zero, however few they are.
    pub(super) fn learning_rate(&self, step: usize) -> f64 {
        let local = (step as f64 + 0.5) / self.steps as f64;
        let progress = self.range.start + (self.range.end - self.range.start) * local;
        self.training.learning_rate_at(progress)
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use fedner_shared::plan::Decay;

    use super::*;

    fn schedule(steps: usize, range: Range<f64>, warmup: f64) -> Schedule {
        Schedule {
            steps,
            range,
            training: Training {
                learning_rate: 2.0,
                warmup,
                ..Training::default()
            },
        }
    }

    /// `transformers.get_cosine_schedule_with_warmup`, taken in the middle of each step.
    #[test]
    fn a_cosine_falls_slowly_at_both_ends() {
        let mut cosine = schedule(10, 0.0..1.0, 0.2);
        cosine.training.decay = Decay::Cosine;
        let rates: Vec<f64> = (0..10).map(|step| cosine.learning_rate(step)).collect();
        assert!((rates[0] - 0.5).abs() < 1e-12 && (rates[1] - 1.5).abs() < 1e-12);
        for (step, rate) in rates.iter().enumerate().skip(2) {
            let done = (step as f64 + 0.5 - 2.0) / 8.0;
            assert!(
                (rate - (1.0 + (PI * done).cos())).abs() < 1e-12,
                "{rates:?}"
            );
        }
    }

    #[test]
    fn rounds_together_are_one_schedule() {
        let whole = schedule(100, 0.0..1.0, 0.1);
        for (round, range) in [(0, 0.0..0.25), (1, 0.25..0.5), (3, 0.75..1.0)] {
            let part = schedule(25, range, 0.1);
            for step in 0..25 {
                let expected = whole.learning_rate(25 * round + step);
                assert!((part.learning_rate(step) - expected).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn it_rises_to_the_peak_and_falls_to_zero() {
        let rates: Vec<f64> = (0..10)
            .map(|s| schedule(10, 0.0..1.0, 0.2).learning_rate(s))
            .collect();
        assert!((rates[0] - 0.5).abs() < 1e-12 && (rates[1] - 1.5).abs() < 1e-12);
        assert!((rates[2] - 1.875).abs() < 1e-12 && (rates[9] - 0.125).abs() < 1e-12);
        for warmup in [0.0, 1.0] {
            let rates = (0..3).map(|s| schedule(3, 0.0..1.0, warmup).learning_rate(s));
            assert!(rates.into_iter().all(|rate| rate > 0.0 && rate <= 2.0));
        }
    }
}
