//! Invented private notes: the corpora of the demo and of the tests.
//!
//! Three institutions write differently: other sentences, names, cities, drugs and companies
//! (with some in common), other formats of dates and numbers, and other shares of the labels. A
//! model trained at one of them finds part of what the others wrote; one trained on all of them
//! finds most. Nobody in the notes exists: names are drawn from lists of common given and family
//! names.
//!
//! The words stand in the `.txt` files beside this one, in the notation of `grammar`.
//!
//! What is marked, everywhere alike:
//!
//! | label | marked | not marked |
//! |---|---|---|
//! | `Person` | names and initials | titles; eponyms ("Parkinson disease") |
//! | `Date` | day and month, month and year | weekdays, times, a month or a year alone |
//! | `Location` | cities, countries, streets with their number | wards, rooms, desks |
//! | `Identifier` | numbers of a person, an account or a case | amounts, readings, codes, pages |
//! | `Organisation` | clinics, companies, authorities, with the city in their name | wards, products |
//! | `Drug` | substances and brands | doses; classes ("beta blockers") |

mod grammar;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use grammar::{Grammar, Writer};

/// The entity types that the notes are marked with.
pub const LABELS: [&str; 6] = [
    "Person",
    "Date",
    "Location",
    "Identifier",
    "Organisation",
    "Drug",
];

/// How often a person's next note follows the last one.
const ANOTHER_NOTE: f64 = 0.35;

/// The institution that wrote a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A hospital: discharge letters, ward notes and referrals.
    StAnna,
    /// A clinic: medication charts, radiology reports and visits.
    Mercy,
    /// A bank: account notes, complaints and fraud memos.
    North,
}

impl Style {
    /// Every institution.
    pub const ALL: [Self; 3] = [Self::StAnna, Self::Mercy, Self::North];

    /// The institution's name in a federation.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StAnna => "st-anna",
            Self::Mercy => "mercy",
            Self::North => "north",
        }
    }

    fn grammar(self) -> Grammar {
        let own = match self {
            Self::StAnna => include_str!("st-anna.txt"),
            Self::Mercy => include_str!("mercy.txt"),
            Self::North => include_str!("north.txt"),
        };
        Grammar::parse(&[include_str!("words.txt"), own])
    }
}

/// What notes are for. Persons of different splits differ, and so do part of the words: some
/// names, cities, drugs and companies occur in devel or in test sets only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Notes to train on.
    Train,
    /// Notes to choose settings by.
    Devel,
    /// Notes to report results on.
    Test,
}

impl Split {
    /// Every split.
    pub const ALL: [Self; 3] = [Self::Train, Self::Devel, Self::Test];

    /// The split's name, as in file names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Devel => "devel",
            Self::Test => "test",
        }
    }
}

/// One document about one person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whom the note is about; unique among the institution's notes of one split and seed.
    pub person: String,
    /// The note's own name, likewise unique.
    pub document: String,
    /// Words with their IOB2 tags, by sentence.
    pub sentences: Vec<Vec<(String, String)>>,
}

/// Writes an institution's notes. The same arguments give the same notes on every machine, and
/// fewer documents of one seed are the beginning of more.
pub fn generate(style: Style, split: Split, documents: usize, seed: u64) -> Vec<Note> {
    let mut persons = 0;
    let mut writing = Writing::new(style, split, seed);
    let of_person = |writer: &mut Writer<'_>| {
        if persons == 0 || !writer.rng().random_bool(ANOTHER_NOTE) {
            persons += 1;
            writer.begin_person();
        }
        persons
    };
    writing.notes(documents, of_person)
}

/// Notes of so many persons, of whom some have one note and some have `most`: the logarithm of their
/// number is uniform.
pub fn generate_long(
    style: Style,
    split: Split,
    (persons, most): (usize, u32),
    seed: u64,
) -> Vec<Note> {
    let (mut person, mut left, mut counts) = (0, 0, Vec::new());
    let mut drawn = ChaCha8Rng::seed_from_u64(seed);
    for _ in 0..persons {
        let part: f64 = drawn.random();
        counts.push((f64::from(most).ln() * part).exp().round() as usize);
    }
    let documents = counts.iter().sum();
    let mut writing = Writing::new(style, split, seed);
    let of_person = |writer: &mut Writer<'_>| {
        if left == 0 {
            left = counts[person];
            person += 1;
            writer.begin_person();
        }
        left -= 1;
        person
    };
    writing.notes(documents, of_person)
}

/// What notes of a style and a split are written with.
struct Writing {
    grammar: Grammar,
    split: Split,
    rng: ChaCha8Rng,
    prefix: String,
}

impl Writing {
    fn new(style: Style, split: Split, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(style as u64 * Split::ALL.len() as u64 + split as u64);
        Self {
            grammar: style.grammar(),
            split,
            rng,
            prefix: format!("{}-{}", style.name(), split.name()),
        }
    }

    /// So many notes; `of_person` says whose the next one is.
    fn notes(
        &mut self,
        documents: usize,
        mut of_person: impl FnMut(&mut Writer<'_>) -> usize,
    ) -> Vec<Note> {
        let prefix = &self.prefix;
        let mut writer = Writer::new(&self.grammar, self.split, self.rng.clone());
        (1..=documents)
            .map(|document| {
                let person = of_person(&mut writer);
                Note {
                    person: format!("{prefix}-p{person:05}"),
                    document: format!("{prefix}-d{document:05}"),
                    sentences: sentences(&mut writer),
                }
            })
            .collect()
    }
}

/// Leaves so many sentences of each note, from one note to the next beginning with another: what is
/// there where little of each note was annotated.
pub fn annotate(notes: &mut [Note], sentences: usize) {
    for (number, note) in notes.iter_mut().enumerate() {
        let first = number % note.sentences.len().max(1);
        note.sentences.rotate_left(first);
        note.sentences.truncate(sentences);
    }
}

/// Notes as CoNLL text: a word, a tab and a tag a line, an empty line after each sentence, and
/// comments with the document and the person before each note.
pub fn to_conll(notes: &[Note]) -> String {
    let mut text = String::new();
    for note in notes {
        text.extend(["# document = ", &note.document, "\n"]);
        text.extend(["# person = ", &note.person, "\n"]);
        for sentence in &note.sentences {
            for (word, tag) in sentence {
                text.extend([word, "\t", tag, "\n"]);
            }
            text.push('\n');
        }
    }
    text
}

fn sentences(writer: &mut Writer<'_>) -> Vec<Vec<(String, String)>> {
    writer.begin_document();
    let kind = writer.pick("kinds");
    let length = writer.rng().random_range(4..=10);

    let mut templates = vec![writer.pick(&format!("{kind}.open"))];
    let body = format!("{kind}.body");
    let mut used = BTreeSet::new();
    // A note rarely says the same thing twice, so a repeated draw only shortens it.
    templates.extend((0..length).filter_map(|_| {
        let template = writer.pick(&body);
        used.insert(template).then_some(template)
    }));
    templates.push(writer.pick(&format!("{kind}.close")));

    templates.into_iter().map(|t| writer.sentence(t)).collect()
}
