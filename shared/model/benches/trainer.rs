//! What the trainer costs: one JSON object a figure, times in seconds. `processor_s` is the time of
//! one, on average, that all threads spent on a processor (Linux): other work on the machine
//! counts less in it than in the others, which are by the clock on the wall.
//!
//! ```text
//! cargo bench -p fedner-model -- [FIGURE...] [--device NAME] [--steps N] [--model DIR --data TRAIN]
//!     [--sub-tokens N] [--freeze-embeddings] [--dropout P] [--without-noise] [--shape NAME]
//! ```
//!
//! | figure | is |
//! |---|---|
//! | `step` | one training step on 16 sentences of 128 sub-tokens, dropout on |
//! | `lora`, `head-step` | the same with the method `lora`, with the method `head` |
//! | `private-step`, `private-lora`, `private-head` | such steps with each sentence a unit of its own: clipped, noised unless `--without-noise`, and without dropout unless `--dropout` |
//! | `inference` | the logits of such a batch |
//! | `predict` | the tags of every sentence of the corpus `--data` |
//! | `features` | of 2,048 sub-tokens, what `head` reads of the corpus `--data` |
//! | `epoch` | one epoch of `full` on the corpus `--data` |
//! | `head` | the second and later epochs of `head` on it |
//!
//! Without a figure: `step` and `inference`. `predict`, `features`, `epoch` and `head` want a Hugging Face
//! directory and CoNLL columns; the others make a model of random weights. Its shape is that of MiniLM-L6,
//! or with `--shape bert-base` that of BERT-base (110 million weights).
//! `peak_mib` is the most memory that the process had so far (Linux), so that it is of a figure only
//! where that comes first.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use fedner_model::device::Device;
use fedner_model::{Clip, Corpus, Encoded, Model, Progress, Sentence, Stage, Tagger};
use fedner_model::{Mechanism, Private, Tokenizer, TrainHooks, TrainOptions, Trainer};
use fedner_privacy::dp_sgd_step::{PrivateSum, Settings};
use fedner_privacy::noise::Generator;
use fedner_shared::bert::{self, BertConfig};
use fedner_shared::checkpoint::Checkpoint;
use fedner_shared::plan::{Method, Trainable, Training, Unit};
use serde_json::json;

type Failure = Box<dyn std::error::Error>;

const SENTENCES: usize = 16;
const VOCABULARY: usize = 30_522;

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let device: Device = arguments.device.parse()?;
    for figure in &arguments.figures {
        let before = processor_seconds();
        let times = match figure.as_str() {
            "step" => steps(&arguments, Method::Full)?,
            "lora" => steps(&arguments, Method::Lora)?,
            "head-step" => steps(&arguments, Method::Head)?,
            "private-step" => private_steps(&arguments, Method::Full)?,
            "private-lora" => private_steps(&arguments, Method::Lora)?,
            "private-head" => private_steps(&arguments, Method::Head)?,
            "inference" => inferences(&arguments, device)?,
            "predict" => predictions(&arguments, device)?,
            "features" => features(&arguments)?,
            "epoch" => epochs(&arguments, Method::Full, 1)?,
            "head" => epochs(&arguments, Method::Head, 6)?.split_off(1),
            other => return Err(format!("the figure `{other}` is unknown").into()),
        };
        let processor = processor_seconds()
            .zip(before)
            .map(|(after, before)| after - before);
        report(figure, device, times, processor);
    }
    Ok(())
}

#[derive(Debug)]
struct Arguments {
    figures: Vec<String>,
    device: String,
    steps: usize,
    model: Option<PathBuf>,
    data: Option<PathBuf>,
    sub_tokens: usize,
    freeze_embeddings: bool,
    dropout: Option<f64>,
    noise: bool,
    shape: Shape,
}

impl Arguments {
    fn parse(mut given: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut arguments = Self {
            figures: Vec::new(),
            device: "cpu".to_owned(),
            steps: 10,
            model: None,
            data: None,
            sub_tokens: 128,
            freeze_embeddings: false,
            dropout: None,
            noise: true,
            shape: MINILM,
        };
        while let Some(argument) = given.next() {
            let mut value = || given.next().ok_or(format!("{argument} wants a value"));
            match argument.as_str() {
                // Said by `cargo bench` itself.
                "--bench" => {}
                "--device" => arguments.device = value()?,
                "--steps" => arguments.steps = value()?.parse()?,
                "--model" => arguments.model = Some(value()?.into()),
                "--data" => arguments.data = Some(value()?.into()),
                "--sub-tokens" => arguments.sub_tokens = value()?.parse()?,
                "--freeze-embeddings" => arguments.freeze_embeddings = true,
                "--dropout" => arguments.dropout = Some(value()?.parse()?),
                "--without-noise" => arguments.noise = false,
                "--shape" => arguments.shape = Shape::named(&value()?)?,
                _ => arguments.figures.push(argument),
            }
        }
        if arguments.figures.is_empty() {
            arguments.figures = vec!["step".to_owned(), "inference".to_owned()];
        }
        Ok(arguments)
    }

