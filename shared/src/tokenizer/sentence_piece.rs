//! The unigram model of XLM-RoBERTa and CamemBERT (Kudo 2018), as data.
//!
//! SentencePiece keeps its normaliser as a table of bytes (a "charsmap"). A table of somebody's making
//! could delete a word or make the program stop at it. So only the tables that SentencePiece itself
//! ships are taken, by their digests.

use serde::Deserialize;

use super::Error;

/// BLAKE3 digests of SentencePiece's tables in base64: `nmt_nfkc`, `nfkc`, `nmt_nfkc_cf` and `nfkc_cf`,
/// as the releases up to 0.1.95, to 0.2.0, to 0.2.2 and since 0.2.3 have them.
const CHARSMAPS: [&str; 16] = [
    "e69c3276ce4bc288ec51ce7480f42c18ddb9eca686516ab11d580af7cde6015c",
    "1d200edd128cb2718252d30fe32fd4a649a7573aff26f8b4b36e602dd2edf872",
    "bbc9045c1486d697e13035ecb8b988adac2e3d7fe82f2ece515013badf107372",
    "09d430215170152fccd31131bf362f162ed94a036308701c78dc4683fb32e857",
    "d796b9a56080efbc4af347e840e0a3798ac0e5e20c3ea6d2a08d515a6869e72f",
    "cc4b7478c80b3cfda1b1b1ade3b5636d98051f8da1f91a9e04f5a3db7718d6d2",
    "4602d62687188e2ad261d768a22f5d29bdb54d9e4112df41fa538ca90000cb5f",
    "c8a859e514eca3640ab9950fd69b8bc228fb7faf7033c9e8db3e9f6907df6431",
    "a9f8a9657ccc63f8708f331320fcb3c4a3c3b2cb213851872aac364072c171d8",
    "31a5de93c45cdbdce0808e6d1fe5e46ec50e798845a73c604ce35388940dc9b4",
    "fa7caf447842ba1ce35de535e3d80d83ed1f3871978a006660a7ebbb1eeaf11f",
    "f17483dcbfe8ad852fd39e21d54b2e7dec5b057688650bfac7e9d9acbb1a8382",
    "0acff4dc8859fcbacae3f40b1dbb2aa0ac528be3232f3ca411fc594a5bc3b500",
    "c8caed5710e261db01ba3979e617c94a260bce661b3d9a12d2bf1deb4c08f112",
    "a10c8c5a5c70dffae671982d1683a02bcc3d2ac777a08f04ca526fb7b0b7afa8",
    "ec98d0bc60382093570a769dca8bd95d584d72fa8a2370c6a37a3c0badbe3b41",
];

/// Stands for a blank before a word.
pub const BLANK: char = '▁';

/// The one pattern that is taken: transformers writes it for runs of blanks.
pub const BLANKS: &str = " {2,}";

/// Whether a table, in base64, is one of SentencePiece's own.
pub fn is_charsmap(base64: &str) -> bool {
    let digest = blake3::hash(base64.as_bytes()).to_hex();
    CHARSMAPS.contains(&digest.as_str())
}

/// Whether runs of blanks are replaced by a blank, and nothing else by anything.
pub fn replaces_blanks(pattern: &str, content: &str) -> bool {
    pattern == BLANKS && matches!(content, " " | "▁")
}

/// A model whose pieces have a score each.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Model {
    /// Older files leave it out.
    #[serde(rename = "type")]
    kind: Option<String>,
    unk_id: Option<usize>,
    vocab: Vec<(String, f64)>,
    #[serde(default)]
    byte_fallback: bool,
}

/// Larger scores than any model has; sums of these stay numbers.
pub const MOST: f64 = 1e6;

