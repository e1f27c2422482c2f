//! Tokenizers as data: the closed set of `tokenizer.json` files that may run on private text.
//!
//! A tokenizer comes from the coordinator and runs on an institution's words. One that can fail, loop
//! or delete words where a word of its maker's choice occurs would tell of that word. So only BERT's
//! normaliser, pre-tokeniser and WordPiece model are taken, with options that are plain values. There
//! are no patterns. An unknown token is required, so that no word fails to encode.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

/// Why a file is not in the closed set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("it cannot be read: {0}")]
    Syntax(String),
    #[error("its {part} is {found}: expected {expected}")]
    Part {
        part: &'static str,
        found: String,
        expected: &'static str,
    },
    #[error("its unknown token {found} is not in its vocabulary: expected such a token")]
    NoUnknown { found: String },
    #[error("it has the word piece number {found}: the model has {vocabulary}")]
    Vocabulary { found: u64, vocabulary: usize },
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    added_tokens: Vec<Added>,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u64,
}

#[derive(Deserialize)]
struct Model {
    /// Older files leave it out.
    #[serde(rename = "type")]
    kind: Option<String>,
    unk_token: Option<String>,
    vocab: HashMap<String, u64>,
}

const NORMALIZERS: [&str; 7] = [
    "BertNormalizer",
    "Lowercase",
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "StripAccents",
];
const PRE_TOKENIZERS: [&str; 2] = ["BertPreTokenizer", "WhitespaceSplit"];
const POST_PROCESSORS: [&str; 2] = ["TemplateProcessing", "BertProcessing"];

/// Checks that `tokenizer.json` is in the closed set. With `vocabulary`, the number of the model's
/// word embeddings, every number of a word piece must be below it.
pub fn check(json: &[u8], vocabulary: Option<usize>) -> Result<(), Error> {
    let file: File =
        serde_json::from_slice(json).map_err(|error| Error::Syntax(error.to_string()))?;
    let model = &file.model;
    if model
        .kind
        .as_deref()
        .is_some_and(|kind| kind != "WordPiece")
    {
        let found = model.kind.clone().unwrap_or_default();
        return Err(part("model", found, "WordPiece"));
    }
    named(
        "normalizer",
        &file.normalizer,
        &NORMALIZERS,
        "BertNormalizer, or Unicode forms, Lowercase and StripAccents",
    )?;
    named(
        "pre_tokenizer",
        &file.pre_tokenizer,
        &PRE_TOKENIZERS,
        "BertPreTokenizer or WhitespaceSplit",
    )?;
    named(
        "post_processor",
        &file.post_processor,
        &POST_PROCESSORS,
        "TemplateProcessing or BertProcessing",
    )?;
    let unknown = model.unk_token.clone().unwrap_or_default();
    if !model.vocab.contains_key(&unknown) {
        let found = format!("`{}`", unknown.escape_debug());
        return Err(Error::NoUnknown { found });
    }
    let Some(vocabulary) = vocabulary else {
        return Ok(());
    };
    let added = file.added_tokens.iter().map(|added| added.id);
    let largest = model.vocab.values().copied().chain(added).max();
    match largest.filter(|id| *id >= vocabulary as u64) {
        Some(found) => Err(Error::Vocabulary { found, vocabulary }),
        None => Ok(()),
    }
}

/// A part that is absent, of a known type, or a sequence of such normalisers.
fn named(
    name: &'static str,
    value: &Value,
    known: &[&str],
    expected: &'static str,
) -> Result<(), Error> {
    if value.is_null() {
        return Ok(());
    }
    let kind = value.get("type").and_then(Value::as_str).unwrap_or("none");
    if kind == "Sequence" && name == "normalizer" {
        let inner = value.get("normalizers").and_then(Value::as_array);
        let inner = inner.map(Vec::as_slice).unwrap_or_default();
        let flat = |value: &Value| value.get("type").is_some_and(|kind| kind != "Sequence");
        if !inner.iter().all(flat) {
            return Err(part(name, "a sequence in a sequence", expected));
        }
        return inner
            .iter()
            .try_for_each(|value| named(name, value, known, expected));
    }
    if known.contains(&kind) {
        return Ok(());
    }
    let found: String = kind.chars().take(100).collect();
    Err(part(name, found.escape_debug().to_string(), expected))
}

fn part(part: &'static str, found: impl Into<String>, expected: &'static str) -> Error {
    Error::Part {
        part,
        found: found.into(),
        expected,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn good() -> Value {
        json!({
            "added_tokens": [{ "id": 1, "content": "[UNK]" }],
            "normalizer": { "type": "BertNormalizer", "lowercase": true },
            "pre_tokenizer": { "type": "BertPreTokenizer" },
            "post_processor": { "type": "TemplateProcessing" },
            "model": { "type": "WordPiece", "unk_token": "[UNK]", "vocab": { "[UNK]": 1, "a": 5 } },
        })
    }

    fn checked(file: &Value, vocabulary: Option<usize>) -> Result<(), Error> {
        check(file.to_string().as_bytes(), vocabulary)
    }

    fn with(pointer: &str, value: Value) -> Value {
        let mut file = good();
        *file.pointer_mut(pointer).expect("a part") = value;
        file
    }

    #[test]
    fn what_bert_needs_is_taken() {
        assert_eq!(checked(&good(), Some(6)), Ok(()));
        let steps = json!([{ "type": "NFD" }, { "type": "Lowercase" }, { "type": "StripAccents" }]);
        let sequence = json!({ "type": "Sequence", "normalizers": steps });
        for file in [
            with("/normalizer", Value::Null),
            with("/normalizer", sequence),
            with("/pre_tokenizer", json!({ "type": "WhitespaceSplit" })),
        ] {
            assert_eq!(checked(&file, Some(6)), Ok(()), "{file}");
        }
    }

    /// Each of these answers whether a word occurs: by failing, looping, or leaving nothing.
    #[test]
    fn what_can_tell_of_a_word_is_refused() {
        let replace = |pattern: &str| json!({ "type": "Replace", "pattern": { "Regex": pattern }, "content": "a" });
        let hidden = json!({ "type": "Sequence", "normalizers": [replace("x")] });
        let deep = json!({ "type": "Sequence", "normalizers": [hidden.clone()] });
        let split = json!({ "type": "Split", "pattern": { "Regex": "x" }, "behavior": "Isolated" });
        for file in [
            with("/normalizer", replace("^(?!(?:secret)$).*$")),
            with("/normalizer", replace("(x+x+)+y")),
            with("/normalizer", hidden),
            with("/normalizer", deep),
            with("/pre_tokenizer", split),
            with("/model/unk_token", json!("[NONE]")),
            with("/model/unk_token", Value::Null),
            with("/model/type", json!("BPE")),
        ] {
            assert!(checked(&file, None).is_err(), "{file}");
        }
        for file in [
            with("/model/vocab/a", json!(40_000)),
            with("/added_tokens/0/id", json!(999_999)),
        ] {
            assert_eq!(checked(&file, None), Ok(()));
            let refused = checked(&file, Some(30_522));
            assert!(matches!(refused, Err(Error::Vocabulary { .. })), "{file}");
        }
        assert!(check(&[0xff, 0xfe], None).is_err());
        let nested = "[".repeat(100_000);
        assert!(check(nested.as_bytes(), None).is_err());
    }
}
