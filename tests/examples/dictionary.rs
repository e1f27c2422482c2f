//! Writes tiny models of random weights, a folder each, for `tests/compare/tiny_exports.sh`.

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
        ("rose", "O"),
        ("may", "O"),
        ("naïve", "O"),
        ("naive", "O"),
        ("élan", "O"),
    ];
    let cased = [
        ("Rose", "O"),
        ("May", "O"),
        ("rose", "O"),
        ("naïve", "O"),
        ("état", "O"),
    ];
    let of = |words: &[(&str, &str)]| Dictionary::new(tags, words).at_random(7);
    let models = [
        ("uncased", of(&latin)),
        ("cased", of(&cased).cased()),
        ("bfloat16", of(&latin).in_bfloat16()),
        (
            "chinese",
            of(&[]).cased().with_pieces("王 小 明 去 北 京 看 病 。"),
        ),
        (
            "vocabulary",
            of(&cased)
                .cased()
                .with_tokenizer(TokenizerFiles::Vocabulary),
        ),
        ("accents", of(&cased).with_accents(Some(false))),
        (
            "no-accents",
            of(&[("naive", "O"), ("Etat", "O")])
                .cased()
                .with_accents(Some(true)),
        ),
    ];
    for (name, dictionary) in models {
        dictionary.write(&folder.join(name))?;
    }
    Ok(())
}
