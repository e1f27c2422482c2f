//! Damage: bits, bytes, numbers and whole parts of other inputs.

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

/// Longer inputs only take longer.
const LONGEST: usize = 1 << 16;

/// Numbers at which readers go wrong.
const NUMBERS: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x10_0000,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_fff8,
    u64::MAX,
];

/// The same in text, and other words that formats give a meaning to.
const WORDS: [&str; 36] = [
    "0",
    "-1",
    "1e308",
    "1e-320",
    "-0.0",
    "nan",
    "inf",
    "4294967296",
    "9223372036854775807",
    "18446744073709551616",
    "null",
    "true",
    "\"\"",
    "[]",
    "{}",
    "[[",
    "{\"a\":",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "\u{202e}",
    "\u{0}",
    "\t",
    "\n",
    "\r\n",
    "\r",
    "\n\n",
    " ",
    "I-",
    "B-",
    "# document = ",
    "# person = ",
    "-DOCSTART-",
    "T1\tDrug 0 5\ta",
    "é",
    "𝒳",
];

/// One of `corpus`, damaged some times.
pub(crate) fn damaged(corpus: &[Vec<u8>], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut input = corpus[rng.random_range(0..corpus.len())].clone();
    for _ in 0..1 << rng.random_range(0..4) {
        damage(&mut input, corpus, rng);
    }
    input.truncate(LONGEST);
    input
}

fn damage(input: &mut Vec<u8>, corpus: &[Vec<u8>], rng: &mut ChaCha8Rng) {
    let at = rng.random_range(0..=input.len());
    let until = (at + length(rng)).min(input.len());
    match rng.random_range(0..10) {
        0 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
        1 if at < input.len() => input[at] = rng.random(),
        2 => drop(input.drain(at..until)),
        3 => {
            let part = input[at..until].to_vec();
            let to = rng.random_range(0..=input.len());
            input.splice(to..to, part);
        }
        4 => {
            let number = NUMBERS[rng.random_range(0..NUMBERS.len())].to_le_bytes();
            let width = 1 << rng.random_range(0..4);
            let until = (at + width).min(input.len());
            input.splice(at..until, number[..width].iter().copied());
        }
        5 => {
            let word = WORDS[rng.random_range(0..WORDS.len())];
            input.splice(at..until, word.bytes());
        }
        6 => {
            let word = WORDS[rng.random_range(0..WORDS.len())];
            input.splice(at..at, word.bytes());
        }
        7 => {
            let other = &corpus[rng.random_range(0..corpus.len())];
            let from = rng.random_range(0..=other.len());
            let part = &other[from..(from + length(rng)).min(other.len())];
            input.splice(at..until, part.iter().copied());
        }
        8 => number(input, at, rng),
        _ => input.truncate(at),
    }
}

/// Of a part: short ones as often as long ones.
fn length(rng: &mut ChaCha8Rng) -> usize {
    let most = 1 << rng.random_range(0..8);
    rng.random_range(0..=most)
}

/// Puts another number where the next one stands in the text.
fn number(input: &mut Vec<u8>, at: usize, rng: &mut ChaCha8Rng) {
    let digit = |byte: &u8| byte.is_ascii_digit();
    let Some(begin) = input[at..].iter().position(digit) else {
        return;
    };
    let begin = at + begin;
    let end = input[begin..].iter().position(|byte| !digit(byte));
    let end = end.map_or(input.len(), |length| begin + length);
    let number = match rng.random_range(0..3) {
        0 => rng.random_range(0..20),
        1 => NUMBERS[rng.random_range(0..NUMBERS.len())],
        _ => rng.random(),
    };
    input.splice(begin..end, number.to_string().bytes());
}
