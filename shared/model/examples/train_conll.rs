//! Trains a Hugging Face BERT on CoNLL columns, and scores it after every epoch.
//!
//! `cargo run -p fedner-model --example train_conll -- MODEL_DIR TRAIN TEST [EPOCHS] [METHOD]`

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use fedner_model::device::Device;
use fedner_model::{
    Corpus, Model, Progress, Stage, Tokenizer, TrainHooks, TrainOptions, Trainer, evaluate,
};
use fedner_shared::bert;
use fedner_shared::checkpoint::Checkpoint;
use fedner_shared::plan::{Method, Training};

type Failure = Box<dyn std::error::Error>;

#[allow(clippy::print_stderr, reason = "a program for people to watch")]
fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, training, test, rest @ ..] = arguments.as_slice() else {
        return Err("expected MODEL_DIR TRAIN TEST [EPOCHS] [METHOD]".into());
    };
    let epochs: u32 = rest.first().map_or(Ok(1), |epochs| epochs.parse())?;
    let method: Method = rest
        .get(1)
        .map_or(Ok(Method::Full), |method| method.parse())?;
    let model = Path::new(model);
    let tokenizer = Tokenizer::read(&model.join("tokenizer.json"))?;
    let (training, test) = (
        Corpus::read(training.as_ref())?,
        Corpus::read(test.as_ref())?,
    );
    let labels: Vec<String> = training.labels().into_iter().map(str::to_owned).collect();
    let tags = bert::tags(&labels);
    let config = std::fs::read_to_string(model.join("config.json"))?;
    let weights = std::fs::read(model.join("model.safetensors"))?;
    let trainable = method.into();
    let mut checkpoint = Checkpoint::read(&config, &weights)?
        .with_new_head(tags.len(), 0)
        .prepared_for(&trainable, 0);
    let manifest = checkpoint.config.manifest(&trainable, tags.len());
    for epoch in 0..epochs {
        let (from, to) = (f64::from(epoch), f64::from(epoch + 1));
        let rate = match method {
            Method::Full => 1e-4,
            Method::Lora | Method::FfaLora | Method::Bitfit => 1e-3,
            Method::Head => 5e-3,
        };
        let options = TrainOptions {
            method,
            training: Training {
                learning_rate: rate,
                ..Training::default()
            },
            seed: u64::from(epoch),
            schedule: from / f64::from(epochs)..to / f64::from(epochs),
        };
        let start = Instant::now();
        let mut observer = |progress: Progress| {
            if progress.step.is_multiple_of(50) && progress.stage == Stage::Training {
                let elapsed = start.elapsed().as_secs_f64();
                let Progress {
                    step, steps, loss, ..
                } = progress;
                eprintln!("step {step} of {steps}: loss {loss:.4}, {elapsed:.1} s");
            }
            ControlFlow::Continue(())
        };
        let trained = Trainer {
            base: &checkpoint,
            tokenizer: &tokenizer,
            tags: &tags,
        }
        .run(
            &training.sentences,
            &options,
            TrainHooks::default(),
            &mut observer,
        )?;
        let seconds = start.elapsed().as_secs_f64();
        checkpoint = checkpoint.with_weights(&manifest, &trained.weights)?;
        let start = Instant::now();
        let model = Model::load(&checkpoint, Device::Cpu)?;
        let mut observer = |_, _| ControlFlow::Continue(());
        let scores = evaluate(
            &model,
            &tokenizer,
            &tags,
            &test.sentences,
            256,
            32,
            &mut observer,
        )?
        .scores;
        let (total, evaluation) = (scores.total(), start.elapsed().as_secs_f64());
        eprintln!(
            "epoch {}: loss {:.4}, {seconds:.1} s; test P {:.4} R {:.4} F1 {:.4}, {evaluation:.1} s",
            epoch + 1,
            trained.loss,
            total.precision(),
            total.recall(),
            total.f1()
        );
    }
    Ok(())
}
