//! Annotated text: sentences of words, each word with an IOB2 tag.
//!
//! | format | found by |
//! |---|---|
//! | CoNLL columns | anything else |
//! | CSV | a first line that names the columns, with commas or semicolons between them |
//! | JSON with `tokens` and `ner_tags` | a first line that begins as a JSON object |
//! | JSON with `text` and entities, as annotation tools export it | the same, with the key `text` |
//! | BRAT | a folder, an `.ann` file, a `.txt` file with an `.ann` file beside it |
//! | XML of `BioC`, i2b2 and n2c2 | a first line that begins an XML file |
//! | `PubTator` | a first line such as `1234567\|t\|Title` |
//!
//! Plain texts are split into words and sentences as [`predict`](crate::predict_text) splits
//! them. An entity that begins or ends inside a word is widened to the whole word.

#[macro_use]
mod choices;

mod annotated;
mod brat;
mod bytes;
mod conll;
mod csv;
mod detector;
mod escape;
mod fault;
mod format;
mod formats;
mod inspect;
mod json;
mod lines;
mod mention;
mod offsets;
mod options;
mod pubtator;
mod read;
mod reading;
mod shape;
mod text;
mod tools;
mod write;
mod xml;

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

pub use annotated::Annotated;
pub use bytes::decode;
pub use escape::escaped;
pub use fault::{Fault, NOT_ANNOTATED, Problem, TAG_SEQUENCE};
pub use fedner_shared::scheme::Scheme;
pub use format::Format;
pub use inspect::{
    Duplicate, FileInspection, InspectOptions, Inspection, LabelCheck, Lengths, Shared, SubTokens,
    UnknownLabel, inspect,
};
pub use options::{Columns, Discontinuous, InvalidTags, Offsets, Overlaps, ReadOptions, renaming};
pub use read::Reader;
pub use reading::{Item, Place, Summary};
pub use shape::{Shape, Shapes};
pub use write::{to_brat, to_conll, to_json_text, to_json_tokens};

/// A sentence of a corpus.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sentence {
    pub words: Vec<String>,
    /// One IOB2 tag a word.
    pub tags: Vec<String>,
    /// Where each word stands, in characters from the beginning of its text: the value of `text`
    /// or the `.txt` file, or, where the format has words only, the words joined by single blanks.
    pub offsets: Vec<Range<usize>>,
    /// Words at which an entity begins whose offsets in the file are not those of its words.
    pub inexact: Vec<usize>,
    /// Types of entities of the file that have no tags here: another entity has their words.
    pub lost: Vec<String>,
    /// The document it is of, counted from 0 through all files of one [`Reader`]; `None` before
    /// the first document mark.
    pub document: Option<u32>,
    /// Whom the text is about.
    pub person: Option<String>,
    /// The entity types that its file annotates; `None` where it annotates all that a model knows.
    pub annotated: Option<Arc<[String]>>,
    /// The line of its first word, counted from 1.
    pub line: usize,
}

impl Sentence {
    /// Whether the file of the sentence annotates what a tag says; `O` says nothing.
    pub fn annotates(&self, tag: &str) -> bool {
        match (&self.annotated, tag.split_once('-')) {
            (Some(annotated), Some((_, label))) => annotated.iter().any(|known| known == label),
            (None, _) | (_, None) => true,
        }
    }
}

/// The sentences of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpus {
    /// The file, as errors name it.
    pub name: String,
    pub sentences: Vec<Sentence>,
    pub summary: Summary,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the corpus {name} cannot be read: {source}")]
    Read { name: String, source: io::Error },
    #[error("the words of a sentence cannot be tokenised: {0}")]
    Tokenize(Box<crate::Error>),
    #[error("{problem}{}", and_others(*others))]
    Line { problem: Problem, others: usize },
    #[error(
        "{file}, line {line}: the corpus has entities of {}, which the plan lacks: expected {}",
        found.join(", "), expected.join(", ")
    )]
    Labels {
        file: String,
        /// The first line with such an entity.
        line: usize,
        found: Vec<String>,
        expected: Vec<String>,
    },
}

fn and_others(count: usize) -> String {
    match count {
        0 => String::new(),
        count => format!(" (and {count} more problems: see `data inspect`)"),
    }
}

impl Corpus {
    /// Reads a file, whatever its format. One problem, and nothing is returned.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Reader::default().corpus(path)
    }

    /// Reads lines in memory; `name` is what errors call them.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, Error> {
        Self::collect(name, |sink| {
            Reader::default().stream_lines(name, bytes, sink)
        })
    }

    fn collect(
        name: &str,
        read: impl FnOnce(&mut dyn FnMut(Item)) -> Result<Summary, Error>,
    ) -> Result<Self, Error> {
        let (mut sentences, mut first, mut problems) = (Vec::new(), None, 0);
        let mut sink = |item| match item {
            Item::Sentence(sentence) => sentences.push(sentence),
            Item::Problem(problem) => {
                problems += 1;
                first.get_or_insert(problem);
            }
        };
        let summary = read(&mut sink)?;
        if let Some(problem) = first {
            let others = problems - 1;
            return Err(Error::Line { problem, others });
        }
        Ok(Self {
            name: name.to_owned(),
            sentences,
            summary,
        })
    }

    /// The entity types, sorted.
    pub fn labels(&self) -> BTreeSet<&str> {
        self.summary.types.keys().map(String::as_str).collect()
    }

    /// Compares the entity types with those of a plan. A type that the plan lacks is an error;
    /// those of the plan that the corpus lacks are returned, for a warning.
    pub fn check_labels(&self, plan: &[String]) -> Result<Vec<String>, Error> {
        let types = &self.summary.types;
        let unknown: Vec<_> = types
            .iter()
            .filter(|(label, _)| !plan.contains(label))
            .collect();
        if let Some((_, place)) = unknown.first() {
            return Err(Error::Labels {
                file: place.file.clone(),
                line: place.line,
                found: unknown.iter().map(|(label, _)| (*label).clone()).collect(),
                expected: plan.to_vec(),
            });
        }
        let absent = plan.iter().filter(|label| !types.contains_key(*label));
        Ok(absent.cloned().collect())
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

/// Where words stand once they are joined by single blanks, in characters.
fn joined(words: &[String]) -> Vec<Range<usize>> {
    let mut start = 0;
    let place = |word: &String| {
        let place = start..start + word.chars().count();
        start = place.end + 1;
        place
    };
    words.iter().map(place).collect()
}
