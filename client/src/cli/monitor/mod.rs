//! `monitor`.

mod profile;

use std::fs;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use fedner_host::output::table;
use fedner_host::progress::Progress;
use fedner_shared::digest::Digest;
use fedner_shared::refusal::{Code, Refusal};
use serde::Serialize;

use self::profile::{Band, Moved, Profile};
use super::Context;
use super::predict::{Source, SourceArguments, TaggingArguments};
use crate::training::Error;

/// Tell how far text without annotations has moved from the text of a kept profile
///
/// A profile counts predicted types, entity scores, unknown sub-tokens and sentence lengths. It holds no
/// text. Keep one of the text that the model was trained on, and compare later text with it. Nothing leaves
/// the machine.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    tagging: TaggingArguments,
    #[command(flatten)]
    source: SourceArguments,
    /// Compare with the profile in this file
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
    /// Keep the profile of this text in a new file
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// End with status 1 where any feature has moved so far
    #[arg(long, value_enum, requires = "reference")]
    fail_from: Option<FailFrom>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum FailFrom {
    /// An index of 0.1 or more
    Moderate,
    /// An index above 0.25
    Large,
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    profile: Profile,
    /// Absent without a reference.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    moved: Vec<Moved>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let tagging = arguments.tagging.open()?;
    let weights = tagging.material.checkpoint.to_safetensors();
    let weights = Digest::of(
        &weights
            .map_err(fedner_model::Error::from)
            .map_err(Error::Model)?,
    );
    let reference = match &arguments.reference {
        Some(file) => Some(kept(file, &weights.to_string())?),
        None => None,
    };
    let tagger = tagging.tagger();
    let mut source = Source::open(&arguments.source)?;
    let mut profile = Profile::new(weights.to_string());
    let mut shown = Progress::new("reading");
    let mut done = 0;
    while let Some(texts) = source.next_group()? {
        let contents: Vec<&str> = texts.iter().map(|text| text.contents.as_str()).collect();
        let mut observer = |_, _| ControlFlow::Continue(());
        let found = tagger.predict(&contents, &mut observer);
        for prediction in found.map_err(Error::Model)? {
            let added = profile.add(&prediction, &tagging.material.tokenizer, tagging.max_tokens);
            added.map_err(Error::Model)?;
        }
        done += texts.len();
        if let Some(all) = source.known_length() {
            shown.at(done, all, String::new);
        }
    }
    drop(shown);
    if let Some(refusal) = source.unread() {
        return Err(refusal.into());
    }
    if let Some(file) = &arguments.save {
        save(&profile, file)?;
    }
    let moved = reference.map_or(Vec::new(), |reference| profile.moved_from(&reference));
    let worst = moved.iter().map(|moved| moved.band).max();
    let report = Report { profile, moved };
    context.output.data(&report, text)?;
    let least = arguments.fail_from.map(|from| match from {
        FailFrom::Moderate => Band::Moderate,
        FailFrom::Large => Band::Large,
    });
    let failed = least
        .zip(worst)
        .is_some_and(|(least, worst)| worst >= least);
    Ok(ExitCode::from(u8::from(failed)))
}

/// The profile in a file, if it is of this model.
fn kept(file: &Path, model: &str) -> anyhow::Result<Profile> {
    let invalid = |message: String| {
        Refusal::new(
            Code::RequestInvalid,
            format!("{}: {message}", file.display()),
        )
    };
    let text = fs::read_to_string(file).map_err(|error| invalid(error.to_string()))?;
    let profile: Profile =
        serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
    if !profile.is_sound() {
        return Err(invalid(
            "it is no profile of this version: make it again with --save".to_owned(),
        )
        .into());
    }
    if profile.model != model {
        let message = "it was made with another model: make it again with --save";
        return Err(invalid(message.to_owned()).into());
    }
    Ok(profile)
}

fn save(profile: &Profile, file: &Path) -> anyhow::Result<()> {
    let text = serde_json::to_string(profile)?;
    let written = fs::File::create_new(file).and_then(|mut new| new.write_all(text.as_bytes()));
    written.map_err(|error| {
        let message = format!(
            "{}: {error}: expected the name of a new file",
            file.display()
        );
        Refusal::new(Code::RequestInvalid, message).into()
    })
}

fn text(report: &Report) -> String {
    let (types, unknown) = report.profile.shares();
    let mut lines = vec![format!(
        "{} sentences, {} words, {:.2} % of the sub-tokens unknown",
        report.profile.sentences,
        report.profile.words,
        unknown * 100.0
    )];
    let rows = types
        .iter()
        .map(|(label, share)| [(*label).to_owned(), format!("{:.2} %", share * 100.0)]);
    lines.push(String::new());
    lines.push(table(["type", "words"], &[1], rows));
    if !report.moved.is_empty() {
        let rows = report.moved.iter().map(|moved| {
            [
                moved.feature.to_owned(),
                format!("{:.4}", moved.psi),
                moved.band.as_str().to_owned(),
            ]
        });
        lines.push(String::new());
        lines.push(table(["since the reference", "PSI", "moved"], &[1], rows));
    }
    lines.join("\n")
}
