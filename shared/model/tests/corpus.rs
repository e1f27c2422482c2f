//! Corpora of any content, and the public ones where `FEDNER_CORPORA` names their folder.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use fedner_model::Corpus;
use fedner_model::corpus::{
    Error, Format, InspectOptions, Inspection, InvalidTags, ReadOptions, Reader, Scheme, escaped,
    inspect,
};
use proptest::prelude::*;
use tempfile::TempDir;

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
            prop::collection::vec(("[^\\s\u{feff}{\\[]{1,8}", "O|B-[A-Z]{1,3}"), 1..6), 0..5),
        tab: bool,
        windows: bool,
    ) {
        let separator = if tab { "\t" } else { " " };
        let end = if windows { "\r\n" } else { "\n" };
        let mut text = String::new();
        for sentence in &sentences {
            for (word, tag) in sentence {
                text.extend([&escaped(word), separator, tag, end]);
            }
            text.push_str(end);
        }
        let corpus = Corpus::parse("written", text.as_bytes()).expect("well-formed");
        let read: Vec<Vec<(String, String)>> = corpus.sentences.into_iter()
            .map(|s| s.words.into_iter().zip(s.tags).collect()).collect();
        prop_assert_eq!(read, sentences);
    }
}

fn inspected(paths: &[PathBuf], options: &InspectOptions) -> Inspection {
    inspect(paths, options, &mut |_| ()).expect("readable")
}

fn written(folder: &TempDir, name: &str, contents: &str) -> PathBuf {
    let file = folder.path().join(name);
    fs::write(&file, contents).expect("written");
    file
}

/// One sentence in every format.
#[test]
fn every_format_holds_the_same() {
    let folder = TempDir::new().expect("folder");
    let tokens = r#"{"tokens": ["Bird", "flu", "again", "."], "document_id": 7, "person_id": "P",
        "ner_tags": ["B-D", "I-D", "O", "O"]}"#;
    let text = r#"{"text": "Bird flu  again.", "document_id": "7", "person_id": "P", "entities":
        [{"start": 0, "end": 8, "label": "D", "text": "Bird flu"}], "source": "ward"}"#;
    let files = [
        (
            "a",
            "\u{feff}# document = 7\r\n# person = P\r\nBird B-D\r\nflu I-D\r\nagain O\r\n. O\r\n",
        ),
        (
            "a.iobes",
            "# document = 7\n# person = P\nBird NNP B-D\nflu NN E-D\nagain RB O\n. . O\n",
        ),
        (
            "a.iob1",
            "# document = 7\n# person = P\nBird\tI-D\nflu\tI-D\nagain\tO\n.\tO",
        ),
        ("b", &tokens.replace('\n', "")),
        ("c", &text.replace('\n', "")),
    ];
    let mut reader = Reader::default();
    let joined = [0..4, 5..8, 9..14, 15..16];
    let apart = [0..4, 5..8, 10..15, 15..16];
    for (name, contents) in files {
        let corpus = reader
            .corpus(&written(&folder, name, contents))
            .expect(name);
        let [sentence] = corpus.sentences.as_slice() else {
            panic!("{name}: {corpus:?}");
        };
        assert_eq!(sentence.words, ["Bird", "flu", "again", "."], "{name}");
        assert_eq!(sentence.tags, ["B-D", "I-D", "O", "O"], "{name}");
        // One document, for all files call it 7.
        let about = (sentence.document, sentence.person.as_deref());
        assert_eq!(about, (Some(0), Some("P")), "{name}");
        let offsets = if name == "c" { &apart } else { &joined };
        assert_eq!(&sentence.offsets, offsets, "{name}");
        assert_eq!((corpus.documents(), corpus.persons()), (1, 1), "{name}");
        assert_eq!(corpus.labels().into_iter().collect::<Vec<_>>(), ["D"]);
    }
    written(&folder, "n.txt", "Bird flu\nAgain.\n");
    let annotations =
        "T1\tD 0 4\tBird\nR1\tSame Arg1:T1 Arg2:T1\t\n\n#1\tAnnotatorNotes T1\tsure\n";
    let annotated = written(&folder, "n.ann", annotations);
    let corpus = reader.corpus(&annotated).expect("BRAT");
    let found: Vec<_> = corpus
        .sentences
        .iter()
        .map(|s| (s.words.join(" "), s.tags.join(" "), s.document, s.line))
        .collect();
    let expected = [
        ("Bird flu".to_owned(), "B-D O".to_owned(), Some(1), 1),
        ("Again .".to_owned(), "O O".to_owned(), Some(1), 2),
    ];
    assert_eq!(found, expected);
    assert_eq!(corpus.summary.format, Format::Brat);
    assert_eq!(corpus.sentences[1].offsets, [9..14, 14..15]);
    let notices = corpus.summary.notices().join("\n");
    assert!(
        notices.contains("kind R") && notices.contains("kind #"),
        "{notices}"
    );
}

