//! The closed set of tokenizers, checked on what was built.
//!
//! [`fedner_shared::tokenizer`] checks the file. The `tokenizers` crate reads that file by rules of its
//! own and may build another part than the file names. What runs on private text is what was built, so
//! that is checked too.

use fedner_shared::tokenizer;
use tokenizers::Model as _;
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::NormalizerWrapper as Normalizer;
use tokenizers::normalizers::replace::{Replace, ReplacePattern};
use tokenizers::pre_tokenizers::PreTokenizerWrapper as PreTokenizer;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;

use crate::Error;

/// Refuses what is not made of BERT's parts alone, of RoBERTa's or of XLM-RoBERTa's. Returns the number
/// of the unknown token, without which a word could fail to encode.
pub(super) fn check(built: &tokenizers::Tokenizer) -> Result<u32, Error> {
    let refuse = |what: &str| {
        let whose = "one of BERT's, RoBERTa's or XLM-RoBERTa's";
        Error::Tokenizer(format!("its {what} is not {whose}"))
    };
    if !built.get_normalizer().is_none_or(normalizes) {
        return Err(refuse("normalizer"));
    }
    let splits = built.get_pre_tokenizer();
    let by_words = splits.is_none_or(|part| {
        matches!(
            part,
            PreTokenizer::BertPreTokenizer(_) | PreTokenizer::WhitespaceSplit(_)
        )
    });
    let by_bytes = matches!(splits, Some(PreTokenizer::ByteLevel(_)));
    let by_blanks = splits.is_some_and(marks_blanks);
    if !by_bytes && !by_words && !by_blanks {
        return Err(refuse("pre_tokenizer"));
    }
    let unknown = match built.get_model() {
        ModelWrapper::WordPiece(model) if by_words => built.token_to_id(&model.unk_token),
        ModelWrapper::BPE(model) if by_bytes && is_closed(built, model) => {
            built.token_to_id(model.unk_token.as_deref().unwrap_or("<unk>"))
        }
        ModelWrapper::Unigram(model) if by_blanks && is_plain_unigram(model) => unknown_of(model),
        ModelWrapper::WordPiece(_)
        | ModelWrapper::BPE(_)
        | ModelWrapper::WordLevel(_)
        | ModelWrapper::Unigram(_) => return Err(refuse("model")),
    };
    unknown.ok_or_else(|| Error::Tokenizer("it has no unknown token".to_owned()))
}

/// Whether a byte-level model has a token for every byte, and does the same each time.
fn is_closed(built: &tokenizers::Tokenizer, model: &BPE) -> bool {
    let plain = |affix: &Option<String>| affix.as_deref().is_none_or(str::is_empty);
    let whole = tokenizer::symbols().all(|symbol| built.token_to_id(&symbol.to_string()).is_some());
    let same = model.dropout.is_none_or(|dropout| dropout == 0.0);
    let affixes = plain(&model.continuing_subword_prefix) && plain(&model.end_of_word_suffix);
    whole && same && affixes && !model.fuse_unk && !model.byte_fallback
}

/// Whether words get `▁` before them, as SentencePiece writes a blank.
fn marks_blanks(part: &PreTokenizer) -> bool {
    let mut part = part;
    if let PreTokenizer::Sequence(parts) = part
        && let [PreTokenizer::WhitespaceSplit(_), last] = parts.as_ref()
    {
        part = last;
    }
    let PreTokenizer::Metaspace(space) = part else {
        return false;
    };
    let before = space.get_prepend_scheme() != PrependScheme::Never;
    before && space.get_replacement() == tokenizer::BLANK
}

/// Whether a unigram model does the same each time, and ends for any word.
fn is_plain_unigram(model: &Unigram) -> bool {
    let sampled = model.alpha.is_some() || model.nbest_size.is_some() || model.byte_fallback();
    let sound = |score: f64| score.is_finite() && score.abs() <= tokenizer::LARGEST_SCORE;
    let mut pieces = model.iter();
    !sampled && pieces.all(|(piece, score)| !piece.is_empty() && sound(*score))
}

/// The number that a unigram model has for what it cannot spell: a character that is no piece of it.
fn unknown_of(model: &Unigram) -> Option<u32> {
    const PRIVATE: std::ops::RangeInclusive<char> = '\u{F0000}'..='\u{10FFFD}';
    let mut characters = PRIVATE.map(String::from);
    let odd = characters.find(|text| model.token_to_id(text).is_none())?;
    let tokens = model.tokenize(&odd).ok()?;
    tokens.first().map(|token| token.id)
}

fn normalizes(part: &Normalizer) -> bool {
    if let Normalizer::Sequence(parts) = part {
        return parts.as_ref().iter().all(is_plain);
    }
    is_plain(part)
}

/// One step without a pattern or text of its own.
fn is_plain(part: &Normalizer) -> bool {
    matches!(
        part,
        Normalizer::BertNormalizer(_)
            | Normalizer::Lowercase(_)
            | Normalizer::StripAccents(_)
            | Normalizer::NFC(_)
            | Normalizer::NFD(_)
            | Normalizer::NFKC(_)
            | Normalizer::NFKD(_)
            | Normalizer::StripNormalizer(_)
    ) || is_sentence_pieces(part)
}

