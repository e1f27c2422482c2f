//! The closed set of tokenizers, checked on what was built.
//!
//! [`fedner_shared::tokenizer`] checks the file. The `tokenizers` crate reads that file by rules of its
//! own and may build another part than the file names. What runs on private text is what was built, so
//! that is checked too.

use fedner_shared::tokenizer;
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::NormalizerWrapper as Normalizer;
use tokenizers::pre_tokenizers::PreTokenizerWrapper as PreTokenizer;

use crate::Error;

/// Refuses what is not made of BERT's parts alone, or of RoBERTa's. Returns the number of the unknown token, without
/// which a word could fail to encode.
pub(super) fn check(built: &tokenizers::Tokenizer) -> Result<u32, Error> {
    let refuse = |what: &str| Error::Tokenizer(format!("its {what} is not one of BERT's"));
    if !built.get_normalizer().is_none_or(normalizes) {
        return Err(refuse("normalizer"));
    }
    let splits = built.get_pre_tokenizer();
    let by_bytes = matches!(splits, Some(PreTokenizer::ByteLevel(_)));
    let by_words = splits.is_none_or(|part| {
        matches!(
            part,
            PreTokenizer::BertPreTokenizer(_) | PreTokenizer::WhitespaceSplit(_)
        )
    });
    if !by_bytes && !by_words {
        return Err(refuse("pre_tokenizer"));
    }
    let unknown = match built.get_model() {
        ModelWrapper::WordPiece(model) if !by_bytes => built.token_to_id(&model.unk_token),
        ModelWrapper::BPE(model) if by_bytes && is_closed(built, model) => {
            built.token_to_id(model.unk_token.as_deref().unwrap_or("<unk>"))
        }
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
    )
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
}
