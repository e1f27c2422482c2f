//! Heads that Hugging Face has no class for: on several layers, with neighbours, with a CRF.

mod common;

use std::ops::ControlFlow;

use common::{f1, notes, run, tags, tokenizer, untrained};
use fedner_model::device::Device;
use fedner_model::{Clip, Tagger};
use fedner_model::{
    Error, KeptFiles, Mechanism, Model, Private, Progress, Sentence, Tagged, TrainHooks,
    TrainOptions, Trainer, losses,
};
use fedner_shared::bert::{HeadShape, follows};
use fedner_shared::checkpoint::Checkpoint;
use fedner_shared::plan::{Method, Trainable, Training, Unit};

fn options(method: Method, epochs: u32) -> TrainOptions {
    let training = Training {
        local_epochs: epochs,
        batch_size: 8,
        learning_rate: 3e-2,
        ..Training::default()
    };
    TrainOptions {
        method,
        training,
        seed: 5,
        schedule: 0.0..1.0,
    }
}

fn reading(layers: &[usize]) -> Trainable {
    Trainable {
        head: HeadShape {
            layers: layers.to_vec(),
            ..HeadShape::default()
        },
        ..Method::Head.into()
    }
}

#[test]
fn a_head_on_several_layers_adds_up_what_each_of_them_says() {
    let plain = untrained(1);
    let last = plain.config.num_hidden_layers;
    let count = tags().len();
    let texts = notes(8);
    let encoded: Vec<_> = texts
        .iter()
        .map(|s| tokenizer().encode(&s.words, 40).expect("fits"))
        .collect();
    let encoded: Vec<_> = encoded.iter().collect();
    let logits = |checkpoint: &Checkpoint| {
        let model = Model::load(checkpoint, Device::Cpu).expect("model");
        model.logits(&encoded).expect("logits")
    };
    let on = |layers: &[usize]| {
        let encoder = plain.clone().without_head();
        encoder
            .prepared_for(&reading(layers), 1)
            .with_new_head(count, 6)
    };
    let both = on(&[0, last]);
    let part = |number: usize| {
        let one = on(&[[0, last][number]]);
        let hidden = plain.config.hidden_size;
        let rows = both
            .tensor("classifier.weight")
            .expect("weight")
            .chunks_exact(2 * hidden);
        let own = rows.flat_map(|row| &row[number * hidden..(number + 1) * hidden]);
        let mut flat: Vec<f32> = both.tensor("classifier.bias").expect("bias").to_vec();
        flat.extend(own);
        let manifest = one
            .config
            .manifest(&reading(&one.config.head.layers), count);
        logits(&one.with_weights(&manifest, &flat).expect("weights"))
    };
    for ((both, lower), upper) in logits(&both).iter().zip(part(0)).zip(part(1)) {
        assert!(
            (both - lower - upper).abs() < 1e-5,
            "{both} {lower} {upper}"
        );
    }
}

#[test]
fn a_head_on_several_layers_is_trained_on_what_it_will_read() {
    let last = untrained(1).config.num_hidden_layers;
    let layers = [0, last];
    let base = untrained(1)
        .without_head()
        .prepared_for(&reading(&layers), 1);
    let base = base.with_new_head(tags().len(), 6);
    let mut options = options(Method::Head, 30);
    let error = run(&base, &notes(8), &options).expect_err("another head");
    assert!(matches!(error, Error::Head { .. }), "{error}");
    options.training.head_layers = layers.to_vec();
    let trained = run(&base, &notes(120), &options).expect("trained");
    let manifest = base.config.manifest(&reading(&layers), tags().len());
    assert_eq!(trained.weights.len(), manifest.dimension());
    let model = base
        .with_weights(&manifest, &trained.weights)
        .expect("weights");
    let f1 = f1(&model, &notes(60));
    assert!(f1 > 0.9, "F1 {f1}");
}