impl Model {
    /// The largest number of a piece, if no text can fail, loop or vanish.
    pub(super) fn check(&self) -> Result<u64, Error> {
        let not_taken = |reason: &str| Err(Error::NotTaken(reason.to_owned()));
        if self.kind.as_deref().is_some_and(|kind| kind != "Unigram") {
            return not_taken("a list of pieces with scores in another model");
        }
        if self.byte_fallback {
            return not_taken("a unigram model with byte_fallback");
        }
        if self
            .unk_id
            .is_none_or(|unknown| unknown >= self.vocab.len())
        {
            let found = format!("number {:?}", self.unk_id);
            return Err(Error::NoUnknown { found });
        }
        // An empty piece would be found again and again.
        if self.vocab.iter().any(|(piece, _)| piece.is_empty()) {
            return not_taken("a unigram model with an empty piece");
        }
        let sound = |score: f64| score.is_finite() && score.abs() <= MOST;
        if !self.vocab.iter().all(|(_, score)| sound(*score)) {
            return not_taken("a unigram model with a score that is no logarithm of a probability");
        }
        Ok(self.vocab.len() as u64 - 1)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn good() -> Value {
        json!({
            "normalizer": { "type": "Sequence", "normalizers": [
                { "type": "Strip", "strip_left": false, "strip_right": true },
                { "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": "▁" },
            ] },
            "added_tokens": [{ "id": 0, "content": "<s>" }],
            "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
                { "type": "WhitespaceSplit" },
                { "type": "Metaspace", "replacement": "▁", "str_rep": "▁", "add_prefix_space": true },
            ] },
            "post_processor": null,
            "model": {
                "type": "Unigram", "unk_id": 3, "byte_fallback": false,
                "vocab": [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["▁a", -2.5]],
            },
        })
    }

    fn with(pointer: &str, value: Value) -> Value {
        let mut file = good();
        let (parent, key) = pointer.rsplit_once('/').expect("a key");
        let parent = file.pointer_mut(parent).expect("a part");
        if let Value::Array(list) = parent {
            list[key.parse::<usize>().expect("a place")] = value;
        } else {
            parent[key] = value;
        }
        file
    }

    fn checked(file: &Value) -> Result<(), Error> {
        super::super::check(file.to_string().as_bytes(), Some(5))
    }

    #[test]
    fn unigram_models_are_taken() {
        assert_eq!(checked(&good()), Ok(()));
        let alone = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true });
        let mut untyped = good();
        let model = untyped["model"].as_object_mut().expect("a model");
        model.remove("type");
        model.remove("byte_fallback");
        for file in [
            with("/pre_tokenizer", alone),
            with("/normalizer", Value::Null),
            untyped,
        ] {
            assert_eq!(checked(&file), Ok(()), "{file}");
        }
        let small = super::super::check(good().to_string().as_bytes(), Some(4));
        assert!(matches!(small, Err(Error::Vocabulary { found: 4, .. })));
    }

    /// Each of these could fail, loop, vary, or leave nothing of a word of its maker's choice.
    #[test]
    fn what_can_tell_of_a_word_is_refused() {
        let replace = |pattern: Value, content: &str| json!({ "type": "Replace", "pattern": pattern, "content": content });
        let space = |key: &str, value: Value| {
            let mut part = good()["pre_tokenizer"]["pretokenizers"][1].clone();
            part[key] = value;
            with("/pre_tokenizer/pretokenizers/1", part)
        };
        let vocab = |index: usize, piece: &str, score: f64| {
            with(&format!("/model/vocab/{index}"), json!([piece, score]))
        };
        let secret = json!({ "Regex": "^(?!(?:secret)$).*$" });
        for (what, file) in [
            (
                "pattern",
                with("/normalizer/normalizers/1", replace(secret, "▁")),
            ),
            (
                "word",
                with(
                    "/normalizer/normalizers/1",
                    replace(json!({ "String": "secret" }), ""),
                ),
            ),
            (
                "blanks",
                with(
                    "/normalizer/normalizers/1",
                    replace(json!({ "Regex": BLANKS }), ""),
                ),
            ),
            (
                "table",
                with(
                    "/normalizer",
                    json!({ "type": "Precompiled", "precompiled_charsmap": "AAAAAA==" }),
                ),
            ),
            ("no unknown", with("/model/unk_id", Value::Null)),
            ("unknown outside", with("/model/unk_id", json!(5))),
            ("empty piece", vocab(4, "", -1.0)),
            ("endless score", vocab(4, "a", 1e300)),
            ("bytes", with("/model/byte_fallback", json!(true))),
            ("samples", with("/model/alpha", json!(0.1))),
            ("other model", with("/model/type", json!("BPE"))),
            ("other blank", space("replacement", json!("s"))),
            ("no blank", space("prepend_scheme", json!("never"))),
            ("no prefix", space("add_prefix_space", json!(false))),
            (
                "a pattern of pieces",
                space("pattern", json!({ "Regex": "x" })),
            ),
            (
                "pieces of BERT",
                with("/pre_tokenizer", json!({ "type": "BertPreTokenizer" })),
            ),
            ("no pieces", with("/pre_tokenizer", Value::Null)),
            (
                "deep",
                with(
                    "/pre_tokenizer/pretokenizers/0",
                    good()["pre_tokenizer"].clone(),
                ),
            ),
            (
                "word pieces",
                with("/model", json!({ "unk_token": "a", "vocab": { "a": 0 } })),
            ),
        ] {
            assert!(checked(&file).is_err(), "{what}");
        }
    }
}
