//! Norms and clipped sums beside burn's own gradients of each unit alone.

use fedner_shared::bert::HeadShape;
use fedner_shared::plan::{Lora, Method, Target, Training, Unit as Protected};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::device::Device;
use crate::train::cache::Grouping;
use crate::train::encoder::EncoderLearner;
use crate::train::encoder::tests::{adapted, checkpoint, lower, text as text_of};
use crate::train::examples::Example;
use crate::train::{Clip, Mechanism};
use crate::{Encoded, Sentence};
use fedner_shared::checkpoint::standardiser::BIAS;

/// Releases sums as they are, and keeps them.
#[derive(Debug, Default)]
struct Open {
    released: Vec<Vec<f64>>,
}

impl Mechanism for Open {
    fn sample(&mut self, units: usize) -> Vec<usize> {
        (0..units).collect()
    }

    fn choose(&mut self, _: usize, count: usize) -> Vec<usize> {
        (0..count).collect()
    }

    fn release(&mut self, sum: &mut [f64]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.released.push(sum.to_vec());
        Ok(())
    }
}

/// A sentence of random sub-tokens, the second of every word and the ends without a tag.
fn example(length: usize, random: &mut ChaCha8Rng) -> Example {
    let ids = (0..length).map(|_| random.random_range(5..60)).collect();
    let first: Vec<Option<usize>> = (1..length - 1)
        .map(|place| (place % 3 != 2).then_some(place))
        .collect();
    let tagged = first.iter().flatten().count();
    Example {
        sentence: 0,
        encoded: Encoded { ids, first },
        targets: (0..tagged).map(|_| random.random_range(0..6)).collect(),
    }
}

/// Sentences, and units of one, of several of one length and of several lengths, with words that come
/// up again within and between them, and one without any.
fn text() -> (Vec<Example>, Vec<Vec<usize>>) {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let lengths = [4, 9, 9, 20, 3, 12, 7, 30, 6, 5, 17];
    let examples = lengths.map(|length| example(length, &mut random)).into();
    let units = [
        vec![0],
        vec![1, 2],
        vec![3, 4, 5, 6],
        vec![],
        vec![7],
        vec![8, 9],
        vec![10],
    ];
    (examples, units.to_vec())
}

fn options(trainable: &Trainable, dropout: Option<f64>) -> TrainOptions {
    let training = Training {
        dropout,
        learning_rate: 0.01,
        freeze_layers: trainable.freeze_layers,
        ..Training::default()
    };
    TrainOptions {
        method: trainable.method,
        training,
        seed: 1,
        schedule: 0.0..1.0,
    }
}

fn private(clip: f64, mechanism: &mut Open) -> Private<'_> {
    Private {
        unit: Protected::Person,
        clip: Clip::threshold(clip),
        noise_multiplier: 0.0,
        expected_batch: 4.0,
        steps_an_epoch: 1,
        max_windows: 64,
        mechanism,
    }
}

/// Two types; the sixth target is what a word is outside of where only the first type is annotated.
fn sets() -> TagSets {
    let tags = ["O", "B-A", "I-A", "B-B", "I-B"].map(str::to_owned);
    let of_a = Sentence {
        annotated: Some(["A".to_owned()].into()),
        ..Sentence::default()
    };
    TagSets::new(&tags, &[of_a])
}

fn lora() -> Lora {
    Lora {
        rank: 3,
        targets: Target::ALL.to_vec(),
        ..Lora::default()
    }
}

/// Every method, and what may be frozen of it.
fn all_trainable() -> Vec<(Trainable, Checkpoint)> {
    let full = Trainable::from(Method::Full);
    let frozen = Trainable {
        freeze_embeddings: true,
        ..full.clone()
    };
    let lowest = Trainable {
        freeze_layers: 1,
        ..full.clone()
    };
    let biases = Trainable::from(Method::Bitfit);
    let upper_biases = Trainable {
        freeze_layers: 1,
        ..biases.clone()
    };
    let adapters = [Method::Lora, Method::FfaLora].map(|method| Trainable {
        lora: lora(),
        ..method.into()
    });
    let upper = Trainable {
        freeze_layers: 1,
        ..adapters[0].clone()
    };
    let reading = Trainable {
        head: HeadShape {
            layers: vec![0, 1, 2],
            context: 1,
            ..HeadShape::default()
        },
        ..upper.clone()
    };
    let plain = [full, frozen, lowest, biases, upper_biases];
    let plain = plain.map(|trainable| (trainable, checkpoint("model.safetensors")));
    let prepared = adapters.into_iter().chain([upper, reading]);
    let prepared = prepared.map(|trainable| {
        let base = adapted(&trainable);
        (trainable, base)
    });
    plain.into_iter().chain(prepared).collect()
}

