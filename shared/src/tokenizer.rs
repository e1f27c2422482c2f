//! Tokenizers as data: the closed set of `tokenizer.json` files that may run on private text.
//!
//! A tokenizer comes from the coordinator and runs on an institution's words. One that can fail, loop
//! or delete words where a word of its maker's choice occurs would tell of that word. So only BERT's
//! normaliser, pre-tokeniser and WordPiece model are taken, or RoBERTa's byte-level ones, or
//! XLM-RoBERTa's unigram model, with options that are plain values. No pattern is the maker's. An unknown
//! token is required, and of byte-level models a token for every byte, so that no word fails to encode
//! or vanishes.

mod byte_level;
mod sentence_piece;

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

pub use byte_level::symbols;
pub use sentence_piece::{BLANK, BLANKS, MOST as LARGEST_SCORE, is_charsmap, replaces_blanks};

/// Why a file is not in the closed set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("it is not made of BERT's parts alone, nor of RoBERTa's, nor of XLM-RoBERTa's: {0}")]
    NotTaken(String),
    #[error("its unknown token {found} is not in its vocabulary: expected such a token")]
    NoUnknown { found: String },
    #[error("it has the word piece number {found}: the model has {vocabulary}")]
    Vocabulary { found: u64, vocabulary: usize },
}

/// The parts of `tokenizer.json` that decide what becomes of a word.
///
/// Programs that build a tokenizer guess a part's kind by its fields where its name is not theirs.
/// So each part has exactly the fields of its name, and any other is an error.
#[derive(Deserialize)]
struct File {
    normalizer: Option<Normalizer>,
    pre_tokenizer: Option<PreTokenizer>,
    post_processor: Option<PostProcessor>,
    #[serde(default)]
    added_tokens: Vec<Added>,
    model: Value,
}

#[derive(Deserialize)]
struct Added {
    id: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pieces {
    /// Older files leave it out.
    #[serde(rename = "type")]
    _kind: Option<WordPiece>,
    unk_token: String,
    #[serde(rename = "continuing_subword_prefix")]
    _prefix: Option<String>,
    #[serde(rename = "max_input_chars_per_word")]
    _most: Option<u32>,
    vocab: HashMap<String, u64>,
}

#[derive(Deserialize)]
enum WordPiece {
    WordPiece,
}

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
enum Normalizer {
    #[serde(rename = "BertNormalizer")]
    Bert {
        #[serde(rename = "clean_text")]
        _clean: bool,
        #[serde(rename = "handle_chinese_chars")]
        _chinese: bool,
        #[serde(rename = "strip_accents")]
        _accents: Option<bool>,
        #[serde(rename = "lowercase")]
        _lowercase: bool,
    },
    Lowercase {},
    StripAccents {},
    #[serde(rename = "NFC")]
    Nfc {},
    #[serde(rename = "NFD")]
    Nfd {},
    #[serde(rename = "NFKC")]
    Nfkc {},
    #[serde(rename = "NFKD")]
    Nfkd {},
    Precompiled {
        precompiled_charsmap: String,
    },
    Strip {
        #[serde(rename = "strip_left")]
        _left: bool,
        #[serde(rename = "strip_right")]
        _right: bool,
    },
    Replace {
        pattern: Pattern,
        content: String,
    },
    Sequence {
        normalizers: Vec<Normalizer>,
    },
}

#[derive(Deserialize)]
enum Pattern {
    Regex(String),
}

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
enum PreTokenizer {
    #[serde(rename = "BertPreTokenizer")]
    Bert {},
    WhitespaceSplit {},
    ByteLevel {
        #[serde(rename = "add_prefix_space")]
        _space: bool,
        #[serde(rename = "trim_offsets")]
        _trim: bool,
        /// Its pattern is built in: without it, a word is one piece.
        #[serde(rename = "use_regex")]
        _regex: Option<bool>,
    },
    Metaspace {
        replacement: char,
        prepend_scheme: Option<Prepend>,
        add_prefix_space: Option<bool>,
        #[serde(rename = "split")]
        _split: Option<bool>,
        #[serde(rename = "str_rep")]
        _replacement: Option<String>,
    },
    Sequence {
        pretokenizers: Vec<PreTokenizer>,
    },
}

/// Words have a blank before them wherever they stand.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Prepend {
    Always,
    First,
    Never,
}

/// What model a pre-tokeniser is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    WordPiece,
    Bytes,
    Unigram,
}