    fn model(&self) -> Result<&Path, Failure> {
        Ok(self
            .model
            .as_deref()
            .ok_or("this figure wants --model DIR")?)
    }

    fn corpus(&self) -> Result<Corpus, Failure> {
        let data = self
            .data
            .as_deref()
            .ok_or("this figure wants --data TRAIN")?;
        Ok(Corpus::read(data)?)
    }

    fn options(&self, method: Method, epochs: u32) -> TrainOptions {
        let training = Training {
            local_epochs: epochs,
            device: self.device.clone(),
            freeze_embeddings: self.freeze_embeddings,
            dropout: self.dropout,
            ..Training::default()
        };
        TrainOptions {
            method,
            training,
            seed: 1,
            schedule: 0.0..1.0,
        }
    }
}

#[allow(clippy::print_stdout, reason = "what the program is for")]
fn report(figure: &str, device: Device, mut times: Vec<f64>, processor: Option<f64>) {
    times.sort_by(f64::total_cmp);
    let figure = json!({
        "figure": figure,
        "device": device.to_string(),
        "median_s": times[times.len() / 2],
        // The first, which is no time of its own, was worked for too.
        "processor_s": processor.map(|seconds| seconds / (times.len() + 1) as f64),
        "peak_mib": peak_mib(),
        "times_s": times,
    });
    println!("{figure}");
}

/// What all threads have spent on a processor so far, in steps of 10 ms.
fn processor_seconds() -> Option<f64> {
    const TICKS_IN_A_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field, a name in parentheses, may have blanks.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let user: f64 = fields.nth(11)?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_IN_A_SECOND)
}

/// The most memory that the process has had.
fn peak_mib() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

/// What decides how many weights an encoder has.
#[derive(Debug, Clone, Copy)]
struct Shape {
    width: usize,
    layers: usize,
    heads: usize,
}

const MINILM: Shape = Shape {
    width: 384,
    layers: 6,
    heads: 12,
};
const BERT_BASE: Shape = Shape {
    width: 768,
    layers: 12,
    heads: 12,
};

impl Shape {
    fn named(name: &str) -> Result<Self, Failure> {
        match name {
            "minilm" => Ok(MINILM),
            "bert-base" => Ok(BERT_BASE),
            other => Err(format!("the shape `{other}` is unknown").into()),
        }
    }

    /// A model of random weights, with a head of nine tags.
    fn random(self) -> Result<(Checkpoint, Tokenizer, Vec<String>), Failure> {
        let config = json!({
            "model_type": "bert", "vocab_size": VOCABULARY, "hidden_size": self.width,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "intermediate_size": 4 * self.width, "max_position_embeddings": 512,
        });
        let config = BertConfig::parse(&config.to_string())?;
        let tags = bert::tags(&["A", "B", "C", "D"].map(str::to_owned));
        let base = Checkpoint::random(config, 1).with_new_head(tags.len(), 1);
        Ok((base, tokenizer()?, tags))
    }
}

/// A tokenizer whose word `w7` is the sub-token 7.
fn tokenizer() -> Result<Tokenizer, Failure> {
    let mut pieces: serde_json::Map<String, serde_json::Value> = (0..VOCABULARY)
        .map(|id| (format!("w{id}"), id.into()))
        .collect();
    for (special, id) in [("[PAD]", 0), ("[UNK]", 100), ("[CLS]", 101), ("[SEP]", 102)] {
        pieces.remove(&format!("w{id}"));
        pieces.insert(special.to_owned(), id.into());
    }
    let special = |name: &str, id: usize| json!({"id": name, "ids": [id], "tokens": [name]});
    let tokenizer = json!({
        "version": "1.0",
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
            ],
            "pair": [],
            "special_tokens": {"[CLS]": special("[CLS]", 101), "[SEP]": special("[SEP]", 102)},
        },
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": pieces,
        },
    });
    Ok(Tokenizer::parse(tokenizer.to_string().as_bytes())?)
}

