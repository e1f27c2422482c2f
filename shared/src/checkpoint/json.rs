//! What training changes in a model's config.json.

use serde_json::{Value, json};

use super::Error;
use crate::bert::{self, BertConfig};

/// `config.json` for a token classifier with `labels`, every other field kept.
pub fn config_with_labels(config_json: &str, labels: &[String]) -> Result<String, Error> {
    let mut config: serde_json::Map<String, Value> = serde_json::from_str(config_json)?;
    let tags = bert::tags(labels);
    let id2label: serde_json::Map<String, Value> = tags
        .iter()
        .enumerate()
        .map(|(id, tag)| (id.to_string(), json!(tag)))
        .collect();
    let label2id: serde_json::Map<String, Value> = tags
        .iter()
        .enumerate()
        .map(|(id, tag)| (tag.clone(), json!(id)))
        .collect();
    config.insert(
        "architectures".into(),
        json!(["BertForTokenClassification"]),
    );
    config.insert("id2label".into(), Value::Object(id2label));
    config.insert("label2id".into(), Value::Object(label2id));
    // A stale count would contradict the maps; transformers derives it from them.
    config.remove("num_labels");
    if config.get("model_type").is_none_or(Value::is_null) {
        config.insert("model_type".into(), json!("bert"));
    }
    name_float32(&mut config);
    Ok(serde_json::to_string_pretty(&config)?)
}

/// What is written are float32 weights, whatever they were read from.
fn name_float32(config: &mut serde_json::Map<String, Value>) {
    config.remove("dtype");
    config.insert("torch_dtype".into(), json!("float32"));
}

/// `config.json` with the number type of the canonical weights beside it.
pub fn config_of_float32(config_json: &str) -> Result<String, Error> {
    let mut config: serde_json::Map<String, Value> = serde_json::from_str(config_json)?;
    name_float32(&mut config);
    Ok(serde_json::to_string_pretty(&config)?)
}

/// `config.json` of the model with so many layers.
pub fn config_with_layers(config_json: &str, layers: usize) -> Result<String, Error> {
    let mut config: serde_json::Map<String, Value> = serde_json::from_str(config_json)?;
    config.insert("num_hidden_layers".into(), json!(layers));
    Ok(serde_json::to_string_pretty(&config)?)
}

/// `config.json` of the encoder alone: of a model without tags.
pub fn config_without_labels(config_json: &str) -> Result<String, Error> {
    let mut config: serde_json::Map<String, Value> = serde_json::from_str(config_json)?;
    for key in ["id2label", "label2id", "num_labels"] {
        config.remove(key);
    }
    config.insert("architectures".into(), json!(["BertModel"]));
    Ok(serde_json::to_string_pretty(&config)?)
}

/// The tags that `config.json` lists in `id2label`, in order; `None` where it lists none.
pub fn tags_of_config(config_json: &str) -> Result<Option<Vec<String>>, Error> {
    let config: Value = serde_json::from_str(config_json)?;
    let Some(map) = config.get("id2label").and_then(Value::as_object) else {
        return Ok(None);
    };
    let tag = |id: usize| {
        map.get(&id.to_string())
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    Ok((0..map.len()).map(tag).collect())
}

/// `config.json` of a model that has what `of` has and Hugging Face knows nothing of: adapters
/// beside its weights, a head of another shape. It names no class of transformers where none has
/// such a head.
pub fn config_with_additions(config_json: &str, of: &BertConfig) -> Result<String, Error> {
    let mut config: serde_json::Map<String, Value> = serde_json::from_str(config_json)?;
    match &of.adapters {
        Some(adapters) => config.insert(ADAPTERS.into(), serde_json::to_value(adapters)?),
        None => config.remove(ADAPTERS),
    };
    config.retain(|key, _| !key.starts_with(HEAD));
    if let Value::Object(head) = serde_json::to_value(&of.head)? {
        config.extend(head);
    }
    if !of.head.is_plain() {
        config.insert("architectures".into(), json!(["FednerTaggingHead"]));
    }
    Ok(serde_json::to_string_pretty(&config)?)
}

const ADAPTERS: &str = "fedner_adapters";
/// What the keys of a head's shape begin with.
const HEAD: &str = "fedner_head_";
