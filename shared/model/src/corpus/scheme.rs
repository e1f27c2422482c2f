//! Ways to write entities as a tag a word, and their conversion to IOB2.
//!
//! IOB1 (Ramshaw and Marcus 1995) writes `B-` only between adjacent entities of a type, IOB2
//! (Sang and Veenstra 1999) at every beginning, IOBES also marks the last word (`E-`) and the
//! entity of a single word (`S-`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Fault, Problem};

/// How a corpus writes its tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    Iob1,
    #[default]
    Iob2,
    Iobes,
}

impl Scheme {
    const fn name(self) -> &'static str {
        match self {
            Self::Iob1 => "IOB1",
            Self::Iob2 => "IOB2",
            Self::Iobes => "IOBES",
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
        match text {
            "iob1" => Ok(Self::Iob1),
            "iob2" => Ok(Self::Iob2),
            "iobes" => Ok(Self::Iobes),
            _ => Err(format!("`{text}`: expected iob1, iob2 or iobes")),
        }
    }
}

/// What becomes of tags that their scheme does not allow in this order, such as `O I-X` in IOB2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InvalidTags {
    /// They are problems, as any malformed line is.
    #[default]
    Refuse,
    /// They are read as conlleval reads them: a tag that cannot go on with an entity begins one.
    Repair,
}

impl FromStr for InvalidTags {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "repair" => Ok(Self::Repair),
            _ => Err(format!("`{text}`: expected refuse or repair")),
        }
    }
}

/// What keeps `tag` from being a tag of one of the schemes.
pub(super) fn check(tag: &str) -> Result<(), Fault> {
    if tag == "O" {
        return Ok(());
    }
    let odd = |c: char| c.is_whitespace() || c.is_control();
    match tag.split_once('-') {
        Some(("B" | "I" | "E" | "S", label)) if !label.is_empty() && !label.contains(odd) => Ok(()),
        _ => Err(Fault::Tag {
            tag: tag.to_owned(),
        }),
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
        let ends = matches!(prefix, "E" | "S");
        if goes_on {
            if ends {
                let rewritten = format!("I-{label}");
                open = None;
                *tag = rewritten;
            }
            continue;
        }
        open = (!ends).then(|| label.to_owned());
        if prefix != "B" {
            *tag = format!("B-{label}");
        }
    }
}

/// Finds the scheme of a corpus and the sequences that it does not allow, from the sentences as
/// they are written.
///
/// The last sentence may decide the scheme, and with it what the first may hold: until then,
/// whatever some scheme forbids is remembered.
#[derive(Debug, Default)]
pub(super) struct Detector {
    forced: Option<Scheme>,
    /// `E-` and `S-`, which only IOBES has.
    ends: Suspects,
    /// A `B-` where IOB1 writes `I-`.
    needless: Suspects,
    /// An `I-` or `E-` that goes on with no entity.
    inner_starts: Suspects,
    /// An entity of IOBES that neither `E-` nor `S-` ends.
    unended: Suspects,
}

/// Places that are wrong in some scheme.
#[derive(Debug, Default)]
struct Suspects {
    count: usize,
    /// The first of them.
    first: Vec<Suspect>,
}

#[derive(Debug, Clone)]
struct Suspect {
    line: usize,
    tag: String,
    before: String,
}

const BEGINNING: &str = "the beginning of a sentence";
const END: &str = "the end of the sentence";

/// Places of one kind that are remembered; the others are counted.
const REMEMBERED: usize = 1000;

impl Suspects {
    fn add(&mut self, line: usize, tag: &str, before: &str) {
        self.count += 1;
        if self.first.len() < REMEMBERED {
            self.first.push(Suspect {
                line,
                tag: tag.to_owned(),
                before: before.to_owned(),
            });
        }
    }
}

/// Sequences that their scheme does not allow.
#[derive(Debug, Default)]
pub(super) struct Invalid {
    pub(super) count: usize,
    /// The first of them, in the order of the file.
    pub(super) first: Vec<Problem>,
}

impl Detector {
    pub(super) fn new(forced: Option<Scheme>) -> Self {
        Self {
            forced,
            ..Self::default()
        }
    }

    /// Looks at a sentence; `line` says in which line the tag of a word stands.
    pub(super) fn observe(&mut self, tags: &[String], line: impl Fn(usize) -> usize) {
        let mut before = BEGINNING;
        // The type of the tag before, and that of the entity which may go on after it.
        let (mut label_before, mut open) = (None, None);
        for (index, tag) in tags.iter().enumerate() {
            let (prefix, label) = match tag.split_once('-') {
                Some((prefix, label)) => (prefix, Some(label)),
                None => ("O", None),
            };
            let inner = matches!(prefix, "I" | "E");
            let goes_on = inner && open == label;
            if inner && !goes_on {
                self.inner_starts.add(line(index), tag, before);
            } else if open.is_some() && !goes_on {
                self.unended.add(line(index), tag, before);
            }
            if prefix == "B" && label_before != label {
                self.needless.add(line(index), tag, before);
            }
            if matches!(prefix, "E" | "S") {
                self.ends.add(line(index), tag, before);
            }
            open = label.filter(|_| matches!(prefix, "B" | "I"));
            label_before = label;
            before = tag;
        }
        if open.is_some() {
            let last = tags.len().saturating_sub(1);
            self.unended.add(line(last), END, before);
        }
    }

