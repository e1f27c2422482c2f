//! The encoder (Devlin et al. 2019): hidden states of every sub-token.

use super::graph::{Graph, Value};
use super::linear::Weights;
use super::proto::{AttributeProto, Kind};
use crate::bert::{Activation, BertConfig};
use crate::checkpoint::Error;

/// What is added to the score of padding before softmax: nothing attends to it.
const HIDDEN: f32 = -1e9;

/// The hidden states of the layers that the head reads, side by side: `[batch, sequence, features]`.
pub(super) fn features(
    graph: &mut Graph,
    weights: &mut Weights<'_>,
    ids: &str,
    mask: &str,
) -> Result<Value, Error> {
    let config = weights.checkpoint.config.clone();
    let layers = config.read_layers();
    let mut hidden = embeddings(graph, weights, &config, ids)?;
    let mask = hiding(graph, mask);
    let mut read = Vec::new();
    let last = layers.last().copied().unwrap_or(config.num_hidden_layers);
    for number in 0..=last {
        if number > 0 {
            hidden = layer(graph, weights, &config, (number - 1, &hidden, &mask))?;
        }
        if layers.contains(&number) {
            read.push(hidden.clone());
        }
    }
    if read.len() == 1 {
        return Ok(hidden);
    }
    let read: Vec<&str> = read.iter().map(String::as_str).collect();
    Ok(graph.node("Concat", &read, vec![AttributeProto::int("axis", -1)]))
}

fn embeddings(
    graph: &mut Graph,
    weights: &Weights<'_>,
    config: &BertConfig,
    ids: &str,
) -> Result<Value, Error> {
    let hidden = config.hidden_size;
    let name = |part: &str| format!("bert.embeddings.{part}_embeddings.weight");
    let words = weights.look_up(graph, &name("word"), [config.vocab_size, hidden], ids)?;
    // Every sub-token is of type 0: its row is added to the positions once and for all.
    let kinds = weights.checkpoint.tensor(&name("token_type"))?;
    let positions = weights.checkpoint.tensor(&name("position"))?;
    let positions: Vec<f32> = positions
        .chunks_exact(hidden)
        .flat_map(|row| {
            row.iter()
                .zip(kinds)
                .map(|(position, kind)| position + kind)
        })
        .collect();
    let shape = [config.max_position_embeddings, hidden];
    let positions = graph.floats(&name("position"), &shape, &positions);
    let bounds = [("start", 1), ("end", 2)].map(|(name, axis)| AttributeProto::int(name, axis));
    let length = graph.node("Shape", &[ids], bounds.to_vec());
    let (from, axis) = (graph.longs(&[0]), graph.longs(&[0]));
    let positions = graph.node("Slice", &[&positions, &from, &length, &axis], Vec::new());
    let sum = graph.node("Add", &[&words, &positions], Vec::new());
    norm(graph, weights, config, "bert.embeddings", &sum)
}

/// What is added to the scores of each sentence: `[batch, 1, 1, sequence]`.
fn hiding(graph: &mut Graph, mask: &str) -> Value {
    let mask = graph.cast(mask, Kind::Float);
    let mask = graph.unsqueeze(&mask, &[1, 2]);
    let one = graph.float(1.0);
    let padding = graph.node("Sub", &[&one, &mask], Vec::new());
    let hidden = graph.float(HIDDEN);
    graph.node("Mul", &[&padding, &hidden], Vec::new())
}

