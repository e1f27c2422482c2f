//! The shape of a BERT token-classification model (Devlin et al. 2019), without any arithmetic.
//!
//! The coordinator builds manifests from it and the model crate builds layers from it, so both
//! agree on the names, the shapes and the order of the weights.

mod activation;
mod adapters;
mod head;
mod memory;
mod tensors;

use serde::{Deserialize, Serialize};

pub use activation::Activation;
pub use adapters::Adapters;
pub use head::{HeadShape, follows, is_of_head};
pub(crate) use head::{MOST_CONTEXT, initial_transitions};
pub use tensors::{Unfit, is_of_lowest};

/// The fields of a Hugging Face `config.json` that decide the arithmetic. Others are kept by
/// whoever rewrites the file, not here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BertConfig {
    #[serde(default)]
    pub model_type: String,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    #[serde(default = "default_hidden_act")]
    pub hidden_act: String,
    pub max_position_embeddings: usize,
    #[serde(default = "default_type_vocab_size")]
    pub type_vocab_size: usize,
    #[serde(default = "default_layer_norm_eps")]
    pub layer_norm_eps: f64,
    #[serde(default = "default_dropout")]
    pub hidden_dropout_prob: f64,
    #[serde(default = "default_dropout")]
    pub attention_probs_dropout_prob: f64,
    #[serde(default = "default_initializer_range")]
    pub initializer_range: f64,
    #[serde(default)]
    pub pad_token_id: usize,
    #[serde(default = "default_position")]
    pub position_embedding_type: String,
    /// Of a version that is trained through adapters; no field of Hugging Face.
    #[serde(
        default,
        rename = "fedner_adapters",
        skip_serializing_if = "Option::is_none"
    )]
    pub adapters: Option<Adapters>,
    #[serde(flatten)]
    pub head: HeadShape,
}

/// BERT-large has 24.
const MOST_LAYERS: usize = 512;

fn default_hidden_act() -> String {
    "gelu".into()
}
fn default_position() -> String {
    "absolute".into()
}
const fn default_type_vocab_size() -> usize {
    2
}
const fn default_layer_norm_eps() -> f64 {
    1e-12
}
const fn default_dropout() -> f64 {
    0.1
}
const fn default_initializer_range() -> f64 {
    0.02
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("config.json cannot be read: {0}")]
    Syntax(#[from] serde_json::Error),
    #[error(
        "config.json has model_type `{0}`: expected bert, distilbert, electra, roberta, xlm-roberta or camembert; \
         others, such as DeBERTa and ModernBERT, compute attention in another way"
    )]
    NotBert(String),
    #[error("config.json has {field} = {found}: expected {expected}")]
    Field {
        field: &'static str,
        found: String,
        expected: String,
    },
}

impl BertConfig {
    /// Reads and checks a Hugging Face `config.json`.
    pub fn parse(json: &str) -> Result<Self, Error> {
        // `model_type` is looked at first: another architecture lacks other fields, and naming
        // the architecture helps more than naming the first missing field.
        let mut value: serde_json::Value = serde_json::from_str(json)?;
        if let Some(fields) = value.as_object_mut() {
            // A field without a value is one that is left out.
            fields.retain(|_, value| !value.is_null());
        }
        let model_type = value.get("model_type").and_then(|v| v.as_str());
        // The first published BERTs do not say what they are.
        let model_type = model_type.or_else(|| implied(&value)).unwrap_or_default();
        if model_type != "bert" {
            return Err(Error::NotBert(model_type.to_owned()));
        }
        if value.get("is_decoder").and_then(serde_json::Value::as_bool) == Some(true) {
            return Err(field_error(
                "is_decoder",
                true,
                "an encoder, whose words see those after them",
            ));
        }
        let config: Self = serde_json::from_value(value)?;
        config.check()?;
        Ok(config)
    }

    /// What `hidden_act` names.
    pub fn activation(&self) -> Activation {
        Activation::of_name(&self.hidden_act).unwrap_or_default()
    }

    fn check(&self) -> Result<(), Error> {
        let positive = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ];
        for (field, found) in positive {
            if found == 0 || found > 1 << 20 {
                return Err(field_error(field, found, "a number from 1 to 1048576"));
            }
        }
        // The list of all tensors is made before any weight is read: it is not to be a peer's to
        // make long.
        if self.num_hidden_layers > MOST_LAYERS {
            let expected = format!("a number from 1 to {MOST_LAYERS}");
            return Err(field_error(
                "num_hidden_layers",
                self.num_hidden_layers,
                &expected,
            ));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let expected = format!("a divisor of hidden_size = {}", self.hidden_size);
            return Err(field_error(
                "num_attention_heads",
                self.num_attention_heads,
                &expected,
            ));
        }
        if Activation::of_name(&self.hidden_act).is_none() {
            let expected = "gelu, gelu_new, gelu_fast, gelu_pytorch_tanh or relu";
            return Err(field_error("hidden_act", &self.hidden_act, expected));
        }
        if self.position_embedding_type != "absolute" {
            let found = &self.position_embedding_type;
            return Err(field_error("position_embedding_type", found, "absolute"));
        }
        self.head.check(self.num_hidden_layers)
    }
}

