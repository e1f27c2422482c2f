//! Words to sub-tokens: equal to the tokenizers crate's, whatever the words and however often
//! they come.

mod common;

use std::fs;
use std::path::Path;

use fedner_model::{Corpus, Encoded, Tokenizer};
use proptest::prelude::*;
use tokenizers::EncodeInput;
use tokenizers::InputSequence::PreTokenizedOwned;

/// What the crate makes of a whole sentence.
fn expected(library: &tokenizers::Tokenizer, words: &[String]) -> Encoded {
    let input = EncodeInput::Single(PreTokenizedOwned(words.into()));
    let encoding = library.encode(input, true).expect("encoded");
    let mut first = vec![None; words.len()];
    for (position, origin) in encoding.get_word_ids().iter().enumerate() {
        if let Some(word) = origin {
            first[*word as usize].get_or_insert(position);
        }
    }
    Encoded {
        ids: encoding.get_ids().to_vec(),
        first,
    }
}

fn library(json: &[u8]) -> tokenizers::Tokenizer {
    let mut library = tokenizers::Tokenizer::from_bytes(json).expect("tokenizer.json");
    library.with_padding(None);
    library.with_truncation(None).expect("no truncation");
    library
}

fn json() -> Vec<u8> {
    fs::read(common::fixture("tokenizer.json")).expect("tokenizer.json")
}

#[test]
fn odd_words_have_the_pieces_of_the_crate() {
    let (ours, library) = (common::tokenizer(), library(&json()));
    let odd = [
        "",
        " ",
        "\u{200b}",
        "\u{fffd}",
        "\0",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "[UNK]",
        "[PAD]",
        "x[SEP]y",
        "Zöliakie",
        "ZO\u{308}LIAKIE",
        "東京",
        "a東b",
        "don't",
        "type-2",
        "…",
        "a b",
        "\u{1f9ec}",
        "#",
        "##ing",
        "İ",
        "ﬁ",
        "the",
        "The",
        "THE",
    ];
    let long = "x".repeat(150);
    let words: Vec<String> = odd
        .iter()
        .map(|word| (*word).to_owned())
        .chain([long])
        .collect();
    // Twice: once found, once remembered.
    for _ in 0..2 {
        for word in &words {
            let sentence = ["a".to_owned(), word.clone(), "b".to_owned()];
            let found = ours.encode(&sentence, usize::MAX).expect("encoded");
            assert_eq!(found, expected(&library, &sentence), "{word:?}");
        }
        let found = ours.encode(&words, usize::MAX).expect("encoded");
        assert_eq!(found, expected(&library, &words));
    }
    assert_eq!(Some(ours.unknown()), library.token_to_id("[UNK]"));
    assert_eq!(ours.special(), 2);
}

proptest! {
    #[test]
    fn all_words_have_the_pieces_of_the_crate(words in words()) {
        let json = json();
        let (ours, library) = (Tokenizer::parse(&json).expect("tokenizer"), library(&json));
        for _ in 0..2 {
            let found = ours.encode(&words, usize::MAX).expect("encoded");
            prop_assert_eq!(found, expected(&library, &words));
        }
    }
}

fn words() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(".{0,12}|[a-z]{1,6}", 0..12)
}

/// The file of a fixture, and the same as the model's authors publish it: words are split at white
/// space, and nothing replaces blanks.
fn sentence_pieces() -> [Vec<u8>; 2] {
    let encoders = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/encoders");
    let bytes = fs::read(encoders.join("xlm-roberta/tokenizer.json")).expect("tokenizer.json");
    let mut published: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
    published["normalizer"] = published["normalizer"]["normalizers"][0].take();
    published["pre_tokenizer"] = serde_json::json!({ "type": "Sequence", "pretokenizers": [
        { "type": "WhitespaceSplit" },
        { "type": "Metaspace", "replacement": "▁", "str_rep": "▁", "add_prefix_space": true },
    ] });
    assert_eq!(published["normalizer"]["type"], "Precompiled");
    [bytes, published.to_string().into_bytes()]
}

#[test]
fn sentence_pieces_are_those_of_the_crate_and_no_word_fails() {
    let config = ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    for json in sentence_pieces() {
        let (ours, library) = (Tokenizer::parse(&json).expect("tokenizer"), library(&json));
        proptest::test_runner::TestRunner::new(config.clone())
            .run(&words(), |words| {
                for _ in 0..2 {
                    let found = ours.encode(&words, usize::MAX).expect("encoded");
                    prop_assert_eq!(found, expected(&library, &words));
                }
                Ok(())
            })
            .expect("the same");
        assert_eq!(Some(ours.unknown()), library.token_to_id("<unk>"));
        assert_eq!(ours.special(), 2);
    }
}

/// A table of characters of somebody's making could delete a word, or stop the program at it.
#[test]
fn other_tables_of_characters_are_refused() {
    let [json, _] = sentence_pieces();
    let text = String::from_utf8(json).expect("UTF-8");
    let changed = text.replacen("ALQCAACEAAAAAACA", "ALQCAACEAAAAAACB", 1);
    assert_ne!(changed, text);
    let error = Tokenizer::parse(changed.as_bytes()).expect_err("another table");
    assert!(
        error.to_string().contains("precompiled_charsmap"),
        "{error}"
    );
}

#[test]
fn the_public_corpora_have_the_pieces_of_the_crate() {
    let Some(data) = common::corpora() else {
        return;
    };
    let (ours, library) = (common::tokenizer(), library(&json()));
    for file in ["ncbi-disease/train.tsv", "bionlp13cg/train.tsv"] {
        for sentence in Corpus::read(&data.join(file)).expect("corpus").sentences {
            let found = ours.encode(&sentence.words, usize::MAX).expect("encoded");
            assert_eq!(found, expected(&library, &sentence.words));
        }
    }
}

/// Files whose named types are in the closed set, and whose fields are those of other parts.
#[test]
fn what_calls_itself_berts_and_is_not_is_refused() {
    let good: serde_json::Value = serde_json::from_slice(&json()).expect("json");
    let with = |pointer: &str, value: serde_json::Value| {
        let mut file = good.clone();
        *file.pointer_mut(pointer).expect("a part") = value;
        file.to_string()
    };
    let pattern = serde_json::json!({ "Regex": "^(?!(?:secret)$).*$" });
    let mut disguised = Vec::new();
    for name in ["BertNormalizer", "Lowercase", "NFC", "StripAccents"] {
        let value = serde_json::json!({ "type": name, "pattern": pattern, "content": "a" });
        disguised.push((
            format!("normalizer {name}"),
            with("/normalizer", value.clone()),
        ));
        let sequence = serde_json::json!({ "type": "Sequence", "normalizers": [value] });
        disguised.push((format!("sequence {name}"), with("/normalizer", sequence)));
    }
    for name in ["BertPreTokenizer", "WhitespaceSplit"] {
        let value = serde_json::json!({
            "type": name, "pattern": pattern, "behavior": "Removed", "invert": false,
        });
        disguised.push((
            format!("pre_tokenizer {name}"),
            with("/pre_tokenizer", value),
        ));
    }
    let mut typeless = good["model"].clone();
    typeless.as_object_mut().expect("object").remove("type");
    typeless["merges"] = serde_json::json!([]);
    disguised.push(("model without type".to_owned(), with("/model", typeless)));
    assert!(Tokenizer::parse(good.to_string().as_bytes()).is_ok());
    for (what, file) in disguised {
        assert!(Tokenizer::parse(file.as_bytes()).is_err(), "{what}");
    }
}
