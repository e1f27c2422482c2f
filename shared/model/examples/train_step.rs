//! The time of one training step and of one inference, 16 sentences of 128 sub-tokens.
//!
//! `cargo run -p fedner-model --example train_step -- MODEL_DIR [STEPS]`

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use fedner_model::device::Device;
use fedner_model::{Encoded, Model, Progress, Sentence, Tokenizer, TrainOptions, train};
use fedner_shared::bert;
use fedner_shared::checkpoint::Checkpoint;
use fedner_shared::digest::Digest;
use fedner_shared::plan::{Method, Training};

const WORDS: [&str; 8] = [
    "the", "patient", "was", "given", "a", "second", "disease", "history",
];

#[allow(clippy::print_stderr, reason = "a program for people to watch")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("expected MODEL_DIR [STEPS]")?;
    let steps: usize = arguments.next().map_or(Ok(10), |steps| steps.parse())?;
    let directory = Path::new(&directory);
    let tokenizer = Tokenizer::read(&directory.join("tokenizer.json"))?;
    let config = fs::read_to_string(directory.join("config.json"))?;
    let weights = fs::read(directory.join("model.safetensors"))?;
    let tags = bert::tags(&["A".into(), "B".into(), "C".into(), "D".into()]);
    let base = Checkpoint::read(&config, &weights)?.with_new_head(tags.len(), 0);
    let corpus: Vec<Sentence> = (0..16 * steps)
        .map(|line| Sentence {
            words: (0..126)
                .map(|i| WORDS[(i * 7 + line) % 8].to_owned())
                .collect(),
            tags: (0..126).map(|i| tags[(i + line) % 9].clone()).collect(),
            line,
            ..Sentence::default()
        })
        .collect();

    let options = TrainOptions {
        method: Method::Full,
        training: Training {
            max_tokens: 128,
            ..Training::default()
        },
        seed: 1,
        schedule: 0.0..1.0,
    };
    let (mut times, mut last) = (Vec::new(), Instant::now());
    let mut observer = |_: Progress| {
        times.push(last.elapsed().as_secs_f64());
        last = Instant::now();
        ControlFlow::Continue(())
    };
    let trained = train(&base, &tokenizer, &tags, &corpus, &options, &mut observer)?;
    times.remove(0);
    let bytes: Vec<u8> = trained
        .weights
        .iter()
        .flat_map(|w| w.to_le_bytes())
        .collect();
    let digest = Digest::of(&bytes).short();
    eprintln!(
        "step: median {:.3} s; loss {:.5}, weights {digest}",
        median(&mut times),
        trained.loss
    );

    let model = Model::load(&base, Device::Cpu)?;
    let encoded = tokenizer.encode(&corpus[0].words, 128)?;
    let batch: Vec<&Encoded> = std::iter::repeat_n(&encoded, 16).collect();
    let mut times = Vec::new();
    for _ in 0..steps {
        let start = Instant::now();
        model.logits(&batch)?;
        times.push(start.elapsed().as_secs_f64());
    }
    eprintln!("inference: median {:.3} s", median(&mut times));
    Ok(())
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
