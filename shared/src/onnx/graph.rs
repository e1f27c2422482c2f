//! A graph as it is put together: nodes in the order in which they compute, and their constants.

use super::proto::{AttributeProto, GraphProto, Kind, NodeProto, TensorProto, ValueInfoProto};

/// The name of what a node computes, or of a constant.
pub(super) type Value = String;

#[derive(Debug, Default)]
pub(super) struct Graph {
    proto: GraphProto,
    /// What names of nodes begin with: they differ from those of the graphs around.
    prefix: String,
}

impl Graph {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            proto: GraphProto::default(),
            prefix: prefix.to_owned(),
        }
    }

    pub(super) fn input(&mut self, info: ValueInfoProto) {
        self.proto.input.push(info);
    }

    /// Gives a value the name under which it leaves the graph.
    pub(super) fn output(&mut self, value: &str, info: ValueInfoProto) {
        let output = vec![info.name.clone()];
        self.push("Identity", &[value], output, Vec::new());
        self.proto.output.push(info);
    }

    pub(super) fn finish(mut self, name: &str) -> GraphProto {
        name.clone_into(&mut self.proto.name);
        self.proto
    }

    /// Adds a node that computes one value.
    pub(super) fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> Value {
        let name = self.name(operator);
        self.push(operator, inputs, vec![name.clone()], attributes);
        name
    }

    /// Adds a node that computes several.
    pub(super) fn nodes<const N: usize>(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> [Value; N] {
        let name = self.name(operator);
        let names = std::array::from_fn(|number| format!("{name}.{number}"));
        self.push(operator, inputs, names.to_vec(), attributes);
        names
    }

    fn name(&self, operator: &str) -> String {
        format!("{}{operator}_{}", self.prefix, self.proto.node.len())
    }

    fn push(
        &mut self,
        operator: &str,
        inputs: &[&str],
        output: Vec<String>,
        attribute: Vec<AttributeProto>,
    ) {
        let name = format!("{}node_{}", self.prefix, self.proto.node.len());
        self.proto.node.push(NodeProto {
            input: inputs.iter().map(|input| (*input).to_owned()).collect(),
            output,
            name,
            op_type: operator.to_owned(),
            attribute,
        });
    }

    /// A constant under a name of its own.
    pub(super) fn tensor(
        &mut self,
        name: &str,
        kind: Kind,
        shape: &[usize],
        raw_data: Vec<u8>,
    ) -> Value {
        self.proto.initializer.push(TensorProto {
            dims: shape.iter().map(|size| *size as i64).collect(),
            data_type: kind as i32,
            name: name.to_owned(),
            raw_data,
        });
        name.to_owned()
    }

    pub(super) fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Value {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        self.tensor(name, Kind::Float, shape, bytes.collect())
    }

    pub(super) fn doubles(&mut self, name: &str, shape: &[usize], values: &[f64]) -> Value {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        self.tensor(name, Kind::Double, shape, bytes.collect())
    }

    /// A number without a name.
    pub(super) fn float(&mut self, value: f32) -> Value {
        let name = self.constant();
        self.floats(&name, &[], &[value])
    }

    /// Whole numbers without a name.
    pub(super) fn longs(&mut self, values: &[i64]) -> Value {
        let name = self.constant();
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        self.tensor(&name, Kind::Long, &[values.len()], bytes.collect())
    }

    pub(super) fn long(&mut self, value: i64) -> Value {
        let name = self.constant();
        self.tensor(&name, Kind::Long, &[], value.to_le_bytes().to_vec())
    }

    fn constant(&self) -> String {
        format!("{}constant_{}", self.prefix, self.proto.initializer.len())
    }

    pub(super) fn cast(&mut self, value: &str, to: Kind) -> Value {
        let to = AttributeProto::int("to", to as i64);
        self.node("Cast", &[value], vec![to])
    }

    /// The same values with further axes of size 1.
    pub(super) fn unsqueeze(&mut self, value: &str, axes: &[i64]) -> Value {
        let axes = self.longs(axes);
        self.node("Unsqueeze", &[value, &axes], Vec::new())
    }

    /// The part from `start` to `end` of an axis.
    pub(super) fn slice(&mut self, value: &str, axis: i64, start: i64, end: i64) -> Value {
        let [starts, ends, axes] = [start, end, axis].map(|bound| self.longs(&[bound]));
        self.node("Slice", &[value, &starts, &ends, &axes], Vec::new())
    }
}
