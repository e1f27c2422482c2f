//! What a file holds, for the eyes of its owner before it is trained on.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use fedner_shared::score;
use serde::Serialize;

use super::{Corpus, Error, Problem, Scheme, conll};

/// The contents of a file, and everything wrong with it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    pub file: String,
    /// `conll`.
    pub format: &'static str,
    pub scheme: Scheme,
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
    pub problems: Vec<Problem>,
}

/// A distribution of sentence lengths, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Lengths {
    pub min: usize,
    pub median: usize,
    /// 95 % of the sentences are no longer.
    pub p95: usize,
    pub max: usize,
}

/// Reads the whole file, whatever is wrong with it.
pub fn inspect(path: &Path) -> Result<Inspection, Error> {
    let name = path.display().to_string();
    match fs::read(path) {
        Ok(bytes) => Ok(Inspection::of(&name, &bytes)),
        Err(source) => Err(Error::Read { name, source }),
    }
}

impl Inspection {
    fn of(name: &str, bytes: &[u8]) -> Self {
        let (corpus, problems) = conll::parse(name, bytes);
        let mut tags = BTreeMap::new();
        let mut entities = BTreeMap::new();
        for sentence in &corpus.sentences {
            for tag in &sentence.tags {
                *tags.entry(tag.clone()).or_default() += 1;
            }
            for span in score::entities(&sentence.tags) {
                *entities.entry(span.label).or_default() += 1;
            }
        }
        Self {
            file: name.to_owned(),
            format: "conll",
            scheme: corpus.scheme,
            columns: corpus.columns,
            sentences: corpus.sentences.len(),
            documents: corpus.documents(),
            persons: corpus.persons(),
            words: corpus.sentences.iter().map(|s| s.words.len()).sum(),
            tags,
            entities,
            lengths: Lengths::of(&corpus),
            problems,
        }
    }
}

impl Lengths {
    fn of(corpus: &Corpus) -> Self {
        let mut lengths: Vec<usize> = corpus.sentences.iter().map(|s| s.words.len()).collect();
        lengths.sort_unstable();
        let Some(last) = lengths.len().checked_sub(1) else {
            return Self::default();
        };
        let at = |percent: usize| lengths[(last * percent).div_ceil(100)];
        Self {
            min: at(0),
            median: at(50),
            p95: at(95),
            max: at(100),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_counted_and_every_problem_listed() {
        let text = b"a\tI-X\nb\tI-X\n\nc\nd\tO\n\ne\tQ\nf\tO\ng\tI-Y\n";
        let found = Inspection::of("notes.tsv", text);
        assert_eq!(
            (found.sentences, found.words, found.scheme),
            (3, 5, Scheme::Iob1)
        );
        assert_eq!(found.tags["B-X"], 1);
        assert_eq!(
            found.entities,
            [("X".to_owned(), 1), ("Y".to_owned(), 1)].into()
        );
        assert_eq!(
            found.problems.iter().map(|p| p.line).collect::<Vec<_>>(),
            [4, 7]
        );
        let expected = Lengths {
            min: 1,
            median: 2,
            p95: 2,
            max: 2,
        };
        assert_eq!(found.lengths, expected);
        assert_eq!(Inspection::of("empty", b"").lengths, Lengths::default());
        assert!(
            serde_json::to_string(&found)
                .expect("JSON")
                .contains("\"scheme\":\"iob1\"")
        );
    }
}
