//! Which columns hold the word and its tag.

use fedner_shared::scheme::split;
use serde::{Deserialize, Serialize};

use crate::corpus::{Columns, Fault, detector};

/// The columns of a file, found by its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::corpus) struct Layout {
    /// Columns a line.
    pub(in crate::corpus) count: usize,
    /// The line that told.
    pub(super) first: usize,
    /// From 0.
    pub(super) word: usize,
    pub(super) tag: usize,
    /// The first line names the columns.
    pub(super) heading: bool,
    /// The first column may be a count of the words of a sentence.
    #[serde(skip)]
    pub(super) may_count: bool,
    /// Other columns than the first and the last were chosen here.
    guessed: bool,
    /// Columns before the last that hold tags too.
    #[serde(default)]
    others: usize,
}

/// Names of the column of words, in lower case.
pub(in crate::corpus) const WORDS: [&str; 6] = ["word", "words", "token", "tokens", "form", "text"];
/// Names of the column of tags, in lower case.
pub(in crate::corpus) const TAGS: [&str; 11] = [
    "tag", "tags", "ner", "ner_tag", "ner_tags", "label", "labels", "bio", "iob", "iob2", "entity",
];

/// Whether it is `O` or a tag with a prefix; a type alone could be any word.
pub(super) fn is_tag(text: &str) -> bool {
    text == "O" || split(text).is_some()
}

/// The number of the column with one of these names.
pub(in crate::corpus) fn named(columns: &[&str], names: &[&str]) -> Option<usize> {
    let is_name = |column: &&str| names.contains(&column.to_lowercase().as_str());
    columns.iter().position(is_name)
}

impl Layout {
    pub(super) fn detect(
        number: usize,
        columns: &[&str],
        asked: Option<Columns>,
    ) -> Result<Self, Fault> {
        let count = columns.len();
        let last = count - 1;
        let layout = Self {
            count,
            first: number,
            word: 0,
            tag: last,
            heading: false,
            may_count: false,
            guessed: false,
            others: 0,
        };
        if let (Some(word), Some(tag)) = (named(columns, &WORDS), named(columns, &TAGS)) {
            let (word, tag) = match asked {
                Some(asked) => (
                    asked.word.map_or(word, |n| n - 1),
                    asked.tag.map_or(tag, |n| n - 1),
                ),
                None => (word, tag),
            };
            return Self {
                word,
                tag,
                heading: true,
                ..layout
            }
            .within();
        }
        let (asked_word, asked_tag) = match asked {
            Some(Columns { word, tag }) => (word.map(|n| n - 1), tag.map(|n| n - 1)),
            None => (None, None),
        };
        let tag = match asked_tag {
            Some(tag) => tag,
            None => tag_column(columns)?,
        };
        let counts = asked_word.is_none() && tag >= 2 && matches!(columns[0], "0" | "1");
        // Where the tag is not the last column, the word need not be the first.
        let word = asked_word.unwrap_or(usize::from(counts && tag != last));
        Self {
            word,
            tag,
            may_count: counts && tag == last,
            guessed: asked.is_none() && (word, tag) != (0, last),
            others: match asked_tag {
                Some(_) => 0,
                None => (1..tag).filter(|other| is_tag(columns[*other])).count(),
            },
            ..layout
        }
        .within()
    }

    /// Whether these columns are the names of the file's columns.
    pub(super) fn is_heading(&self, columns: &[&str]) -> bool {
        let is = |index: usize, names: &[&str]| {
            let column = columns.get(index).map(|column| column.to_lowercase());
            column.is_some_and(|column| names.contains(&column.as_str()))
        };
        self.heading && is(self.word, &WORDS) && is(self.tag, &TAGS)
    }

    fn within(self) -> Result<Self, Fault> {
        if self.word >= self.count || self.tag >= self.count || self.word == self.tag {
            let found = self.count;
            let (word, tag) = (self.word + 1, self.tag + 1);
            return Err(Fault::NoColumn { found, word, tag });
        }
        Ok(self)
    }

    pub(super) fn has_tag(&self, columns: &[&str]) -> bool {
        columns.get(self.tag).is_some_and(|tag| is_tag(tag))
    }

    /// Decides by the first sentence of several words whether its first column counts them.
    pub(super) fn decide(&mut self, first_column: &[String]) {
        let counts = |from: usize| {
            let mut columns = first_column.iter().enumerate();
            columns.all(|(index, column)| *column == (index + from).to_string())
        };
        if first_column.len() > 1 {
            self.may_count = false;
            if counts(1) || counts(0) {
                self.word = 1;
                self.guessed = true;
            }
        }
    }

    pub(super) fn notice(&self) -> Option<String> {
        let (word, tag) = (self.word + 1, self.tag + 1);
        if self.guessed || self.heading {
            let found = format!("columns found by content, word={word},tag={tag}");
            return Some(format!("{found} (`--columns` decides)"));
        }
        (self.others > 0).then(|| {
            format!(
                "other columns hold tags too, and the last is read, tag={tag} (`--columns` decides)"
            )
        })
    }
}

/// The last column, or the only one that has a tag.
fn tag_column(columns: &[&str]) -> Result<usize, Fault> {
    let last = columns.len() - 1;
    if is_tag(columns[last]) {
        return Ok(last);
    }
    let mut tagged = (1..last).filter(|index| is_tag(columns[*index]));
    match (tagged.next(), tagged.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => Err(Fault::WhichColumn {
            found: columns.len(),
        }),
        (None, _) => detector::check(columns[last]).map(|()| last),
    }
}
