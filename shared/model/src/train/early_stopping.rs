//! Early stopping: training ends when held-out text no longer gains (Prechelt 1998, "Early stopping
//! – but when?"; patience as Keras and transformers have it).

use std::fmt;

use fedner_shared::digest::Digest;

use super::state::State;
use crate::Error;

/// When to stop, and which epoch's weights to keep.
pub struct EarlyStopping<'a> {
    /// Epochs in a row without a better score after which training ends; at least one.
    pub patience: u32,
    /// Names the held-out text among others.
    pub held_out: Digest,
    /// The score of weights, in the order of the method's manifest: higher is better.
    pub score: &'a mut dyn FnMut(&[f32]) -> Result<f64, Error>,
}

impl fmt::Debug for EarlyStopping<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EarlyStopping")
            .field("patience", &self.patience)
            .field("held_out", &self.held_out)
            .finish_non_exhaustive()
    }
}

/// The score of each epoch so far, and the weights of the first that had the best.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Scored {
    pub(super) scores: Vec<f64>,
    pub(super) weights: Vec<f32>,
}

impl Scored {
    /// Counted from 0.
    pub(super) fn best(&self) -> Option<usize> {
        let better = |best: usize, epoch: usize| {
            // A score that is no number is worse than any.
            let worse = self.scores[best].is_nan() || self.scores[epoch] > self.scores[best];
            if worse { epoch } else { best }
        };
        (0..self.scores.len()).reduce(better)
    }

    /// Scores the weights of an epoch; whether training goes on.
    pub(super) fn add(
        &mut self,
        early: &mut EarlyStopping<'_>,
        weights: Vec<f32>,
    ) -> Result<bool, Error> {
        let epoch = self.scores.len();
        let score = (early.score)(&weights)?;
        tracing::info!("epoch {}: score on held-out text {score:.4}", epoch + 1);
        self.scores.push(score);
        let best = self.best().unwrap_or(epoch);
        if best == epoch {
            self.weights = weights;
        }
        Ok(epoch - best < early.patience.max(1) as usize)
    }

    pub(super) fn save(&self, state: &mut State) {
        state.put_number("scores", self.scores.len() as u64);
        for (epoch, score) in self.scores.iter().enumerate() {
            state.put_number(format!("score.{epoch}"), score.to_bits());
        }
        state.put("best", &self.weights);
    }

    pub(super) fn restore(state: &State) -> Result<Self, Error> {
        let scores = (0..state.number("scores")?)
            .map(|epoch| Ok(f64::from_bits(state.number(&format!("score.{epoch}"))?)))
            .collect::<Result<_, Error>>()?;
        let weights = state.tensors.get("best").cloned().unwrap_or_default();
        Ok(Self { scores, weights })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(patience: u32, scores: &[f64]) -> (Scored, usize) {
        let mut scored = Scored::default();
        let mut left = scores.iter().copied();
        let mut score = |_: &[f32]| Ok(left.next().expect("a score"));
        let mut early = EarlyStopping {
            patience,
            held_out: Digest::of(b"held out"),
            score: &mut score,
        };
        for epoch in 0..scores.len() {
            let weights = vec![epoch as f32];
            if !scored.add(&mut early, weights).expect("scored") {
                break;
            }
        }
        let epochs = scored.scores.len();
        (scored, epochs)
    }

    #[test]
    fn training_ends_after_as_many_epochs_without_gain() {
        let scores = [0.3, 0.5, 0.4, 0.5, 0.6, 0.7];
        for (patience, epochs, best) in [(0, 3, 1), (1, 3, 1), (2, 4, 1), (3, 6, 5)] {
            let (scored, ended) = course(patience, &scores);
            assert_eq!((ended, scored.best()), (epochs, Some(best)), "{patience}");
            assert_eq!(scored.weights, [best as f32]);
        }
        let (scored, ended) = course(2, &[f64::NAN, 0.1, f64::NAN, 0.1]);
        assert_eq!((ended, scored.best()), (4, Some(1)));
    }

    #[test]
    fn scores_survive_the_training_s_file() {
        let (scored, _) = course(9, &[0.1, f64::MIN_POSITIVE, 0.3]);
        let mut state = State::default();
        scored.save(&mut state);
        assert_eq!(Scored::restore(&state).expect("scores"), scored);
    }
}
