//! Corpora that differ in one person.

use std::fmt::Write as _;

/// A word that no other text has.
pub(crate) const MARKER: &str = "Quetzalina";

/// So many persons are declared.
pub(crate) const PERSONS: usize = 60;

const NOTES: [&str; 4] = [
    "the O\nflu B-Disease\ncame O\nback O\n",
    "no O\ncough B-Disease\nor O\nfever B-Disease\n",
    "she O\nhad O\nheart B-Disease\nfailure I-Disease\n",
    "he O\nfelt O\nwell O\n",
];

/// Notes of [`PERSONS`] persons, of which the thirtieth has `own` as well.
pub(crate) fn corpus(own: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for person in 0..PERSONS {
        let mut note = String::new();
        // Writing to a string cannot fail.
        let _ = write!(
            note,
            "# person = p{person}\n{}\n",
            NOTES[person % NOTES.len()]
        );
        text.extend_from_slice(note.as_bytes());
        if person == 30 {
            text.extend_from_slice(own);
            text.extend_from_slice(b"\n\n");
        }
    }
    text
}

/// The same as JSON lines, the thirtieth person's own lines among them.
pub(crate) fn json(own: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for person in 0..PERSONS {
        let line = format!(
            "{{\"person_id\": \"p{person}\", \"tokens\": [\"the\", \"flu\"], \"ner_tags\": [\"O\", \"B-Disease\"]}}\n"
        );
        text.extend_from_slice(line.as_bytes());
        if person == 30 {
            text.extend_from_slice(own);
            text.push(b'\n');
        }
    }
    text
}
