//! Encoders that compute what BERT computes, under other names: read as BERT.
//!
//! | model | what differs |
//! |---|---|
//! | DistilBERT (Sanh et al. 2019) | names, no token types |
//! | ELECTRA (Clark et al. 2020) | names; the small one projects its embeddings, and is refused |
//! | RoBERTa (Liu et al. 2019), XLM-RoBERTa and CamemBERT | names, positions that count from the padding's number on |

use std::borrow::Cow;
use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Map, Value, json};

/// A family of encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    DistilBert,
    Electra,
    Roberta,
}

impl Family {
    const fn name(self) -> &'static str {
        match self {
            Self::DistilBert => "distilbert",
            Self::Electra => "electra",
            Self::Roberta => "roberta",
        }
    }

    fn of(model_type: &str) -> Option<Self> {
        match model_type {
            "distilbert" => Some(Self::DistilBert),
            "electra" => Some(Self::Electra),
            "roberta" | "camembert" | "xlm-roberta" => Some(Self::Roberta),
            _ => None,
        }
    }
}

/// `config.json` and weights as BERT has them. Models that are no such encoder stay as they are.
pub(super) fn as_bert(config_json: String, weights: Vec<u8>) -> Result<(String, Vec<u8>), String> {
    let Ok(config) = serde_json::from_str::<Map<String, Value>>(&config_json) else {
        return Ok((config_json, weights));
    };
    let Some(family) = family_of(&config) else {
        return Ok((config_json, weights));
    };
    let skipped = skipped_positions(family, &config);
    let config = bert_config(family, config, skipped)?;
    let weights = bert_weights(family, &weights, skipped)?;
    let json = serde_json::to_string_pretty(&config).map_err(|error| error.to_string())?;
    Ok((json, weights))
}

/// `config.json` as BERT has it, alone.
pub(super) fn config_as_bert(config_json: String) -> Result<String, String> {
    let Ok(config) = serde_json::from_str::<Map<String, Value>>(&config_json) else {
        return Ok(config_json);
    };
    let Some(family) = family_of(&config) else {
        return Ok(config_json);
    };
    let skipped = skipped_positions(family, &config);
    let config = bert_config(family, config, skipped)?;
    serde_json::to_string_pretty(&config).map_err(|error| error.to_string())
}

fn family_of(config: &Map<String, Value>) -> Option<Family> {
    let model_type = config.get("model_type").and_then(Value::as_str);
    model_type.and_then(Family::of)
}

/// What a tensor of the model with this `config.json` is called in BERT.
pub(super) fn name_in_bert(config_json: &str, name: &str) -> String {
    let config = serde_json::from_str::<Map<String, Value>>(config_json);
    match config.ok().as_ref().and_then(family_of) {
        Some(family) => bert_name(family, name),
        None => name.to_owned(),
    }
}

/// Rows of position embeddings that no position reads: RoBERTa begins behind the padding's number.
fn skipped_positions(family: Family, config: &Map<String, Value>) -> usize {
    if family != Family::Roberta {
        return 0;
    }
    let padding = config
        .get("pad_token_id")
        .and_then(Value::as_u64)
        .unwrap_or(1);
    usize::try_from(padding).map_or(0, |padding| padding.saturating_add(1))
}

/// A field of another name, and BERT's.
const DISTILBERT_FIELDS: [(&str, &str); 7] = [
    ("dim", "hidden_size"),
    ("n_layers", "num_hidden_layers"),
    ("n_heads", "num_attention_heads"),
    ("hidden_dim", "intermediate_size"),
    ("activation", "hidden_act"),
    ("dropout", "hidden_dropout_prob"),
    ("attention_dropout", "attention_probs_dropout_prob"),
];

fn bert_config(
    family: Family,
    mut config: Map<String, Value>,
    skipped: usize,
) -> Result<Map<String, Value>, String> {
    match family {
        Family::DistilBert => {
            for (theirs, ours) in DISTILBERT_FIELDS {
                if let Some(value) = config.remove(theirs) {
                    config.insert(ours.to_owned(), value);
                }
            }
            config.insert("type_vocab_size".into(), json!(1));
            config.insert("layer_norm_eps".into(), json!(1e-12));
            config.remove("sinusoidal_pos_embds");
        }
        Family::Electra => {
            let size = |field: &str, usual: u64| {
                config.get(field).and_then(Value::as_u64).unwrap_or(usual)
            };
            let (embeddings, hidden) = (size("embedding_size", 128), size("hidden_size", 256));
            if embeddings != hidden {
                return Err(format!(
                    "config.json has embedding_size = {embeddings}: expected hidden_size = {hidden}, for an \
                     ELECTRA whose embeddings need no projection"
                ));
            }
            config.remove("embedding_size");
        }
        Family::Roberta => {
            let positions = config
                .get("max_position_embeddings")
                .and_then(Value::as_u64);
            let positions = positions.and_then(|positions| positions.checked_sub(skipped as u64));
            let positions = positions.ok_or("config.json has too few max_position_embeddings")?;
            config.insert("max_position_embeddings".into(), json!(positions));
        }
    }
    let task = config.get("architectures").and_then(Value::as_array);
    let names = task.into_iter().flatten().filter_map(Value::as_str);
    let named: Vec<String> = names.map(of_bert).collect();
    config.insert("model_type".into(), json!("bert"));
    config.insert("architectures".into(), json!(named));
    Ok(config)
}

/// The class of the same task in BERT.
fn of_bert(architecture: &str) -> String {
    match architecture.split_once("For") {
        Some((_, task)) => format!("BertFor{task}"),
        None => "BertModel".to_owned(),
    }
}

