//! Ways to write entities as a tag a word, and what the tags of a model's head mean.
//!
//! IOB1 (Ramshaw and Marcus 1995) writes `B-` only between adjacent entities of a type. IOB2 (Sang
//! and Veenstra 1999) writes it at every beginning. IOBES also marks the last word (`E-`) and the
//! entity of a single word (`S-`); BILOU (Ratinov and Roth 2009) calls these `L-` and `U-`, and BMES
//! calls the words between `M-`. IOE2 writes `E-` at every end and `I-` elsewhere, IOE1 `E-` only between
//! adjacent entities of a type. Plain tags are the entity types alone.

mod head;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use head::{HeadTags, Unreadable};

/// How tags are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    Iob1,
    #[default]
    Iob2,
    Ioe1,
    Ioe2,
    Iobes,
    Bilou,
    Plain,
}

impl Scheme {
    pub const ALL: [Self; 7] = [
        Self::Iob1,
        Self::Iob2,
        Self::Ioe1,
        Self::Ioe2,
        Self::Iobes,
        Self::Bilou,
        Self::Plain,
    ];

    /// As people write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Iob1 => "IOB1",
            Self::Iob2 => "IOB2",
            Self::Ioe1 => "IOE1",
            Self::Ioe2 => "IOE2",
            Self::Iobes => "IOBES",
            Self::Bilou => "BILOU",
            Self::Plain => "plain",
        }
    }

    /// As options and configuration write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Iob1 => "iob1",
            Self::Iob2 => "iob2",
            Self::Ioe1 => "ioe1",
            Self::Ioe2 => "ioe2",
            Self::Iobes => "iobes",
            Self::Bilou => "bilou",
            Self::Plain => "plain",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Scheme {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scheme| scheme.as_str() == text);
        let names = Self::ALL.map(Self::as_str).join(", ");
        found.ok_or_else(|| format!("`{text}`: expected one of {names}"))
    }
}

/// Where in an entity a word stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    Begin,
    /// `I-`, in BMES `M-`.
    Inside,
    /// `E-`, in BILOU `L-`.
    End,
    /// `S-`, in BILOU `U-`, in BMEWO `W-`.
    Single,
}

impl Position {
    const fn of_prefix(prefix: &str) -> Option<Self> {
        match prefix.as_bytes() {
            b"B" => Some(Self::Begin),
            b"I" | b"M" => Some(Self::Inside),
            b"E" | b"L" => Some(Self::End),
            b"S" | b"U" | b"W" => Some(Self::Single),
            _ => None,
        }
    }
}

/// A tag with a prefix, as position and type: it is split at its first hyphen.
pub fn split(tag: &str) -> Option<(Position, &str)> {
    let (prefix, label) = tag.split_once('-')?;
    Some((Position::of_prefix(prefix)?, label)).filter(|_| !label.is_empty())
}

/// Whether a tag could be an entity type alone: it begins with a letter, and is no prefix.
pub fn is_plain_type(tag: &str) -> bool {
    let prefix = ["B", "I", "E", "S", "L", "U", "O"]
        .iter()
        .any(|prefix| tag.eq_ignore_ascii_case(prefix) || is_prefixed(tag, prefix));
    let unnamed = tag.strip_prefix("LABEL_").is_some_and(is_number);
    let odd = |c: char| c.is_whitespace() || c.is_control();
    !prefix && !unnamed && tag.starts_with(char::is_alphabetic) && !tag.contains(odd)
}

/// Two types that are no types but tags with their prefix in lower case, or behind the type: `b-PER`
/// and `i-PER`, or `PER-B` and `PER-I`. And the type that is meant.
pub fn misplaced<'a>(types: impl IntoIterator<Item = &'a str>) -> Option<(String, String, String)> {
    let types: BTreeSet<&str> = types.into_iter().collect();
    let twin = |first: &str, second: String, label: &str| {
        let found = !label.is_empty() && types.contains(second.as_str());
        found.then(|| (first.to_owned(), second, label.to_owned()))
    };
    types.iter().find_map(|first| {
        if let Some(label) = first.strip_prefix("b-") {
            return twin(first, format!("i-{label}"), label);
        }
        let before = first.strip_suffix('B')?;
        let label = before.strip_suffix(['-', '_'])?;
        twin(first, format!("{before}I"), label)
    })
}

