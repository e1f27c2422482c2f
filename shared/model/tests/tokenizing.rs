//! Words to sub-tokens: equal to the tokenizers crate's, whatever the words and however often
//! they come.

mod common;

use std::fs;

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
    fn all_words_have_the_pieces_of_the_crate(words in prop::collection::vec(".{0,12}|[a-z]{1,6}", 0..12)) {
        let json = json();
        let (ours, library) = (Tokenizer::parse(&json).expect("tokenizer"), library(&json));
        for _ in 0..2 {
            let found = ours.encode(&words, usize::MAX).expect("encoded");
            prop_assert_eq!(found, expected(&library, &words));
        }
    }
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
