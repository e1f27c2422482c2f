//! BERT for token classification: corpora, tokenising, training, evaluation and prediction.
//!
//! A [`Corpus`] is read from annotated text, a [`Tokenizer`] cuts its words into sub-tokens, and a
//! [`Model`] (a BERT encoder and a linear tagging head, Devlin et al. 2019, with a conditional random
//! field or without) tags each word by its first sub-token. [`Trainer::run`] returns new weights in the order of
//! the plan's manifest; nothing in this crate knows of rounds, privacy or the network.

#![cfg_attr(
    feature = "libtorch",
    allow(
        deprecated,
        reason = "burn marks its libtorch backend deprecated; it is an optional device"
    )
)]

mod bert;
pub mod corpus;
mod crf;
pub mod device;
mod error;
mod evaluate;
mod inference;
mod kernels;
mod model;
mod predict;
mod split;
mod tagged;
mod tagger;
mod tokenize;
mod train;
mod words;

pub use corpus::{Corpus, Sentence};
pub use error::Error;
pub use evaluate::{
    Averages, Confused, Confusion, Evaluation, Example, Frequent, Loss, Mistake, Named, TagCounts,
    TokenReport, evaluate, losses,
};
pub use model::Model;
pub use predict::{Entity, Prediction, brat, conll, json_line, predict_text};
pub use tagged::Tagged;
pub use tagger::Tagger;
pub use tokenize::{Encoded, Tokenizer};
pub use train::{
    Clip, EarlyStopping, KeptFiles, Mechanism, Observer, Parent, Private, Progress, Stage,
    TrainHooks, TrainOptions, Trained, Trainer, count_units, number_units,
};
