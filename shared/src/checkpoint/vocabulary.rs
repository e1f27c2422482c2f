//! `tokenizer.json` and the files that older programs have in its place: `vocab.txt`,
//! `tokenizer_config.json` and `special_tokens_map.json`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What `tokenizer_config.json` says of words and special tokens; what it leaves out is as in BERT.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Settings {
    do_lower_case: Option<bool>,
    strip_accents: Option<bool>,
    tokenize_chinese_chars: Option<bool>,
    unk_token: Option<Token>,
    sep_token: Option<Token>,
    pad_token: Option<Token>,
    cls_token: Option<Token>,
    mask_token: Option<Token>,
}

/// A special token: its text, or an object with it.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Object { content: String },
}

impl Token {
    fn text<'a>(token: Option<&'a Self>, usual: &'a str) -> &'a str {
        match token {
            Some(Self::Text(text) | Self::Object { content: text }) => text,
            None => usual,
        }
    }
}

impl Settings {
    /// `tokenizer.json` with what is said here of letters in its normaliser. Byte-level tokenizers
    /// read words with a blank before each, as words of a text stand.
    pub(super) fn applied(&self, json: Vec<u8>) -> Vec<u8> {
        let Ok(mut tokenizer) = serde_json::from_slice::<Value>(&json) else {
            return json;
        };
        if is_byte_level(&tokenizer) {
            tokenizer["pre_tokenizer"]["add_prefix_space"] = json!(true);
            return serde_json::to_vec(&tokenizer).unwrap_or(json);
        }
        let Some(normalizer) = tokenizer
            .get_mut("normalizer")
            .and_then(Value::as_object_mut)
        else {
            return json;
        };
        if normalizer.get("type") != Some(&json!("BertNormalizer")) {
            return json;
        }
        let said = [
            ("lowercase", self.do_lower_case),
            ("strip_accents", self.strip_accents),
            ("handle_chinese_chars", self.tokenize_chinese_chars),
        ];
        let mut changed = false;
        for (key, said) in said {
            if let Some(said) = said.filter(|said| normalizer.get(key) != Some(&json!(said))) {
                normalizer.insert(key.to_owned(), json!(said));
                changed = true;
            }
        }
        match serde_json::to_vec(&tokenizer) {
            Ok(changed_json) if changed => changed_json,
            Ok(_) | Err(_) => json,
        }
    }

    /// `tokenizer.json` of BERT's tokenizer with the word pieces of `vocab.txt`, one a line.
    pub(super) fn tokenizer_of(&self, vocabulary: &str) -> Vec<u8> {
        let text = vocabulary.strip_suffix('\n').unwrap_or(vocabulary);
        let lines = text
            .split('\n')
            .map(|line| line.strip_suffix('\r').unwrap_or(line));
        let ids: Map<String, Value> = lines
            .enumerate()
            .map(|(id, piece)| (piece.to_owned(), json!(id)))
            .collect();
        let [unknown, separator, padding, class, mask] = [
            Token::text(self.unk_token.as_ref(), "[UNK]"),
            Token::text(self.sep_token.as_ref(), "[SEP]"),
            Token::text(self.pad_token.as_ref(), "[PAD]"),
            Token::text(self.cls_token.as_ref(), "[CLS]"),
            Token::text(self.mask_token.as_ref(), "[MASK]"),
        ];
        let special = [padding, unknown, class, separator, mask].into_iter();
        let mut added: Vec<(u64, &str)> = special
            .filter_map(|token| Some((ids.get(token)?.as_u64()?, token)))
            .collect();
        added.sort_unstable();
        let added: Vec<Value> = added
            .into_iter()
            .map(|(id, content)| {
                json!({
                    "id": id, "content": content, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": true,
                })
            })
            .collect();
        let token = |token: &str, kind: u8| json!({"SpecialToken": {"id": token, "type_id": kind}});
        let sequence = |id: &str, kind: u8| json!({"Sequence": {"id": id, "type_id": kind}});
        let named = |token: &str| {
            let id = ids.get(token);
            (
                token.to_owned(),
                json!({"id": token, "ids": [id], "tokens": [token]}),
            )
        };
        let named: Map<String, Value> = [named(class), named(separator)].into_iter().collect();
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": {
                "type": "BertNormalizer", "clean_text": true,
                "handle_chinese_chars": self.tokenize_chinese_chars.unwrap_or(true),
                "strip_accents": self.strip_accents,
                "lowercase": self.do_lower_case.unwrap_or(true),
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [token(class, 0), sequence("A", 0), token(separator, 0)],
                "pair": [
                    token(class, 0), sequence("A", 0), token(separator, 0),
                    sequence("B", 1), token(separator, 1),
                ],
                "special_tokens": named,
            },
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
            "model": {
                "type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": ids,
            },
        });
        tokenizer.to_string().into_bytes()
    }
}

