//! Reading a corpus from beginning to end, one sentence after another.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::lines::Lines;
use super::scheme::{self, Detector};
use super::{
    Corpus, Error, Fault, Format, InvalidTags, Problem, Scheme, Sentence, brat, conll, json,
};

/// How to read; what is not given is found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    pub invalid_tags: InvalidTags,
}

/// What a reader hands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    Sentence(Sentence),
    Problem(Problem),
}

/// What is known of a file once it is read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    pub format: Format,
    /// How the file writes its tags; the sentences have IOB2 in any case.
    pub scheme: Scheme,
    /// Columns a line; 0 in other formats and in an empty file.
    pub columns: usize,
    /// Each entity type, and where it first stands.
    pub types: BTreeMap<String, Place>,
    /// Tag sequences that the scheme does not allow; 0 where nothing was repaired.
    pub repaired: usize,
    /// The first of them.
    pub first_repaired: Option<Problem>,
    /// Words cut in two because an entity begins or ends inside them.
    pub split_words: usize,
    /// What was passed over and how often: keys of JSON records that mean nothing here, and BRAT
    /// annotations other than entities.
    pub ignored: BTreeMap<String, usize>,
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: String,
    pub line: usize,
}

/// Reads files. Documents are numbered through all files that one reader reads, and those of one
/// name are one document.
#[derive(Debug, Default)]
pub struct Reader {
    options: ReadOptions,
    documents: Documents,
}

impl Reader {
    pub fn new(options: ReadOptions) -> Self {
        Self {
            options,
            documents: Documents::default(),
        }
    }

    /// Reads a file, or a folder of BRAT files, and hands on each sentence and each problem as it
    /// comes. A malformed line is left out of its sentence, a malformed record as a whole.
    ///
    /// Fails where the file cannot be read at all.
    pub fn stream(&mut self, path: &Path, sink: &mut dyn FnMut(Item)) -> Result<Summary, Error> {
        let name = path.display().to_string();
        let failed = |source| Error::Read {
            name: name.clone(),
            source,
        };
        let brat = match self.options.format {
            Some(format) => format == Format::Brat,
            None => Format::is_brat(path),
        };
        if brat {
            return self.stream_with(&name, sink, |reading| {
                brat::read(path, reading).map(|()| Format::Brat)
            });
        }
        let file = File::open(path).map_err(failed)?;
        self.stream_lines(&name, BufReader::with_capacity(1 << 16, file), sink)
    }

    /// Reads lines that are in memory or come from elsewhere; `name` is what problems call them.
    pub fn stream_lines(
        &mut self,
        name: &str,
        input: impl BufRead,
        sink: &mut dyn FnMut(Item),
    ) -> Result<Summary, Error> {
        let forced = self.options.format;
        self.stream_with(name, sink, |reading| {
            lines(input, forced, reading).map_err(|source| Error::Read {
                name: name.to_owned(),
                source,
            })
        })
    }

    /// The whole of a file. One problem, and nothing is returned.
    pub fn corpus(&mut self, path: &Path) -> Result<Corpus, Error> {
        let name = path.display().to_string();
        Corpus::collect(&name, |sink| self.stream(path, sink))
    }

    fn stream_with(
        &mut self,
        name: &str,
        sink: &mut dyn FnMut(Item),
        read: impl FnOnce(&mut Reading) -> Result<Format, Error>,
    ) -> Result<Summary, Error> {
        let mut reading = Reading {
            file: name.to_owned(),
            documents: &mut self.documents,
            detector: Detector::new(self.options.scheme),
            summary: Summary::default(),
            sink,
        };
        reading.summary.format = read(&mut reading)?;
        Ok(reading.finish(self.options.invalid_tags))
    }
}

fn lines(
    input: impl BufRead,
    forced: Option<Format>,
    reading: &mut Reading,
) -> Result<Format, std::io::Error> {
    let mut lines = Lines::new(input);
    let mut parser = forced.map(Parser::of);
    while let Some((number, line)) = lines.next()? {
        let outcome = match line {
            Err(fault) => Err(fault),
            Ok(line) if parser.is_none() && line.trim().is_empty() => continue,
            Ok(line) => parser
                .get_or_insert_with(|| Parser::of(Format::of_line(line)))
                .line(number, line, reading),
        };
        if let Err(fault) = outcome {
            reading.problem(number, &fault);
        }
    }
    let parser = parser.unwrap_or(Parser::Conll(conll::Parser::default()));
    Ok(parser.finish(reading))
}

