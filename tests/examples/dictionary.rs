//! Writes tiny models, a folder each, for `tests/compare/tiny_exports.sh`: a word's first piece decides
//! its tag, so that a word cut otherwise is tagged otherwise.

use std::path::PathBuf;

use anyhow::{Context, Result};
use fedner_tests::dictionary::{Dictionary, TokenizerFiles};

fn main() -> Result<()> {
    let folder: PathBuf = std::env::args_os()
        .nth(1)
        .context("expected OUT_DIR")?
        .into();
    let tags = "O B-PER I-PER B-LOC I-LOC";
    let latin = [
        ("rose", "B-PER"),
        ("may", "B-LOC"),
        ("naïve", "I-PER"),
        ("naive", "I-LOC"),
        ("élan", "B-LOC"),
        ("etat", "I-PER"),
    ];
    let cased = [
        ("Rose", "B-PER"),
        ("May", "B-LOC"),
        ("rose", "I-LOC"),
        ("naïve", "I-PER"),
        ("Naïve", "B-LOC"),
        ("état", "B-PER"),
        ("ÉTAT", "I-LOC"),
    ];
    let chinese = [
        ("王", "B-PER"),
        ("小", "I-PER"),
        ("北", "B-LOC"),
        ("看", "I-LOC"),
        ("。", "B-LOC"),
    ];
    let of = |words: &[(&str, &str)]| Dictionary::new(tags, words);
    let models = [
        ("uncased", of(&latin)),
        ("cased", of(&cased).cased()),
        ("bfloat16", of(&latin).in_bfloat16()),
        ("chinese", of(&chinese).cased().with_pieces("明 去 京 病")),
        (
            "vocabulary",
            of(&cased)
                .cased()
                .with_tokenizer(TokenizerFiles::Vocabulary),
        ),
        ("accents", of(&cased).with_accents(Some(false))),
        (
            "no-accents",
            of(&[
                ("Naive", "B-PER"),
                ("Etat", "I-LOC"),
                ("ETAT", "B-LOC"),
                ("etat", "I-PER"),
            ])
            .cased()
            .with_accents(Some(true)),
        ),
    ];
    for (name, dictionary) in models {
        dictionary.write(&folder.join(name))?;
    }
    Ok(())
}