/// By burn, the gradient of one unit's mean loss: all its sentences as one padded batch.
fn alone(
    (trainable, base): &(Trainable, Checkpoint),
    examples: &[Example],
    unit: &[usize],
) -> (f64, Vec<(String, Vec<f32>)>) {
    let (options, sets) = (options(trainable, Some(0.0)), sets());
    let text = text_of(base, examples, None);
    let mut learner = EncoderLearner::new(base, text, &options, trainable, &sets).expect("learner");
    let words: usize = unit.iter().map(|i| examples[*i].targets.len()).sum();
    let (loss, gradient) = learner.gradient(unit, words as f64, 1).expect("gradient");
    (
        f64::from(loss),
        standardised(base, gradient.as_filed(&mut learner.bert)),
    )
}

/// What the private learner clips: the gradient by the head in its coordinates. With w = w'·s and b = c·b' - w·β,
/// that by w' is s·(that by w - β·that by b), and that by b' is c times that by b.
fn standardised(
    base: &Checkpoint,
    mut gradient: Vec<(String, Vec<f32>)>,
) -> Vec<(String, Vec<f32>)> {
    let standard = Standardiser::from_checkpoint(base).expect("standardiser");
    let width = standard.width();
    let mut zero = vec![0.0; width];
    // The coordinates of a word without features: -β·s.
    standard.apply(&mut zero);
    let mut scale = vec![1.0; width];
    standard.apply(&mut scale);
    for (scale, zero) in scale.iter_mut().zip(&zero) {
        *scale -= zero;
    }
    let of = |name: &str| gradient.iter().position(|(n, _)| n == name).expect("head");
    let (weight, bias) = (of("classifier.weight"), of("classifier.bias"));
    let by_bias = gradient[bias].1.clone();
    for (row, by_bias) in gradient[weight].1.chunks_exact_mut(width).zip(&by_bias) {
        for ((value, scale), zero) in row.iter_mut().zip(&scale).zip(&zero) {
            *value = *value * scale + by_bias * zero;
        }
    }
    for value in &mut gradient[bias].1 {
        *value *= BIAS;
    }
    gradient
}

