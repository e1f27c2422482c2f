//! Writes generated notes of so many persons of one institution, as a corpus to train on.
//!
//! ```text
//! cargo run --example notes -- DIR PERSONS [SEED]
//! cargo run --example notes -- DIR PERSONSxMOST [SEED]
//! ```
//!
//! `DIR/notes-PERSONS` then has `train.tsv`, one sentence of each note, and `test.tsv`, whole notes. With
//! MOST, persons have from one to so many notes.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result};
use fedner_tests::notes::{Note, Split, Style, annotate, generate, generate_long, to_conll};

/// Sentences of a training note that were annotated; test notes are whole.
const ANNOTATED: usize = 1;
const TESTED: usize = 100;

fn main() -> Result<()> {
    let mut given = std::env::args().skip(1);
    let directory: PathBuf = given.next().context("a directory is wanted")?.into();
    let size = given.next().context("a number of persons is wanted")?;
    let (persons, most) = match size.split_once('x') {
        Some((persons, most)) => (persons.parse()?, Some(most.parse()?)),
        None => (size.parse()?, None),
    };
    let seed = given.next().map_or(Ok(1), |seed| seed.parse())?;
    let folder = directory.join(format!("notes-{size}"));
    std::fs::create_dir_all(&folder).context("create the folder")?;
    let mut train = match most {
        Some(most) => generate_long(Style::StAnna, Split::Train, (persons, most), seed),
        // More than enough: some 7 of 10 notes are of a new person.
        None => of_persons(
            generate(Style::StAnna, Split::Train, 2 * persons, seed),
            persons,
        ),
    };
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
