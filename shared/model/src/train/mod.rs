//! Local training: some epochs over a corpus, from a checkpoint to new weights.

mod adamw;
mod batches;
mod cache;
mod early_stopping;
mod encoder;
pub(crate) mod examples;
mod features;
mod frozen_layers;
mod head;
mod kept_files;
mod loss;
mod observer;
mod optimizer;
mod options;
mod parent;
mod pass;
mod private;
mod private_encoder;
mod private_head;
mod schedule;
mod state;
pub(crate) mod tag_sets;
mod trainer;
mod training_loop;

pub use early_stopping::EarlyStopping;
pub use kept_files::KeptFiles;
pub use observer::{Observer, Progress, Stage};
pub use options::TrainOptions;
pub use parent::Parent;
pub use private::{Clip, Mechanism, Private, count_units, number_units};
pub use trainer::{TrainHooks, Trained, Trainer};
