//! Which scheme the tags of a corpus are in, and what it does not allow.

use fedner_shared::scheme::{Position, Scheme, is_plain_type, split};

use super::{Fault, Problem};

/// What keeps `tag` from being a tag: one with a prefix, `O`, or perhaps a type alone.
pub(super) fn check(tag: &str) -> Result<(), Fault> {
    if tag == "O" || split(tag).is_some() || is_plain_type(tag) {
        return Ok(());
    }
    Err(Fault::of_tag(tag))
}

/// Finds the scheme of a corpus and the sequences that it does not allow, from the sentences as
/// they are written.
///
/// The scheme is the one with the fewest violations. The last sentence may decide it, and with it
/// what the first may hold: until then, whatever some scheme forbids is remembered.
#[derive(Debug, Default)]
pub(super) struct Detector {
    forced: Option<Scheme>,
    /// Tags that stand for no entity.
    outside: usize,
    /// Tags with a prefix.
    prefixed: usize,
    /// Tags that are a type alone.
    plain: Suspects,
    /// `B-`, which IOE lacks.
    begins: Suspects,
    /// `S-`, which only IOBES has.
    singles: Suspects,
    /// `E-`, which IOBES and IOE have.
    ends: Suspects,
    /// An `E-` where IOE1 writes `I-`: no entity of the type follows.
    needless_ends: Suspects,
    /// `L-` and `U-`, which only BILOU has.
    bilou_ends: Suspects,
    /// A `B-` where IOB1 writes `I-`.
    needless: Suspects,
    /// An `I-` or `E-` that goes on with no entity.
    inner_starts: Suspects,
    /// An entity that no `E-` or `S-` ends.
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

impl Suspect {
    fn new(line: usize, tag: &str, before: &str) -> Self {
        Self {
            line,
            tag: tag.to_owned(),
            before: before.to_owned(),
        }
    }
}

const BEGINNING: &str = "the beginning of a sentence";
const END: &str = "the end of the sentence";

/// Places of one kind that are remembered; the others are counted.
const REMEMBERED: usize = 1000;

impl Suspects {
    fn add(&mut self, line: usize, tag: &str, before: &str) {
        self.count += 1;
        if self.first.len() < REMEMBERED {
            self.first.push(Suspect::new(line, tag, before));
        }
    }
}

/// Sequences that their scheme does not allow.
#[derive(Debug, Default)]
pub(super) struct Invalid {
    pub(super) count: usize,
    /// Tags with a prefix, among which these were found.
    pub(super) of: usize,
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
        // An `E-` just before.
        let mut ended: Option<Suspect> = None;
        for (index, tag) in tags.iter().enumerate() {
            let (position, label) = match split(tag) {
                Some((position, label)) => (Some(position), Some(label)),
                None => (None, None),
            };
            self.prefixed += usize::from(position.is_some());
            if position.is_none() && tag != "O" {
                self.plain.add(line(index), tag, before);
            }
            self.outside += usize::from(tag == "O");
            let inner = matches!(position, Some(Position::Inside | Position::End));
            let goes_on = inner && open == label;
            if inner && !goes_on {
                self.inner_starts.add(line(index), tag, before);
            } else if open.is_some() && !goes_on {
                self.unended.add(line(index), tag, before);
            }
            if position == Some(Position::Begin) && label_before != label {
                self.needless.add(line(index), tag, before);
            }
            if let Some(end) = ended.take().filter(|_| label_before != label) {
                self.needless_ends.add(end.line, &end.tag, &end.before);
            }
            let places = match position {
                Some(Position::End | Position::Single) if tag.starts_with(['L', 'U']) => {
                    Some(&mut self.bilou_ends)
                }
                Some(Position::Begin) => Some(&mut self.begins),
                Some(Position::End) => {
                    ended = Some(Suspect::new(line(index), tag, before));
                    Some(&mut self.ends)
                }
                Some(Position::Single) => Some(&mut self.singles),
                Some(Position::Inside) | None => None,
            };
            if let Some(places) = places {
                places.add(line(index), tag, before);
            }
            let goes_on_after = matches!(position, Some(Position::Begin | Position::Inside));
            open = label.filter(|_| goes_on_after);
            label_before = label;
            before = tag;
        }
        if let Some(end) = ended {
            self.needless_ends.add(end.line, &end.tag, &end.before);
        }
        if open.is_some() {
            let last = tags.len().saturating_sub(1);
            self.unended.add(line(last), END, before);
        }
    }