/// What a configuration without `model_type` is of: BERT where it has BERT's fields, and names no
/// other model.
fn implied(config: &serde_json::Value) -> Option<&'static str> {
    let has = |field: &str| config.get(field).is_some();
    let fields = [
        "hidden_size",
        "num_hidden_layers",
        "type_vocab_size",
        "vocab_size",
    ];
    let named = config
        .get("architectures")
        .and_then(|names| names.as_array());
    let bert =
        |name: &serde_json::Value| name.as_str().is_some_and(|name| name.starts_with("Bert"));
    let other = named.is_some_and(|names| !names.iter().all(bert));
    (fields.into_iter().all(has) && !other).then_some("bert")
}

fn field_error(field: &'static str, found: impl ToString, expected: &str) -> Error {
    Error::Field {
        field,
        found: found.to_string(),
        expected: expected.to_owned(),
    }
}

/// The tags of entity types in IOB2, `O` first: `O`, `B-X`, `I-X`, `B-Y`, ….
pub fn tags(labels: &[String]) -> Vec<String> {
    let pairs = labels
        .iter()
        .flat_map(|label| [format!("B-{label}"), format!("I-{label}")]);
    std::iter::once("O".to_owned()).chain(pairs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Method;

    pub(crate) const MINILM: &str = r#"{"model_type":"bert","vocab_size":30522,"hidden_size":384,
        "num_hidden_layers":6,"num_attention_heads":12,"intermediate_size":1536,
        "max_position_embeddings":512,"type_vocab_size":2,"hidden_act":"gelu"}"#;

    #[test]
    fn minilm_has_its_known_number_of_weights() {
        let config = BertConfig::parse(MINILM).expect("config");
        // 22,713,216 with the pooler of 147,840 (as published), plus a head of 3 tags.
        assert_eq!(
            config.manifest(&Method::Full.into(), 3).dimension(),
            22_565_376 + 3 * 385
        );
        assert_eq!(
            config.manifest(&Method::Head.into(), 3).dimension(),
            3 * 385
        );
    }

    #[test]
    fn other_architectures_and_impossible_numbers_are_named() {
        let roberta = MINILM.replace("\"bert\"", "\"roberta\"");
        assert!(matches!(BertConfig::parse(&roberta), Err(Error::NotBert(t)) if t == "roberta"));
        let odd = MINILM.replace("\"num_attention_heads\":12", "\"num_attention_heads\":7");
        let message = BertConfig::parse(&odd)
            .expect_err("7 does not divide 384")
            .to_string();
        assert!(message.contains("num_attention_heads = 7"), "{message}");
        let silu = MINILM.replace("\"gelu\"", "\"silu\"");
        assert!(BertConfig::parse(&silu).is_err());
        let relu = MINILM.replace("\"gelu\"", "\"relu\"");
        let relu = BertConfig::parse(&relu).expect("published");
        assert_eq!(relu.activation(), Activation::Relu);
    }

    #[test]
    fn the_first_published_configurations_are_read() {
        let old = MINILM.replace("\"model_type\":\"bert\",", "");
        let with_null = old.replace("\"hidden_act\":\"gelu\"", "\"hidden_act\":null");
        assert_ne!(with_null, MINILM);
        let read = BertConfig::parse(&with_null).expect("BERT");
        assert_eq!((read.hidden_size, read.hidden_act.as_str()), (384, "gelu"));
        let other = old.replace('{', "{\"architectures\":[\"AlbertModel\"],");
        assert!(BertConfig::parse(&other).is_err());
        assert!(BertConfig::parse("{\"hidden_size\": 4}").is_err());
        // Some hundred bytes that would stand for sixteen million tensors.
        let deep = MINILM.replace("\"num_hidden_layers\":6", "\"num_hidden_layers\":1048576");
        let message = BertConfig::parse(&deep).expect_err("deep").to_string();
        assert!(message.contains("num_hidden_layers = 1048576"), "{message}");
    }

    #[test]
    fn tags_are_iob2() {
        let labels = ["Disease".to_owned(), "Drug".to_owned()];
        assert_eq!(
            tags(&labels),
            ["O", "B-Disease", "I-Disease", "B-Drug", "I-Drug"]
        );
    }
}
