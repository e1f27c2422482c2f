//! Annotated text: sentences of words, each word with an IOB2 tag.

mod conll;
mod inspect;
mod scheme;

use std::collections::BTreeSet;
use std::path::Path;
use std::{fs, io};

pub use inspect::{Inspection, Lengths, inspect};
pub use scheme::Scheme;

use serde::Serialize;

/// A sentence of a corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    pub words: Vec<String>,
    /// One IOB2 tag a word.
    pub tags: Vec<String>,
    /// The document it is of, counted from 0 in the file; `None` before the first document mark.
    pub document: Option<u32>,
    /// Whom the text is about.
    pub person: Option<String>,
    /// The line of its first word, counted from 1.
    pub line: usize,
}

/// The sentences of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpus {
    /// The file, as errors name it.
    pub name: String,
    pub sentences: Vec<Sentence>,
    /// How the file writes its tags; the sentences have IOB2 in any case.
    pub scheme: Scheme,
    /// Columns a line; 0 in an empty file.
    pub columns: usize,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Counted from 1.
    pub line: usize,
    pub reason: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the corpus {name} cannot be read: {source}")]
    Read { name: String, source: io::Error },
    #[error("{name}, line {}: {}", problem.line, problem.reason)]
    Line { name: String, problem: Problem },
    #[error(
        "{name}, line {line}: the corpus has entities of {}, which the plan lacks: expected {}",
        found.join(", "), expected.join(", ")
    )]
    Labels {
        name: String,
        /// The first line with such an entity.
        line: usize,
        found: Vec<String>,
        expected: Vec<String>,
    },
}

impl Corpus {
    /// Reads a file of CoNLL columns. One malformed line, and nothing is returned.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        match fs::read(path) {
            Ok(bytes) => Self::parse(&name, &bytes),
            Err(source) => Err(Error::Read { name, source }),
        }
    }

    /// Reads CoNLL columns; `name` is what errors call them.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, Error> {
        let (corpus, problems) = conll::parse(name, bytes);
        match problems.into_iter().next() {
            None => Ok(corpus),
            Some(problem) => Err(Error::Line {
                name: name.to_owned(),
                problem,
            }),
        }
    }

    /// The entity types, sorted.
    pub fn labels(&self) -> BTreeSet<&str> {
        self.sentences
            .iter()
            .flat_map(|sentence| &sentence.tags)
            .filter_map(|tag| Some(tag.split_once('-')?.1))
            .collect()
    }

    /// Compares the entity types with those of a plan. A type that the plan lacks is an error;
    /// those of the plan that the corpus lacks are returned, for a warning.
    pub fn check_labels(&self, plan: &[String]) -> Result<Vec<String>, Error> {
        let labels = self.labels();
        let unknown = |label: &str| !plan.iter().any(|known| known == label);
        let found: Vec<String> = labels
            .iter()
            .filter(|label| unknown(label))
            .map(|label| (*label).to_owned())
            .collect();
        if !found.is_empty() {
            return Err(Error::Labels {
                name: self.name.clone(),
                line: self.first_line(unknown),
                found,
                expected: plan.to_vec(),
            });
        }
        let absent = plan.iter().filter(|label| !labels.contains(label.as_str()));
        Ok(absent.cloned().collect())
    }

    /// The line of the first entity whose type fulfils `wanted`. Words of a sentence lie on
    /// consecutive lines, so the line follows from the word's position.
    fn first_line(&self, wanted: impl Fn(&str) -> bool) -> usize {
        let line = |sentence: &Sentence| {
            let position = sentence
                .tags
                .iter()
                .position(|tag| tag.split_once('-').is_some_and(|(_, label)| wanted(label)))?;
            Some(sentence.line + position)
        };
        self.sentences.iter().find_map(line).unwrap_or_default()
    }

    /// How many documents are marked.
    pub fn documents(&self) -> usize {
        let documents: BTreeSet<_> = self.sentences.iter().filter_map(|s| s.document).collect();
        documents.len()
    }

    /// How many persons are named.
    pub fn persons(&self) -> usize {
        let persons: BTreeSet<_> = self
            .sentences
            .iter()
            .filter_map(|s| s.person.as_deref())
            .collect();
        persons.len()
    }
}