    /// What a scheme with prefixes does not allow.
    fn violations(&self, scheme: Scheme) -> Vec<&Suspects> {
        match scheme {
            Scheme::Iob1 => vec![&self.needless, &self.ends, &self.singles, &self.bilou_ends],
            Scheme::Iob2 => {
                vec![
                    &self.inner_starts,
                    &self.ends,
                    &self.singles,
                    &self.bilou_ends,
                ]
            }
            Scheme::Ioe1 => vec![
                &self.begins,
                &self.needless_ends,
                &self.singles,
                &self.bilou_ends,
            ],
            Scheme::Ioe2 => vec![&self.begins, &self.unended, &self.singles, &self.bilou_ends],
            Scheme::Iobes => vec![&self.inner_starts, &self.unended, &self.bilou_ends],
            Scheme::Bilou => vec![&self.inner_starts, &self.unended, &self.ends, &self.singles],
            Scheme::Plain => Vec::new(),
        }
    }

    fn count(&self, scheme: Scheme) -> usize {
        let kinds = self.violations(scheme);
        kinds.into_iter().map(|kind| kind.count).sum()
    }

    /// Types alone are a scheme where no tag has a prefix and some words are in no entity.
    fn is_plain(&self) -> bool {
        self.prefixed == 0 && self.outside > 0 && self.plain.count > 0
    }

    /// The schemes with prefixes, those first that fit best. Of schemes that fit alike the first
    /// listed is taken: ends of entities speak for the schemes that have them.
    fn ranked(&self) -> Vec<(usize, Scheme)> {
        let ends = self.ends.count + self.singles.count;
        let ends_alone = ends > 0 && self.begins.count + self.singles.count == 0;
        let mut schemes = match (ends, self.bilou_ends.count) {
            (0, 0) => vec![Scheme::Iob2, Scheme::Iob1, Scheme::Iobes],
            (_, 0) if ends_alone => vec![Scheme::Ioe2, Scheme::Ioe1, Scheme::Iobes],
            (iobes, bilou) if bilou > iobes => vec![Scheme::Bilou, Scheme::Iob2, Scheme::Iob1],
            _ => vec![Scheme::Iobes, Scheme::Bilou, Scheme::Iob2, Scheme::Iob1],
        };
        schemes.sort_by_key(|scheme| self.count(*scheme));
        let counted = schemes.into_iter();
        counted.map(|scheme| (self.count(scheme), scheme)).collect()
    }

    pub(super) fn scheme(&self) -> Scheme {
        match self.forced {
            Some(forced) => forced,
            None if self.is_plain() => Scheme::Plain,
            None => self
                .ranked()
                .first()
                .map_or(Scheme::Iob2, |(_, scheme)| *scheme),
        }
    }

    /// The second-best scheme and how often it does not fit, where it fits hardly worse than the
    /// best, and neither fits everywhere.
    pub(super) fn runner_up(&self) -> Option<(Scheme, usize)> {
        if self.forced.is_some() || self.is_plain() {
            return None;
        }
        let ranked = self.ranked();
        let [(best, _), (second, scheme), ..] = ranked.as_slice() else {
            return None;
        };
        (*best > 0 && *second <= 2 * best).then_some((*scheme, *second))
    }

