//! Weights: updates and checkpoints.

use std::sync::OnceLock;

use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint::{Checkpoint, Layout};
use fedner_shared::update::{Checker, Decoder, encode};

const HEADER: usize = 16;

/// The most that a plan of ours would have here.
const DIMENSION: u64 = 20_000;

/// An update of as many weights as it says, within what is sensible.
pub(crate) fn update(input: &[u8]) {
    let announced = input.get(4..12).and_then(|bytes| bytes.try_into().ok());
    let announced = announced.map_or(1, u64::from_le_bytes);
    let dimension = announced.min(DIMENSION) as usize;
    let bound = 1 << (input.len() % 33);
    let whole = Decoder::new(input, dimension, bound).and_then(Decoder::read_all);
    let mut checker = Checker::new(dimension, bound, u128::MAX);
    let piece = 1 + input.len() % 1021;
    let pushed = input
        .chunks(piece)
        .try_for_each(|bytes| checker.push(bytes));
    let checked = pushed.and_then(|()| checker.finish());
    let told = |error: &fedner_shared::update::Error| error.to_string();
    assert_eq!(
        whole.as_ref().err().map(told),
        checked.as_ref().err().map(told),
        "decoder and checker differ"
    );
    if let Ok(values) = whole {
        assert_eq!(values.len(), dimension);
        assert!(values.iter().all(|value| i64::from(*value).abs() <= bound));
        let mut again = Vec::new();
        encode(&values, &mut again).expect("memory");
        assert!(again == input, "one vector has two encodings");
    }
}

pub(crate) fn updates() -> Vec<Vec<u8>> {
    let vectors = [
        vec![],
        vec![0],
        vec![0; 4096],
        vec![i32::MIN, i32::MAX, -1],
        (0..5000).map(|k| k % 7 - 3).collect(),
        (0..4097).map(|k| (k * k) % 100_003 - 50_000).collect(),
    ];
    vectors
        .iter()
        .map(|values| {
            let mut bytes = Vec::with_capacity(HEADER);
            encode(values, &mut bytes).expect("memory");
            bytes
        })
        .collect()
}

/// A configuration, a blank line, and weights.
pub(crate) fn checkpoint(input: &[u8]) {
    let _ = Layout::read(input);
    let end = input.windows(2).position(|pair| pair == b"\n\n");
    let Some((config, weights)) = end.map(|end| (&input[..end], &input[end + 2..])) else {
        return;
    };
    let config = String::from_utf8_lossy(config);
    let Ok(read) = Checkpoint::read(&config, weights) else {
        return;
    };
    let again = read.to_safetensors().expect("what was read can be written");
    let layout = Layout::read(again.as_slice()).expect("what was written has a layout");
    let names = read.names();
    assert!(!names.is_empty() && !format!("{layout:?}").is_empty());
    let twice = Checkpoint::read(&config, &again).expect("what was written can be read");
    let bits = |checkpoint: &Checkpoint, name: &String| -> Vec<u32> {
        let values = checkpoint.tensor(name).expect("a tensor that it names");
        values.iter().map(|value| value.to_bits()).collect()
    };
    for name in &names {
        assert_eq!(bits(&read, name), bits(&twice, name), "{name}");
    }
}

const CONFIG: &str = r#"{"model_type":"bert","vocab_size":7,"hidden_size":4,"num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":4,"hidden_act":"gelu","max_position_embeddings":6}"#;

pub(crate) fn checkpoints() -> Vec<Vec<u8>> {
    static SEEDS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let make = || {
        let config = || BertConfig::parse(CONFIG).expect("config");
        let bare = Checkpoint::random(config(), 1);
        let tagger = Checkpoint::random(config(), 2).with_new_head(3, 2);
        let files = [bare, tagger].map(|made| made.to_safetensors().expect("written"));
        let join = |file: &Vec<u8>| [CONFIG.as_bytes(), b"\n\n", file].concat();
        files.iter().map(join).collect()
    };
    SEEDS.get_or_init(make).clone()
}