/// Self-attention (Vaswani et al. 2017, section 3.2) and a feed-forward network.
fn layer(
    graph: &mut Graph,
    weights: &mut Weights<'_>,
    config: &BertConfig,
    (number, hidden, mask): (usize, &str, &str),
) -> Result<Value, Error> {
    let (size, inner) = (config.hidden_size, config.intermediate_size);
    let (heads, width) = (
        config.num_attention_heads,
        size / config.num_attention_heads,
    );
    let name = |part: &str| format!("bert.encoder.layer.{number}.{part}");

    let by_head = graph.longs(&[0, 0, heads as i64, width as i64]);
    let mut part = |graph: &mut Graph, part: &str, order: [i64; 4]| {
        let name = name(&format!("attention.self.{part}"));
        let value = weights.linear(graph, &name, hidden, [size, size])?;
        let value = graph.node("Reshape", &[&value, &by_head], Vec::new());
        let order = AttributeProto::ints("perm", &order);
        Ok::<_, Error>(graph.node("Transpose", &[&value], vec![order]))
    };
    let query = part(graph, "query", [0, 2, 1, 3])?;
    let key = part(graph, "key", [0, 2, 3, 1])?;
    let value = part(graph, "value", [0, 2, 1, 3])?;
    let scores = graph.node("MatMul", &[&query, &key], Vec::new());
    let scale = graph.float(1.0 / (width as f32).sqrt());
    let scores = graph.node("Mul", &[&scores, &scale], Vec::new());
    let scores = graph.node("Add", &[&scores, mask], Vec::new());
    let last = AttributeProto::int("axis", -1);
    let attended = graph.node("Softmax", &[&scores], vec![last]);
    let context = graph.node("MatMul", &[&attended, &value], Vec::new());
    let order = AttributeProto::ints("perm", &[0, 2, 1, 3]);
    let context = graph.node("Transpose", &[&context], vec![order]);
    let whole = graph.longs(&[0, 0, size as i64]);
    let context = graph.node("Reshape", &[&context, &whole], Vec::new());
    let context = weights.linear(graph, &name("attention.output.dense"), &context, [size; 2])?;
    let sum = graph.node("Add", &[&context, hidden], Vec::new());
    let hidden = norm(graph, weights, config, &name("attention.output"), &sum)?;

    let wide = weights.linear(graph, &name("intermediate.dense"), &hidden, [size, inner])?;
    let wide = activation(graph, config.activation(), &wide);
    let narrow = weights.linear(graph, &name("output.dense"), &wide, [inner, size])?;
    let sum = graph.node("Add", &[&narrow, &hidden], Vec::new());
    norm(graph, weights, config, &name("output"), &sum)
}

fn norm(
    graph: &mut Graph,
    weights: &Weights<'_>,
    config: &BertConfig,
    prefix: &str,
    x: &str,
) -> Result<Value, Error> {
    let size = [config.hidden_size];
    let scale = weights.tensor(graph, &format!("{prefix}.LayerNorm.weight"), &size)?;
    let shift = weights.tensor(graph, &format!("{prefix}.LayerNorm.bias"), &size)?;
    let attributes = vec![
        AttributeProto::int("axis", -1),
        AttributeProto::float("epsilon", config.layer_norm_eps as f32),
    ];
    Ok(graph.node("LayerNormalization", &[x, &scale, &shift], attributes))
}

/// The functions of [`Activation`], in operators that every runtime has.
fn activation(graph: &mut Graph, activation: Activation, x: &str) -> Value {
    match activation {
        Activation::Relu => graph.node("Relu", &[x], Vec::new()),
        Activation::Gelu => {
            let root = graph.float(std::f32::consts::SQRT_2);
            let ratio = graph.node("Div", &[x, &root], Vec::new());
            let below = graph.node("Erf", &[&ratio], Vec::new());
            half_of(graph, x, &below)
        }
        Activation::GeluTanh => {
            let third = graph.float(0.044_715);
            let square = graph.node("Mul", &[x, x], Vec::new());
            let cube = graph.node("Mul", &[&square, x], Vec::new());
            let cube = graph.node("Mul", &[&cube, &third], Vec::new());
            let sum = graph.node("Add", &[x, &cube], Vec::new());
            // √(2/π)
            let scale = graph.float(0.797_884_6);
            let scaled = graph.node("Mul", &[&sum, &scale], Vec::new());
            let below = graph.node("Tanh", &[&scaled], Vec::new());
            half_of(graph, x, &below)
        }
    }
}

/// x·(1 + y)/2
fn half_of(graph: &mut Graph, x: &str, y: &str) -> Value {
    let one = graph.float(1.0);
    let y = graph.node("Add", &[y, &one], Vec::new());
    let product = graph.node("Mul", &[x, &y], Vec::new());
    let half = graph.float(0.5);
    graph.node("Mul", &[&product, &half], Vec::new())
}
