//! How to read annotated text: what is not given is found out.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use fedner_shared::scheme::Scheme;
use fedner_shared::serde_helpers::is_default;
use serde::{Deserialize, Serialize};

use super::Format;

/// How to read; what is not given is found out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    pub invalid_tags: InvalidTags,
    /// Where word and tag stand in lines of columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<Columns>,
    /// What offsets count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offsets: Option<Offsets>,
    #[serde(skip_serializing_if = "is_default")]
    pub overlaps: Overlaps,
    /// Left out: entities of several parts are refused, or dropped where overlaps are settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discontinuous: Option<Discontinuous>,
    /// Entity types and what they are called instead; those with an empty name are left out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rename: BTreeMap<String, String>,
}

impl ReadOptions {
    /// What an entity type is called here; `None` where it is left out.
    pub(super) fn name_of<'a>(&'a self, label: &'a str) -> Option<&'a str> {
        match self.rename.get(label) {
            None => Some(label),
            Some(name) => Some(name.as_str()).filter(|name| !name.is_empty()),
        }
    }

    pub(super) fn discontinuous(&self) -> Discontinuous {
        let otherwise = match self.overlaps {
            Overlaps::Refuse => Discontinuous::Refuse,
            Overlaps::Outermost | Overlaps::Longest | Overlaps::First => Discontinuous::Drop,
        };
        self.discontinuous.unwrap_or(otherwise)
    }
}

/// `OLD=NEW`, as a command line writes one renaming.
pub fn renaming(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.trim().is_empty() => {
            Ok((old.trim().to_owned(), new.trim().to_owned()))
        }
        Some(_) | None => Err(format!("`{text}`: expected OLD=NEW")),
    }
}

choices! {
    /// What becomes of tags that their scheme does not allow in this order, such as `O I-X` in IOB2.
    InvalidTags {
        /// A handful among many is repaired, more are refused.
        #[default]
        Few = "few",
        /// They are problems, as any malformed line is.
        Refuse = "refuse",
        /// They are read as conlleval reads them: a tag that cannot go on with an entity begins one.
        Repair = "repair",
    }
}

choices! {
    /// What an offset counts.
    Offsets {
        /// Unicode scalar values, as Python counts.
        #[default]
        Characters = "characters",
        /// As JavaScript and Java count.
        Utf16 = "utf-16",
        /// Of UTF-8.
        Bytes = "bytes",
    }
}

choices! {
    /// What becomes of entities that share text: a word can have one tag only.
    Overlaps {
        #[default]
        Refuse = "refuse",
        /// An entity inside another is passed over; of two that overlap, the first stays.
        Outermost = "outermost",
        /// The longest of those that share text stays.
        Longest = "longest",
        /// The one that the file names first stays.
        First = "first",
    }
}

choices! {
    /// What becomes of an entity of several parts with words between them.
    Discontinuous {
        #[default]
        Refuse = "refuse",
        /// It reaches from its first part to its last.
        Join = "join",
        Drop = "drop",
    }
}

/// Columns by number, counted from 1; what is left out is found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Columns {
    pub word: Option<usize>,
    pub tag: Option<usize>,
}

impl FromStr for Columns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}`: expected such as word=1,tag=4");
        let mut columns = Self {
            word: None,
            tag: None,
        };
        for part in text.split(',') {
            let (key, number) = part.split_once('=').ok_or_else(wrong)?;
            let number: usize = number.trim().parse().map_err(|_| wrong())?;
            let place = match key.trim() {
                "word" => &mut columns.word,
                "tag" => &mut columns.tag,
                _ => return Err(wrong()),
            };
            if number == 0 || place.replace(number).is_some() {
                return Err(wrong());
            }
        }
        if columns.word == columns.tag {
            return Err(wrong());
        }
        Ok(columns)
    }
}

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.word, self.tag) {
            (Some(word), Some(tag)) => write!(f, "word={word},tag={tag}"),
            (Some(word), None) => write!(f, "word={word}"),
            (None, Some(tag)) => write!(f, "tag={tag}"),
            (None, None) => Ok(()),
        }
    }
}

impl From<Columns> for String {
    fn from(columns: Columns) -> Self {
        columns.to_string()
    }
}

impl TryFrom<String> for Columns {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_numbers_from_one() {
        let columns: Columns = "word=2,tag=4".parse().expect("columns");
        assert_eq!((columns.word, columns.tag), (Some(2), Some(4)));
        assert_eq!(columns.to_string().parse(), Ok(columns));
        assert!("tag=3".parse::<Columns>().is_ok());
        for bad in [
            "",
            "2,4",
            "word=0",
            "word=2,tag=2",
            "word=1,word=2",
            "tags=2",
            "word=x",
        ] {
            assert!(bad.parse::<Columns>().is_err(), "{bad}");
        }
    }

    #[test]
    fn types_are_renamed_and_left_out() {
        let options = ReadOptions {
            rename: ["Invoice Number=Invoice", "Draft="]
                .into_iter()
                .map(|text| renaming(text).expect("a renaming"))
                .collect(),
            ..ReadOptions::default()
        };
        assert_eq!(options.name_of("Invoice Number"), Some("Invoice"));
        assert_eq!(options.name_of("Draft"), None);
        assert_eq!(options.name_of("PER"), Some("PER"));
        assert!(renaming("Invoice").is_err() && renaming("=a").is_err());
    }
}
