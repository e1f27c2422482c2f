//! Words tokenised a second on one core: cold, with a tokenizer that has seen nothing, and warm.
//!
//! `cargo bench -p fedner-model --bench tokenize -- [TOKENIZER_JSON [CORPUS...]]`
//!
//! Where the system tells it (Linux), seconds are those that the processor spent on this thread,
//! so that other work on the machine does not count.
//!
//! Without arguments: the public corpora in the folder that `FEDNER_CORPORA` names, else generated
//! text, and the committed tiny tokenizer.
#![allow(clippy::print_stdout, reason = "a program for people to watch")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use fedner_model::{Corpus, Tokenizer};
use tokenizers::EncodeInput;
use tokenizers::InputSequence::PreTokenizedOwned;

type Failure = Box<dyn std::error::Error>;

const ROUNDS: usize = 7;

fn main() -> Result<(), Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Cargo adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let tokenizer = match arguments.next() {
        Some(file) => PathBuf::from(file),
        None => root.join("../../tests/fixtures/tiny-bert/tokenizer.json"),
    };
    let mut files: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    if let (true, Some(data)) = (files.is_empty(), std::env::var_os("FEDNER_CORPORA")) {
        let names = ["ncbi-disease", "bionlp13cg"];
        files = names
            .map(|name| Path::new(&data).join(name).join("train.tsv"))
            .to_vec();
    }
    let json = std::fs::read(&tokenizer)?;
    println!("tokenizer {}", tokenizer.display());
    if files.is_empty() {
        measure("generated text", &json, &generated())?;
    }
    for file in files {
        let corpus = Corpus::read(&file)?;
        let sentences: Vec<Vec<String>> = corpus.sentences.into_iter().map(|s| s.words).collect();
        measure(&file.display().to_string(), &json, &sentences)?;
    }
    Ok(())
}

fn measure(name: &str, json: &[u8], sentences: &[Vec<String>]) -> Result<(), Failure> {
    let words: usize = sentences.iter().map(Vec::len).sum();
    let encode = |tokenizer: &Tokenizer| -> Result<usize, Failure> {
        let mut windows = 0;
        for words in sentences {
            windows += tokenizer.windows(words, 256)?.len();
        }
        Ok(windows)
    };
    let (mut cold, mut warm, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let tokenizer = Tokenizer::parse(json)?;
        for times in [&mut cold, &mut warm] {
            let clock = Clock::start();
            let windows = encode(&tokenizer)?;
            times.push(clock.seconds());
            assert!(windows >= sentences.len());
        }
        let library = tokenizers::Tokenizer::from_bytes(json).map_err(|e| e.to_string())?;
        let clock = Clock::start();
        let mut ids = 0;
        for words in sentences {
            let input = EncodeInput::Single(PreTokenizedOwned(words.as_slice().into()));
            let encoding = library
                .encode_fast(input, true)
                .map_err(|e| e.to_string())?;
            ids += encoding.get_ids().len();
        }
        plain.push(clock.seconds());
        assert!(ids > 0);
    }
    println!("{name}: {} sentences, {words} words", sentences.len());
    for (what, mut times) in [
        ("cold", cold),
        ("warm", warm),
        ("the tokenizers crate alone", plain),
    ] {
        times.sort_by(f64::total_cmp);
        let rate = |seconds: f64| words as f64 / seconds / 1e6;
        println!(
            "  {what}: {:.2} million words a second a core ({:.2} to {:.2})",
            rate(times[ROUNDS / 2]),
            rate(times[ROUNDS - 1]),
            rate(times[0])
        );
    }
    Ok(())
}

/// Seconds of this thread on a processor, or else of the clock on the wall.
struct Clock {
    wall: Instant,
    processor: Option<u64>,
}

impl Clock {
    fn start() -> Self {
        Self {
            wall: Instant::now(),
            processor: processor_nanoseconds(),
        }
    }

    fn seconds(&self) -> f64 {
        match (self.processor, processor_nanoseconds()) {
            (Some(start), Some(end)) => (end - start) as f64 / 1e9,
            _ => self.wall.elapsed().as_secs_f64(),
        }
    }
}

fn processor_nanoseconds() -> Option<u64> {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    times.split_whitespace().next()?.parse().ok()
}

/// Words of which few are frequent and most are rare, as in language.
fn generated() -> Vec<Vec<String>> {
    let mut state = 1u64;
    let mut next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as u32
    };
    let mut word = move || {
        let rank = 40_000.0_f64.powf(f64::from(next()) / f64::from(1u32 << 31)) as u32;
        let mut word = String::new();
        let mut rest = rank * 2_654_435 % 1_000_003;
        while rest > 0 {
            word.push(char::from(b'a' + (rest % 26) as u8));
            rest /= 26;
        }
        word.push('e');
        word
    };
    (0..6000)
        .map(|_| (0..25).map(|_| word()).collect())
        .collect()
}