impl PreTokenizer {
    fn kind(&self) -> Result<Kind, Error> {
        let not_taken = |reason: &str| Err(Error::NotTaken(reason.to_owned()));
        match self {
            Self::Bert {} | Self::WhitespaceSplit {} => Ok(Kind::WordPiece),
            Self::ByteLevel { .. } => Ok(Kind::Bytes),
            Self::Metaspace {
                replacement,
                prepend_scheme,
                add_prefix_space,
                ..
            } => {
                let bare = matches!(prepend_scheme, Some(Prepend::Never));
                if *replacement != BLANK || bare || *add_prefix_space == Some(false) {
                    return not_taken("a Metaspace that is not `▁` before each word");
                }
                Ok(Kind::Unigram)
            }
            Self::Sequence { pretokenizers } => match pretokenizers.as_slice() {
                [Self::WhitespaceSplit {}, last @ Self::Metaspace { .. }] => last.kind(),
                _ => not_taken("a sequence other than WhitespaceSplit and Metaspace"),
            },
        }
    }
}

/// It adds special tokens, whatever the words.
#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
enum PostProcessor {
    #[serde(rename = "TemplateProcessing")]
    Template {
        single: Vec<Piece>,
        pair: Vec<Piece>,
        special_tokens: HashMap<String, Special>,
    },
    #[serde(rename = "BertProcessing")]
    Bert {
        sep: (String, u64),
        cls: (String, u64),
    },
    #[serde(rename = "RobertaProcessing")]
    Roberta {
        sep: (String, u64),
        cls: (String, u64),
        #[serde(rename = "trim_offsets")]
        _trim: bool,
        #[serde(rename = "add_prefix_space")]
        _space: bool,
    },
}

#[derive(Deserialize)]
enum Piece {
    SpecialToken { id: String },
    Sequence {},
}

#[derive(Deserialize)]
struct Special {
    ids: Vec<u64>,
}

impl PostProcessor {
    /// The numbers of the tokens that it adds; an error where a template names one that is not
    /// there, for which the program that builds it has no answer but to stop.
    fn numbers(&self) -> Result<Vec<u64>, Error> {
        match self {
            Self::Bert { sep, cls } | Self::Roberta { sep, cls, .. } => Ok(vec![sep.1, cls.1]),
            Self::Template {
                single,
                pair,
                special_tokens,
            } => {
                for piece in single.iter().chain(pair) {
                    if let Piece::SpecialToken { id } = piece
                        && !special_tokens.contains_key(id)
                    {
                        let named = id.escape_debug();
                        return Err(Error::NotTaken(format!(
                            "its template names `{named}`, which is no special token"
                        )));
                    }
                }
                let ids = special_tokens.values().flat_map(|special| &special.ids);
                Ok(ids.copied().collect())
            }
        }
    }
}

impl Normalizer {
    fn check(&self) -> Result<(), Error> {
        let not_taken = |reason: &str| Err(Error::NotTaken(reason.to_owned()));
        if let Self::Sequence { normalizers } = self {
            let deep = |part: &Self| matches!(part, Self::Sequence { .. });
            if normalizers.iter().any(deep) {
                return not_taken("a sequence in a sequence");
            }
            return normalizers.iter().try_for_each(Self::check);
        }
        if let Self::Precompiled {
            precompiled_charsmap,
        } = self
            && !is_charsmap(precompiled_charsmap)
        {
            return not_taken("a precompiled_charsmap that is none of SentencePiece's own");
        }
        if let Self::Replace {
            pattern: Pattern::Regex(pattern),
            content,
        } = self
            && !replaces_blanks(pattern, content)
        {
            return not_taken("a pattern of its own");
        }
        Ok(())
    }
}

/// Checks that `tokenizer.json` is in the closed set. With `vocabulary`, the number of the model's
/// word embeddings, every number of a word piece must be below it.
pub fn check(json: &[u8], vocabulary: Option<usize>) -> Result<(), Error> {
    let not_json = |error: serde_json::Error| Error::NotTaken(error.to_string());
    // All of it, and not only the parts below: programs that build a tokenizer read the others too.
    serde_json::from_slice::<serde_json::Value>(json).map_err(not_json)?;
    let file: File = serde_json::from_slice(json).map_err(not_json)?;
    let File {
        normalizer,
        pre_tokenizer,
        post_processor,
        added_tokens,
        model,
        ..
    } = file;
    let special = post_processor.map_or(Ok(Vec::new()), |part| part.numbers())?;
    if let Some(normalizer) = &normalizer {
        normalizer.check()?;
    }
    let largest = largest_piece(model, pre_tokenizer.as_ref())?;
    let Some(vocabulary) = vocabulary else {
        return Ok(());
    };
    let added = added_tokens.iter().map(|added| added.id);
    let found = added.chain(special).fold(largest, u64::max);
    if found < vocabulary as u64 {
        return Ok(());
    }
    Err(Error::Vocabulary { found, vocabulary })
}

