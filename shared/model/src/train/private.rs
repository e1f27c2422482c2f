//! What makes a training private: DP-SGD (Abadi et al. 2016, algorithm 1).
//!
//! The trainer clips the gradient of every unit and adds the clipped ones up; who is in a step, and
//! what of the sum may be known, is for a [`Mechanism`] to decide. All that a step leaves behind is
//! made of what the mechanism released and of what is public.

use std::collections::BTreeMap;
use std::fmt;

use fedner_shared::checkpoint;
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::{Clipping, Privacy, Unit};
use serde::Serialize;

use super::examples::Example;
use crate::{Error, Sentence};

/// The two random parts of a private step.
pub trait Mechanism: fmt::Debug + Sync {
    /// The numbers of the units in the next step, of `units`; maybe none.
    fn sample(&mut self, units: usize) -> Vec<usize>;

    /// Which `count` of a unit's `windows` are in the next step: in rising order, and drawn anew.
    fn choose(&mut self, windows: usize, count: usize) -> Vec<usize>;

    /// Whether a release leaves as it is: sums are then in the order of the manifest, as its files have the weights, and
    /// not in the trainer's own order.
    fn leaves(&self) -> bool {
        false
    }

    /// Replaces a sum of vectors, each of norm C at most, by its release.
    fn release(&mut self, sum: &mut [f64]) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// How to train privately. All of it is public.
#[derive(Debug)]
pub struct Private<'a> {
    /// Person, document or sentence.
    pub unit: Unit,
    pub clip: Clip,
    /// z of the mechanism: it names the training among others.
    pub noise_multiplier: f64,
    /// B: sums are divided by it, whatever the batch.
    pub expected_batch: f64,
    /// Steps of one of the options' epochs.
    pub steps_an_epoch: usize,
    /// The largest number of windows of one unit in a step.
    pub max_windows: usize,
    pub mechanism: &'a mut dyn Mechanism,
}

/// How a unit's gradient is brought within C.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Clip {
    /// C, the largest L2 norm of one unit's gradient.
    pub bound: f64,
    pub clipping: Clipping,
}

/// γ of automatic clipping, as its authors chose it: gradients much shorter still count little.
const STABILITY: f64 = 0.01;

impl Clip {
    /// Cuts what is longer than `bound`, which may be infinite, and leaves the rest as it is.
    pub const fn threshold(bound: f64) -> Self {
        Self {
            bound,
            clipping: Clipping::Threshold,
        }
    }

    pub fn from_privacy(privacy: &Privacy) -> Self {
        Self {
            bound: privacy.clip,
            clipping: privacy.clipping,
        }
    }

    /// What a vector of at most this norm is multiplied with, so that it has at most the norm C;
    /// `None` for what is not finite.
    pub(super) fn factor(self, norm: f64) -> Option<f64> {
        let factor = match self.clipping {
            Clipping::Threshold => (self.bound / norm.max(f64::MIN_POSITIVE)).min(1.0),
            Clipping::Automatic => self.bound / (norm + STABILITY),
        };
        norm.is_finite().then_some(factor)
    }
}

impl Private<'_> {
    /// The units of each of an epoch's steps, as their examples: at most `max_windows` of each.
    ///
    /// Which examples of a unit are taken depends on nothing but the unit and fresh randomness. So a
    /// unit changes its own part of a step alone, as the sampled mechanism needs it.
    pub(super) fn samples(&mut self, units: &[Vec<usize>]) -> Vec<Vec<Vec<usize>>> {
        (0..self.steps_an_epoch)
            .map(|_| {
                let sampled = self.mechanism.sample(units.len()).into_iter();
                sampled.map(|unit| self.windows(&units[unit])).collect()
            })
            .collect()
    }

    fn windows(&mut self, unit: &[usize]) -> Vec<usize> {
        if unit.len() <= self.max_windows {
            return unit.to_vec();
        }
        let chosen = self.mechanism.choose(unit.len(), self.max_windows);
        chosen.into_iter().map(|window| unit[window]).collect()
    }

    /// The step's gradient: the release of a clipped sum, divided by the expected batch.
    pub(super) fn released(&mut self, mut sum: Vec<f64>) -> Result<Vec<f32>, Error> {
        let released = self.mechanism.release(&mut sum);
        released.map_err(|error| Error::Mechanism(error.to_string()))?;
        let batch = self.expected_batch;
        Ok(sum.into_iter().map(|sum| (sum / batch) as f32).collect())
    }
}

