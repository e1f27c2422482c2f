//! Annotated text and tokenizers.

use std::cell::RefCell;
use std::fs;

use fedner_model::corpus::{Format, InvalidTags, Item, ReadOptions, Reader};
use fedner_model::{Corpus, Sentence, Tokenizer};

/// Every sentence that is handed on is one that a model can be trained on.
fn sound(sentence: &Sentence) {
    assert!(!sentence.words.is_empty());
    assert_eq!(sentence.words.len(), sentence.tags.len());
    assert_eq!(sentence.words.len(), sentence.offsets.len());
    assert!(sentence.words.iter().all(|word| !word.is_empty()));
    assert!(sentence.line > 0);
    let mut before = "O";
    for tag in &sentence.tags {
        if let Some(inside) = tag.strip_prefix("I-") {
            let begun = before.strip_prefix("B-").or(before.strip_prefix("I-"));
            assert_eq!(begun, Some(inside), "{tag} after {before}");
        } else {
            let begins = tag
                .strip_prefix("B-")
                .is_some_and(|label| !label.is_empty());
            assert!(tag == "O" || begins, "{tag}");
        }
        before = tag;
    }
    for pair in sentence.offsets.windows(2) {
        assert!(
            pair[0].start <= pair[0].end && pair[0].end <= pair[1].start,
            "{pair:?}"
        );
    }
}

fn lines(format: Option<Format>, input: &[u8]) {
    for invalid_tags in [InvalidTags::Refuse, InvalidTags::Repair] {
        let options = ReadOptions {
            format,
            invalid_tags,
            ..ReadOptions::default()
        };
        let mut problems = 0;
        let mut sink = |item: Item| match item {
            // A line that is left out may leave an `I-` without its beginning.
            Item::Sentence(sentence) if problems == 0 => sound(&sentence),
            Item::Sentence(_) => {}
            Item::Problem(problem) => {
                assert!(problem.line > 0, "{problem}");
                problems += 1;
            }
        };
        let _ = Reader::new(options).stream_lines("fuzz", input, &mut sink);
    }
}

pub(crate) fn any_format(input: &[u8]) {
    lines(None, input);
    if let Ok(corpus) = Corpus::parse("fuzz", input) {
        corpus.sentences.iter().for_each(sound);
        let _ = (corpus.labels(), corpus.documents(), corpus.persons());
    }
}

pub(crate) fn conll(input: &[u8]) {
    lines(Some(Format::Conll), input);
}

pub(crate) fn json_tokens(input: &[u8]) {
    lines(Some(Format::JsonTokens), input);
}

pub(crate) fn json_text(input: &[u8]) {
    lines(Some(Format::JsonText), input);
}

/// The formats of other programs.
pub(crate) fn exports(input: &[u8]) {
    for format in [Format::Csv, Format::PubTator, Format::Xml] {
        lines(Some(format), input);
    }
}

/// A text, a line of its own with `===`, and the annotations.
pub(crate) fn brat(input: &[u8]) {
    thread_local! {
        static FOLDER: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
    }
    let mark = b"\n===\n";
    let Some(at) = input.windows(mark.len()).position(|part| part == mark) else {
        return;
    };
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| tempfile::tempdir().expect("folder"));
        let path = folder.path().join("a.txt");
        fs::write(&path, &input[..at]).expect("text");
        fs::write(folder.path().join("a.ann"), &input[at + mark.len()..]).expect("annotations");
        let mut sink = |item: Item| {
            if let Item::Sentence(sentence) = item {
                sound(&sentence);
            }
        };
        let _ = Reader::default().stream(&path, &mut sink);
    });
}

