//! What files hold, for the eyes of their owner before they are trained on.
//!
//! Files are read from beginning to end and not kept. What grows with them is up to thirty bytes a
//! sentence, by which a sentence that comes again is known, and the names of documents and persons.

mod duplicates;
mod lengths;
mod sub_tokens;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fedner_shared::score;
use serde::Serialize;

use self::duplicates::Seen;
pub use self::duplicates::{Duplicate, Shared};
use self::lengths::Histogram;
pub use self::lengths::Lengths;
use self::sub_tokens::Counter;
pub use self::sub_tokens::SubTokens;
use super::{Error, Format, Item, Problem, Reader, Scheme, Sentence, Summary};
use crate::Tokenizer;

/// What to look at besides the files themselves.
#[derive(Debug, Clone, Default)]
pub struct InspectOptions<'a> {
    pub reader: Reader,
    /// Counts sub-tokens where given.
    pub tokenizer: Option<&'a Tokenizer>,
    /// The longest sentence that the model reads at once, in sub-tokens with the special ones.
    pub max_tokens: usize,
    /// The entity types of a plan.
    pub labels: Option<&'a [String]>,
}

/// The contents of files.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    pub files: Vec<FileInspection>,
    /// Sentences that stand in two files, for each pair of files that has any.
    pub shared: Vec<Shared>,
    /// The plan's types beside the files'; absent without a plan.
    pub labels: Option<LabelCheck>,
}

/// The contents of a file, and everything wrong with it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FileInspection {
    pub file: String,
    pub format: Format,
    pub scheme: Scheme,
    /// 0 in formats without columns.
    pub columns: usize,
    pub sentences: usize,
    /// Marked documents; 0 where the file marks none.
    pub documents: usize,
    /// Named persons; 0 where the file names none.
    pub persons: usize,
    pub words: usize,
    /// Words by IOB2 tag.
    pub tags: BTreeMap<String, usize>,
    /// Entities by type.
    pub entities: BTreeMap<String, usize>,
    /// Words a sentence.
    pub lengths: Lengths,
    /// Absent without a tokenizer.
    pub sub_tokens: Option<SubTokens>,
    /// Sentences that repeat an earlier one of the file.
    pub repeated: usize,
    /// What was done to the contents in reading.
    pub notices: Vec<String>,
    /// How many problems there are.
    pub problem_count: usize,
    /// The first of them.
    pub problems: Vec<Problem>,
}

/// Entity types that a plan and files do not share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabelCheck {
    /// Those that the plan lacks: training would be refused.
    pub unknown: Vec<UnknownLabel>,
    /// Those that no file has.
    pub absent: Vec<String>,
}

/// A type that the plan lacks, and where it first stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnknownLabel {
    pub label: String,
    pub file: String,
    pub line: usize,
}

/// Problems that are listed; the others are counted.
const LISTED: usize = 10_000;

/// Reads the files to their ends, whatever is wrong with them. `observer` is told of every
/// thousandth sentence, with the number of those read.
pub fn inspect(
    paths: &[PathBuf],
    options: &InspectOptions,
    observer: &mut dyn FnMut(usize),
) -> Result<Inspection, Error> {
    let mut reader = options.reader.clone();
    let mut seen = Seen::default();
    let (mut files, mut summaries, mut read) = (Vec::new(), Vec::new(), 0);
    for path in paths {
        let mut inspector = Inspector::new(path, options, &mut seen);
        let summary = reader.stream(path, &mut |item| {
            if matches!(item, Item::Sentence(_)) {
                read += 1;
                if read % 1000 == 0 {
                    observer(read);
                }
            }
            inspector.item(item);
        })?;
        files.push(inspector.finish(&summary)?);
        summaries.push(summary);
    }
    let labels = options.labels.map(|plan| check_labels(plan, &summaries));
    let shared = seen.shared(|index| files[index].file.clone());
    Ok(Inspection {
        files,
        shared,
        labels,
    })
}