/// Parts of a sum, by the names of their tensors, in the order of the manifest.
pub(super) fn in_manifest_order(
    manifest: &Manifest,
    parts: &BTreeMap<String, Vec<f64>>,
) -> Result<Vec<f64>, Error> {
    let mut sum = Vec::with_capacity(manifest.dimension());
    for spec in &manifest.tensors {
        let part = parts.get(&spec.name);
        sum.extend(part.ok_or_else(|| checkpoint::Error::Missing(spec.name.clone()))?);
    }
    Ok(sum)
}

/// How many persons, documents or sentences a corpus has.
pub fn count_units(unit: Unit, corpus: &[Sentence]) -> Result<usize, Error> {
    Ok(number_units(unit, corpus)?.1)
}

/// The number of each sentence's unit, in the order in which units first come up, and of all.
pub fn number_units(unit: Unit, corpus: &[Sentence]) -> Result<(Vec<usize>, usize), Error> {
    let mut numbers: BTreeMap<Key<'_>, usize> = BTreeMap::new();
    let mut of_sentence = Vec::with_capacity(corpus.len());
    for (index, sentence) in corpus.iter().enumerate() {
        let key = Key::of(unit, index, sentence)?;
        let next = numbers.len();
        of_sentence.push(*numbers.entry(key).or_insert(next));
    }
    Ok((of_sentence, numbers.len()))
}

/// Of a unit's windows so many times `max_windows` are kept at most: what a training reads of one
/// unit is then bounded, and so is the time that it adds.
const POOL: usize = 4;

/// The examples of a private training, and those of every unit. Of a unit with very many some are
/// kept, evenly spread over its text.
pub(super) fn pooled(
    private: &Private<'_>,
    corpus: &[Sentence],
    examples: Vec<Example>,
) -> Result<(Vec<Example>, Vec<Vec<usize>>), Error> {
    let most = private.max_windows.saturating_mul(POOL);
    let mut units = units(private.unit, corpus, &examples)?;
    if units.iter().all(|unit| unit.len() <= most) {
        return Ok((examples, units));
    }
    let mut kept = vec![false; examples.len()];
    for unit in &mut units {
        *unit = spread(unit, most);
        for example in unit.iter() {
            kept[*example] = true;
        }
    }
    let mut count = 0;
    let number = |kept: &bool| {
        count += usize::from(*kept);
        count.saturating_sub(1)
    };
    let numbers: Vec<usize> = kept.iter().map(number).collect();
    for example in units.iter_mut().flatten() {
        *example = numbers[*example];
    }
    let examples = examples.into_iter().zip(kept);
    let examples = examples.filter_map(|(example, kept)| kept.then_some(example));
    Ok((examples.collect(), units))
}

/// At most `most` of them, evenly spread.
fn spread(unit: &[usize], most: usize) -> Vec<usize> {
    let count = unit.len();
    if count <= most {
        return unit.to_vec();
    }
    (0..most).map(|place| unit[place * count / most]).collect()
}

/// The examples of every unit.
fn units(unit: Unit, corpus: &[Sentence], examples: &[Example]) -> Result<Vec<Vec<usize>>, Error> {
    let (of_sentence, count) = number_units(unit, corpus)?;
    let mut units = vec![Vec::new(); count];
    for (index, example) in examples.iter().enumerate() {
        units[of_sentence[example.sentence]].push(index);
    }
    Ok(units)
}

/// What sentences of one unit have in common.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key<'a> {
    Person(&'a str),
    Document(u32),
    Sentence(usize),
}

