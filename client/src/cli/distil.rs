//! `distil`: what a model knows, taught to one of fewer layers.

use std::process::ExitCode;

use super::{Context, train};

/// Teach what a model knows to one with fewer of its layers
///
/// The new model begins with some layers of the model, and learns the tags that the whole model would give to each
/// word of the text (Hinton, Vinyals and Dean 2015). What the text itself annotates is not read. The method of the
/// plan must train the encoder to gain much. `--private` protects the text as in any training.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The layers to begin with, counted from 0
    #[arg(long, value_name = "LAYER,...", value_delimiter = ',', required = true)]
    layers: Vec<usize>,
    #[command(flatten)]
    train: train::Arguments,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    train::run_from(context, &arguments.train, Some(&arguments.layers))
}