/// The files that stand beside `tokenizer.json` for other programs: name and contents.
///
/// transformers' tokenizers of BERT lower-case whatever `tokenizer.json` says, unless
/// `tokenizer_config.json` says otherwise.
pub fn companions(tokenizer_json: &[u8], max_length: usize) -> Vec<(&'static str, Vec<u8>)> {
    let Ok(tokenizer) = serde_json::from_slice::<Value>(tokenizer_json) else {
        return Vec::new();
    };
    let mut files = Vec::new();
    let special = special_tokens(&tokenizer);
    let mut config = Map::new();
    let letters = Letters::of(&tokenizer["normalizer"]);
    if is_byte_level(&tokenizer) {
        config.insert("tokenizer_class".into(), json!("RobertaTokenizer"));
        config.insert("add_prefix_space".into(), json!(true));
    } else if is_unigram(&tokenizer) {
        // The class that reads tokenizer.json as it is.
        config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
    } else {
        config.insert("tokenizer_class".into(), json!("BertTokenizer"));
        config.insert("do_lower_case".into(), json!(letters.lowercase));
        config.insert("strip_accents".into(), json!(letters.strip_accents));
        config.insert("tokenize_chinese_chars".into(), json!(letters.chinese));
    }
    config.insert("model_max_length".into(), json!(max_length));
    config.extend(special.clone());
    files.push(("tokenizer_config.json", pretty(&Value::Object(config))));
    files.push(("special_tokens_map.json", pretty(&Value::Object(special))));
    if !is_byte_level(&tokenizer) && !is_unigram(&tokenizer) {
        files.extend(vocabulary(&tokenizer).map(|text| ("vocab.txt", text.into_bytes())));
    }
    files
}

fn is_byte_level(tokenizer: &Value) -> bool {
    tokenizer["pre_tokenizer"]["type"] == "ByteLevel"
}

/// Its pieces have scores: they are a list.
fn is_unigram(tokenizer: &Value) -> bool {
    tokenizer["model"]["vocab"].is_array()
}

fn pretty(value: &Value) -> Vec<u8> {
    let mut text = format!("{value:#}");
    text.push('\n');
    text.into_bytes()
}

/// What a normaliser does with letters.
struct Letters {
    lowercase: bool,
    strip_accents: Option<bool>,
    chinese: bool,
}

impl Letters {
    fn of(normalizer: &Value) -> Self {
        let kind = |part: &Value| part["type"].as_str().unwrap_or_default().to_owned();
        if kind(normalizer) == "BertNormalizer" {
            return Self {
                lowercase: normalizer["lowercase"].as_bool().unwrap_or(true),
                strip_accents: normalizer["strip_accents"].as_bool(),
                chinese: normalizer["handle_chinese_chars"].as_bool().unwrap_or(true),
            };
        }
        let steps: Vec<String> = match normalizer["normalizers"].as_array() {
            Some(steps) => steps.iter().map(kind).collect(),
            None => vec![kind(normalizer)],
        };
        let has = |name: &str| steps.iter().any(|step| step == name);
        Self {
            lowercase: has("Lowercase"),
            strip_accents: Some(has("StripAccents")),
            chinese: false,
        }
    }
}