/// The largest number of a piece of the model, which has to be one that the pre-tokeniser is for.
fn largest_piece(model: Value, pre_tokenizer: Option<&PreTokenizer>) -> Result<u64, Error> {
    let not_taken = |error: serde_json::Error| Error::NotTaken(error.to_string());
    let kind = match (&model["type"], &model["vocab"]) {
        (kind, _) if kind == "BPE" => Kind::Bytes,
        (_, Value::Array(_)) => Kind::Unigram,
        _ => Kind::WordPiece,
    };
    let expected = pre_tokenizer.map_or(Ok(Kind::WordPiece), PreTokenizer::kind)?;
    if kind != expected {
        let reason =
            "a model with the pre_tokenizer of another: BPE has ByteLevel, Unigram has Metaspace";
        return Err(Error::NotTaken(reason.to_owned()));
    }
    let vocab = match kind {
        Kind::Unigram => {
            let model: sentence_piece::Model = serde_json::from_value(model).map_err(not_taken)?;
            return model.check();
        }
        Kind::Bytes => {
            let model: byte_level::Model = serde_json::from_value(model).map_err(not_taken)?;
            model.check()?
        }
        Kind::WordPiece => {
            let model: Pieces = serde_json::from_value(model).map_err(not_taken)?;
            if !model.vocab.contains_key(&model.unk_token) {
                let found = format!("`{}`", model.unk_token.escape_debug());
                return Err(Error::NoUnknown { found });
            }
            model.vocab
        }
    };
    Ok(vocab.into_values().max().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn good() -> Value {
        json!({
            "added_tokens": [{ "id": 1, "content": "[UNK]" }],
            "normalizer": {
                "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": null, "lowercase": true,
            },
            "pre_tokenizer": { "type": "BertPreTokenizer" },
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [
                    { "SpecialToken": { "id": "[CLS]", "type_id": 0 } },
                    { "Sequence": { "id": "A", "type_id": 0 } },
                ],
                "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }],
                "special_tokens": { "[CLS]": { "id": "[CLS]", "ids": [2], "tokens": ["[CLS]"] } },
            },
            "model": { "type": "WordPiece", "unk_token": "[UNK]", "vocab": { "[UNK]": 1, "a": 5 } },
        })
    }

    fn checked(file: &Value, vocabulary: Option<usize>) -> Result<(), Error> {
        check(file.to_string().as_bytes(), vocabulary)
    }

    fn with(pointer: &str, value: Value) -> Value {
        let mut file = good();
        let (parent, key) = pointer.rsplit_once('/').expect("a key");
        let parent = file.pointer_mut(parent).expect("a part");
        parent[key] = value;
        file
    }

    fn renamed(name: &str, part: &Value) -> Value {
        let mut part = part.clone();
        part["type"] = json!(name);
        part
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
            with("/pre_tokenizer", split.clone()),
            with("/model/unk_token", json!("[NONE]")),
            with("/model/unk_token", Value::Null),
            with("/model/type", json!("BPE")),
            with("/model/type", json!("Unigram")),
            // What calls itself BERT's, with the fields of another part.
            with("/normalizer", renamed("BertNormalizer", &replace("x"))),
            with("/normalizer", renamed("Lowercase", &replace("x"))),
            with("/normalizer", json!({ "type": "BertNormalizer" })),
            with("/normalizer/pattern", json!({ "Regex": "x" })),
            with("/pre_tokenizer", renamed("BertPreTokenizer", &split)),
            with("/model/merges", json!([])),
            // A template that names what is not there stops the program that follows it.
            with("/post_processor/special_tokens", json!({})),
            with(
                "/post_processor/pair",
                json!([{ "SpecialToken": { "id": "[SEP]" } }]),
            ),
        ] {
            assert!(checked(&file, None).is_err(), "{file}");
        }
        for file in [
            with("/model/vocab/a", json!(40_000)),
            with("/added_tokens/0/id", json!(999_999)),
            with("/post_processor/special_tokens/[CLS]/ids", json!([30_522])),
            with(
                "/post_processor",
                json!({ "type": "BertProcessing", "sep": ["[SEP]", 99_999], "cls": ["[CLS]", 2] }),
            ),
        ] {
            assert_eq!(checked(&file, None), Ok(()));
            let refused = checked(&file, Some(30_522));
            assert!(matches!(refused, Err(Error::Vocabulary { .. })), "{file}");
        }
        assert!(check(&[0xff, 0xfe], None).is_err());
        // Half of a character, where only other programs look.
        let decoder = good()
            .to_string()
            .replacen('{', r#"{"decoder":"\ud800","#, 1);
        assert!(check(decoder.as_bytes(), None).is_err());
        let nested = "[".repeat(100_000);
        assert!(check(nested.as_bytes(), None).is_err());
    }
}
