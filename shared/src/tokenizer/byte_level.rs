//! The byte-level BPE model of RoBERTa (Radford et al. 2019, section 2.2), as data.

use std::collections::HashMap;

use serde::Deserialize;

use super::Error;

/// A model whose tokens are spelt with a symbol for each byte.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Model {
    #[serde(rename = "type")]
    _kind: String,
    dropout: Option<f32>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    fuse_unk: bool,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default, rename = "ignore_merges")]
    _ignore_merges: bool,
    vocab: HashMap<String, u64>,
    merges: Vec<Merge>,
}

/// Two tokens that become one; older files have a blank between them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Text(String),
}

impl Merge {
    fn parts(&self) -> Option<(&str, &str)> {
        match self {
            Self::Pair(left, right) => Some((left, right)),
            Self::Text(text) => text.split_once(' '),
        }
    }
}

impl Model {
    /// Its vocabulary, if no text can fail, change from one time to the next, or vanish.
    pub(super) fn check(self) -> Result<HashMap<String, u64>, Error> {
        let not_taken = |reason: String| Err(Error::NotTaken(reason));
        let affix = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
        if self.dropout.is_some_and(|dropout| dropout != 0.0) {
            return not_taken("a BPE model with dropout".to_owned());
        }
        if affix(&self.continuing_subword_prefix) || affix(&self.end_of_word_suffix) {
            return not_taken("a BPE model with a prefix or suffix of words".to_owned());
        }
        if self.fuse_unk || self.byte_fallback {
            return not_taken("a BPE model with fuse_unk or byte_fallback".to_owned());
        }
        let unknown = self.unk_token.as_deref().unwrap_or("<unk>");
        if !self.vocab.contains_key(unknown) {
            let found = format!("`{}`", unknown.escape_debug());
            return Err(Error::NoUnknown { found });
        }
        let has = |token: &str| self.vocab.contains_key(token);
        if let Some(symbol) = symbols().find(|symbol| !has(&symbol.to_string())) {
            return not_taken(format!("no token for the byte `{symbol}`"));
        }
        for merge in &self.merges {
            let known = merge.parts().is_some_and(|(left, right)| {
                has(left) && has(right) && has(&format!("{left}{right}"))
            });
            if !known {
                return not_taken("a merge of tokens that are not in the vocabulary".to_owned());
            }
        }
        Ok(self.vocab)
    }
}

/// The symbols of the 256 bytes: those that can be seen stand for themselves, the others for the
/// characters from U+0100 on.
pub fn symbols() -> impl Iterator<Item = char> {
    let seen = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut next = 0x100u32;
    (0..=u8::MAX).map(move |byte| {
        if seen(byte) {
            return char::from(byte);
        }
        let symbol = char::from_u32(next).unwrap_or(char::REPLACEMENT_CHARACTER);
        next += 1;
        symbol
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn good() -> Value {
        let mut vocab: HashMap<String, usize> = symbols()
            .enumerate()
            .map(|(id, symbol)| (symbol.to_string(), id))
            .collect();
        vocab.insert("ab".to_owned(), 256);
        vocab.insert("<unk>".to_owned(), 257);
        json!({
            "normalizer": null, "added_tokens": [],
            "pre_tokenizer": {
                "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true,
            },
            "post_processor": {
                "type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0],
                "trim_offsets": true, "add_prefix_space": false,
            },
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
                "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false,
                "vocab": vocab, "merges": ["a b"],
            },
        })
    }

    fn checked(file: &Value) -> Result<(), Error> {
        super::super::check(file.to_string().as_bytes(), Some(258))
    }

    #[test]
    fn byte_level_models_are_taken() {
        assert_eq!(checked(&good()), Ok(()));
        let mut pairs = good();
        pairs["model"]["merges"] = json!([["a", "b"]]);
        assert_eq!(checked(&pairs), Ok(()));
        assert_eq!(symbols().nth(32), Some('Ġ'));
    }

    /// Each of these could fail, vary, or leave nothing of a word of its maker's choice.
    #[test]
    fn what_can_tell_of_a_word_is_refused() {
        let with = |pointer: &str, value: Value| {
            let mut file = good();
            let (parent, key) = pointer.rsplit_once('/').expect("a key");
            file.pointer_mut(parent).expect("a part")[key] = value;
            file
        };
        let mut without_byte = good();
        without_byte["model"]["vocab"]
            .as_object_mut()
            .expect("a map")
            .remove("s");
        let word_piece =
            json!({ "type": "WordPiece", "unk_token": "[UNK]", "vocab": { "[UNK]": 1 } });
        for (what, file) in [
            ("no token for a byte", without_byte),
            ("dropout", with("/model/dropout", json!(0.5))),
            ("unknown", with("/model/unk_token", json!("[NONE]"))),
            (
                "prefix",
                with("/model/continuing_subword_prefix", json!("##")),
            ),
            ("suffix", with("/model/end_of_word_suffix", json!("</w>"))),
            ("fuse_unk", with("/model/fuse_unk", json!(true))),
            ("byte_fallback", with("/model/byte_fallback", json!(true))),
            ("merges into nothing", with("/model/merges", json!(["a c"]))),
            ("half a merge", with("/model/merges", json!(["ab"]))),
            ("a pattern", with("/model/pattern", json!({ "Regex": "x" }))),
            (
                "other pieces",
                with("/pre_tokenizer", json!({ "type": "BertPreTokenizer" })),
            ),
            ("no pieces", with("/pre_tokenizer", Value::Null)),
            (
                "a pattern of pieces",
                with("/pre_tokenizer/pattern", json!({ "Regex": "x" })),
            ),
            ("other model", with("/model", word_piece)),
        ] {
            assert!(checked(&file).is_err(), "{what}");
        }
    }
}
