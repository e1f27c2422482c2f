//! What is sound of an institution's text: what the daemon trains and evaluates on.
//!
//! What is wrong with a sentence leaves out that sentence, and nothing else. So no fault of one
//! person's text ends a training, or changes what others add to it, and the coordinator sees none. The
//! institution's own people see each: here in the log, by file and line, and with the text by
//! `fedner-client check` and `data inspect`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fedner_model::Sentence;
use fedner_model::corpus::{Item, ReadOptions, Reader};
use fedner_shared::plan::{Plan, Unit};
use fedner_shared::refusal::{Code, Refusal};

use crate::training::{Error, code_of_problem};

/// Lines of a file that are named in the log, at most.
const NAMED: usize = 20;

/// The sentences of all files that can be used for the plan. Where the plan protects nothing, a fault
/// is an error as elsewhere.
pub fn sound_sentences(
    files: &[PathBuf],
    plan: &Plan,
    options: &ReadOptions,
) -> Result<Vec<Sentence>, Error> {
    if plan.privacy.unit == Unit::None {
        return crate::training::read_corpora(files, &plan.labels, options);
    }
    let (mut reader, mut sentences) = (Reader::new(options.clone()), Vec::new());
    for file in files {
        let mut faults = Faults::default();
        let mut sink = |item| match item {
            Item::Problem(problem) => faults.add(code_of_problem(&problem).as_str(), problem.line),
            Item::Sentence(sentence) => match fault(&sentence, plan) {
                Some(fault) => faults.add(fault, sentence.line),
                None => sentences.push(sentence),
            },
        };
        reader.stream(file, &mut sink)?;
        faults.tell(file);
    }
    Ok(sentences)
}

/// Why a sentence cannot be used.
fn fault(sentence: &Sentence, plan: &Plan) -> Option<&'static str> {
    let unit = match plan.privacy.unit {
        Unit::Person => sentence.person.is_some(),
        Unit::Document => sentence.document.is_some(),
        Unit::Sentence | Unit::Institution | Unit::None => true,
    };
    if !unit {
        return Some("names no person or document, as the plan's unit needs it");
    }
    let known = |tag: &String| {
        let label = tag.split_once('-').map(|(_, label)| label);
        label.is_none_or(|label| plan.labels.iter().any(|known| known == label))
    };
    (!sentence.tags.iter().all(known)).then_some("has an entity type that the plan lacks")
}

/// What is wrong, by kind, with the lines where it stands. Never the text.
#[derive(Debug, Default)]
struct Faults(BTreeMap<&'static str, (usize, Vec<usize>)>);

impl Faults {
    fn add(&mut self, what: &'static str, line: usize) {
        let (count, lines) = self.0.entry(what).or_default();
        *count += 1;
        if lines.len() < NAMED {
            lines.push(line);
        }
    }

    fn tell(&self, file: &Path) {
        for (what, (count, lines)) in &self.0 {
            tracing::warn!(
                file = %file.display(),
                ?lines,
                "left out of training {count} times: {what}"
            );
        }
    }
}

/// Whether all files can be opened.
pub fn check_files(files: &[PathBuf]) -> Result<(), Refusal> {
    for file in files {
        let opened = if file.is_dir() {
            std::fs::read_dir(file).map(drop)
        } else {
            std::fs::File::open(file).map(drop)
        };
        if let Err(error) = opened {
            let message = format!("{} cannot be opened: {error}", file.display());
            return Err(Refusal::new(Code::CorpusInvalid, message));
        }
    }
    Ok(())
}