const CHAINED: HeadShape = HeadShape {
    layers: Vec::new(),
    context: 0,
    crf: true,
    iob2: false,
};

fn with_head(head: &HeadShape) -> Checkpoint {
    let trainable = Trainable {
        head: head.clone(),
        ..Method::Head.into()
    };
    let encoder = untrained(1).without_head().prepared_for(&trainable, 1);
    encoder.with_new_head(tags().len(), 6)
}

fn of_head(options: &mut TrainOptions, head: &HeadShape) {
    options.training.head_layers.clone_from(&head.layers);
    options.training.head_context = head.context;
    options.training.head_crf = head.crf;
    options.training.head_iob2 = head.iob2;
}

/// Through the encoder, all of it frozen, a head is trained as on features that were made once.
#[test]
fn both_ways_of_training_a_head_are_one() {
    let shapes = [
        CHAINED,
        HeadShape {
            context: 2,
            ..HeadShape::default()
        },
        HeadShape {
            layers: vec![0, 1],
            context: 1,
            crf: true,
            iob2: false,
        },
    ];
    for head in shapes {
        let base = with_head(&head);
        let weights = |method| {
            let mut options = options(method, 2);
            options.training.dropout = Some(0.0);
            // The transitions are decayed through the encoder, as an embedding is.
            options.training.weight_decay = 0.0;
            if method == Method::Full {
                options.training.freeze_layers = base.config.num_hidden_layers;
            }
            of_head(&mut options, &head);
            run(&base, &notes(40), &options).expect("trained")
        };
        let (whole, alone) = (weights(Method::Full), weights(Method::Head));
        assert!((whole.loss - alone.loss).abs() < 1e-4, "{head}");
        assert_eq!(whole.weights.len(), alone.weights.len(), "{head}");
        for (whole, alone) in whole.weights.iter().zip(&alone.weights) {
            assert!((whole - alone).abs() < 2e-3, "{head}: {whole} {alone}");
        }
    }
}

/// What the model says of the words of some notes.
fn tagged(model: &Checkpoint) -> Vec<Vec<Tagged>> {
    let model = Model::load(model, Device::Cpu).expect("model");
    let encode = |s: &Sentence| tokenizer().encode(&s.words, 40).expect("fits");
    let encoded: Vec<_> = notes(60).iter().map(encode).collect();
    let tagged = model.tag(&encoded.iter().collect::<Vec<_>>());
    let tagged = tagged.expect("tagged").into_iter();
    tagged
        .map(|words| words.into_iter().flatten().collect())
        .collect()
}

/// Whether every entity begins with its `B-`; probabilities are such in any case.
fn keeps_to_iob2(words: &[Tagged]) -> bool {
    let mut before = None;
    words.iter().all(|Tagged { tag, probability }| {
        assert!((0.0..=1.0 + 1e-6).contains(probability));
        let kept = follows(before, *tag);
        before = Some(*tag);
        kept
    })
}

#[test]
fn a_crf_learns_the_notes_and_keeps_to_iob2() {
    for method in [Method::Head, Method::Full] {
        let base = with_head(&CHAINED);
        let mut options = options(method, 15);
        if method == Method::Full {
            options.training.learning_rate = 3e-3;
        }
        of_head(&mut options, &CHAINED);
        let trained = run(&base, &notes(120), &options).expect("trained");
        assert!(trained.loss < trained.first_loss / 2.0, "{method}");
        let trainable = Trainable::new(method, None, &options.training);
        let manifest = base.config.manifest(&trainable, tags().len());
        let model = base.with_weights(&manifest, &trained.weights);
        let model = model.expect("weights");
        let f1 = f1(&model, &notes(60));
        assert!(f1 > 0.85, "{method}: F1 {f1}");
        // An untrained encoder's head would otherwise begin an entity within it now and then.
        assert!(tagged(&model).iter().all(|words| keeps_to_iob2(words)));
    }
}