/// The word at a place of the synthetic corpus, as `tests/compare/pytorch_side.py` has it.
fn word(place: usize) -> usize {
    1000 + place * 7919 % 19_000
}

fn synthetic(sentences: usize, sub_tokens: usize, tags: &[String]) -> Vec<Sentence> {
    let length = sub_tokens - 2;
    let sentence = |line: usize| {
        let places = line * length..(line + 1) * length;
        Sentence {
            words: places
                .clone()
                .map(|place| format!("w{}", word(place)))
                .collect(),
            tags: places
                .map(|place| tags[place % tags.len()].clone())
                .collect(),
            line,
            ..Sentence::default()
        }
    };
    (0..sentences).map(sentence).collect()
}

/// The times of training steps, without the first.
fn steps(arguments: &Arguments, method: Method) -> Result<Vec<f64>, Failure> {
    timed(arguments, method, TrainHooks::default())
}

/// Takes one sentence after another, and noises as it is told.
#[derive(Debug)]
struct InTurn {
    next: usize,
    noise: Option<PrivateSum>,
    generator: Generator,
}

impl Mechanism for InTurn {
    fn sample(&mut self, _: usize) -> Vec<usize> {
        let sampled = self.next..self.next + SENTENCES;
        self.next = sampled.end;
        sampled.collect()
    }

    fn choose(&mut self, _: usize, count: usize) -> Vec<usize> {
        (0..count).collect()
    }

    fn release(&mut self, sum: &mut [f64]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        match &self.noise {
            Some(noise) => Ok(noise.release(sum, &mut self.generator)?),
            None => Ok(()),
        }
    }
}

/// The same of private steps.
fn private_steps(arguments: &Arguments, method: Method) -> Result<Vec<f64>, Failure> {
    let (base, _, tags) = arguments.shape.random()?;
    let trainable = Trainable::new(method, None, &arguments.options(method, 1).training);
    let config = base.prepared_for(&trainable, 1).config;
    let noise = PrivateSum::new(Settings {
        clip: 1.0,
        noise_multiplier: 1.0,
        dimension: config.manifest(&trainable, tags.len()).dimension(),
        summation_error: 1e-6,
    })?;
    let mut mechanism = InTurn {
        next: 0,
        noise: arguments.noise.then_some(noise),
        generator: Generator::from_seed([7; 32]),
    };
    let private = Private {
        unit: Unit::Sentence,
        clip: Clip::threshold(1.0),
        noise_multiplier: 1.0,
        expected_batch: SENTENCES as f64,
        steps_an_epoch: arguments.steps + 1,
        max_windows: 64,
        mechanism: &mut mechanism,
    };
    timed(
        arguments,
        method,
        TrainHooks {
            private: Some(private),
            ..TrainHooks::default()
        },
    )
}

fn timed(
    arguments: &Arguments,
    method: Method,
    hooks: TrainHooks<'_>,
) -> Result<Vec<f64>, Failure> {
    let (base, tokenizer, tags) = arguments.shape.random()?;
    let base = base.prepared_for(&method.into(), 1);
    let corpus = synthetic(
        SENTENCES * (arguments.steps + 1),
        arguments.sub_tokens,
        &tags,
    );
    let (mut times, mut last) = (Vec::new(), Instant::now());
    let mut observer = |progress: Progress| {
        if progress.stage == Stage::Training {
            times.push(last.elapsed().as_secs_f64());
        }
        last = Instant::now();
        ControlFlow::Continue(())
    };
    let options = arguments.options(method, 1);
    Trainer {
        base: &base,
        tokenizer: &tokenizer,
        tags: &tags,
    }
    .run(&corpus, &options, hooks, &mut observer)?;
    Ok(times.split_off(1))
}

fn inferences(arguments: &Arguments, device: Device) -> Result<Vec<f64>, Failure> {
    let (base, tokenizer, tags) = arguments.shape.random()?;
    let model = Model::load(&base, device)?;
    let encoded: Vec<Encoded> = synthetic(SENTENCES, arguments.sub_tokens, &tags)
        .iter()
        .map(|sentence| tokenizer.encode(&sentence.words, arguments.sub_tokens))
        .collect::<Result<_, _>>()?;
    let batch: Vec<&Encoded> = encoded.iter().collect();
    let mut times = Vec::new();
    for _ in 0..=arguments.steps {
        let start = Instant::now();
        model.logits(&batch)?;
        times.push(start.elapsed().as_secs_f64());
    }
    Ok(times.split_off(1))
}