    pub(super) fn invalid(&self, file: &str) -> Invalid {
        let scheme = self.scheme();
        let kinds = self.violations(scheme);
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
            of: self.prefixed,
            first: suspects.into_iter().map(problem).collect(),
        }
    }

    /// Types alone among tags of another scheme, and the tags of another scheme among them.
    pub(super) fn foreign(&self, file: &str) -> Vec<Problem> {
        if self.scheme() == Scheme::Plain {
            return Vec::new();
        }
        let problem = |suspect: &Suspect| {
            let tag = suspect.tag.clone();
            Problem::new(file, suspect.line, &Fault::Tag { tag })
        };
        self.plain.first.iter().map(problem).collect()
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

    #[test]
    fn only_tags_pass() {
        for tag in [
            "O",
            "B-X",
            "I-Gene_or_gene_product",
            "S-A-B",
            "L-X",
            "U-X",
            "X",
        ] {
            assert_eq!(check(tag), Ok(()));
        }
        for tag in ["", "o", "0", "B", "B-", "-X", "B_X", "LABEL_1", "-"] {
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
        let cases: [(&[&str], Scheme, &[usize]); 20] = [
            (&["O O"], Scheme::Iob2, &[]),
            (&["B-X I-X B-X", "O"], Scheme::Iob2, &[]),
            (&["I-X I-X B-X", "O I-Y"], Scheme::Iob1, &[]),
            (&["O I-X", "O B-X"], Scheme::Iob2, &[1]),
            // Of IOB1 one tag is wrong, of IOB2 two are.
            (&["B-X I-Y", "I-X"], Scheme::Iob1, &[0]),
            (&["I-X I-X O", "I-Y O I-X", "O B-X"], Scheme::Iob1, &[21]),
            (&["B-X L-X U-X", "B-X I-X L-X"], Scheme::Bilou, &[]),
            (&["B-X L-X U-X", "B-X I-X E-X"], Scheme::Bilou, &[12]),
            (&["X X O", "O Y"], Scheme::Plain, &[]),
            (&["O U-X", "O B-X"], Scheme::Bilou, &[11]),
            (&["B-X E-X S-X", "B-X I-X E-X"], Scheme::Iobes, &[]),
            (&["B-X O", "S-X"], Scheme::Iobes, &[1]),
            (&["S-X I-X E-X", "E-X"], Scheme::Iobes, &[1, 10]),
            (&["S-X B-X"], Scheme::Iobes, &[1]),
            (&["B-X E-Y"], Scheme::Iobes, &[1]),
            (&["B-X M-X E-X S-X"], Scheme::Iobes, &[]),
            (&["I-X E-X E-X", "E-X O"], Scheme::Ioe2, &[]),
            (&["I-X E-X", "I-X O", "O E-X"], Scheme::Ioe2, &[11]),
            (&["I-X E-X I-X", "I-X O", "I-Y I-X"], Scheme::Ioe1, &[]),
            (&["I-X E-X E-X", "O I-X", "I-X"], Scheme::Ioe1, &[2]),
        ];
        for (sentences, scheme, lines) in cases {
            assert_eq!(
                judged(None, sentences),
                (scheme, lines.to_vec()),
                "{sentences:?}"
            );
        }
        let mut mixed = Detector::new(None);
        mixed.observe(&tags("B-X I-X O Y"), |word| word);
        assert_eq!(mixed.scheme(), Scheme::Iob2);
        assert_eq!(mixed.foreign("file")[0].line, 3);
        let (iob1, iob2) = (Some(Scheme::Iob1), Some(Scheme::Iob2));
        assert_eq!(judged(iob2, &["O I-X"]).1, [1]);
        assert_eq!(judged(iob2, &["B-X E-X S-X"]).1, [1, 2]);
        assert_eq!(judged(iob1, &["I-X B-X O B-X"]).1, [3]);
    }

    #[test]
    fn the_runner_up_is_said_where_it_is_close() {
        let runner_up = |sentences: &[&str]| {
            let mut detector = Detector::new(None);
            for sentence in sentences {
                detector.observe(&tags(sentence), |word| word);
            }
            detector.runner_up()
        };
        assert_eq!(runner_up(&["B-X I-X", "I-X"]), Some((Scheme::Iob1, 1)));
        assert_eq!(runner_up(&["B-X I-X", "B-X"]), None);
        let many = ["I-X", "I-X", "I-X", "I-X", "O B-X"];
        assert_eq!(runner_up(&many), None);
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