/// It is a matter of tagging alone: the weights are those of a plain head.
#[test]
fn a_head_that_keeps_to_iob2_gives_nothing_else_and_tags_better() {
    let keeping = HeadShape {
        iob2: true,
        ..HeadShape::default()
    };
    let model = |head: &HeadShape| {
        let base = with_head(head);
        let mut options = options(Method::Head, 8);
        of_head(&mut options, head);
        let trained = run(&base, &notes(40), &options).expect("trained");
        let trainable = Trainable::new(Method::Head, None, &options.training);
        let manifest = base.config.manifest(&trainable, tags().len());
        (base.with_weights(&manifest, &trained.weights)).expect("weights")
    };
    let untrained = |head: &HeadShape| tagged(&with_head(head));
    let kept = |tagged: &[Vec<Tagged>]| tagged.iter().all(|words| keeps_to_iob2(words));
    assert!(!kept(&untrained(&HeadShape::default())));
    assert!(kept(&untrained(&keeping)));
    let (plain, keeping) = (model(&HeadShape::default()), model(&keeping));
    for name in ["classifier.weight", "classifier.bias"] {
        assert_eq!(plain.tensor(name).ok(), keeping.tensor(name).ok());
    }
    let (plain, keeping) = (f1(&plain, &notes(60)), f1(&keeping, &notes(60)));
    assert!(keeping >= plain && keeping > 0.5, "{keeping} {plain}");
}

/// What a model is surprised by is what it is trained to be surprised by less.
#[test]
fn the_loss_of_a_sentence_under_a_crf_is_that_of_training() {
    let (base, corpus) = (with_head(&CHAINED), notes(8));
    let mut options = options(Method::Head, 1);
    of_head(&mut options, &CHAINED);
    let trained = run(&base, &corpus, &options).expect("one step");
    assert_eq!(trained.steps, 1);
    let model = Model::load(&base, Device::Cpu).expect("model");
    let (tokenizer, tags) = (tokenizer(), tags());
    let tagger = Tagger {
        model: &model,
        tokenizer: &tokenizer,
        tags: &tags,
        max_tokens: 40,
        batch: 3,
    };
    let mut observer = |_, _| ControlFlow::Continue(());
    let losses = losses(&tagger, &corpus, &mut observer).expect("losses");
    let words: usize = losses.iter().map(|loss| loss.words).sum();
    let mean = losses.iter().map(|loss| loss.sum).sum::<f64>() / words as f64;
    assert!((mean - f64::from(trained.loss)).abs() < 1e-5, "{mean}");
}

#[derive(Debug)]
struct Unasked;

impl Mechanism for Unasked {
    fn sample(&mut self, _: usize) -> Vec<usize> {
        panic!("a training that is refused draws no sample")
    }

    fn choose(&mut self, _: usize, count: usize) -> Vec<usize> {
        (0..count).collect()
    }

    fn release(&mut self, _: &mut [f64]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        panic!("a training that is refused releases nothing")
    }
}

#[test]
fn a_crf_is_not_trained_on_gradients_clipped_by_unit() {
    let base = with_head(&CHAINED);
    let mut options = options(Method::Head, 1);
    of_head(&mut options, &CHAINED);
    let private = Private {
        unit: Unit::Sentence,
        clip: Clip::threshold(1.0),
        noise_multiplier: 1.0,
        expected_batch: 4.0,
        steps_an_epoch: 2,
        max_windows: 64,
        mechanism: &mut Unasked,
    };
    let keep = KeptFiles::default();
    let hooks = TrainHooks {
        kept_files: &keep,
        private: Some(private),
        ..TrainHooks::default()
    };
    let mut observer = |_: Progress| ControlFlow::Continue(());
    let refused = Trainer {
        base: &base,
        tokenizer: &tokenizer(),
        tags: &tags(),
    }
    .run(&notes(8), &options, hooks, &mut observer);
    assert!(matches!(refused, Err(Error::PrivateCrf)), "{refused:?}");
}
