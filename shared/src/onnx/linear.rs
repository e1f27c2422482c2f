//! Products with weights, in float32 or in 8-bit integers.

use std::collections::BTreeMap;

use super::graph::{Graph, Value};
use super::proto::Kind;
use crate::checkpoint::{Checkpoint, Error};

/// What the numbers of the weights are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    #[default]
    Float32,
    /// Weights in 8 bits with a scale for each output; inputs are quantised as they come (Jacob et al. 2018,
    /// section 2; ONNX calls it dynamic). The head keeps its own numbers.
    Int8,
}

/// The middle of the unsigned numbers that stand for weights. Signed ones would be faster on some machines and
/// overflow sums of 16 bits on others: the same file must tag alike everywhere.
const MIDDLE: u8 = 128;

/// Weights of a checkpoint on their way into a graph.
#[derive(Debug)]
pub(super) struct Weights<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    precision: Precision,
    /// Inputs that are quantised already: query, key and value have the same.
    quantised: BTreeMap<Value, [Value; 3]>,
}

impl<'a> Weights<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint, precision: Precision) -> Self {
        Self {
            checkpoint,
            precision,
            quantised: BTreeMap::new(),
        }
    }

    /// A tensor as the file has it.
    pub(super) fn tensor(
        &self,
        graph: &mut Graph,
        name: &str,
        shape: &[usize],
    ) -> Result<Value, Error> {
        Ok(graph.floats(name, shape, self.checkpoint.tensor(name)?))
    }

    /// The rows of a table that `places` name.
    pub(super) fn look_up(
        &self,
        graph: &mut Graph,
        name: &str,
        shape: [usize; 2],
        places: &str,
    ) -> Result<Value, Error> {
        if self.precision == Precision::Float32 {
            let table = self.tensor(graph, name, &shape)?;
            return Ok(graph.node("Gather", &[&table, places], Vec::new()));
        }
        let rows = self.checkpoint.tensor(name)?.chunks_exact(shape[1]);
        let (mut bytes, mut scales) = (Vec::with_capacity(shape[0] * shape[1]), Vec::new());
        for row in rows {
            let scale = scale_of(row.iter().copied());
            scales.push(scale);
            bytes.extend(row.iter().map(|value| (value / scale).round() as i8 as u8));
        }
        let table = graph.tensor(&format!("{name}.int8"), Kind::Signed, &shape, bytes);
        let scales = graph.floats(&format!("{name}.scale"), &[shape[0], 1], &scales);
        let found = graph.node("Gather", &[&table, places], Vec::new());
        let found = graph.cast(&found, Kind::Float);
        let scale = graph.node("Gather", &[&scales, places], Vec::new());
        Ok(graph.node("Mul", &[&found, &scale], Vec::new()))
    }

    /// x·W + b, in the precision asked for.
    pub(super) fn linear(
        &mut self,
        graph: &mut Graph,
        name: &str,
        x: &str,
        [input, output]: [usize; 2],
    ) -> Result<Value, Error> {
        if self.precision == Precision::Float32 {
            return self.linear_float(graph, name, x, [input, output]);
        }
        let weight = self.checkpoint.tensor(&format!("{name}.weight"))?;
        let mut bytes = vec![0; weight.len()];
        let mut scales = Vec::with_capacity(output);
        for (to, row) in weight.chunks_exact(input).enumerate() {
            let scale = scale_of(row.iter().copied());
            scales.push(scale);
            for (from, value) in row.iter().enumerate() {
                let steps = (value / scale).round() as i16 + i16::from(MIDDLE);
                bytes[from * output + to] = steps as u8;
            }
        }
        let weight = format!("{name}.weight.uint8");
        let weight = graph.tensor(&weight, Kind::Unsigned, &[input, output], bytes);
        let middle = format!("{name}.weight.middle");
        let middle = graph.tensor(&middle, Kind::Unsigned, &[], vec![MIDDLE]);
        let scales = graph.floats(&format!("{name}.weight.scale"), &[output], &scales);
        let quantise = || graph.nodes("DynamicQuantizeLinear", &[x], Vec::new());
        let [x, scale, zero] = match self.quantised.get(x) {
            Some(known) => known.clone(),
            None => self
                .quantised
                .entry(x.to_owned())
                .or_insert_with(quantise)
                .clone(),
        };
        let operands = [x.as_str(), &weight, &zero, &middle];
        let product = graph.node("MatMulInteger", &operands, Vec::new());
        let product = graph.cast(&product, Kind::Float);
        let scale = graph.node("Mul", &[&scale, &scales], Vec::new());
        let product = graph.node("Mul", &[&product, &scale], Vec::new());
        self.with_bias(graph, name, &product, output)
    }

    /// x·W + b in float32.
    pub(super) fn linear_float(
        &self,
        graph: &mut Graph,
        name: &str,
        x: &str,
        [input, output]: [usize; 2],
    ) -> Result<Value, Error> {
        let name_of_weight = format!("{name}.weight");
        let weight = self.checkpoint.tensor(&name_of_weight)?;
        let mut transposed = vec![0.0; weight.len()];
        for (to, row) in weight.chunks_exact(input).enumerate() {
            for (from, value) in row.iter().enumerate() {
                transposed[from * output + to] = *value;
            }
        }
        let weight = graph.floats(&name_of_weight, &[input, output], &transposed);
        let product = graph.node("MatMul", &[x, &weight], Vec::new());
        self.with_bias(graph, name, &product, output)
    }

    fn with_bias(
        &self,
        graph: &mut Graph,
        name: &str,
        product: &str,
        output: usize,
    ) -> Result<Value, Error> {
        let bias = self.tensor(graph, &format!("{name}.bias"), &[output])?;
        Ok(graph.node("Add", &[product, &bias], Vec::new()))
    }
}

/// The step of which the largest of the values is 127.
fn scale_of(values: impl Iterator<Item = f32>) -> f32 {
    let largest = values.fold(0.0_f32, |largest, value| largest.max(value.abs()));
    // A row of zeros, or of numbers next to it: any step stands for zero.
    (largest / 127.0).max(f32::MIN_POSITIVE)
}
