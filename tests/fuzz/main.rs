//! Everything that reads what others wrote, fed with damaged input: nothing panics, nothing is read
//! that is not as it says, and what is read can be written and read again.
//!
//! | run | inputs for each target |
//! |---|---|
//! | `cargo test --test fuzz` | those kept in `corpora/`, the seeds, and some hundreds by proptest |
//! | `FEDNER_FUZZ_SECONDS=600 cargo test --test fuzz -- --test-threads 1` | damaged seeds for ten minutes, or ten million |
//!
//! A target is a plain function from bytes that panics where a promise is broken. An input that
//! makes one panic in the long run is written to `corpora/TARGET/`, where every later run finds it.

mod documents;
mod mutate;
mod numbers;
mod text;
mod wire;

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use mutate::damaged;

/// Inputs of a long run at most.
const MOST: u64 = 10_000_000;

/// No reader may take so long for inputs as short as these.
const LONGEST: Duration = Duration::from_secs(5);

/// What is fed, and with what it begins.
struct Target {
    name: &'static str,
    run: fn(&[u8]),
    seeds: fn() -> Vec<Vec<u8>>,
}

impl Target {
    fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpora")
            .join(self.name)
    }

    /// The seeds, and what once broke a promise.
    fn corpus(&self) -> Vec<Vec<u8>> {
        let mut corpus = (self.seeds)();
        assert!(!corpus.is_empty(), "{} has no seeds", self.name);
        let kept = fs::read_dir(self.folder()).into_iter().flatten();
        let mut kept: Vec<PathBuf> = kept.filter_map(|file| Some(file.ok()?.path())).collect();
        kept.sort();
        corpus.extend(
            kept.iter()
                .map(|file| fs::read(file).expect("a kept input")),
        );
        corpus
    }

    fn test(&self) {
        let corpus = self.corpus();
        for input in &corpus {
            (self.run)(input);
        }
        let any_bytes = prop::collection::vec(any::<u8>(), 0..400);
        let seeds = corpus.clone();
        let damaged = any::<u64>()
            .prop_map(move |seed| damaged(&seeds, &mut ChaCha8Rng::seed_from_u64(seed)));
        let mut config = Config::with_cases(300);
        config.failure_persistence = None;
        // The same inputs in every run: what is new is for the long one to find.
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let mut runner = TestRunner::new_with_rng(config, rng);
        let outcome = runner.run(&prop_oneof![1 => any_bytes, 4 => damaged], |input| {
            (self.run)(&input);
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        if let Some(seconds) = seconds() {
            self.long(&corpus, seconds);
        }
    }

    /// What became of an input, and how long that took.
    fn timed(&self, input: &[u8]) -> (std::thread::Result<()>, Duration) {
        let started = Instant::now();
        let outcome = catch_unwind(|| (self.run)(input));
        (outcome, started.elapsed())
    }

    #[allow(
        clippy::print_stderr,
        reason = "who asks for a long run wants to know how long it was"
    )]
    fn long(&self, corpus: &[Vec<u8>], seconds: u64) {
        let (began, limit) = (Instant::now(), Duration::from_secs(seconds));
        let mut rng = ChaCha8Rng::seed_from_u64(rand::random());
        let (mut inputs, mut slowest) = (0u64, Duration::ZERO);
        while inputs < MOST && began.elapsed() < limit {
            let input = damaged(corpus, &mut rng);
            let (outcome, mut took) = self.timed(&input);
            // On a busy machine the process itself may stand still; the input is slow if it always is.
            for _ in 0..3 {
                if outcome.is_ok() && took > LONGEST {
                    took = took.min(self.timed(&input).1);
                }
            }
            if outcome.is_err() || took > LONGEST {
                let digest = blake3::hash(&input).to_hex();
                let file = self.folder().join(&digest[..12]);
                fs::create_dir_all(self.folder()).expect("the folder of kept inputs");
                fs::write(&file, &input).expect("the input is kept");
                panic!(
                    "{}: after {inputs} inputs, in {took:?}: {}",
                    self.name,
                    file.display()
                );
            }
            slowest = slowest.max(took);
            inputs += 1;
        }
        let name = self.name;
        eprintln!(
            "{name}: {inputs} inputs in {:.0?}, slowest {slowest:.1?}",
            began.elapsed()
        );
    }
}

fn seconds() -> Option<u64> {
    std::env::var("FEDNER_FUZZ_SECONDS").ok()?.parse().ok()
}

/// A test for each target, by its name.
macro_rules! targets {
    ($($name:ident: $run:path, $seeds:path;)*) => {
        $(
            #[test]
            fn $name() {
                Target { name: stringify!($name), run: $run, seeds: $seeds }.test();
            }
        )*
    };
}

targets! {
    update: numbers::update, numbers::updates;
    checkpoint: numbers::checkpoint, numbers::checkpoints;
    wire: wire::convert, wire::messages;
    plan: documents::plan, documents::plans;
    configuration: documents::configuration, documents::configurations;
    statements: documents::statements, documents::signed;
    corpus: text::any_format, text::any_corpora;
    conll: text::conll, text::conll_corpora;
    json_tokens: text::json_tokens, text::json_tokens_corpora;
    json_text: text::json_text, text::json_text_corpora;
    exports: text::exports, text::exports_corpora;
    brat: text::brat, text::brat_corpora;
    tokenizer: text::tokenizer, text::tokenizers;
}

/// A promise that is broken is found: else none of the above would say anything.
#[test]
#[should_panic(expected = "a broken promise")]
fn a_target_that_breaks_its_promise_fails() {
    let target = Target {
        name: "broken",
        run: |input| assert!(!input.contains(&0xff), "a broken promise"),
        seeds: || vec![b"sound".to_vec()],
    };
    target.test();
}