fn bytes(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub(crate) fn conll_corpora() -> Vec<Vec<u8>> {
    bytes(&[
        "a\tO\nb\tB-X\nc\tI-X\n\nd\tO\n",
        "-DOCSTART- O\n\na NN B-X\nb NN I-X\nc NN B-Y\n\n# document = 1\n# person = p\nd NN O\n",
        "a S-X\nb B-Y\nc I-Y\nd E-Y\ne O\n",
        "a I-X\nb I-X\nc B-X\nd O\r\n\r\ne I-Y\r\n",
        "\u{feff}é\tO\n𝒳\tB-Längst\n",
    ])
}

pub(crate) fn exports_corpora() -> Vec<Vec<u8>> {
    bytes(&[
        "Sentence #,Word,POS,Tag\n1,Anna,NNP,B-X\n,\"Roe, \"\"R\"\"\",NNP,I-X\n2,was,VBD,O\n",
        "7|t|Anna Roe\n7|a|was in Ghent.\n7\t0\t8\tAnna Roe\tX\n7\t16\t21\tGhent\tY\tQ1\n\n8|t|b\n",
        "<collection><document><id>7</id><passage><offset>9</offset><text>a bé c</text><annotation id=\"1\"><infon key=\"type\">X</infon><location offset=\"11\" length=\"2\"/><text>bé</text></annotation></passage></document></collection>",
        "<?xml version=\"1.0\"?>\n<x><TEXT><![CDATA[a b c]]></TEXT><TAGS><N id=\"1\" start=\"0\" end=\"3\" text=\"a b\" TYPE=\"X\"/></TAGS></x>",
        "[{\"data\": {\"text\": \"a b\"}, \"annotations\": [{\"result\": [{\"value\": {\"start\": 0, \"end\": 1, \"labels\": [\"X\"]}}]}]}]",
        "[[\"a b\", {\"entities\": [[0, 1, \"X\"]]}]]",
    ])
}

pub(crate) fn json_tokens_corpora() -> Vec<Vec<u8>> {
    bytes(&[
        "{\"tokens\": [\"a\", \"b\"], \"ner_tags\": [\"O\", \"B-X\"], \"document_id\": \"1\"}\n",
        "{\"tokens\": [\"é\", \"\\u00e9\", \"c\"], \"ner_tags\": [\"B-X\", \"I-X\", \"O\"], \"person_id\": \"p\"}\n{\"tokens\": [], \"ner_tags\": []}\n",
        "{\"id\": 7, \"tokens\": [\"a\"], \"ner_tags\": [\"S-X\"], \"other\": {\"a\": [1, null]}}\n",
    ])
}

pub(crate) fn json_text_corpora() -> Vec<Vec<u8>> {
    bytes(&[
        "{\"text\": \"Seen for influenza, twice.\", \"entities\": [{\"start\": 9, \"end\": 18, \"label\": \"Disease\"}]}\n",
        "{\"text\": \"é 𝒳-ray\\nnext line\", \"entities\": [{\"start\": 2, \"end\": 3, \"label\": \"A\"}, {\"start\": 4, \"end\": 7, \"label\": \"B\"}], \"document_id\": \"d\", \"person_id\": \"p\"}\n",
        "{\"text\": \"\", \"entities\": []}\n{\"text\": \"a b\", \"entities\": [{\"start\": 0, \"end\": 3, \"label\": \"C\"}]}\n",
    ])
}

pub(crate) fn brat_corpora() -> Vec<Vec<u8>> {
    bytes(&[
        "Seen for influenza.\nGiven aspirin.\n===\nT1\tDisease 9 18\tinfluenza\nT2\tDrug 26 33\taspirin\n",
        "é 𝒳-ray of a\n===\nT1\tA 2 7\t𝒳-ray\n#1\tAnnotatorNotes T1\tnote\nR1\tof Arg1:T1 Arg2:T1\nA1\tNegated T1\n",
        "a\n===\n",
    ])
}

pub(crate) fn any_corpora() -> Vec<Vec<u8>> {
    [
        conll_corpora(),
        json_tokens_corpora(),
        json_text_corpora(),
        exports_corpora(),
    ]
    .concat()
}

/// A tokenizer that is taken takes every word there is.
pub(crate) fn tokenizer(input: &[u8]) {
    let checked = fedner_shared::tokenizer::check(input, None);
    let Ok(tokenizer) = Tokenizer::parse(input) else {
        return;
    };
    checked.expect("what the client takes, the coordinator takes");
    let words = [
        "a", "fever", "é", "e\u{301}", "𝒳", "\u{202e}", "\u{0}", "漢字", "İ", "ﬁ", "-", "[MASK]",
        "##a",
    ];
    let words: Vec<String> = words.map(str::to_owned).to_vec();
    let room = tokenizer.special() + 1;
    for most in [room, 16, usize::MAX] {
        let encoded = tokenizer.encode(&words, most).expect("any word is encoded");
        assert!(encoded.ids.len() <= most);
        let windows = tokenizer
            .windows(&words, most.max(room + 3))
            .expect("windows");
        assert!(!windows.is_empty());
    }
}

pub(crate) fn tokenizers() -> Vec<Vec<u8>> {
    vec![include_bytes!("../fixtures/tiny-bert/tokenizer.json").to_vec()]
}
