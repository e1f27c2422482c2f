//! How far a training has come, for whoever looks on.

use std::ops::ControlFlow;

/// What a training is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Frozen layers run over the corpus, once: with the method `head` the whole encoder.
    Features,
    Training,
}

/// How far a training has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    pub stage: Stage,
    /// Counted from 0.
    pub epoch: u32,
    /// Steps of this stage done so far.
    pub step: usize,
    /// Steps of this stage in all.
    pub steps: usize,
    /// The mean cross-entropy of the step just done; 0 while features are made.
    pub loss: f32,
    pub learning_rate: f64,
    /// Sentences in the step just done.
    pub sentences: usize,
}

/// Is told of every step, and may stop the training.
pub trait Observer {
    fn step(&mut self, progress: Progress) -> ControlFlow<()>;
}

impl<F: FnMut(Progress) -> ControlFlow<()>> Observer for F {
    fn step(&mut self, progress: Progress) -> ControlFlow<()> {
        self(progress)
    }
}