    pub(super) fn scheme(&self) -> Scheme {
        if let Some(forced) = self.forced {
            return forced;
        }
        match (
            self.ends.count,
            self.inner_starts.count,
            self.needless.count,
        ) {
            (1.., ..) => Scheme::Iobes,
            (0, 1.., 0) => Scheme::Iob1,
            (0, ..) => Scheme::Iob2,
        }
    }

    pub(super) fn invalid(&self, file: &str) -> Invalid {
        let scheme = self.scheme();
        let kinds: &[&Suspects] = match scheme {
            Scheme::Iob1 => &[&self.needless, &self.ends],
            Scheme::Iob2 => &[&self.inner_starts, &self.ends],
            Scheme::Iobes => &[&self.inner_starts, &self.unended],
        };
        let mut suspects: Vec<&Suspect> = kinds.iter().flat_map(|kind| &kind.first).collect();
        suspects.sort_by_key(|suspect| suspect.line);
        let problem = |suspect: &Suspect| {
            let fault = Fault::TagSequence {
                tag: quoted(&suspect.tag),
                before: quoted(&suspect.before),
                scheme: scheme.name(),
            };
            Problem::new(file, suspect.line, &fault)
        };
        Invalid {
            count: kinds.iter().map(|kind| kind.count).sum(),
            first: suspects.into_iter().map(problem).collect(),
        }
    }
}

fn quoted(tag: &str) -> String {
    match tag {
        BEGINNING | END => tag.to_owned(),
        tag => format!("`{tag}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn converted(text: &str) -> String {
        let mut tags = tags(text);
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
            assert_eq!(check(tag), Ok(()));
        }
        for tag in ["", "o", "X", "B", "B-", "L-X", "-X", "B_X", "B-a b"] {
            assert!(check(tag).is_err(), "{tag}");
        }
    }

    /// The scheme and the lines of what it does not allow, a sentence a line.
    fn judged(forced: Option<Scheme>, sentences: &[&str]) -> (Scheme, Vec<usize>) {
        let mut detector = Detector::new(forced);
        for (index, sentence) in sentences.iter().enumerate() {
            detector.observe(&tags(sentence), |word| 10 * index + word);
        }
        let invalid = detector.invalid("file");
        assert_eq!(invalid.count, invalid.first.len());
        let lines = invalid.first.iter().map(|problem| problem.line);
        (detector.scheme(), lines.collect())
    }

    #[test]
    fn the_scheme_decides_what_is_invalid() {
        let cases: [(&[&str], Scheme, &[usize]); 10] = [
            (&["O O"], Scheme::Iob2, &[]),
            (&["B-X I-X B-X", "O"], Scheme::Iob2, &[]),
            (&["I-X I-X B-X", "O I-Y"], Scheme::Iob1, &[]),
            (&["O I-X", "O B-X"], Scheme::Iob2, &[1]),
            (&["B-X I-Y", "I-X"], Scheme::Iob2, &[1, 10]),
            (&["B-X E-X S-X", "B-X I-X E-X"], Scheme::Iobes, &[]),
            (&["B-X O", "S-X"], Scheme::Iobes, &[1]),
            (&["S-X I-X E-X", "E-X"], Scheme::Iobes, &[1, 10]),
            (&["S-X B-X"], Scheme::Iobes, &[1]),
            (&["B-X E-Y"], Scheme::Iobes, &[1]),
        ];
        for (sentences, scheme, lines) in cases {
            assert_eq!(
                judged(None, sentences),
                (scheme, lines.to_vec()),
                "{sentences:?}"
            );
        }
        let (iob1, iob2) = (Some(Scheme::Iob1), Some(Scheme::Iob2));
        assert_eq!(judged(iob2, &["O I-X"]).1, [1]);
        assert_eq!(judged(iob2, &["B-X E-X S-X"]).1, [1, 2]);
        assert_eq!(judged(iob1, &["I-X B-X O B-X"]).1, [3]);
    }

    #[test]
    fn places_beyond_the_first_are_counted_only() {
        let mut detector = Detector::new(Some(Scheme::Iob2));
        for line in 1..=REMEMBERED + 5 {
            detector.observe(&tags("I-X"), |_| line);
        }
        let invalid = detector.invalid("file");
        assert_eq!(
            (invalid.count, invalid.first.len()),
            (REMEMBERED + 5, REMEMBERED)
        );
        let first = invalid.first[0].to_string();
        assert!(
            first.starts_with("file, line 1: `I-X` after the beginning"),
            "{first}"
        );
    }
}
