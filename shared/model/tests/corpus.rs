//! Corpora of any content, and the public ones where they are at hand.

use std::io::Write;
use std::path::{Path, PathBuf};

use fedner_model::Corpus;
use fedner_model::corpus::{Error, Scheme, inspect};
use proptest::prelude::*;

proptest! {
    #[test]
    fn no_bytes_are_too_odd(bytes: Vec<u8>) {
        if let Ok(corpus) = Corpus::parse("odd", &bytes) {
            for sentence in &corpus.sentences {
                prop_assert_eq!(sentence.words.len(), sentence.tags.len());
                prop_assert!(!sentence.words.is_empty());
            }
        }
    }

    #[test]
    fn what_is_written_is_read(
        sentences in prop::collection::vec(
            prop::collection::vec(("[^\\s\u{feff}]{1,8}", "O|B-[A-Z]{1,3}"), 1..6), 0..5),
        tab: bool,
        windows: bool,
    ) {
        let separator = if tab { "\t" } else { " " };
        let end = if windows { "\r\n" } else { "\n" };
        let mut text = String::new();
        for sentence in &sentences {
            for (word, tag) in sentence {
                prop_assume!(word != "-DOCSTART-");
                text.extend([word, separator, tag, end]);
            }
            text.push_str(end);
        }
        let corpus = Corpus::parse("written", text.as_bytes()).expect("well-formed");
        let read: Vec<Vec<(String, String)>> = corpus.sentences.into_iter()
            .map(|s| s.words.into_iter().zip(s.tags).collect()).collect();
        prop_assert_eq!(read, sentences);
    }
}

#[test]
fn files_are_named_in_errors_and_inspected_whole() {
    let mut file = tempfile::NamedTempFile::new().expect("file");
    file.write_all(b"a\tO\nb\n\nc\tB-X\nd\tB\n")
        .expect("written");
    let name = file.path().display().to_string();
    let message = Corpus::read(file.path()).expect_err("line 2").to_string();
    assert!(
        message.starts_with(&format!("{name}, line 2: ")),
        "{message}"
    );
    let inspection = inspect(file.path()).expect("inspection");
    assert_eq!(
        inspection
            .problems
            .iter()
            .map(|p| p.line)
            .collect::<Vec<_>>(),
        [2, 5]
    );
    let absent = Corpus::read(Path::new("absent.tsv"));
    assert!(matches!(absent, Err(Error::Read { name, .. }) if name == "absent.tsv"));
}

#[test]
#[allow(clippy::print_stderr, reason = "a skipped test says so")]
fn public_corpora_have_the_counts_published_with_them() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let expected = [
        ("ncbi-disease/train.tsv", 5424, 5134, 1),
        ("ncbi-disease/devel.tsv", 923, 787, 1),
        ("ncbi-disease/test.tsv", 940, 960, 1),
        ("bionlp13cg/train.tsv", 3033, 10_826, 16),
        ("bionlp13cg/devel.tsv", 1003, 3616, 16),
        ("bionlp13cg/test.tsv", 1906, 6881, 16),
    ];
    for (file, sentences, entities, types) in expected {
        let path: PathBuf = data.join(file);
        if !path.exists() {
            eprintln!("skipped: {} is absent", path.display());
            continue;
        }
        let found = inspect(&path).expect("readable");
        assert_eq!(found.problems, [], "{file}");
        assert_eq!(
            (found.sentences, found.scheme),
            (sentences, Scheme::Iob2),
            "{file}"
        );
        assert_eq!(found.entities.values().sum::<usize>(), entities, "{file}");
        assert_eq!(found.entities.len(), types, "{file}");
    }
}
