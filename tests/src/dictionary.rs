//! A tiny BERT tagger that is a dictionary: every word has the tag listed for its first word piece,
//! whatever stands around it.
//!
//! Attention and feed-forward layers add nothing. The embedding of a word piece points along the axis
//! of its tag, and the head reads that axis. So what it tags is known, and any difference comes from
//! the program, not from training.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint::Checkpoint;
use fedner_shared::manifest::TensorSpec;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
const HIDDEN: usize = 32;

/// What the dictionary holds, and how it is written to a directory.
#[derive(Debug, Clone)]
pub struct Dictionary {
    tags: Vec<String>,
    /// Word pieces and their tags.
    words: Vec<(String, String)>,
    /// The tag of every other word piece.
    other: String,
    pieces: Vec<String>,
    lowercase: bool,
    strip_accents: Option<bool>,
    files: TokenizerFiles,
    bfloat16: bool,
    shards: usize,
    /// Before each tensor's name.
    prefix: String,
    config: BTreeMap<String, Value>,
}

/// How the tokenizer is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenizerFiles {
    Json,
    Vocabulary,
    Both,
}

impl Dictionary {
    /// `tags` are those of the head, with blanks between them; `words` are word pieces and their
    /// tags.
    pub fn new(tags: &str, words: &[(&str, &str)]) -> Self {
        let words = words.iter();
        Self {
            tags: tags.split(' ').map(str::to_owned).collect(),
            words: words
                .map(|(word, tag)| ((*word).to_owned(), (*tag).to_owned()))
                .collect(),
            other: "O".to_owned(),
            pieces: Vec::new(),
            lowercase: true,
            strip_accents: None,
            files: TokenizerFiles::Json,
            bfloat16: false,
            shards: 1,
            prefix: String::new(),
            config: BTreeMap::new(),
        }
    }

    #[must_use]
    pub fn cased(mut self) -> Self {
        self.lowercase = false;
        self
    }

    /// Whether accents are taken off; left open, they are where letters become lower case.
    #[must_use]
    pub fn with_accents(mut self, strip: Option<bool>) -> Self {
        self.strip_accents = strip;
        self
    }

    /// Further word pieces, with blanks between them.
    #[must_use]
    pub fn with_pieces(mut self, pieces: &str) -> Self {
        self.pieces.extend(pieces.split(' ').map(str::to_owned));
        self
    }

    /// The tag of words that are not listed.
    #[must_use]
    pub fn with_other(mut self, tag: &str) -> Self {
        tag.clone_into(&mut self.other);
        self
    }

    #[must_use]
    pub fn with_tokenizer(mut self, files: TokenizerFiles) -> Self {
        self.files = files;
        self
    }

    #[must_use]
    pub fn in_bfloat16(mut self) -> Self {
        self.bfloat16 = true;
        self
    }

