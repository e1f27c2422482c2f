//! What makes a training private: DP-SGD (Abadi et al. 2016, algorithm 1).
//!
//! The trainer clips the gradient of every unit and adds the clipped ones up; who is in a step, and
//! what of the sum may be known, is for a [`Mechanism`] to decide. All that a step leaves behind is
//! made of what the mechanism released and of what is public.

use std::collections::BTreeMap;
use std::fmt;

use fedner_shared::plan::{Clipping, Privacy, Unit};
use serde::Serialize;

use super::examples::Example;
use crate::{Error, Sentence};

/// The two random parts of a private step.
pub trait Mechanism: fmt::Debug + Sync {
    /// The numbers of the units in the next step, of `units`; maybe none.
    fn sample(&mut self, units: usize) -> Vec<usize>;

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

    pub fn of(privacy: &Privacy) -> Self {
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
    /// The units of each of an epoch's steps, as their examples.
    pub(super) fn samples(&mut self, units: &[Vec<usize>]) -> Vec<Vec<Vec<usize>>> {
        let mut step = || {
            let sampled = self.mechanism.sample(units.len()).into_iter();
            sampled.map(|unit| units[unit].clone()).collect()
        };
        (0..self.steps_an_epoch).map(|_| step()).collect()
    }

    /// The step's gradient: the release of a clipped sum, divided by the expected batch.
    pub(super) fn released(&mut self, mut sum: Vec<f64>) -> Result<Vec<f32>, Error> {
        let released = self.mechanism.release(&mut sum);
        released.map_err(|error| Error::Mechanism(error.to_string()))?;
        let batch = self.expected_batch;
        Ok(sum.into_iter().map(|sum| (sum / batch) as f32).collect())
    }
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

/// The examples of every unit.
pub(super) fn units(
    unit: Unit,
    corpus: &[Sentence],
    examples: &[Example],
) -> Result<Vec<Vec<usize>>, Error> {
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