fn check_labels(plan: &[String], summaries: &[Summary]) -> LabelCheck {
    let mut unknown: Vec<UnknownLabel> = Vec::new();
    let mut absent = plan.to_vec();
    for (label, place) in summaries.iter().flat_map(|summary| &summary.types) {
        absent.retain(|known| known != label);
        if !plan.contains(label) && !unknown.iter().any(|known| known.label == *label) {
            unknown.push(UnknownLabel {
                label: label.clone(),
                file: place.file.clone(),
                line: place.line,
            });
        }
    }
    LabelCheck { unknown, absent }
}

/// Counts what one file holds.
struct Inspector<'a> {
    file: String,
    seen: &'a mut Seen,
    sentences: usize,
    words: usize,
    documents: Vec<u64>,
    persons: std::collections::HashSet<String>,
    tags: BTreeMap<String, usize>,
    entities: BTreeMap<String, usize>,
    lengths: Histogram,
    sub_tokens: Option<Counter<'a>>,
    problem_count: usize,
    problems: Vec<Problem>,
}

impl<'a> Inspector<'a> {
    fn new(path: &Path, options: &InspectOptions<'a>, seen: &'a mut Seen) -> Self {
        seen.begin_file();
        let counter = |tokenizer| Counter::new(tokenizer, options.max_tokens);
        Self {
            file: path.display().to_string(),
            seen,
            sentences: 0,
            words: 0,
            documents: Vec::new(),
            persons: std::collections::HashSet::new(),
            tags: BTreeMap::new(),
            entities: BTreeMap::new(),
            lengths: Histogram::default(),
            sub_tokens: options.tokenizer.map(counter),
            problem_count: 0,
            problems: Vec::new(),
        }
    }

    fn item(&mut self, item: Item) {
        match item {
            Item::Sentence(sentence) => self.sentence(sentence),
            Item::Problem(problem) => {
                self.problem_count += 1;
                if self.problems.len() < LISTED {
                    self.problems.push(problem);
                }
            }
        }
    }

    fn sentence(&mut self, sentence: Sentence) {
        self.sentences += 1;
        self.words += sentence.words.len();
        self.lengths.add(sentence.words.len());
        self.seen.add(&sentence.words, sentence.line);
        if let Some(document) = sentence.document {
            set(&mut self.documents, document as usize);
        }
        if let Some(person) = &sentence.person
            && !self.persons.contains(person)
        {
            self.persons.insert(person.clone());
        }
        for tag in &sentence.tags {
            add(&mut self.tags, tag);
        }
        for span in score::entities(&sentence.tags) {
            add(&mut self.entities, &span.label);
        }
        if let Some(counter) = &mut self.sub_tokens {
            counter.add(sentence.words);
        }
    }

    fn finish(self, summary: &Summary) -> Result<FileInspection, Error> {
        let documents = self.documents.iter().map(|bits| bits.count_ones() as usize);
        Ok(FileInspection {
            file: self.file,
            format: summary.format,
            scheme: summary.scheme,
            columns: summary.columns,
            sentences: self.sentences,
            documents: documents.sum(),
            persons: self.persons.len(),
            words: self.words,
            tags: self.tags,
            entities: self.entities,
            lengths: self.lengths.lengths(),
            sub_tokens: self.sub_tokens.map(Counter::finish).transpose()?,
            repeated: self.seen.repeated(),
            notices: summary.notices(),
            problem_count: self.problem_count,
            problems: self.problems,
        })
    }
}

/// Sets the bit of a document.
fn set(bits: &mut Vec<u64>, index: usize) {
    let word = index / 64;
    if bits.len() <= word {
        bits.resize(word + 1, 0);
    }
    bits[word] |= 1 << (index % 64);
}

fn add(counts: &mut BTreeMap<String, usize>, key: &str) {
    match counts.get_mut(key) {
        Some(count) => *count += 1,
        None => {
            counts.insert(key.to_owned(), 1);
        }
    }
}