impl<'a> Key<'a> {
    fn of(unit: Unit, index: usize, sentence: &'a Sentence) -> Result<Self, Error> {
        let found = match unit {
            Unit::Person => sentence.person.as_deref().map(Self::Person),
            Unit::Document => sentence.document.map(Self::Document),
            Unit::Sentence => Some(Self::Sentence(index)),
            Unit::Institution | Unit::None => None,
        };
        found.ok_or(Error::NoUnit {
            unit,
            line: sentence.line,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Encoded;

    #[test]
    fn a_factor_shortens_to_the_clip_whatever_the_norm() {
        let factor = |clipping, norm| {
            Clip {
                bound: 0.5,
                clipping,
            }
            .factor(norm)
        };
        let threshold = |norm| factor(Clipping::Threshold, norm);
        let automatic = |norm| factor(Clipping::Automatic, norm);
        for norm in [0.0, 1e-300, 1e-9, 0.01, 0.3, 0.5, 0.7, 1e9, 1e300] {
            for found in [threshold(norm), automatic(norm)] {
                assert!(
                    found.expect("finite") * norm <= 0.5 * (1.0 + 1e-12),
                    "{norm}"
                );
            }
        }
        // Short ones are left as they are, or made as long as the others.
        assert!((threshold(0.1).expect("finite") - 1.0).abs() < 1e-15);
        assert!((automatic(0.1).expect("finite") - 0.5 / 0.11).abs() < 1e-12);
        assert!((threshold(2.0).expect("finite") - 0.25).abs() < 1e-15);
        let open = Clip::threshold(f64::INFINITY);
        for norm in [0.0, 2.0, 1e300] {
            assert!((open.factor(norm).expect("finite") - 1.0).abs() < 1e-15);
        }
        for norm in [f64::NAN, f64::INFINITY] {
            assert_eq!((threshold(norm), automatic(norm)), (None, None));
        }
    }

    fn sentence(document: Option<u32>, person: Option<&str>) -> Sentence {
        Sentence {
            document,
            person: person.map(str::to_owned),
            line: 7,
            ..Sentence::default()
        }
    }

    fn example(sentence: usize) -> Example {
        Example {
            sentence,
            encoded: Encoded::default(),
            targets: vec![0],
        }
    }

    #[test]
    fn a_unit_has_all_examples_of_its_sentences() {
        let corpus = [
            sentence(Some(4), Some("p")),
            sentence(Some(4), Some("q")),
            sentence(Some(5), Some("p")),
        ];
        // The first sentence in two windows; the last has nothing to learn from.
        let examples = [example(0), example(0), example(1)];
        let of = |unit| units(unit, &corpus, &examples).expect("units");
        assert_eq!(of(Unit::Person), [vec![0, 1], vec![2]]);
        assert_eq!(of(Unit::Document), [vec![0, 1, 2], vec![]]);
        assert_eq!(of(Unit::Sentence), [vec![0, 1], vec![2], vec![]]);
    }

    /// Takes the last windows, and every unit in each step.
    #[derive(Debug)]
    struct Last;

    impl Mechanism for Last {
        fn sample(&mut self, units: usize) -> Vec<usize> {
            (0..units).collect()
        }

        fn choose(&mut self, windows: usize, count: usize) -> Vec<usize> {
            (windows - count..windows).collect()
        }

        fn release(
            &mut self,
            _: &mut [f64],
        ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            Ok(())
        }
    }

    /// A person with very much text adds no more to a step, or to what is read, than the cap allows;
    /// and what others add stays as it was.
    #[test]
    fn one_unit_cannot_stretch_a_training() {
        let corpus: Vec<_> = (0..101)
            .map(|index| sentence(None, Some(if index == 100 { "q" } else { "p" })))
            .collect();
        let examples = || (0..101).map(example).collect::<Vec<_>>();
        let mut last = Last;
        let mut private = Private {
            unit: Unit::Person,
            clip: Clip::threshold(1.0),
            noise_multiplier: 1.0,
            expected_batch: 1.0,
            steps_an_epoch: 1,
            max_windows: 5,
            mechanism: &mut last,
        };
        let (kept, units) = pooled(&private, &corpus, examples()).expect("units");
        let sentences: Vec<_> = kept.iter().map(|example| example.sentence).collect();
        let expected: Vec<_> = (0..20).map(|place| place * 5).chain([100]).collect();
        assert_eq!(sentences, expected);
        assert_eq!(units, [(0..20).collect::<Vec<_>>(), vec![20]]);
        assert_eq!(private.samples(&units), [[(15..20).collect(), vec![20]]]);
        // Without the cap one person's text is all that a step has to do.
        private.max_windows = usize::MAX;
        let (kept, units) = pooled(&private, &corpus, examples()).expect("units");
        assert_eq!(kept.len(), 101);
        assert_eq!(private.samples(&units), [[(0..100).collect(), vec![100]]]);
    }

    #[test]
    fn text_of_nobody_is_refused() {
        let corpus = [sentence(Some(0), None)];
        for unit in [Unit::Person, Unit::Institution] {
            let error = units(unit, &corpus, &[]).expect_err("no unit");
            assert!(matches!(error, Error::NoUnit { line: 7, .. }), "{error}");
        }
        let corpus = [sentence(None, Some("p"))];
        assert!(units(Unit::Document, &corpus, &[]).is_err());
    }
}