/// A step of SentencePiece's: a table of its own, or the one pattern that transformers writes.
fn is_sentence_pieces(part: &Normalizer) -> bool {
    if let Normalizer::Precompiled(table) = part {
        let written = serde_json::to_value(table).unwrap_or_default();
        let bytes = written["precompiled_charsmap"].as_str();
        return bytes.is_some_and(tokenizer::is_charsmap);
    }
    let Normalizer::Replace(replace) = part else {
        return false;
    };
    let pattern = ReplacePattern::Regex(tokenizer::BLANKS.to_owned());
    let known = Replace::new(pattern, replace.content.clone());
    tokenizer::replaces_blanks(tokenizer::BLANKS, &replace.content)
        && known.is_ok_and(|known| known == *replace)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn built(normalizer: Value, split: Value, model: Value) -> tokenizers::Tokenizer {
        let file = json!({
            "version": "1.0", "added_tokens": [], "normalizer": normalizer,
            "pre_tokenizer": split, "post_processor": null, "decoder": null, "model": model,
        });
        tokenizers::Tokenizer::from_bytes(file.to_string()).expect("built")
    }

    fn words() -> Value {
        json!({
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": { "[UNK]": 1, "a": 5 },
        })
    }

    /// The crate builds each of these from a file that the names alone would let pass.
    #[test]
    fn what_is_built_decides_whatever_the_file_calls_it() {
        let bert = json!({
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true,
        });
        let good = built(bert.clone(), json!({ "type": "BertPreTokenizer" }), words());
        assert_eq!(check(&good).expect("BERT's"), 1);
        let pattern = json!({ "Regex": "^(?!(?:secret)$).*$" });
        let disguised = json!({ "type": "BertNormalizer", "pattern": pattern, "content": "a" });
        let sequence = json!({ "type": "Sequence", "normalizers": [disguised.clone()] });
        let split = json!({
            "type": "Split", "pattern": pattern, "behavior": "Removed", "invert": false,
        });
        let mut merges = words();
        merges["merges"] = json!([]);
        merges.as_object_mut().expect("an object").remove("type");
        let mut without = words();
        without["unk_token"] = json!("[NONE]");
        for (what, odd) in [
            ("normalizer", built(disguised, Value::Null, words())),
            ("sequence", built(sequence, Value::Null, words())),
            ("split", built(bert.clone(), split, words())),
            ("merges", built(bert.clone(), Value::Null, merges)),
            ("unknown", built(bert, Value::Null, without)),
        ] {
            assert!(check(&odd).is_err(), "{what}");
        }
    }

    #[test]
    fn unigram_models_are_checked_as_they_are_built() {
        let pieces = |unknown: Value, last: Value| json!({ "type": "Unigram", "unk_id": unknown, "vocab": [["<s>", 0.0], ["<unk>", 0.0], last] });
        let space = |blank: &str, scheme: &str| {
            let space = json!({
                "type": "Metaspace", "replacement": blank, "prepend_scheme": scheme, "split": true,
            });
            json!({ "type": "Sequence", "pretokenizers": [{ "type": "WhitespaceSplit" }, space] })
        };
        let replace = |pattern: Value, content: &str| json!({ "type": "Replace", "pattern": pattern, "content": content });
        let (usual, sound) = (space("▁", "always"), json!(["▁a", -2.0]));
        let blanks = replace(json!({ "Regex": " {2,}" }), "▁");
        let good = built(blanks, usual.clone(), pieces(json!(1), sound.clone()));
        assert_eq!(check(&good).expect("XLM-RoBERTa's"), 1);
        let table = json!({ "type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAAA=" });
        let model = pieces(json!(1), sound.clone());
        for (what, odd) in vec![
            (
                "pattern",
                built(
                    replace(json!({ "Regex": "x" }), "▁"),
                    usual.clone(),
                    model.clone(),
                ),
            ),
            (
                "string",
                built(
                    replace(json!({ "String": " " }), "▁"),
                    usual.clone(),
                    model.clone(),
                ),
            ),
            (
                "content",
                built(
                    replace(json!({ "Regex": " {2,}" }), ""),
                    usual.clone(),
                    model.clone(),
                ),
            ),
            ("table", built(table, usual.clone(), model.clone())),
            (
                "blank",
                built(Value::Null, space("a", "always"), model.clone()),
            ),
            (
                "scheme",
                built(Value::Null, space("▁", "never"), model.clone()),
            ),
            (
                "split",
                built(Value::Null, json!({ "type": "BertPreTokenizer" }), model),
            ),
            ("word pieces", built(Value::Null, usual.clone(), words())),
            (
                "unknown",
                built(Value::Null, usual.clone(), pieces(Value::Null, sound)),
            ),
            (
                "empty",
                built(
                    Value::Null,
                    usual.clone(),
                    pieces(json!(1), json!(["", -2.0])),
                ),
            ),
            (
                "score",
                built(Value::Null, usual, pieces(json!(1), json!(["a", 1e200]))),
            ),
        ] {
            assert!(check(&odd).is_err(), "{what}");
        }
    }
}
