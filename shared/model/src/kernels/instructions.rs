//! Kernels as often as `FEDNER_KERNEL_TIMES` says, for `tests/compare/instructions.sh`, which counts instructions.

use std::hint::black_box;
use std::sync::Arc;

use super::tests::numbers;
use super::*;
use crate::Tokenizer;

fn times() -> usize {
    let times = std::env::var("FEDNER_KERNEL_TIMES").ok();
    times.and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// 64 rows of the inner width of MiniLM.
#[test]
#[ignore = "counted by tests/compare/instructions.sh"]
fn gelu_of_98304() {
    let device = crate::device::Device::Cpu;
    let (x, bias) = (numbers(device, [64, 1536], 1), numbers(device, [1536], 2));
    for _ in 0..times() {
        black_box(bias_gelu(black_box(x.clone()), bias.clone()));
    }
}

/// One sentence of 64 sub-tokens, 12 heads.
#[test]
#[ignore = "counted by tests/compare/instructions.sh"]
fn softmax_of_49152() {
    let device = crate::device::Device::Cpu;
    let scores = numbers(device, [1, 12, 64, 64], 1);
    let lengths: Arc<[usize]> = [64].into();
    for _ in 0..times() {
        black_box(attention_weights(
            black_box(scores.clone()),
            &lengths,
            0.2,
            None,
        ));
    }
}

/// 256 rows of the width of MiniLM.
#[test]
#[ignore = "counted by tests/compare/instructions.sh"]
fn layer_norm_of_98304() {
    let device = crate::device::Device::Cpu;
    let (x, residual) = (
        numbers(device, [256, 384], 1),
        numbers(device, [256, 384], 2),
    );
    let [bias, weight, shift] = [3, 4, 5].map(|seed| numbers(device, [384], seed));
    for _ in 0..times() {
        let norm = (weight.clone(), shift.clone(), 1e-12);
        let (x, residual) = (black_box(x.clone()), residual.clone());
        black_box(add_norm(x, bias.clone(), residual, norm, None));
    }
}

/// Words of letters that no vocabulary has, each once.
#[test]
#[ignore = "counted by tests/compare/instructions.sh"]
fn tokenising_of_1000() {
    let json = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/tiny-bert/tokenizer.json"
    ));
    let tokenizer = Tokenizer::parse(&json.expect("the tokenizer")).expect("a tokenizer");
    for time in 0..times() {
        for sentence in 0..40 {
            let word = |word: usize| {
                let number = (time * 1000 + sentence * 25 + word) * 7919;
                let letters = (0..6).map(|place| b'a' + (number / 26usize.pow(place) % 26) as u8);
                letters.map(char::from).collect()
            };
            let words: Vec<String> = (0..25).map(word).collect();
            black_box(tokenizer.encode(&words, 512)).expect("encoded");
        }
    }
}
