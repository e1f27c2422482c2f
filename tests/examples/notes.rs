//! Writes generated notes of so many persons of one institution, as a corpus to train on.
//!
//! ```text
//! cargo run --example notes -- DIR PERSONS [SEED]
//! ```
//!
//! `DIR/notes-PERSONS` then has `train.tsv`, one sentence of each note, and `test.tsv`, whole notes.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result};
use fedner_tests::notes::{Note, Split, Style, annotate, generate, to_conll};

/// Sentences of a training note that were annotated; test notes are whole.
const ANNOTATED: usize = 1;
const TESTED: usize = 100;

fn main() -> Result<()> {
    let mut given = std::env::args().skip(1);
    let directory: PathBuf = given.next().context("a directory is wanted")?.into();
    let persons: usize = given
        .next()
        .context("a number of persons is wanted")?
        .parse()?;
    let seed = given.next().map_or(Ok(1), |seed| seed.parse())?;
    let folder = directory.join(format!("notes-{persons}"));
    std::fs::create_dir_all(&folder).context("create the folder")?;
    // More than enough: some 7 of 10 notes are of a new person.
    let notes = generate(Style::StAnna, Split::Train, 2 * persons, seed);
    let mut train = of_persons(notes, persons);
    annotate(&mut train, ANNOTATED);
    let test = generate(Style::StAnna, Split::Test, TESTED, seed);
    std::fs::write(folder.join("train.tsv"), to_conll(&train)).context("write train.tsv")?;
    std::fs::write(folder.join("test.tsv"), to_conll(&test)).context("write test.tsv")?;
    Ok(())
}

/// The notes up to the first of one person too many.
fn of_persons(notes: Vec<Note>, persons: usize) -> Vec<Note> {
    let mut seen = BTreeSet::new();
    let mut kept = notes;
    let more = kept.iter().position(|note| {
        seen.insert(note.person.clone());
        seen.len() > persons
    });
    kept.truncate(more.unwrap_or(kept.len()));
    kept
}
