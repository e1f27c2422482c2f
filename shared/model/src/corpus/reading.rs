//! What the parsers of all formats hand their sentences to.

use std::collections::{BTreeMap, HashMap};

use fedner_shared::scheme::{Scheme, is_plain_type, misplaced, plain_to_iob2, split, to_iob2};

use super::conll::layout::Layout;
use super::detector::{Detector, Invalid};
use super::options::ReadOptions;
use super::shape::Shape;
use super::{Fault, Format, InvalidTags, Problem, Sentence};

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
    pub(super) layout: Option<Layout>,
    /// Each entity type, and where it first stands.
    pub types: BTreeMap<String, Place>,
    /// Tag sequences that the scheme does not allow; 0 where nothing was repaired.
    pub repaired: usize,
    /// The first of them.
    pub first_repaired: Option<Problem>,
    /// The scheme that fits hardly worse, and how often it does not.
    pub runner_up: Option<(Scheme, usize)>,
    /// Entities that begin or end inside a word, and were widened to whole words.
    pub widened: usize,
    /// The first of them.
    pub first_widened: Option<Place>,
    /// What was done to the contents, or found in them, and how often.
    pub changed: BTreeMap<String, usize>,
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

/// A reading in progress.
pub(super) struct Reading<'a> {
    /// The file being read, as problems call it.
    pub(super) file: String,
    pub(super) documents: &'a mut Documents,
    pub(super) options: &'a ReadOptions,
    pub(super) summary: Summary,
    /// The text at hand had a byte-order mark before it.
    pub(super) marked: bool,
    detector: Detector,
    sink: &'a mut dyn FnMut(Item),
}

impl<'a> Reading<'a> {
    pub(super) fn new(
        file: &str,
        documents: &'a mut Documents,
        options: &'a ReadOptions,
        sink: &'a mut dyn FnMut(Item),
    ) -> Self {
        Self {
            file: file.to_owned(),
            documents,
            options,
            detector: Detector::new(options.scheme),
            summary: Summary::default(),
            marked: false,
            sink,
        }
    }

    pub(super) fn problem(&mut self, line: usize, fault: &Fault) {
        (self.sink)(Item::Problem(Problem::new(&self.file, line, fault)));
    }

    /// Whether this may be a tag of the file. It does not depend on other sentences: what is wrong with
    /// one is no reason to leave out another.
    pub(super) fn check_tag(&self, tag: &str) -> Result<(), Fault> {
        let fault = || Fault::of_tag(tag);
        if has_several(tag) {
            let tag = tag.to_owned();
            return Err(Fault::SeveralTags { tag });
        }
        let forced = self.options.scheme;
        match split(tag) {
            Some((_, label)) => {
                // A name of several words may have another here.
                let odd = |c: char| c.is_whitespace() || c.is_control();
                let fits = |name: &str| !name.contains(odd);
                let named = self.options.name_of(label).is_none_or(fits);
                if !named || forced == Some(Scheme::Plain) {
                    return Err(fault());
                }
            }
            None if tag == "O" => {}
            None => {
                let plain = forced.is_none_or(|forced| forced == Scheme::Plain);
                let fits = |name| is_plain_type(name);
                if !plain || !self.options.name_of(tag).is_none_or(fits) {
                    return Err(fault());
                }
            }
        }
        Ok(())
    }

    /// Counts something that was done to the contents, or found in them.
    pub(super) fn changed(&mut self, what: impl Into<String>, count: usize) {
        if count > 0 {
            *self.summary.changed.entry(what.into()).or_default() += count;
        }
    }

    /// Counts something that was passed over.
    pub(super) fn ignored(&mut self, what: impl Into<String>) {
        *self.summary.ignored.entry(what.into()).or_default() += 1;
    }

    /// Hands on a sentence whose tags are as they were written; `line` says in which line that of
    /// a word stands. One with types alone among tags with prefixes is left out.
    pub(super) fn written(&mut self, mut sentence: Sentence, line: impl Fn(usize) -> usize) {
        let alone = |tag: &String| tag != "O" && split(tag).is_none();
        let prefixed = sentence.tags.iter().any(|tag| split(tag).is_some());
        if prefixed && sentence.tags.iter().any(alone) {
            // It is in no scheme, whatever the others are in.
            let tags = sentence.tags.into_iter().enumerate();
            for (index, tag) in tags.filter(|(_, tag)| alone(tag)) {
                self.problem(line(index), &Fault::Tag { tag });
            }
            return;
        }
        self.detector.observe(&sentence.tags, &line);
        if prefixed {
            to_iob2(&mut sentence.tags);
        } else {
            plain_to_iob2(&mut sentence.tags);
        }
        if !self.options.rename.is_empty() {
            self.rename(&mut sentence.tags);
        }
        self.converted(sentence, line);
    }