    #[must_use]
    pub fn in_files(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// Sets a key of config.json, or removes it where the value is null.
    #[must_use]
    pub fn with_config(mut self, key: &str, value: Value) -> Self {
        self.config.insert(key.to_owned(), value);
        self
    }

    fn vocabulary(&self) -> Vec<String> {
        let letters = ('!'..='~').filter(|c| !self.lowercase || !c.is_ascii_uppercase());
        let continued = |c: &char| c.is_ascii_alphanumeric();
        let spelling = letters.clone().map(String::from);
        let spelling = spelling.chain(letters.filter(continued).map(|c| format!("##{c}")));
        let special = SPECIAL.map(str::to_owned).into_iter();
        let words = self.words.iter().map(|(word, _)| word.clone());
        let all = special
            .chain(spelling)
            .chain(self.pieces.clone())
            .chain(words);
        let mut vocabulary: Vec<String> = Vec::new();
        for piece in all {
            if !vocabulary.contains(&piece) {
                vocabulary.push(piece);
            }
        }
        vocabulary
    }

    fn config_json(&self, vocabulary: usize) -> Value {
        let tags = self.tags.iter().enumerate();
        let id2label: BTreeMap<String, &String> = tags
            .clone()
            .map(|(id, tag)| (id.to_string(), tag))
            .collect();
        let label2id: BTreeMap<&String, usize> = tags.map(|(id, tag)| (tag, id)).collect();
        let mut config = json!({
            "architectures": ["BertForTokenClassification"], "model_type": "bert",
            "vocab_size": vocabulary, "hidden_size": HIDDEN, "num_hidden_layers": 1,
            "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 64,
            "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
            "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
            "initializer_range": 0.02, "pad_token_id": 0, "id2label": id2label,
            "label2id": label2id,
        });
        if let Some(fields) = config.as_object_mut() {
            for (key, value) in &self.config {
                fields.insert(key.clone(), value.clone());
            }
            fields.retain(|_, value| !value.is_null());
        }
        config
    }

    fn tag_of(&self, piece: &str) -> usize {
        let listed = self.words.iter().find(|(word, _)| word == piece);
        let tag = listed.map_or(&self.other, |(_, tag)| tag);
        self.tags.iter().position(|known| known == tag).unwrap_or(0)
    }

    fn values(&self, spec: &TensorSpec, vocabulary: &[String]) -> Vec<f32> {
        let count: usize = spec.shape.iter().product();
        let mut values = vec![0.0; count];
        if spec.name.ends_with("LayerNorm.weight") {
            values.fill(1.0);
        } else if spec.name.ends_with("word_embeddings.weight") {
            for (row, piece) in values.chunks_exact_mut(HIDDEN).zip(vocabulary) {
                let tag = self.tag_of(piece);
                row[tag] = 8.0;
                // The mean stays nought: the norm changes the scale alone.
                row[HIDDEN - 1 - tag] = -8.0;
            }
        } else if spec.name == "classifier.weight" {
            for (tag, row) in values.chunks_exact_mut(HIDDEN).enumerate() {
                row[tag] = 2.0;
            }
        }
        values
    }

    /// The model itself, without files.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        let vocabulary = self.vocabulary();
        let config = self.config_json(vocabulary.len()).to_string();
        let config = BertConfig::parse(&config)?;
        let mut specs = config.encoder_tensors();
        specs.extend(config.head_tensors(self.tags.len()));
        let tensors = specs.into_iter().map(|spec| {
            let values = self.values(&spec, &vocabulary);
            (spec, values)
        });
        Ok(Checkpoint::from_tensors(config.clone(), tensors))
    }

    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// Contents of `tokenizer.json`.
    pub fn tokenizer_json(&self) -> String {
        let vocabulary = self.vocabulary();
        let ids: BTreeMap<&String, usize> = vocabulary
            .iter()
            .enumerate()
            .map(|(id, piece)| (piece, id))
            .collect();
        let added = SPECIAL.iter().enumerate().map(|(id, token)| {
            json!({ "id": id, "content": token, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": true })
        });
        let special = |token: &str| json!({ "SpecialToken": { "id": token, "type_id": 0 } });
        let sequence = json!({ "Sequence": { "id": "A", "type_id": 0 } });
        let token = |token: &str, id: usize| json!({ "id": token, "ids": [id], "tokens": [token] });
        json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": added.collect::<Vec<_>>(),
            "normalizer": {
                "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": self.strip_accents, "lowercase": self.lowercase,
            },
            "pre_tokenizer": { "type": "BertPreTokenizer" },
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [special("[CLS]"), sequence, special("[SEP]")],
                "pair": [special("[CLS]"), sequence, special("[SEP]"),
                    json!({ "Sequence": { "id": "B", "type_id": 1 } }), special("[SEP]")],
                "special_tokens": { "[CLS]": token("[CLS]", 2), "[SEP]": token("[SEP]", 3) },
            },
            "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
            "model": {
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": ids,
            },
        })
        .to_string()
    }

    /// Writes a Hugging Face directory.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let vocabulary = self.vocabulary();
        fs::create_dir_all(directory).context("create the model's directory")?;
        let put = |file: &str, contents: &[u8]| {
            fs::write(directory.join(file), contents).with_context(|| format!("write {file}"))
        };
        let config = self.config_json(vocabulary.len());
        put("config.json", config.to_string().as_bytes())?;
        if self.files != TokenizerFiles::Vocabulary {
            put("tokenizer.json", self.tokenizer_json().as_bytes())?;
        }
        if self.files != TokenizerFiles::Json {
            let lines = vocabulary.join("\n") + "\n";
            put("vocab.txt", lines.as_bytes())?;
            let settings =
                json!({ "do_lower_case": self.lowercase, "strip_accents": self.strip_accents });
            put("tokenizer_config.json", settings.to_string().as_bytes())?;
        }
        let mut config = config;
        config["model_type"] = json!("bert");
        let parsed = BertConfig::parse(&config.to_string())?;
        let mut specs = parsed.encoder_tensors();
        specs.extend(parsed.head_tensors(self.tags.len()));
        let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = specs
            .iter()
            .map(|spec| {
                let values = self.values(spec, &vocabulary);
                let bytes = if self.bfloat16 {
                    // The upper half of a float32: all of these are exact.
                    let halves = values.iter().map(|value| (value.to_bits() >> 16) as u16);
                    halves.flat_map(u16::to_le_bytes).collect()
                } else {
                    values
                        .iter()
                        .flat_map(|value| value.to_le_bytes())
                        .collect()
                };
                (
                    format!("{}{}", self.prefix, spec.name),
                    spec.shape.clone(),
                    bytes,
                )
            })
            .collect();
        let dtype = if self.bfloat16 {
            Dtype::BF16
        } else {
            Dtype::F32
        };
        let file = |part: usize| -> Result<Vec<u8>> {
            let own = tensors.iter().skip(part).step_by(self.shards);
            let views = own.map(|(name, shape, bytes)| {
                Ok((name.clone(), TensorView::new(dtype, shape.clone(), bytes)?))
            });
            let views = views.collect::<Result<Vec<_>>>()?;
            Ok(safetensors::serialize(views, None)?)
        };
        if self.shards == 1 {
            return put("model.safetensors", &file(0)?);
        }
        let shards = self.shards;
        let name = |part: usize| format!("model-{:05}-of-{shards:05}.safetensors", part + 1);
        let mut index = BTreeMap::new();
        for part in 0..shards {
            put(&name(part), &file(part)?)?;
            let own = tensors.iter().skip(part).step_by(shards);
            index.extend(own.map(|(tensor, ..)| (tensor.clone(), name(part))));
        }
        let index = json!({ "metadata": {}, "weight_map": index });
        put("model.safetensors.index.json", index.to_string().as_bytes())
    }
}
