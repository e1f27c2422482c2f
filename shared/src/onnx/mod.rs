//! Models as ONNX, for runtimes that know nothing of fedner.
//!
//! A head that scores each word by itself is written as transformers' own export has it: `input_ids` and
//! `attention_mask` go in, `logits` of every sub-token come out. Others are told besides where each `word` begins,
//! and give the tags that the client gives: they look at neighbours, or choose the tags of a sentence together.

mod encoder;
mod graph;
mod linear;
mod proto;
mod words;

use prost::Message;
use serde_json::json;

use self::graph::Graph;
use self::linear::Weights;
use self::proto::{
    Dimension, IR, Kind, ModelProto, OPERATORS, OperatorSetIdProto, StringStringEntryProto,
    ValueInfoProto,
};
use crate::bert::HeadShape;
use crate::checkpoint::{self, Checkpoint};
pub use linear::Precision;

/// The name of the file in an export.
pub const FILE: &str = "model.onnx";

/// Protocol buffers hold no more in one message.
const MOST_BYTES: usize = i32::MAX as usize;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the model has no tagging head: ONNX is written of models that tag")]
    NoHead,
    #[error("config.json names {found} tags: expected {expected}, one for each of the head")]
    Tags { expected: usize, found: usize },
    #[error(
        "the model takes {0} bytes as ONNX: expected at most {MOST_BYTES}, since a protocol buffer holds no \
         more; int8 takes about a quarter"
    )]
    TooLarge(usize),
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
}

/// Whether the graph of such a head chooses the tags itself, and is told where words begin.
pub fn chooses_tags(head: &HeadShape) -> bool {
    head.context > 0 || head.crf || head.iob2
}

/// The file of a model, adapters merged into its weights. The same model gives the same bytes.
pub fn write(
    checkpoint: &Checkpoint,
    tags: &[String],
    precision: Precision,
) -> Result<Vec<u8>, Error> {
    let merged;
    let checkpoint = if checkpoint.config.adapters.is_some() {
        merged = checkpoint.clone().merged();
        &merged
    } else {
        checkpoint
    };
    let expected = checkpoint.tags().ok_or(Error::NoHead)?;
    if tags.len() != expected {
        let found = tags.len();
        return Err(Error::Tags { expected, found });
    }
    let names: serde_json::Map<_, _> = tags
        .iter()
        .enumerate()
        .map(|(id, tag)| (id.to_string(), json!(tag)))
        .collect();
    let model = ModelProto {
        ir_version: IR,
        producer_name: "fedner".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(graph(checkpoint, expected, precision)?),
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: OPERATORS,
        }],
        metadata_props: vec![StringStringEntryProto {
            key: "id2label".to_owned(),
            value: serde_json::Value::Object(names).to_string(),
        }],
    };
    let size = model.encoded_len();
    if size > MOST_BYTES {
        return Err(Error::TooLarge(size));
    }
    Ok(model.encode_to_vec())
}

fn graph(
    checkpoint: &Checkpoint,
    tags: usize,
    precision: Precision,
) -> Result<proto::GraphProto, Error> {
    const BATCH: Dimension = Dimension::Named("batch");
    const SEQUENCE: Dimension = Dimension::Named("sequence");
    const WORDS: Dimension = Dimension::Named("words");
    let (mut graph, mut weights) = (Graph::new(""), Weights::new(checkpoint, precision));
    let long = |name: &str, shape| ValueInfoProto::new(name, Kind::Long, shape);
    for name in ["input_ids", "attention_mask"] {
        graph.input(long(name, &[BATCH, SEQUENCE]));
    }
    let features = encoder::features(&mut graph, &mut weights, "input_ids", "attention_mask")?;
    let scores = |axis| {
        let shape = [BATCH, axis, Dimension::Of(tags)];
        ValueInfoProto::new("logits", Kind::Float, &shape)
    };
    let config = &checkpoint.config;
    if chooses_tags(&config.head) {
        graph.input(long("words", &[BATCH, WORDS]));
        let (logits, chosen) = words::tags(&mut graph, &weights, &features, ("words", tags))?;
        graph.output(&logits, scores(WORDS));
        graph.output(&chosen, long("tags", &[BATCH, WORDS]));
    } else {
        let shape = [config.head_width(), tags];
        let logits = weights.linear_float(&mut graph, "classifier", &features, shape)?;
        graph.output(&logits, scores(SEQUENCE));
    }
    Ok(graph.finish("fedner"))
}

/// What a model card says of the file, as a section of Markdown.
pub fn card(head: &HeadShape, precision: Precision) -> String {
    let numbers = match precision {
        Precision::Float32 => "Its weights are float32.",
        Precision::Int8 => {
            "Its weights are 8-bit integers, and inputs of products are quantised as they come: some words get \
             another tag than by the float32 model."
        }
    };
    let out = if chooses_tags(head) {
        "A third input, `words` [batch, words], has the place of each word's first sub-token, and -1 where a sentence \
         has no more words. Outputs: `logits` [batch, words, tags] and `tags` [batch, words], the place of each \
         word's tag in `id2label`, -1 where there is no word. The tags are those that `fedner-client` gives."
    } else {
        "Output: `logits` [batch, sequence, tags]. A word has the tag with the largest score at its first \
         sub-token."
    };
    format!(
        "## ONNX\n\n`{FILE}` is the model for ONNX Runtime and others, with operators of version {OPERATORS}. \
         {numbers}\n\nInputs: `input_ids` and `attention_mask` [batch, sequence], int64, of any size up to the \
         model's positions; the tokenizer beside the file makes both. {out} `id2label` is in `config.json` and in \
         the file's metadata.\n\n"
    )
}

#[cfg(test)]
mod tests;