/// Parts of DistilBERT's names, and BERT's.
const DISTILBERT_NAMES: [(&str, &str); 8] = [
    ("transformer.layer.", "encoder.layer."),
    (".attention.q_lin.", ".attention.self.query."),
    (".attention.k_lin.", ".attention.self.key."),
    (".attention.v_lin.", ".attention.self.value."),
    (".attention.out_lin.", ".attention.output.dense."),
    (".sa_layer_norm.", ".attention.output.LayerNorm."),
    (".ffn.lin1.", ".intermediate.dense."),
    (".ffn.lin2.", ".output.dense."),
];

fn bert_name(family: Family, name: &str) -> String {
    let name = name.strip_prefix("module.").unwrap_or(name);
    let own = name
        .strip_prefix(family.name())
        .and_then(|rest| rest.strip_prefix('.'));
    let (inner, own) = match own {
        Some(inner) => (inner.to_owned(), true),
        None => (name.to_owned(), false),
    };
    let mut inner = inner;
    if family == Family::DistilBert {
        for (theirs, ours) in DISTILBERT_NAMES {
            inner = inner.replace(theirs, ours);
        }
        inner = inner.replace(".output_layer_norm.", ".output.LayerNorm.");
    }
    if own { format!("bert.{inner}") } else { inner }
}

pub(super) type Tensors<'a> = BTreeMap<String, (Dtype, Vec<usize>, Cow<'a, [u8]>)>;

fn bert_weights(family: Family, weights: &[u8], skipped: usize) -> Result<Vec<u8>, String> {
    let file = SafeTensors::deserialize(weights).map_err(|error| error.to_string())?;
    let mut tensors: Tensors<'_> = BTreeMap::new();
    if file.names().iter().any(|name| name.starts_with("bert.")) {
        let family = family.name();
        return Err(format!(
            "config.json says {family}, and the weights have the names of BERT's"
        ));
    }
    for (name, view) in file.tensors() {
        let name = bert_name(family, &name);
        let (mut shape, mut data) = (view.shape().to_vec(), view.data());
        if name.ends_with("embeddings.position_embeddings.weight") && skipped > 0 {
            let rows = shape.first().copied().unwrap_or_default();
            let Some(left) = rows.checked_sub(skipped).filter(|left| *left > 0) else {
                return Err("there are too few position embeddings".to_owned());
            };
            data = &data[data.len() / rows * skipped..];
            shape[0] = left;
        }
        tensors.insert(name, (view.dtype(), shape, data.into()));
    }
    if family == Family::DistilBert {
        add_token_types(&mut tensors)?;
    }
    serialized(&tensors)
}

/// A safetensors file of these.
pub(super) fn serialized(tensors: &Tensors<'_>) -> Result<Vec<u8>, String> {
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        let view = TensorView::new(*dtype, shape.clone(), data);
        view.map(|view| (name.as_str(), view))
            .map_err(|error| error.to_string())
    });
    let views = views.collect::<Result<Vec<_>, String>>()?;
    safetensors::serialize(views, None).map_err(|error| error.to_string())
}

/// One token type that adds nothing.
fn add_token_types(tensors: &mut Tensors<'_>) -> Result<(), String> {
    let words = tensors
        .iter()
        .find(|(name, _)| name.ends_with("embeddings.word_embeddings.weight"));
    let (name, (dtype, shape, data)) = words.ok_or("there are no word embeddings")?;
    let name = name.replace("word_embeddings", "token_type_embeddings");
    let (rows, width) = match shape.as_slice() {
        [rows, width] if *rows > 0 => (*rows, *width),
        _ => return Err("the word embeddings are no matrix".to_owned()),
    };
    let zeros = vec![0u8; data.len() / rows];
    let tensor = (*dtype, vec![1, width], Cow::Owned(zeros));
    tensors.insert(name, tensor);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_those_of_bert() {
        let cases = [
            (
                Family::DistilBert,
                "distilbert.transformer.layer.0.ffn.lin1.bias",
                "bert.encoder.layer.0.intermediate.dense.bias",
            ),
            (
                Family::DistilBert,
                "distilbert.transformer.layer.1.output_layer_norm.weight",
                "bert.encoder.layer.1.output.LayerNorm.weight",
            ),
            (
                Family::DistilBert,
                "distilbert.transformer.layer.1.sa_layer_norm.weight",
                "bert.encoder.layer.1.attention.output.LayerNorm.weight",
            ),
            (
                Family::Electra,
                "electra.encoder.layer.0.attention.self.query.weight",
                "bert.encoder.layer.0.attention.self.query.weight",
            ),
            (
                Family::Roberta,
                "roberta.embeddings.LayerNorm.bias",
                "bert.embeddings.LayerNorm.bias",
            ),
            (Family::Roberta, "classifier.weight", "classifier.weight"),
        ];
        for (family, theirs, ours) in cases {
            assert_eq!(bert_name(family, theirs), ours);
        }
        assert_eq!(
            of_bert("DistilBertForTokenClassification"),
            "BertForTokenClassification"
        );
        assert_eq!(of_bert("ElectraModel"), "BertModel");
    }

    #[test]
    fn what_needs_a_projection_is_refused() {
        let small = r#"{"model_type": "electra", "embedding_size": 128, "hidden_size": 256}"#;
        let error = as_bert(small.to_owned(), Vec::new()).expect_err("a projection");
        assert!(error.contains("embedding_size = 128"), "{error}");
        let other = r#"{"model_type": "albert"}"#;
        assert_eq!(
            as_bert(other.to_owned(), vec![1]),
            Ok((other.to_owned(), vec![1]))
        );
    }
}
