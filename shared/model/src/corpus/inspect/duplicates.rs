//! Sentences that stand more than once: what is trained on must not be held out.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Serialize;

/// Sentences that two files share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shared {
    pub first: String,
    pub second: String,
    /// Sentences of the second file that the first has too.
    pub sentences: usize,
    /// The first of them.
    pub examples: Vec<Duplicate>,
}

/// A sentence that an earlier file has too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Duplicate {
    /// Its line in the later file.
    pub line: usize,
    pub text: String,
}

/// Examples of a pair of files.
const EXAMPLES: usize = 5;

/// All sentences so far, by a 64-bit hash of their words: two of a million sentences have the
/// same by chance with a probability of 3e-8.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// One set a file.
    files: Vec<HashSet<u64>>,
    repeated: usize,
    pairs: BTreeMap<(usize, usize), (usize, Vec<Duplicate>)>,
}

impl Seen {
    pub(super) fn begin_file(&mut self) {
        self.files.push(HashSet::new());
        self.repeated = 0;
    }

    pub(super) fn add(&mut self, words: &[String], line: usize) {
        let mut hasher = DefaultHasher::new();
        words.hash(&mut hasher);
        let hash = hasher.finish();
        let Some((own, earlier)) = self.files.split_last_mut() else {
            return;
        };
        if !own.insert(hash) {
            self.repeated += 1;
        }
        let second = earlier.len();
        for (first, file) in earlier.iter().enumerate() {
            if !file.contains(&hash) {
                continue;
            }
            let (count, examples) = self.pairs.entry((first, second)).or_default();
            *count += 1;
            if examples.len() < EXAMPLES {
                let text = words.join(" ");
                examples.push(Duplicate { line, text });
            }
        }
    }

    /// Sentences of the present file that repeat one before.
    pub(super) fn repeated(&self) -> usize {
        self.repeated
    }

    pub(super) fn shared(self, name: impl Fn(usize) -> String) -> Vec<Shared> {
        let pairs = self.pairs.into_iter();
        pairs
            .map(|((first, second), (sentences, examples))| Shared {
                first: name(first),
                second: name(second),
                sentences,
                examples,
            })
            .collect()
    }
}
