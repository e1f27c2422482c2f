//! What can go wrong with a model.

use std::io;
use std::path::PathBuf;

use fedner_shared::bert::{HeadShape, Unfit};
use fedner_shared::checkpoint;
use fedner_shared::plan::{Method, Unit};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    #[error(transparent)]
    Device(#[from] crate::device::Error),
    #[error("the tokenizer cannot be read: {0}")]
    Tokenizer(String),
    #[error("the tokenizer cannot encode `{words}`: {reason}")]
    Encode { words: String, reason: String },
    #[error("the tokenizer gives the id {found}: the model has {vocabulary} word pieces")]
    Vocabulary { found: u32, vocabulary: usize },
    #[error("a sentence has {found} sub-tokens: the model reads at most {expected}")]
    Length { expected: usize, found: usize },
    #[error("windows of {found} sub-tokens have no room for words: expected at least {least}")]
    Window { found: usize, least: usize },
    #[error("the model's head has {found} tags: expected {expected}")]
    Tags { expected: usize, found: usize },
    #[error("the model has no tagging head")]
    NoHead,
    #[error(
        "the model was not made ready for the method {method}: expected adapters only with lora and ffa-lora"
    )]
    Adapters { method: Method },
    #[error("the model has a head {found}: expected one {expected}")]
    Head {
        expected: HeadShape,
        found: HeadShape,
    },
    #[error("the head has a CRF, whose gradient is not clipped by unit: expected none")]
    PrivateCrf,
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error("the corpus has no sentence to train on")]
    EmptyCorpus,
    #[error("the corpus has the tag `{tag}` (line {line}): expected one of {}", expected.join(", "))]
    UnknownTag {
        tag: String,
        line: usize,
        expected: Vec<String>,
    },
    #[error("the sentence at line {line} belongs to no {unit}: expected one for every sentence")]
    NoUnit { unit: Unit, line: usize },
    #[error("the gradients' sum could not be released: {0}")]
    Mechanism(String),
    #[error("threads cannot be started: {0}")]
    Threads(String),
    #[error("the loss is not finite at step {step}: training diverged")]
    NotFinite { step: usize },
    #[error("a tensor could not be read: {0}")]
    Tensor(String),
    #[error("{} cannot be kept: {source}", file.display())]
    Keep { file: PathBuf, source: io::Error },
    #[error("{} is of another training: the model, the text or the settings differ", file.display())]
    OtherTraining { file: PathBuf },
    #[error("stopped at step {step} of {steps}")]
    Stopped { step: usize, steps: usize },
}