fn norm(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Named as the model names its weights.
fn named(bert: &mut Bert, sum: &[f64]) -> Vec<(String, Vec<f32>)> {
    let flat: Vec<f32> = sum.iter().map(|value| *value as f32).collect();
    Gradient::of_flat(bert, flat).as_filed(bert)
}

/// The limits of a machine with little memory, of one with much, and without books.
fn all_limits(own: Limits) -> [Limits; 4] {
    let limits = |beside, pass, group| Limits {
        beside,
        pass,
        group,
    };
    [
        own,
        limits(1000, 1000, 1),
        limits(40, 40, 60),
        limits(0, 12, 1),
    ]
}

#[test]
fn norms_and_clipped_sums_are_those_of_each_unit_alone() {
    let (examples, units) = text();
    for case in all_trainable() {
        let (trainable, base) = &case;
        let alone: Vec<_> = units
            .iter()
            .filter(|unit| !unit.is_empty())
            .map(|unit| alone(&case, &examples, unit))
            .collect();
        let flat = |(_, tensors): &(f64, Vec<(String, Vec<f32>)>)| -> Vec<f64> {
            let values = tensors.iter().flat_map(|(_, values)| values);
            values.map(|value| f64::from(*value)).collect()
        };
        let mut norms: Vec<f64> = alone.iter().map(|unit| norm(flat(unit))).collect();
        // Some are clipped, others not.
        let mut sorted = norms.clone();
        sorted.sort_by(f64::total_cmp);
        let clip = sorted[2] * 1.1;
        let mut expected = vec![0.0; flat(&alone[0]).len()];
        for (unit, norm) in alone.iter().zip(&norms) {
            for (sum, value) in expected.iter_mut().zip(flat(unit)) {
                *sum += value * (clip / norm).min(1.0);
            }
        }
        let whole = norm(expected.iter().copied());

        let (options, sets, mut mechanism) = (options(trainable, None), sets(), Open::default());
        let lower = lower(base, &examples, &options.training, Grouping::Alone);
        assert_eq!(lower.is_some(), trainable.freeze_layers > 0);
        let of = (text_of(base, &examples, None), units.as_slice());
        let how = private(clip, &mut mechanism);
        let mut learner =
            PrivateEncoderLearner::new(base, of, &options, trainable, &sets, how).expect("learner");
        let limits = all_limits(learner.limits);
        let with_lower = limits.map(|limits| (limits, lower.as_ref()));
        for (limits, lower) in limits
            .map(|limits| (limits, None))
            .into_iter()
            .chain(with_lower)
        {
            learner.text.lower = lower;
            learner.limits = limits;
            let (sum, mut found) = learner.clipped_sum(&units, 1).expect("sum");
            found.sort_by(|a, b| a.1.squared.total_cmp(&b.1.squared));
            norms.sort_by(f64::total_cmp);
            for ((_, found), norm) in found.iter().zip(&norms) {
                let relative = found.squared.sqrt() / norm - 1.0;
                assert!(relative.abs() < 1e-5, "{relative} {limits:?} {trainable:?}");
                let bound = found.squared_bound.sqrt() / norm;
                assert!(
                    bound > 1.0 - 1e-6 && bound < 1.0 + 1e-4,
                    "{bound} {limits:?}"
                );
            }
            let losses: f64 = found.iter().map(|(loss, _)| loss).sum();
            let expected_losses: f64 = alone.iter().map(|(loss, _)| loss).sum();
            assert!((losses / expected_losses - 1.0).abs() < 1e-5);
            let mut place = 0;
            for ((name, found), (_, one)) in named(&mut learner.bert, &sum.values)
                .iter()
                .zip(&alone[0].1)
            {
                assert_eq!(found.len(), one.len(), "{name}");
                let expected = &expected[place..place + found.len()];
                place += found.len();
                let apart = found.iter().zip(expected);
                let apart = norm(apart.map(|(found, expected)| f64::from(*found) - expected));
                // The bound that is clipped is above the norm by less than 1e-4, see above.
                let near = 1e-4 * norm(expected.iter().copied()) + 1e-5 * whole;
                assert!(apart < near, "{name}: {apart} of {whole} with {limits:?}");
                let moved = norm(expected.iter().copied()) > 1e-4 * whole;
                assert!(moved || name.ends_with("key.bias"), "{name} {trainable:?}");
            }
            assert_eq!(place, expected.len());
        }
    }
}

/// Without clip and noise, the step of a whole text is that of the mean of its units' gradients.
#[test]
fn without_clip_and_noise_a_step_is_that_of_the_mean_gradient() {
    let (examples, units) = text();
    for case in all_trainable() {
        let (trainable, base) = &case;
        let (options, sets, mut mechanism) = (options(trainable, None), sets(), Open::default());
        let how = private(f64::INFINITY, &mut mechanism);
        let of = (text_of(base, &examples, None), units.as_slice());
        let mut learner =
            PrivateEncoderLearner::new(base, of, &options, trainable, &sets, how).expect("learner");
        let rates = Rates {
            learning_rate: 0.01,
            weight_decay: 0.01,
            step: 1,
        };
        learner.step(&units, rates).expect("step");
        let manifest = base.config.manifest(trainable, sets.tags().len());
        let found = learner.weights(&manifest).expect("weights");

        let in_coordinates = |bert: Bert| {
            let standard = Standardiser::from_checkpoint(base).expect("standardiser");
            bert.standardised(standard, base).expect("head")
        };
        let plain = Bert::load_to_train(base, &Device::Cpu.plain(), trainable).expect("model");
        let mut plain = in_coordinates(plain);
        let undropped = options_off(trainable);
        let mut mean: Vec<f32> = Vec::new();
        for unit in units.iter().filter(|unit| !unit.is_empty()) {
            let text = text_of(base, &examples, None);
            let mut learner =
                EncoderLearner::new(base, text, &undropped, trainable, &sets).expect("learner");
            learner.bert = in_coordinates(learner.bert);
            let words: usize = unit.iter().map(|i| examples[*i].targets.len()).sum();
            let (_, gradient) = learner.gradient(unit, words as f64, 1).expect("gradient");
            let flat = gradient.flat(&mut learner.bert);
            mean.resize(flat.len(), 0.0);
            for (mean, value) in mean.iter_mut().zip(flat) {
                *mean += value / 4.0;
            }
        }
        let gradient = Gradient::of_flat(&mut plain, mean.clone());
        let root = (base.config.head_width() as f64).sqrt();
        let mut optimizer = Optimizer::of_all_rows(&mut plain, 0.0, root).expect("optimizer");
        optimizer
            .step(&mut plain, gradient, 1.0, rates)
            .expect("step");
        let expected = plain.weights(&manifest).expect("weights");
        assert_eq!(found.len(), manifest.dimension());
        drop(learner);
        assert_eq!(mechanism.released.len(), 1);
        let sum = mechanism.released[0].iter();
        let released: Vec<f32> = sum.map(|sum| (*sum / 4.0) as f32).collect();
        for (found, expected) in released.iter().zip(&mean) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
        for (first, tensor) in manifest.segments() {
            // AdamW divides by the gradient's size, so that a weight without a gradient may go anywhere: a shift of
            // all scores of a row changes no weight of attention.
            if tensor.name.ends_with("key.bias") {
                continue;
            }
            let own = first..first + tensor.len();
            for (found, expected) in found[own.clone()].iter().zip(&expected[own]) {
                let apart = (found - expected).abs();
                assert!(apart <= 1e-4, "{}: {found} {expected}", tensor.name);
            }
        }
    }
}

fn options_off(trainable: &Trainable) -> TrainOptions {
    options(trainable, Some(0.0))
}

/// Else the sums of neighbours would differ by more than what the unit itself adds.
#[test]
fn what_a_unit_adds_is_the_same_to_the_last_bit_whoever_else_is_there() {
    let (examples, units) = text();
    for (case, dropout) in all_trainable()
        .into_iter()
        .zip([None, Some(0.3)].into_iter().cycle())
    {
        let (trainable, base) = case;
        let (options, sets) = (options(&trainable, dropout), sets());
        let mut others = text().0;
        others.swap(0, 10);
        // Each unit's place among the others is another without the first one.
        let neighbours = [(&examples, &units[..6]), (&others, &units[1..6])];
        let sums = neighbours.map(|(examples, units)| {
            let mut mechanism = Open::default();
            let how = private(0.1, &mut mechanism);
            let lower = match dropout {
                None => lower(&base, examples, &options.training, Grouping::Alone),
                Some(_) => None,
            };
            let of = (text_of(&base, examples, lower.as_ref()), units);
            let mut learner =
                PrivateEncoderLearner::new(&base, of, &options, &trainable, &sets, how)
                    .expect("learner");
            let one = [units[units.len() - 1].clone()];
            let (own, _) = learner.clipped_sum(&one, 4).expect("sum");
            let (all, _) = learner.clipped_sum(units, 4).expect("sum");
            let (others, _) = learner
                .clipped_sum(&units[..units.len() - 1], 4)
                .expect("sum");
            for ((all, others), own) in all.values.iter().zip(&others.values).zip(&own.values) {
                assert!((all - others - own).abs() < 1e-14, "{all} {others} {own}");
            }
            own.values
        });
        assert!(sums[0] == sums[1], "{trainable:?}");
        assert!((norm(sums[0].iter().copied()) / 0.1 - 1.0).abs() < 1e-3);
    }
}

#[test]
fn dropout_is_off_unless_asked_for_and_is_new_in_every_step() {
    let (examples, units) = text();
    let trainable = Trainable::from(Method::Full);
    let base = checkpoint("model.safetensors");
    let sum = |dropout: Option<f64>, step: usize| {
        let (options, sets, mut mechanism) =
            (options(&trainable, dropout), sets(), Open::default());
        let how = private(0.1, &mut mechanism);
        let of = (text_of(&base, &examples, None), units.as_slice());
        let mut learner = PrivateEncoderLearner::new(&base, of, &options, &trainable, &sets, how)
            .expect("learner");
        learner.clipped_sum(&units, step).expect("sum").0.values
    };
    assert!(sum(None, 1) == sum(Some(0.0), 2));
    assert!(sum(Some(0.2), 1) == sum(Some(0.2), 1));
    assert!(sum(Some(0.2), 1) != sum(Some(0.2), 2));
    assert!(sum(Some(0.2), 1) != sum(None, 1));
}

/// A weight that is not finite makes every unit's gradient so.
#[test]
fn what_is_not_finite_adds_nothing() {
    let (examples, units) = text();
    let trainable = Trainable::from(Method::Full);
    let base = checkpoint("model.safetensors");
    let manifest = base.config.manifest(&trainable, sets().tags().len());
    let mut weights = base.flatten(&manifest).expect("weights");
    weights.fill(f32::NAN);
    let base = base.with_weights(&manifest, &weights).expect("weights");
    let (options, sets, mut mechanism) = (options(&trainable, None), sets(), Open::default());
    let how = private(0.1, &mut mechanism);
    let of = (text_of(&base, &examples, None), units.as_slice());
    let mut learner =
        PrivateEncoderLearner::new(&base, of, &options, &trainable, &sets, how).expect("learner");
    let (sum, _) = learner.clipped_sum(&units, 1).expect("sum");
    assert!(sum.values.iter().all(|value| value.to_bits() == 0));
}
