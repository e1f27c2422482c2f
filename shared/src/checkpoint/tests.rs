use super::*;
use crate::bert::HeadShape;
use crate::plan::{Method, Trainable};

pub(super) const TINY: &str = r#"{"model_type":"bert","vocab_size":11,"hidden_size":4,
        "num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":8,
        "max_position_embeddings":16,"extra":"kept"}"#;

pub(super) fn tiny() -> Checkpoint {
    Checkpoint::random(BertConfig::parse(TINY).expect("config"), 1)
}

fn rewritten(rename: impl Fn(&str) -> Option<String>) -> Vec<u8> {
    let checkpoint = tiny();
    let mut data: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, (shape, values)) in &checkpoint.tensors {
        if let Some(name) = rename(name) {
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            data.push((name, shape.clone(), bytes));
        }
    }
    let views = data.iter().map(|(name, shape, bytes)| {
        (
            name.clone(),
            TensorView::new(Dtype::F32, shape.clone(), bytes).expect("view"),
        )
    });
    safetensors::serialize(views, None).expect("file")
}

#[test]
fn old_spellings_read_as_the_same_weights() {
    let plain = rewritten(|name| Some(name.trim_start_matches("bert.").to_owned()));
    assert_eq!(Checkpoint::read(TINY, &plain).expect("no prefix"), tiny());
    let legacy = rewritten(|name| {
        let name = name.replace("LayerNorm.weight", "LayerNorm.gamma");
        Some(name.replace("LayerNorm.bias", "LayerNorm.beta"))
    });
    assert_eq!(
        Checkpoint::read(TINY, &legacy).expect("gamma and beta"),
        tiny()
    );
}

#[test]
fn a_missing_tensor_and_a_wrong_shape_are_named() {
    let name = "bert.encoder.layer.0.output.dense.bias";
    let lacking = rewritten(|n| (n != name).then(|| n.to_owned()));
    let error = Checkpoint::read(TINY, &lacking).expect_err("lacking");
    assert!(matches!(error, Error::Missing(found) if found == name));
    let wider = TINY.replace("\"intermediate_size\":8", "\"intermediate_size\":9");
    let error = Checkpoint::read(&wider, &rewritten(|n| Some(n.to_owned()))).expect_err("shape");
    assert!(matches!(error, Error::Shape { .. }), "{error}");
    assert!(Checkpoint::read(TINY, b"not safetensors").is_err());
}

#[test]
fn the_canonical_file_is_ordered_like_the_manifest() {
    let checkpoint = tiny().with_new_head(3, 9);
    let bytes = checkpoint.to_safetensors().expect("file");
    assert_eq!(bytes, checkpoint.to_safetensors().expect("again"));
    let layout = Layout::read(&bytes[..]).expect("layout");
    let manifest = checkpoint.config.manifest(&Method::Full.into(), 3);
    let segments = layout.segments(&manifest).expect("segments");
    assert_eq!(segments, [(layout.data_start, manifest.dimension())]);
    let flat = checkpoint.flatten(&manifest).expect("flat");
    let start = layout.data_start as usize;
    assert_eq!(bytes[start..start + 4], flat[0].to_le_bytes());
    let read = Checkpoint::read(TINY, &bytes).expect("read back");
    assert_eq!((read.tags(), &read), (Some(3), &checkpoint));
}

#[test]
fn halves_convert_exactly() {
    for (bits, value) in [
        (0x3c00u16, 1.0f32),
        (0xc000, -2.0),
        (0x0001, 5.960_464_5e-8),
        (0x7bff, 65504.0),
    ] {
        assert_eq!(half_to_f32(bits).to_bits(), value.to_bits());
    }
    assert!(half_to_f32(0x7c00).is_infinite() && half_to_f32(0x7e00).is_nan());
}

#[test]
fn labels_are_written_as_transformers_reads_them() {
    let json = config_with_labels(TINY, &["Disease".to_owned()]).expect("json");
    let tags = tags_of_config(&json).expect("json").expect("tags");
    assert_eq!(tags, ["O", "B-Disease", "I-Disease"]);
    assert!(json.contains("\"extra\": \"kept\""));
}

#[test]
fn a_model_in_two_files_reads_as_the_same_model() {
    let whole = tiny().with_new_head(3, 2);
    let manifest = whole.config.manifest(&Method::Head.into(), 3);
    let (head, rest) = whole.clone().split(&manifest).expect("split");
    assert_eq!(
        head.names()
            .union(&rest.names())
            .cloned()
            .collect::<std::collections::BTreeSet<_>>(),
        whole.names()
    );
    assert!(head.names().is_disjoint(&rest.names()));
    let (head, rest) = (
        head.to_safetensors().expect("head"),
        rest.to_safetensors().expect("rest"),
    );
    let layout = Layout::read(&head[..]).expect("layout");
    assert!(layout.is_of(&manifest));
    assert!(!Layout::read(&rest[..]).expect("layout").is_of(&manifest));
    let read = |weights, frozen| Checkpoint::read_parts(TINY, weights, frozen);
    assert_eq!(read(&head, Some(&rest)).expect("both"), whole);
    // What is in both counts as it is beside the frozen part.
    let older = tiny().with_new_head(3, 9).to_safetensors().expect("older");
    let newer = read(&head, Some(&older)).expect("both");
    assert_eq!(
        newer.tensor("classifier.weight").ok(),
        whole.tensor("classifier.weight").ok()
    );
    assert!(matches!(read(&head, None), Err(Error::Missing(_))));
}

#[test]
fn a_head_of_another_shape_survives_its_files() {
    let on_layers = Trainable {
        head: HeadShape {
            layers: vec![0, 1],
            context: 1,
            crf: true,
            iob2: false,
        },
        ..Method::Head.into()
    };
    let whole = tiny().prepared_for(&on_layers, 1).with_new_head(3, 2);
    assert_eq!(
        whole.tensor("classifier.weight").expect("head").len(),
        3 * 2 * 4 * 3
    );
    let json = config_with_labels(TINY, &["A".to_owned()]).expect("labels");
    let json = config_with_additions(&json, &whole.config).expect("json");
    assert!(!json.contains("BertForTokenClassification"), "{json}");
    let bytes = whole.to_safetensors().expect("file");
    assert_eq!(Checkpoint::read(&json, &bytes).expect("read"), whole);
    let too_deep = json.replace(
        "\"fedner_head_layers\": [\n    0,\n    1",
        "\"fedner_head_layers\": [0, 2",
    );
    assert_ne!(too_deep, json);
    let error = Checkpoint::read(&too_deep, &bytes).expect_err("one layer");
    assert!(error.to_string().contains("fedner_head_layers"), "{error}");
    let lacking = json.replace("\"fedner_head_crf\": true", "\"fedner_head_crf\": false");
    let without = Checkpoint::read(&lacking, &bytes).expect("no CRF is asked for");
    assert!(without.tensor("crf.transitions").is_err());
    let plain = config_with_additions(&json, &tiny().config).expect("json");
    assert!(!plain.contains("fedner_head"), "{plain}");
}