    /// Gives the types of IOB2 tags the names that are asked for.
    fn rename(&mut self, tags: &mut [String]) {
        for tag in tags {
            let Some((prefix, label)) = tag.split_once('-') else {
                continue;
            };
            let begins = usize::from(prefix == "B");
            match self.options.name_of(label) {
                Some(name) if name == label => {}
                Some(name) => {
                    *tag = format!("{prefix}-{name}");
                    self.changed(RENAMED, begins);
                }
                None => {
                    "O".clone_into(tag);
                    self.changed(LEFT_OUT, begins);
                }
            }
        }
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

    pub(super) fn finish(mut self) -> Summary {
        self.summary.scheme = self.detector.scheme();
        self.summary.runner_up = self.detector.runner_up();
        for problem in self.detector.foreign(&self.file) {
            (self.sink)(Item::Problem(problem));
        }
        let types = self.summary.types.keys().map(String::as_str);
        let misplaced = misplaced(types).filter(|_| self.summary.scheme == Scheme::Plain);
        if let Some((first, second, label)) = misplaced {
            let line = self.summary.types.get(&first).map_or(0, |place| place.line);
            let fault = Fault::TagPlace {
                first,
                second,
                label,
            };
            self.problem(line, &fault);
        }
        let invalid = self.detector.invalid(&self.file);
        let repairs = match self.options.invalid_tags {
            InvalidTags::Few => invalid.is_handful(),
            InvalidTags::Repair => true,
            InvalidTags::Refuse => false,
        };
        if repairs {
            self.summary.repaired = invalid.count;
            self.summary.first_repaired = invalid.first.into_iter().next();
        } else {
            for problem in invalid.first {
                (self.sink)(Item::Problem(problem));
            }
        }
        self.summary
    }
}

/// Whether it is several tags with a mark between them, as some corpora write entities in others.
fn has_several(tag: &str) -> bool {
    let parts = tag.split(['|', ',', ';', '+']);
    let mut others = parts.skip(1).filter(|part| !part.is_empty()).peekable();
    let is_tag = |part: &str| part == "O" || split(part).is_some();
    others.peek().is_some() && others.all(is_tag)
}

/// Entities whose types were renamed.
pub(super) const RENAMED: &str = "entities renamed";
/// Entities whose types are left out.
pub(super) const LEFT_OUT: &str = "entities left out because of their type";

impl Invalid {
    /// Whether they are a slip here and there: no more than ten, and one in a thousand tags.
    fn is_handful(&self) -> bool {
        const MOST: usize = 10;
        const ONE_IN: usize = 1000;
        self.count <= MOST && self.count * ONE_IN <= self.of
    }
}

impl Summary {
    /// What a later reading of the file need not find out.
    pub fn shape(&self) -> Shape {
        Shape {
            format: self.format,
            layout: self.layout,
        }
    }

    /// What was done to the file's contents, or left out of them, for the reader to know.
    pub fn notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        if let Some(first) = &self.first_repaired {
            let count = self.repaired;
            notices.push(format!(
                "invalid tag sequences repaired: {count}, the first: {first}"
            ));
        }
        let rewritten = match self.scheme {
            Scheme::Iob2 => None,
            Scheme::Plain => Some("types alone, a run of one type as one entity,".to_owned()),
            Scheme::Iob1 | Scheme::Ioe1 | Scheme::Ioe2 | Scheme::Iobes | Scheme::Bilou => {
                Some(self.scheme.to_string())
            }
        };
        if let Some(scheme) = rewritten {
            notices.push(format!(
                "the tags were read as {scheme} and rewritten as IOB2"
            ));
        }
        if let Some((scheme, count)) = self.runner_up {
            notices.push(format!(
                "the scheme {scheme} fits hardly worse, with {count} violations: `--scheme` decides"
            ));
        }
        if let Some(first) = &self.first_widened {
            notices.push(format!(
                "entities widened to the words that they begin or end in: {}, the first: {}, line {}",
                self.widened, first.file, first.line
            ));
        }
        for (what, count) in &self.changed {
            notices.push(format!("{what}: {count}"));
        }
        for (what, count) in &self.ignored {
            notices.push(format!("passed over {count} times: {what}"));
        }
        notices
    }
}

/// Documents by number.
#[derive(Debug, Clone, Default)]
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

    /// What documents are called, by number, where something names them.
    pub(super) fn names(&self) -> BTreeMap<u32, &str> {
        let named = self.named.iter();
        named
            .map(|(name, number)| (*number, name.as_str()))
            .collect()
    }
}
