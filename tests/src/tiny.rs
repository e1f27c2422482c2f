//! A small BERT made here, for tests and for machines that cannot fetch a pretrained one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint::Checkpoint;
use serde_json::json;

/// How large.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    pub inner: usize,
    /// Whole words in the vocabulary; others are spelt from single characters.
    pub words: usize,
}

/// For tests: a few ten thousand weights.
pub const TEST: Size = Size {
    hidden: 32,
    layers: 1,
    heads: 2,
    inner: 64,
    words: 300,
};

/// For the demo without a pretrained encoder.
pub const DEMO: Size = Size {
    hidden: 128,
    layers: 2,
    heads: 4,
    inner: 256,
    words: 6000,
};

/// Writes a Hugging Face directory with random weights and a vocabulary of the words of `text`
/// (first columns of CoNLL lines).
pub fn write(directory: &Path, size: Size, text: &str, seed: u64) -> Result<()> {
    let vocabulary = vocabulary(text, size.words);
    let config = json!({
        "model_type": "bert",
        "architectures": ["BertModel"],
        "vocab_size": vocabulary.len(),
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "intermediate_size": size.inner,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "max_position_embeddings": 256,
        "type_vocab_size": 2,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    });
    let config = serde_json::to_string_pretty(&config)?;
    let checkpoint = Checkpoint::random(BertConfig::parse(&config)?, seed);
    fs::create_dir_all(directory).context("create the model's directory")?;
    fs::write(directory.join("config.json"), config).context("write config.json")?;
    fs::write(directory.join("tokenizer.json"), tokenizer(&vocabulary)?)
        .context("write tokenizer.json")?;
    fs::write(
        directory.join("model.safetensors"),
        checkpoint.to_safetensors()?,
    )
    .context("write model.safetensors")
}

/// Special tokens, every printable ASCII character alone and as a continuation, and the most
/// frequent words, lower-cased.
fn vocabulary(text: &str, words: usize) -> Vec<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for line in text.lines() {
        if let Some(word) = line.split_whitespace().next() {
            *counts.entry(word.to_lowercase()).or_default() += 1;
        }
    }
    let mut frequent: Vec<(String, usize)> = counts
        .into_iter()
        .filter(|(word, _)| word.chars().count() > 1)
        .collect();
    frequent.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
    let characters = ('!'..='~').filter(|c| !c.is_ascii_uppercase());
    let spelling = characters.flat_map(|c| [c.to_string(), format!("##{c}")]);
    let mut vocabulary: Vec<String> = special.into_iter().chain(spelling).collect();
    let whole = frequent
        .into_iter()
        .map(|(word, _)| word)
        .filter(|word| word.chars().all(char::is_alphanumeric));
    vocabulary.extend(whole.take(words));
    vocabulary
}

fn tokenizer(vocabulary: &[String]) -> Result<String> {
    let ids: BTreeMap<&str, usize> = vocabulary
        .iter()
        .enumerate()
        .map(|(id, token)| (token.as_str(), id))
        .collect();
    let special = |id: usize| {
        json!({ "id": id, "content": vocabulary[id], "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true })
    };
    let template = |id: &str| json!({ "SpecialToken": { "id": id, "type_id": 0 } });
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": (0..5).map(special).collect::<Vec<_>>(),
        "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                        "strip_accents": null, "lowercase": true },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [template("[CLS]"), { "Sequence": { "id": "A", "type_id": 0 } }, template("[SEP]")],
            "pair": [template("[CLS]"), { "Sequence": { "id": "A", "type_id": 0 } }, template("[SEP]"),
                     { "Sequence": { "id": "B", "type_id": 1 } }, { "SpecialToken": { "id": "[SEP]", "type_id": 1 } }],
            "special_tokens": {
                "[CLS]": { "id": "[CLS]", "ids": [2], "tokens": ["[CLS]"] },
                "[SEP]": { "id": "[SEP]", "ids": [3], "tokens": ["[SEP]"] },
            },
        },
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                   "max_input_chars_per_word": 100, "vocab": ids },
    });
    Ok(serde_json::to_string(&tokenizer)?)
}
