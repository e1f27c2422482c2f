//! Reading the institution's text.

use std::path::{Path, PathBuf};

use fedner_model::Sentence;
use fedner_model::corpus::{self, Corpus, Reader};
use fedner_shared::refusal::{Code, Refusal};

use super::error::Error;

/// The sentences of several files.
#[derive(Debug, Default)]
pub struct Corpora {
    pub sentences: Vec<Sentence>,
    /// Each file, and how many sentences there are up to its end.
    files: Vec<(String, usize)>,
}

impl Corpora {
    /// The file of a sentence.
    pub fn file_of(&self, sentence: usize) -> &str {
        let file = self.files.iter().find(|(_, end)| sentence < *end);
        file.map_or("", |(name, _)| name)
    }
}

/// The sentences of all files together, their types within `labels`.
pub fn read_corpora(
    files: &[PathBuf],
    labels: &[String],
    reader: Reader,
) -> Result<Vec<Sentence>, Error> {
    let annotated = reader.annotated().clone();
    read_checked(files, reader, |file, corpus| {
        let expected = annotated.among(labels, file);
        let absent = corpus.check_labels(labels)?;
        for label in absent.iter().filter(|label| expected.contains(label)) {
            tracing::warn!("{} has no entity of the type {label}", corpus.name);
        }
        Ok(())
    })
    .map(|corpora| corpora.sentences)
}

/// The sentences of all files, whatever their types.
pub fn read_sentences(files: &[PathBuf], reader: Reader) -> Result<Corpora, Error> {
    read_checked(files, reader, |_, _| Ok(()))
}

fn read_checked(
    files: &[PathBuf],
    mut reader: Reader,
    check: impl Fn(&Path, &Corpus) -> Result<(), corpus::Error>,
) -> Result<Corpora, Error> {
    let mut corpora = Corpora::default();
    for file in files {
        let corpus = reader.corpus(file)?;
        for notice in corpus.summary.notices() {
            tracing::warn!("{}: {notice}", corpus.name);
        }
        check(file, &corpus)?;
        corpora.sentences.extend(corpus.sentences);
        let end = corpora.sentences.len();
        corpora.files.push((corpus.name, end));
    }
    if corpora.sentences.is_empty() {
        let message = format!(
            "{} files have no sentence: expected at least one",
            files.len()
        );
        return Err(Refusal::new(Code::CorpusEmpty, message).into());
    }
    Ok(corpora)
}