/// A model with a new head, from the directory `--model`.
struct Pretrained {
    base: Checkpoint,
    tokenizer: Tokenizer,
    tags: Vec<String>,
}

impl Pretrained {
    fn read(directory: &Path, corpus: &Corpus) -> Result<Self, Failure> {
        let labels: Vec<String> = corpus.labels().into_iter().map(str::to_owned).collect();
        let tags = bert::tags(&labels);
        let config = fs::read_to_string(directory.join("config.json"))?;
        let weights = fs::read(directory.join("model.safetensors"))?;
        Ok(Self {
            base: Checkpoint::read(&config, &weights)?.with_new_head(tags.len(), 0),
            tokenizer: Tokenizer::read(&directory.join("tokenizer.json"))?,
            tags,
        })
    }

    fn trainer(&self) -> Trainer<'_> {
        Trainer {
            base: &self.base,
            tokenizer: &self.tokenizer,
            tags: &self.tags,
        }
    }
}

fn predictions(arguments: &Arguments, device: Device) -> Result<Vec<f64>, Failure> {
    let corpus = arguments.corpus()?;
    let pretrained = Pretrained::read(arguments.model()?, &corpus)?;
    let model = Model::load(&pretrained.base, device)?;
    let tagger = Tagger {
        model: &model,
        tokenizer: &pretrained.tokenizer,
        tags: &pretrained.tags,
        max_tokens: 512,
        batch: 32,
    };
    let words: Vec<&[String]> = corpus.sentences.iter().map(|s| &*s.words).collect();
    let mut times = Vec::new();
    for _ in 0..=arguments.steps {
        let start = Instant::now();
        tagger.tag(&words, &mut |_, _| ControlFlow::Continue(()))?;
        times.push(start.elapsed().as_secs_f64());
    }
    Ok(times.split_off(1))
}

/// The times of features, told by the progress of trainings of `head` that end before their first step.
fn features(arguments: &Arguments) -> Result<Vec<f64>, Failure> {
    const BATCH: f64 = 2048.0;
    let corpus = arguments.corpus()?;
    let pretrained = Pretrained::read(arguments.model()?, &corpus)?;
    let options = arguments.options(Method::Head, 1);
    let encode = |sentence: &Sentence| {
        let longest = options.training.max_tokens;
        let encoded = pretrained.tokenizer.encode(&sentence.words, longest);
        Ok(encoded?.ids.len())
    };
    let lengths = corpus.sentences.iter().map(encode);
    let mut lengths: Vec<usize> = lengths.collect::<Result<_, Failure>>()?;
    // As they are taken.
    lengths.sort_unstable();
    let mut times = Vec::new();
    for _ in 0..=arguments.steps {
        let (mut done, mut told) = (0, Vec::new());
        let mut observer = |progress: Progress| {
            if progress.stage == Stage::Training {
                return ControlFlow::Break(());
            }
            done += progress.sentences;
            told.push((Instant::now(), done));
            ControlFlow::Continue(())
        };
        let hooks = TrainHooks::default();
        // It ends with an error, as it is stopped at the first step.
        let _ = pretrained
            .trainer()
            .run(&corpus.sentences, &options, hooks, &mut observer);
        // Two batches are made at a time, before either is told.
        let ends = told.get(1).zip(told.last());
        let ((first, before), (last, done)) = ends.ok_or("no features were made")?;
        let sub_tokens: usize = lengths[*before..*done].iter().sum();
        times.push((*last - *first).as_secs_f64() * BATCH / sub_tokens as f64);
    }
    Ok(times.split_off(1))
}

/// The time of each epoch; what comes before the first step counts as part of the first.
fn epochs(arguments: &Arguments, method: Method, epochs: u32) -> Result<Vec<f64>, Failure> {
    let corpus = arguments.corpus()?;
    let pretrained = Pretrained::read(arguments.model()?, &corpus)?;
    let (mut ends, start) = (vec![0.0; epochs as usize], Instant::now());
    let mut observer = |progress: Progress| {
        if progress.stage == Stage::Training {
            ends[progress.epoch as usize] = start.elapsed().as_secs_f64();
        }
        ControlFlow::Continue(())
    };
    let options = arguments.options(method, epochs);
    pretrained.trainer().run(
        &corpus.sentences,
        &options,
        TrainHooks::default(),
        &mut observer,
    )?;
    let starts = std::iter::once(0.0).chain(ends.iter().copied());
    Ok(starts.zip(&ends).map(|(start, end)| end - start).collect())
}