/// The parser of a format of lines.
enum Parser {
    Conll(conll::Parser),
    Json(json::Parser),
}

impl Parser {
    fn of(format: Format) -> Self {
        match format {
            Format::Conll | Format::Brat => Self::Conll(conll::Parser::default()),
            Format::JsonTokens => Self::Json(json::Parser::new(json::Content::Tokens)),
            Format::JsonText => Self::Json(json::Parser::new(json::Content::Text)),
        }
    }

    fn line(&mut self, number: usize, line: &str, reading: &mut Reading) -> Result<(), Fault> {
        match self {
            Self::Conll(parser) => parser.line(number, line, reading),
            Self::Json(parser) => parser.line(number, line, reading),
        }
    }

    fn finish(self, reading: &mut Reading) -> Format {
        match self {
            Self::Conll(parser) => parser.finish(reading),
            Self::Json(parser) => parser.format(),
        }
    }
}

/// A reading in progress.
pub(super) struct Reading<'a> {
    /// The file being read, as problems call it.
    pub(super) file: String,
    pub(super) documents: &'a mut Documents,
    pub(super) summary: Summary,
    detector: Detector,
    sink: &'a mut dyn FnMut(Item),
}

impl Reading<'_> {
    pub(super) fn problem(&mut self, line: usize, fault: &Fault) {
        (self.sink)(Item::Problem(Problem::new(&self.file, line, fault)));
    }

    /// Hands on a sentence whose tags are as they were written; `line` says in which line that of
    /// a word stands.
    pub(super) fn written(&mut self, mut sentence: Sentence, line: impl Fn(usize) -> usize) {
        self.detector.observe(&sentence.tags, &line);
        scheme::to_iob2(&mut sentence.tags);
        self.converted(sentence, line);
    }

    /// Hands on a sentence in IOB2.
    pub(super) fn converted(&mut self, sentence: Sentence, line: impl Fn(usize) -> usize) {
        for (index, tag) in sentence.tags.iter().enumerate() {
            let Some(label) = tag.strip_prefix("B-") else {
                continue;
            };
            if !self.summary.types.contains_key(label) {
                let place = Place {
                    file: self.file.clone(),
                    line: line(index),
                };
                self.summary.types.insert(label.to_owned(), place);
            }
        }
        (self.sink)(Item::Sentence(sentence));
    }

    fn finish(mut self, invalid_tags: InvalidTags) -> Summary {
        self.summary.scheme = self.detector.scheme();
        let invalid = self.detector.invalid(&self.file);
        match invalid_tags {
            InvalidTags::Repair => {
                self.summary.repaired = invalid.count;
                self.summary.first_repaired = invalid.first.into_iter().next();
            }
            InvalidTags::Refuse => {
                for problem in invalid.first {
                    (self.sink)(Item::Problem(problem));
                }
            }
        }
        self.summary
    }
}

impl Summary {
    /// What was done to the file's contents, or left out of them, for the reader to know.
    pub fn notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        if let Some(first) = &self.first_repaired {
            let count = self.repaired;
            notices.push(format!(
                "invalid tag sequences repaired: {count}, the first: {first}"
            ));
        }
        if self.scheme == Scheme::Iob1 {
            notices.push("the tags were read as IOB1 and rewritten as IOB2".to_owned());
        }
        if self.split_words > 0 {
            notices.push(format!(
                "words cut where an entity begins or ends inside them: {}",
                self.split_words
            ));
        }
        for (what, count) in &self.ignored {
            notices.push(format!("passed over {count} times: {what}"));
        }
        notices
    }
}

/// Documents by number.
#[derive(Debug, Default)]
pub(super) struct Documents {
    count: u32,
    named: HashMap<String, u32>,
}

impl Documents {
    /// A document that nothing names.
    pub(super) fn unnamed(&mut self) -> u32 {
        self.count += 1;
        self.count - 1
    }

    pub(super) fn named(&mut self, name: &str) -> u32 {
        if let Some(number) = self.named.get(name) {
            return *number;
        }
        let number = self.unnamed();
        self.named.insert(name.to_owned(), number);
        number
    }
}
