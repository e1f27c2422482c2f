//! Ways to write entities as a tag a word, and their conversion to IOB2.
//!
//! IOB1 (Ramshaw and Marcus 1995) writes `B-` only between adjacent entities of a type, IOB2
//! (Sang and Veenstra 1999) at every beginning, IOBES also marks the last word (`E-`) and the
//! entity of a single word (`S-`).

use std::fmt;

use serde::Serialize;

/// How a corpus writes its tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    Iob1,
    #[default]
    Iob2,
    Iobes,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Iob1 => "IOB1",
            Self::Iob2 => "IOB2",
            Self::Iobes => "IOBES",
        })
    }
}

/// What keeps `tag` from being a tag of one of the schemes.
pub(super) fn fault(tag: &str) -> Option<String> {
    if tag == "O" {
        return None;
    }
    match tag.split_once('-') {
        Some(("B" | "I" | "E" | "S", label)) if !label.is_empty() => None,
        _ => Some(format!(
            "`{tag}` is not a tag: expected O, or B-, I-, E- or S- and an entity type"
        )),
    }
}

/// Rewrites the tags of a sentence as IOB2.
pub(super) fn to_iob2(tags: &mut [String]) {
    // The type of the entity that the next word may go on with.
    let mut open: Option<String> = None;
    for tag in tags {
        let Some((prefix, label)) = tag.split_once('-') else {
            open = None;
            continue;
        };
        let goes_on = matches!(prefix, "I" | "E") && open.as_deref() == Some(label);
        let rewritten = format!("{}-{label}", if goes_on { "I" } else { "B" });
        open = (!matches!(prefix, "E" | "S")).then(|| label.to_owned());
        *tag = rewritten;
    }
}

/// The scheme of a corpus, from the sentences as they were written.
#[derive(Debug, Default)]
pub(super) struct Detector {
    ends: bool,
    inner_starts: bool,
}

impl Detector {
    pub(super) fn observe(&mut self, tags: &[String]) {
        let mut previous: Option<&str> = None;
        for tag in tags {
            let Some((prefix, label)) = tag.split_once('-') else {
                previous = None;
                continue;
            };
            self.ends |= matches!(prefix, "E" | "S");
            self.inner_starts |= prefix == "I" && previous != Some(label);
            previous = Some(label);
        }
    }

    pub(super) fn scheme(&self) -> Scheme {
        match (self.ends, self.inner_starts) {
            (true, _) => Scheme::Iobes,
            (false, true) => Scheme::Iob1,
            (false, false) => Scheme::Iob2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(tags: &str) -> String {
        let mut tags: Vec<String> = tags.split(' ').map(str::to_owned).collect();
        to_iob2(&mut tags);
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
            ("B-X I-X E-X B-X E-X", "B-X I-X I-X B-X I-X"),
            ("S-X I-X", "B-X B-X"),
            ("E-X", "B-X"),
            ("B-A-B I-A-B", "B-A-B I-A-B"),
        ];
        for (tags, expected) in cases {
            assert_eq!(converted(tags), expected, "{tags}");
            assert_eq!(converted(expected), expected, "IOB2 stays as it is");
        }
    }

    #[test]
    fn only_tags_pass() {
        for tag in ["O", "B-X", "I-Gene_or_gene_product", "S-A-B"] {
            assert_eq!(fault(tag), None);
        }
        for tag in ["", "o", "X", "B", "B-", "L-X", "-X", "B_X"] {
            assert!(fault(tag).is_some(), "{tag}");
        }
    }
}