#[test]
fn a_folder_of_texts_has_a_document_each() {
    let folder = TempDir::new().expect("folder");
    fs::create_dir(folder.path().join("ward")).expect("folder");
    for (name, text) in [
        ("a", "The flu."),
        ("b", "No flu."),
        ("ward/c", "A flu. Again a flu."),
    ] {
        written(&folder, &format!("{name}.txt"), text);
        let start = text.find("flu").expect("flu");
        let line = format!("T1\tD {start} {}\tflu\n", start + 3);
        written(&folder, &format!("{name}.ann"), &line);
    }
    written(&folder, "annotation.conf", "[entities]\nD\n");
    let corpus = Corpus::read(folder.path()).expect("folder");
    let documents: Vec<_> = corpus.sentences.iter().map(|s| s.document).collect();
    assert_eq!(documents, [Some(0), Some(1), Some(2), Some(2)]);
    let entities = corpus
        .sentences
        .iter()
        .flat_map(|s| &s.tags)
        .filter(|t| *t == "B-D");
    assert_eq!(entities.count(), 3);
    let error = corpus.check_labels(&["Drug".to_owned()]).expect_err("D");
    let Error::Labels { file, line: 1, .. } = &error else {
        panic!("{error}");
    };
    assert!(file.ends_with("a.ann"), "{error}");
}

#[test]
fn invalid_tags_are_repaired_only_by_choice_and_it_is_said() {
    let folder = TempDir::new().expect("folder");
    let file = written(
        &folder,
        "a.tsv",
        "a\tO\nb\tI-X\n\nc\tB-X\nd\tI-Y\n\ne\tB-X\n\nf\tB-X\n",
    );
    let error = Corpus::read(&file).expect_err("refused").to_string();
    assert!(
        error.contains("line 2") && error.contains("1 more problems"),
        "{error}"
    );
    let repair = ReadOptions {
        invalid_tags: InvalidTags::Repair,
        ..ReadOptions::default()
    };
    let corpus = Reader::new(repair).corpus(&file).expect("repaired");
    let tags: Vec<String> = corpus.sentences.iter().map(|s| s.tags.join(" ")).collect();
    assert_eq!(tags, ["O B-X", "B-X B-Y", "B-X", "B-X"]);
    let notices = corpus.summary.notices().join("\n");
    assert!(
        notices.contains("repaired: 2") && notices.contains("line 2"),
        "{notices}"
    );
}

#[test]
fn an_inspection_counts_everything_and_lists_every_problem() {
    let folder = TempDir::new().expect("folder");
    let train = "a\tI-X\nb\tI-X\n\nc\nd\tO\n\ne\tB\nf\tO\ng\tI-Y\n\nd\tO\n";
    let train = written(&folder, "train.tsv", train);
    let test = written(&folder, "test.tsv", "d\tO\n\nf\tO\ng\tO\n\nz\tB-X\n");
    let labels = ["X".to_owned(), "Z".to_owned()];
    let tokenizer = common::tokenizer();
    let options = InspectOptions {
        labels: Some(&labels),
        tokenizer: Some(&tokenizer),
        max_tokens: 3,
        ..InspectOptions::default()
    };
    let found = inspected(&[train.clone(), test.clone()], &options);
    let [first, second] = found.files.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!((first.sentences, first.words, first.repeated), (4, 6, 1));
    assert_eq!((first.scheme, second.scheme), (Scheme::Iob1, Scheme::Iob2));
    assert_eq!(first.tags["B-X"], 1);
    assert_eq!(
        first.entities,
        [("X".to_owned(), 1), ("Y".to_owned(), 1)].into()
    );
    let lines: Vec<_> = first.problems.iter().map(|p| (p.line, p.code)).collect();
    assert_eq!(lines, [(4, "one-column"), (7, "tag-unknown")]);
    assert_eq!((first.problem_count, second.problem_count), (2, 0));
    assert_eq!((first.lengths.min, first.lengths.max), (1, 2));
    let sub_tokens = first.sub_tokens.as_ref().expect("a tokenizer");
    assert!(sub_tokens.total >= 6 && sub_tokens.longer_sentences >= 2);
    assert!(sub_tokens.words_past >= 2 && sub_tokens.windows > first.sentences);

    let [shared] = found.shared.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!((&shared.first, &shared.second), (&first.file, &second.file));
    let examples: Vec<_> = shared
        .examples
        .iter()
        .map(|e| (e.line, e.text.as_str()))
        .collect();
    assert_eq!(
        (shared.sentences, examples),
        (2, vec![(1, "d"), (3, "f g")])
    );

    let check = found.labels.expect("a plan");
    assert_eq!(check.absent, ["Z"]);
    assert_eq!(check.unknown.len(), 1);
    assert_eq!(
        (check.unknown[0].label.as_str(), check.unknown[0].line),
        ("Y", 9)
    );
}

#[test]
fn files_are_named_in_errors() {
    let folder = TempDir::new().expect("folder");
    let file = written(&folder, "a.tsv", "a\tO\nb\n\nc\tB-X\nd\tB\n");
    let message = Corpus::read(&file).expect_err("line 2").to_string();
    assert!(
        message.starts_with(&format!("{}, line 2: ", file.display())),
        "{message}"
    );
    let absent = Corpus::read(Path::new("absent.tsv"));
    assert!(matches!(absent, Err(Error::Read { name, .. }) if name == "absent.tsv"));
}

#[test]
fn public_corpora_have_the_counts_published_with_them() {
    let Some(data) = common::corpora() else {
        return;
    };
    let expected = [
        ("ncbi-disease/train.tsv", 5424, 5134, 1),
        ("ncbi-disease/devel.tsv", 923, 787, 1),
        ("ncbi-disease/test.tsv", 940, 960, 1),
        ("bionlp13cg/train.tsv", 3033, 10_826, 16),
        ("bionlp13cg/devel.tsv", 1003, 3616, 16),
        ("bionlp13cg/test.tsv", 1906, 6881, 16),
    ];
    for (file, sentences, entities, types) in expected {
        let found = inspected(&[data.join(file)], &InspectOptions::default());
        let found = &found.files[0];
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