fn is_prefixed(tag: &str, prefix: &str) -> bool {
    let rest = tag.strip_prefix(prefix);
    rest.is_some_and(|rest| rest.starts_with(['-', '_']))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Rewrites tags with prefixes as IOB2. A tag that cannot go on with an entity begins one, as
/// conlleval and seqeval read it.
pub fn to_iob2(tags: &mut [String]) {
    // The type of the entity that the next word may go on with.
    let mut open: Option<String> = None;
    for tag in tags {
        let Some((position, label)) = split(tag) else {
            open = None;
            continue;
        };
        let inner = matches!(position, Position::Inside | Position::End);
        let goes_on = inner && open.as_deref() == Some(label);
        let ends = matches!(position, Position::End | Position::Single);
        let rewritten = if goes_on {
            format!("I-{label}")
        } else {
            format!("B-{label}")
        };
        open = (!ends).then(|| label.to_owned());
        *tag = rewritten;
    }
}

/// Rewrites plain tags as IOB2: a run of one type is one entity.
pub fn plain_to_iob2(tags: &mut [String]) {
    let mut before = String::new();
    for tag in tags {
        let label = std::mem::take(tag);
        *tag = match label.as_str() {
            "O" => "O".to_owned(),
            same if same == before => format!("I-{same}"),
            new => format!("B-{new}"),
        };
        before = label;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(text: &str, convert: fn(&mut [String])) -> String {
        let mut tags: Vec<String> = text.split(' ').map(str::to_owned).collect();
        convert(&mut tags);
        tags.join(" ")
    }

    #[test]
    fn every_scheme_becomes_iob2() {
        let cases = [
            ("I-X I-X O I-Y", "B-X I-X O B-Y"),
            ("I-X B-X I-X", "B-X B-X I-X"),
            ("I-X I-Y", "B-X B-Y"),
            ("B-X I-X B-X", "B-X I-X B-X"),
            ("B-X E-X S-X O", "B-X I-X B-X O"),
            ("B-X L-X U-X O", "B-X I-X B-X O"),
            ("B-X I-X E-X B-X E-X", "B-X I-X I-X B-X I-X"),
            ("S-X I-X", "B-X B-X"),
            ("E-X I-X", "B-X B-X"),
            ("B-A-B I-A-B", "B-A-B I-A-B"),
            ("I-X E-X E-X I-X", "B-X I-X B-X B-X"),
            ("B-X M-X E-X W-X", "B-X I-X I-X B-X"),
        ];
        for (tags, expected) in cases {
            assert_eq!(converted(tags, to_iob2), expected, "{tags}");
            assert_eq!(
                converted(expected, to_iob2),
                expected,
                "IOB2 stays as it is"
            );
        }
        let plain = converted("X X O X Y Y", plain_to_iob2);
        assert_eq!(plain, "B-X I-X O B-X B-Y I-Y");
    }

    #[test]
    fn a_plain_type_is_no_prefix_and_no_number() {
        for tag in ["PER", "Disease", "tax-percent", "Gene_or_product", "Ort"] {
            assert!(is_plain_type(tag), "{tag}");
        }
        for tag in [
            "O", "o", "B", "B-", "B-X", "B_X", "I", "LABEL_0", "0", "", "-X", "a b",
        ] {
            assert!(!is_plain_type(tag), "{tag}");
        }
        let tags = |text: &'static str| misplaced(text.split(' ')).map(|(_, _, label)| label);
        assert_eq!(tags("PER-B PER-I LOC"), Some("PER".to_owned()));
        assert_eq!(tags("i-PER b-PER"), Some("PER".to_owned()));
        assert_eq!(tags("Hepatitis-B Type-I b-cell"), None);
        for scheme in Scheme::ALL {
            assert_eq!(scheme.as_str().parse(), Ok(scheme));
        }
    }
}
