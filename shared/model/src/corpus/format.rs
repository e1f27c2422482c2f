//! Which format a file has.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{csv, pubtator, xml};

/// How a file holds annotated text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// A word and its tag a line, a blank line after a sentence.
    #[default]
    Conll,
    /// A JSON object a line, with `tokens` and `ner_tags`.
    JsonTokens,
    /// A JSON object a line, with `text` and `entities`.
    JsonText,
    /// Columns with commas or semicolons between them, named in the first line.
    Csv,
    /// `PubTator`: titles and abstracts, and the offsets of their entities.
    #[serde(rename = "pubtator")]
    PubTator,
    /// `BioC` collections, or a text with stand-off tags as i2b2 and n2c2 have them.
    Xml,
    /// A `.txt` file and an `.ann` file of the same name, or a folder of such pairs.
    Brat,
}

impl Format {
    pub const ALL: [Self; 7] = [
        Self::Conll,
        Self::JsonTokens,
        Self::JsonText,
        Self::Csv,
        Self::PubTator,
        Self::Xml,
        Self::Brat,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Conll => "conll",
            Self::JsonTokens => "json-tokens",
            Self::JsonText => "json-text",
            Self::Csv => "csv",
            Self::PubTator => "pubtator",
            Self::Xml => "xml",
            Self::Brat => "brat",
        }
    }

    /// BRAT is told by the names of the files.
    pub(super) fn is_brat(path: &Path) -> bool {
        let ends = |ending: &str| path.extension().is_some_and(|found| found == ending);
        path.is_dir() || ends("ann") || (ends("txt") && path.with_extension("ann").is_file())
    }

    /// The format of a file of lines, by the first that is not blank. No word with a tag looks
    /// like the beginning of a JSON object or array.
    pub(super) fn of_line(line: &str) -> Self {
        let begins = |mark: char, after: &[char]| {
            let Some(rest) = line.trim_start().strip_prefix(mark) else {
                return false;
            };
            let rest = rest.trim();
            rest.is_empty() || rest.starts_with(after)
        };
        if csv::is_heading(line) {
            return Self::Csv;
        }
        if xml::is_beginning(line) {
            return Self::Xml;
        }
        if pubtator::is_title(line) {
            return Self::PubTator;
        }
        if !begins('{', &['"', '}']) && !begins('[', &['{', '"', '[']) {
            return Self::Conll;
        }
        let has = |key: &str| line.contains(&format!("\"{key}\""));
        let tokens = has("tokens") && !has("spans") && !has("ents");
        let text =
            has("text") || has("annotations") || has("data") || line.trim_start().starts_with('[');
        if text && !tokens {
            Self::JsonText
        } else {
            Self::JsonTokens
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|format| format.as_str() == text);
        let names = Self::ALL.map(Self::as_str).join(", ");
        found.ok_or_else(|| format!("`{text}`: expected one of {names}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_its_format() {
        let cases = [
            ("a\tO", Format::Conll),
            ("{\tO", Format::Conll),
            ("{ O", Format::Conll),
            ("[1] O", Format::Conll),
            ("# document = {\"text\"}", Format::Conll),
            (r#"{"tokens": [], "ner_tags": []}"#, Format::JsonTokens),
            (r#" { "text": "a", "entities": []}"#, Format::JsonText),
            (r#"{"id": 1, "tokens": [], "text": ""}"#, Format::JsonTokens),
            ("{", Format::JsonTokens),
            ("[", Format::JsonText),
            (r#"[{"text": "a"}]"#, Format::JsonText),
            (r#"["a text", {"entities": []}]"#, Format::JsonText),
            (
                r#"{"text": "a", "tokens": [], "spans": []}"#,
                Format::JsonText,
            ),
            (
                r#"[{"tokens": ["a"], "ner_tags": ["O"]}]"#,
                Format::JsonTokens,
            ),
            ("Sentence #,Word,POS,Tag", Format::Csv),
            ("word;tag", Format::Csv),
            ("1234567|t|Naloxone", Format::PubTator),
            ("a|b O", Format::Conll),
            ("<?xml version=\"1.0\"?>", Format::Xml),
            ("< O", Format::Conll),
        ];
        for (line, format) in cases {
            assert_eq!(Format::of_line(line), format, "{line}");
        }
        for format in Format::ALL {
            assert_eq!(format.as_str().parse(), Ok(format));
        }
        assert!("html".parse::<Format>().is_err());
    }
}
