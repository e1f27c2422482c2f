use std::collections::BTreeSet;

use super::proto::{GraphProto, Kind, ModelProto};
use super::*;
use crate::bert::{BertConfig, tags as tags_of};

fn model(head: &str, labels: &[&str]) -> (Checkpoint, Vec<String>) {
    let config = BertConfig::parse(&format!(
        r#"{{"model_type": "bert", "vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 3,
            "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 48{head}}}"#
    ));
    let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
    let tags = tags_of(&labels);
    let checkpoint = Checkpoint::random(config.expect("a configuration"), 1);
    (checkpoint.with_new_head(tags.len(), 2), tags)
}

fn read(bytes: &[u8]) -> ModelProto {
    ModelProto::decode(bytes).expect("protobuf")
}

/// Every value is there before it is used, and once; names of graphs within differ from those around.
fn check(graph: &GraphProto, around: &BTreeSet<String>) {
    let mut known = around.clone();
    let mut add = |name: &str| assert!(known.insert(name.to_owned()), "twice: {name}");
    graph.input.iter().for_each(|input| add(&input.name));
    for constant in &graph.initializer {
        add(&constant.name);
        let count: i64 = constant.dims.iter().product();
        let size = match constant.data_type {
            kind if kind == Kind::Float as i32 => 4,
            kind if kind == Kind::Unsigned as i32 || kind == Kind::Signed as i32 => 1,
            _ => 8,
        };
        assert_eq!(
            count as usize * size,
            constant.raw_data.len(),
            "{}",
            constant.name
        );
    }
    for node in &graph.node {
        for input in &node.input {
            assert!(
                known.contains(input),
                "{}: {input} is not there yet",
                node.name
            );
        }
        for body in node
            .attribute
            .iter()
            .filter_map(|attribute| attribute.g.as_ref())
        {
            check(body, &known);
        }
        for output in &node.output {
            assert!(known.insert(output.clone()), "twice: {output}");
        }
    }
    let outputs = graph.output.iter();
    assert!(
        outputs
            .map(|output| &output.name)
            .all(|name| known.contains(name))
    );
}

#[test]
fn every_kind_of_head_is_a_graph_that_computes_in_order() {
    for (head, inputs, outputs) in [
        ("", 2, &["logits"][..]),
        (r#", "fedner_head_layers": [1, 3]"#, 2, &["logits"]),
        (r#", "fedner_head_context": 2"#, 3, &["logits", "tags"]),
        (r#", "fedner_head_iob2": true"#, 3, &["logits", "tags"]),
        (
            r#", "fedner_head_layers": [0, 2], "fedner_head_context": 1, "fedner_head_crf": true, "fedner_head_iob2": true"#,
            3,
            &["logits", "tags"],
        ),
    ] {
        let (checkpoint, tags) = model(head, &["A", "B"]);
        for precision in [Precision::Float32, Precision::Int8] {
            let bytes = write(&checkpoint, &tags, precision).expect("a graph");
            assert_eq!(
                bytes,
                write(&checkpoint, &tags, precision).expect("the same")
            );
            let graph = read(&bytes).graph.expect("a graph");
            check(&graph, &BTreeSet::new());
            assert_eq!(graph.input.len(), inputs, "{head}");
            let names = graph.output.iter().map(|output| output.name.as_str());
            assert_eq!(names.collect::<Vec<_>>(), outputs, "{head}");
        }
    }
}

#[test]
fn eight_bits_take_less_than_half_of_a_small_model() {
    let (checkpoint, tags) = model("", &["A"]);
    let whole = write(&checkpoint, &tags, Precision::Float32).expect("float32");
    let small = write(&checkpoint, &tags, Precision::Int8).expect("int8");
    assert!(
        small.len() * 2 < whole.len(),
        "{} {}",
        small.len(),
        whole.len()
    );
}

#[test]
fn what_cannot_be_written_is_said() {
    let (checkpoint, tags) = model("", &["A"]);
    let few = write(&checkpoint, &tags[1..], Precision::Float32);
    assert!(matches!(
        few,
        Err(Error::Tags {
            expected: 3,
            found: 2
        })
    ));
    let bare = write(&checkpoint.without_head(), &tags, Precision::Float32);
    assert!(matches!(bare, Err(Error::NoHead)));
}