/// The special tokens by role; `[UNK]` and the like where the tokenizer has them.
fn special_tokens(tokenizer: &Value) -> Map<String, Value> {
    let mut known: Vec<&str> = Vec::new();
    let vocabulary = &tokenizer["model"]["vocab"];
    let pieces = vocabulary.as_object().into_iter().flatten();
    known.extend(pieces.map(|(piece, _)| piece.as_str()));
    let scored = vocabulary.as_array().into_iter().flatten();
    known.extend(scored.filter_map(|piece| piece[0].as_str()));
    let added = tokenizer["added_tokens"].as_array().into_iter().flatten();
    known.extend(added.filter_map(|token| token["content"].as_str()));
    let mut tokens = Map::new();
    let first = |names: [&'static str; 2]| {
        let found = names.into_iter().find(|name| known.contains(name));
        found.unwrap_or(names[0])
    };
    let unknown = tokenizer["model"]["unk_token"].as_str();
    let unknown = unknown.unwrap_or_else(|| first(["[UNK]", "<unk>"]));
    let template = |index: usize| {
        let single = tokenizer["post_processor"]["single"].as_array()?;
        let special = single
            .iter()
            .filter_map(|part| part["SpecialToken"]["id"].as_str());
        special.collect::<Vec<_>>().get(index).copied()
    };
    let roles = [
        ("unk_token", unknown),
        (
            "cls_token",
            template(0).unwrap_or_else(|| first(["[CLS]", "<s>"])),
        ),
        (
            "sep_token",
            template(1).unwrap_or_else(|| first(["[SEP]", "</s>"])),
        ),
        ("pad_token", first(["[PAD]", "<pad>"])),
        ("mask_token", first(["[MASK]", "<mask>"])),
    ];
    for (role, token) in roles {
        if known.contains(&token) {
            tokens.insert(role.to_owned(), json!(token));
        }
    }
    tokens
}

/// `vocab.txt`; `None` where a number has no word piece or a piece would break a line.
fn vocabulary(tokenizer: &Value) -> Option<String> {
    let pieces: BTreeMap<u64, &str> = tokenizer["model"]["vocab"]
        .as_object()?
        .iter()
        .filter_map(|(piece, id)| Some((id.as_u64()?, piece.as_str())))
        .collect();
    let whole = pieces
        .keys()
        .enumerate()
        .all(|(index, id)| index as u64 == *id);
    if !whole || pieces.values().any(|piece| piece.contains(['\n', '\r'])) {
        return None;
    }
    let lines = pieces.values().map(|piece| format!("{piece}\n"));
    Some(lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\naspirin\n##s\n";

    fn file<'a>(files: &'a [(&'static str, Vec<u8>)], name: &str) -> &'a [u8] {
        let found = files.iter().find(|(found, _)| *found == name);
        found
            .map(|(_, contents)| contents.as_slice())
            .expect("the file")
    }

    #[test]
    fn a_vocabulary_becomes_a_tokenizer_and_comes_back() {
        let settings: Settings = serde_json::from_value(json!({
            "do_lower_case": false, "strip_accents": null, "unk_token": {"content": "[UNK]"},
            "model_max_length": 512,
        }))
        .expect("settings");
        let json = settings.tokenizer_of(VOCABULARY);
        crate::tokenizer::check(&json, Some(7)).expect("of the closed set");
        let files = companions(&json, 512);
        assert_eq!(file(&files, "vocab.txt"), VOCABULARY.as_bytes());
        let config: Value =
            serde_json::from_slice(file(&files, "tokenizer_config.json")).expect("JSON");
        assert_eq!(config["do_lower_case"], json!(false));
        assert_eq!(config["strip_accents"], Value::Null);
        assert_eq!(config["cls_token"], json!("[CLS]"));
        let windows = VOCABULARY.replace('\n', "\r\n");
        assert_eq!(settings.tokenizer_of(&windows), json);
    }

    #[test]
    fn what_the_settings_say_of_letters_holds() {
        let json = Settings::default().tokenizer_of(VOCABULARY);
        let cased = Settings {
            do_lower_case: Some(false),
            ..Settings::default()
        };
        assert_eq!(cased.applied(json.clone()), {
            let mut value: Value = serde_json::from_slice(&json).expect("JSON");
            value["normalizer"]["lowercase"] = json!(false);
            serde_json::to_vec(&value).expect("JSON")
        });
        assert_eq!(Settings::default().applied(json.clone()), json);
    }

    #[test]
    fn gaps_in_the_numbers_leave_out_the_vocabulary() {
        let tokenizer = json!({"model": {"vocab": {"a": 0, "b": 2}, "unk_token": "a"}});
        let files = companions(tokenizer.to_string().as_bytes(), 16);
        assert!(files.iter().all(|(name, _)| *name != "vocab.txt"));
    }
}
