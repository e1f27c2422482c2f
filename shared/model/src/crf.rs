//! A linear-chain conditional random field on the scores of a tagging head (Lafferty et al. 2001).
//!
//! The tags y₁…yₙ of a sentence have the score start(y₁) + Σᵢ sᵢ(yᵢ) + Σᵢ transition(yᵢ₋₁, yᵢ) + end(yₙ),
//! with sᵢ the head's scores of word i. Their probability is what softmax over all sequences of tags gives
//! them. All sums are in f64 and in logarithms.

use fedner_shared::bert::follows;
use fedner_shared::checkpoint::{Checkpoint, Error};
use rayon::prelude::*;

use crate::Tagged;
use crate::train::tag_sets::TagSets;

pub(crate) const START: &str = "crf.start_transitions";
pub(crate) const TRANSITIONS: &str = "crf.transitions";
pub(crate) const END: &str = "crf.end_transitions";

/// The score of a transition that is not to be: the exponential of any score beside it is 0.
const NEVER: f32 = -1e9;

/// The weights of a field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Crf {
    tags: usize,
    /// start `[tags]`, transition `[from, to]` row-major, end `[tags]`, one after another.
    pub(crate) weights: Vec<f32>,
}

impl Crf {
    /// Of a checkpoint whose head has one.
    pub(crate) fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Option<Self>, Error> {
        if !checkpoint.config.head.crf {
            return Ok(None);
        }
        let part = |name| checkpoint.tensor(name);
        let parts = [part(START)?, part(TRANSITIONS)?, part(END)?];
        Ok(Some(Self {
            tags: parts[0].len(),
            weights: parts.concat(),
        }))
    }

    /// A field with which every sequence is as likely as its words make it.
    pub(crate) fn indifferent(tags: usize) -> Self {
        Self::from_weights(tags, vec![0.0; tags * (tags + 2)])
    }

    /// The same field, but for the sequences that IOB2 does not have: these never are.
    pub(crate) fn keeping_to_iob2(mut self) -> Self {
        let tags = self.tags;
        let (starts, rest) = self.weights.split_at_mut(tags);
        let transitions = rest.chunks_exact_mut(tags).take(tags).enumerate();
        let transitions = transitions.map(|(from, row)| (Some(from), row));
        for (before, row) in [(None, starts)].into_iter().chain(transitions) {
            for (tag, weight) in row.iter_mut().enumerate() {
                if !follows(before, tag) {
                    *weight = NEVER;
                }
            }
        }
        self
    }

    /// Of weights in the order of [`weights`](Self::weights).
    pub(crate) fn from_weights(tags: usize, weights: Vec<f32>) -> Self {
        Self { tags, weights }
    }

    /// The part of flat weights or of their gradient that a file has under `name`.
    pub(crate) fn part<'a>(tags: usize, flat: &'a [f32], name: &str) -> Option<&'a [f32]> {
        let end = tags + tags * tags;
        match name {
            START => flat.get(..tags),
            TRANSITIONS => flat.get(tags..end),
            END => flat.get(end..end + tags),
            _ => None,
        }
    }

    fn start(&self, tag: usize) -> f64 {
        self.weights[tag].into()
    }

    fn transition(&self, from: usize, to: usize) -> f64 {
        self.weights[self.tags * (1 + from) + to].into()
    }

    fn end(&self, tag: usize) -> f64 {
        self.weights[self.tags * (1 + self.tags) + tag].into()
    }

    /// The logarithm of the probability that a sentence has these tags, negated. `scores` is
    /// [words, tags], row-major. Where words may have one of several tags, it is that of all sequences
    /// of such tags together (Bellare and McCallum 2007, section 3).
    pub(crate) fn loss(&self, scores: &[f32], targets: &[usize], sets: &TagSets) -> f64 {
        if targets.is_empty() {
            return 0.0;
        }
        let own = match barred(scores, targets, sets) {
            Some(allowed) => self.total(&self.forward(&allowed)),
            None => self.score(scores, targets),
        };
        self.total(&self.forward(scores)) - own
    }

    /// The same loss. `scores` becomes its gradient by the scores; that by the field's weights is
    /// added to `by_weights`.
    pub(crate) fn gradient(
        &self,
        scores: &mut [f32],
        targets: &[usize],
        sets: &TagSets,
        by_weights: &mut [f32],
    ) -> f64 {
        let Some(last) = targets.len().checked_sub(1) else {
            return 0.0;
        };
        let tags = self.tags;
        let mut allowed = barred(scores, targets, sets);
        let (start, rest) = by_weights.split_at_mut(tags);
        let (transitions, end) = rest.split_at_mut(tags * tags);
        // The gradient is what tags and transitions are expected among all sequences, less what they
        // are expected among the allowed ones.
        let own = match &mut allowed {
            Some(allowed) => self.expect(allowed, -1.0, transitions),
            None => self.score(scores, targets),
        };
        let total = self.expect(scores, 1.0, transitions);
        if let Some(allowed) = &allowed {
            add(scores, allowed);
        } else {
            for (word, target) in targets.iter().enumerate() {
                scores[word * tags + target] -= 1.0;
                if let Some(before) = word.checked_sub(1) {
                    transitions[targets[before] * tags + target] -= 1.0;
                }
            }
        }
        // start(y) and the score of y at the first word enter alike, and so do those of the last.
        add(start, &scores[..tags]);
        add(end, &scores[last * tags..]);
        total - own
    }

    /// ln Z. `scores` become the probabilities of each word's tags, and those of two tags one after
    /// another are added to `transitions`; all `sign` times.
    fn expect(&self, scores: &mut [f32], sign: f64, transitions: &mut [f32]) -> f64 {
        let tags = self.tags;
        let (forward, backward) = (self.forward(scores), self.backward(scores));
        let total = self.total(&forward);
        for word in 1..scores.len() / tags {
            for from in 0..tags {
                let before = forward[(word - 1) * tags + from] - total;
                for to in 0..tags {
                    let place = word * tags + to;
                    let here = f64::from(scores[place]) + backward[place];
                    let both = (before + self.transition(from, to) + here).exp();
                    transitions[from * tags + to] += (sign * both) as f32;
                }
            }
        }
        for (score, (forward, backward)) in scores.iter_mut().zip(forward.iter().zip(&backward)) {
            *score = (sign * (forward + backward - total).exp()) as f32;
        }
        total
    }

    /// The losses of some sentences together, divided by `total`, and their gradient by the field's
    /// weights; `scores`, one sentence after another, become that by the scores.
    pub(crate) fn gradients(
        &self,
        scores: &mut [f32],
        sentences: &[&[usize]],
        sets: &TagSets,
        total: f64,
    ) -> (f32, Vec<f32>) {
        let mut rest = &mut scores[..];
        let own = sentences.iter().map(|targets| {
            let (own, others) = std::mem::take(&mut rest).split_at_mut(targets.len() * self.tags);
            rest = others;
            (own, *targets)
        });
        let own: Vec<_> = own.collect();
        let gradient = |(scores, targets): (&mut [f32], &[usize])| {
            let mut by_weights = vec![0.0; self.weights.len()];
            let loss = self.gradient(scores, targets, sets, &mut by_weights);
            (loss, by_weights)
        };
        let parts: Vec<(f64, Vec<f32>)> = own.into_par_iter().map(gradient).collect();
        let (mut loss, mut by_weights) = (0.0, vec![0.0; self.weights.len()]);
        for (own, part) in &parts {
            loss += own;
            add(&mut by_weights, part);
        }
        let factor = total.recip() as f32;
        for value in by_weights.iter_mut().chain(scores) {
            *value *= factor;
        }
        ((loss / total) as f32, by_weights)
    }

    /// The most probable tags of a sentence together (Viterbi 1967), each with its own probability.
    pub(crate) fn most_probable(&self, scores: &[f32]) -> Vec<Tagged> {
        let (tags, words) = (self.tags, scores.len() / self.tags);
        if words == 0 {
            return Vec::new();
        }
        let mut best: Vec<f64> = (0..tags)
            .map(|tag| self.start(tag) + f64::from(scores[tag]))
            .collect();
        let mut origins = vec![0; words * tags];
        for word in 1..words {
            let reached = (0..tags).map(|to| {
                let along = (0..tags).map(|from| best[from] + self.transition(from, to));
                let (from, value) = first_largest(along);
                origins[word * tags + to] = from;
                value + f64::from(scores[word * tags + to])
            });
            best = reached.collect();
        }
        let (mut tag, _) = first_largest((0..tags).map(|tag| best[tag] + self.end(tag)));
        let mut path = vec![tag; words];
        for word in (1..words).rev() {
            tag = origins[word * tags + tag];
            path[word - 1] = tag;
        }
        let (forward, backward) = (self.forward(scores), self.backward(scores));
        let total = self.total(&forward);
        let tagged = path.into_iter().enumerate().map(|(word, tag)| {
            let place = word * tags + tag;
            let probability = (forward[place] + backward[place] - total).exp() as f32;
            Tagged { tag, probability }
        });
        tagged.collect()
    }

    fn score(&self, scores: &[f32], targets: &[usize]) -> f64 {
        let words = scores.chunks_exact(self.tags).zip(targets);
        let own: f64 = words.map(|(row, target)| f64::from(row[*target])).sum();
        let moves = targets.windows(2);
        let moves: f64 = moves.map(|pair| self.transition(pair[0], pair[1])).sum();
        let start = targets.first().map_or(0.0, |tag| self.start(*tag));
        let end = targets.last().map_or(0.0, |tag| self.end(*tag));
        start + own + moves + end
    }

    /// ln Σ exp of the scores up to each word that end in each tag, the word's own with them:
    /// [words, tags].
    fn forward(&self, scores: &[f32]) -> Vec<f64> {
        let tags = self.tags;
        let mut all: Vec<f64> = Vec::with_capacity(scores.len());
        for (word, row) in scores.chunks_exact(tags).enumerate() {
            for (to, score) in row.iter().enumerate() {
                let reached = if word == 0 {
                    self.start(to)
                } else {
                    let before = &all[(word - 1) * tags..word * tags];
                    log_sum(tags, |from| before[from] + self.transition(from, to))
                };
                all.push(reached + f64::from(*score));
            }
        }
        all
    }

    /// ln Σ exp of the scores behind each word, where it has each tag, the word's own without:
    /// [words, tags].
    fn backward(&self, scores: &[f32]) -> Vec<f64> {
        let tags = self.tags;
        let mut all = vec![0.0; scores.len()];
        for word in (0..scores.len() / tags).rev() {
            let (before, behind) = all.split_at_mut((word + 1) * tags);
            let next = scores.get((word + 1) * tags..).unwrap_or_default();
            for (from, value) in before[word * tags..].iter_mut().enumerate() {
                *value = if behind.is_empty() {
                    self.end(from)
                } else {
                    log_sum(tags, |to| {
                        self.transition(from, to) + f64::from(next[to]) + behind[to]
                    })
                };
            }
        }
        all
    }

    /// ln Z: over all sequences of tags, from [`forward`](Self::forward).
    fn total(&self, forward: &[f64]) -> f64 {
        let last = &forward[forward.len() - self.tags..];
        log_sum(self.tags, |tag| last[tag] + self.end(tag))
    }
}

/// The scores of a sentence with those of tags that its words may not have out of reach; `None` where
/// each word has one tag.
fn barred(scores: &[f32], targets: &[usize], sets: &TagSets) -> Option<Vec<f32>> {
    if targets.iter().all(|target| sets.is_single(*target)) {
        return None;
    }
    let mut barred = vec![NEVER; scores.len()];
    let rows = barred.chunks_exact_mut(sets.tags().len());
    for ((row, own), target) in rows
        .zip(scores.chunks_exact(sets.tags().len()))
        .zip(targets)
    {
        for tag in sets.of(*target) {
            row[*tag] = own[*tag];
        }
    }
    Some(barred)
}

fn add(sum: &mut [f32], values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}

fn first_largest(values: impl Iterator<Item = f64>) -> (usize, f64) {
    let mut largest = (0, f64::NEG_INFINITY);
    for (index, value) in values.enumerate() {
        if value > largest.1 {
            largest = (index, value);
        }
    }
    largest
}

/// ln Σ exp, without overflow.
fn log_sum(count: usize, value: impl Fn(usize) -> f64) -> f64 {
    let largest = (0..count).map(&value).fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = (0..count).map(|index| (value(index) - largest).exp()).sum();
    largest + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sentence;

    const TAGS: usize = 3;
    const WORDS: usize = 4;

    /// With a set of the first and the last tag.
    fn sets() -> TagSets {
        let tags = ["O", "B-A", "B-B"].map(str::to_owned);
        let of_a = Sentence {
            annotated: Some(["A".to_owned()].into()),
            ..Sentence::default()
        };
        TagSets::new(&tags, &[of_a])
    }

    fn number(index: usize) -> f32 {
        ((index * 7919 + 13) % 97) as f32 / 20.0 - 2.4
    }

    fn crf() -> Crf {
        let weights = (0..TAGS * (TAGS + 2)).map(|index| number(index + 50));
        Crf::from_weights(TAGS, weights.collect())
    }

    fn scores() -> Vec<f32> {
        (0..WORDS * TAGS).map(number).collect()
    }

    /// All sequences of tags.
    fn sequences() -> Vec<Vec<usize>> {
        let count = TAGS.pow(WORDS as u32);
        let sequence = |mut code: usize| {
            let tags = (0..WORDS).map(|_| {
                let tag = code % TAGS;
                code /= TAGS;
                tag
            });
            tags.collect()
        };
        (0..count).map(sequence).collect()
    }

    #[test]
    fn probabilities_of_all_sequences_are_those_of_softmax_and_sum_to_one() {
        let (crf, scores) = (crf(), scores());
        let z: f64 = sequences()
            .iter()
            .map(|y| crf.score(&scores, y).exp())
            .sum();
        let mut sum = 0.0;
        for y in sequences() {
            let loss = crf.loss(&scores, &y, &sets());
            let expected = z.ln() - crf.score(&scores, &y);
            assert!((loss - expected).abs() < 1e-9, "{y:?}: {loss} {expected}");
            sum += (-loss).exp();
        }
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn the_gradient_is_that_of_differences() {
        // The second time the second and the third word may be outside or of the second type.
        for targets in [[0, 1, 2, 1], [0, 3, 3, 1]] {
            gradient_is_that_of_differences(targets);
        }
    }

    fn gradient_is_that_of_differences(targets: [usize; 4]) {
        let (crf, scores, sets) = (crf(), scores(), sets());
        let (mut by_scores, mut by_weights) = (scores.clone(), vec![0.0; crf.weights.len()]);
        let loss = crf.gradient(&mut by_scores, &targets, &sets, &mut by_weights);
        assert!((loss - crf.loss(&scores, &targets, &sets)).abs() < 1e-12);
        let slope = |at: &dyn Fn(f32) -> f64| (at(1e-2) - at(-1e-2)) / 2e-2;
        for (index, found) in by_scores.iter().enumerate() {
            let expected = slope(&|shift| {
                let mut scores = scores.clone();
                scores[index] += shift;
                crf.loss(&scores, &targets, &sets)
            });
            assert!((expected - f64::from(*found)).abs() < 1e-4, "score {index}");
        }
        for (index, found) in by_weights.iter().enumerate() {
            let expected = slope(&|shift| {
                let mut crf = crf.clone();
                crf.weights[index] += shift;
                crf.loss(&scores, &targets, &sets)
            });
            assert!(
                (expected - f64::from(*found)).abs() < 1e-4,
                "weight {index}"
            );
        }
    }

    #[test]
    fn open_words_have_the_probability_of_all_their_sequences() {
        let (crf, scores, sets) = (crf(), scores(), sets());
        let all: f64 = [0, 2]
            .into_iter()
            .flat_map(|second| [0, 2].map(|third| [0, second, third, 1]))
            .map(|targets| (-crf.loss(&scores, &targets, &sets)).exp())
            .sum();
        let found = crf.loss(&scores, &[0, 3, 3, 1], &sets);
        assert!((found + all.ln()).abs() < 1e-9, "{found} {}", -all.ln());
    }

    #[test]
    fn sentences_together_have_the_mean_of_their_losses_and_gradients() {
        let (crf, mut scores) = (crf(), scores());
        let (mut by_scores, mut by_weights) = (scores.clone(), vec![0.0; crf.weights.len()]);
        let loss = crf.gradient(&mut by_scores[..TAGS], &[2], &sets(), &mut by_weights)
            + crf.gradient(&mut by_scores[TAGS..], &[1, 2, 0], &sets(), &mut by_weights);
        let (found, all) = crf.gradients(&mut scores, &[&[2], &[1, 2, 0]], &sets(), 4.0);
        assert!((f64::from(found) - loss / 4.0).abs() < 1e-6);
        let expected = by_weights.iter().chain(&by_scores);
        for (found, expected) in all.iter().chain(&scores).zip(expected) {
            assert!((found - expected / 4.0).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn the_most_probable_tags_are_the_best_of_all_sequences() {
        let (crf, scores) = (crf(), scores());
        let score = |y: &Vec<usize>| crf.score(&scores, y);
        let all = sequences();
        let best = all.iter().max_by(|a, b| score(a).total_cmp(&score(b)));
        let found = crf.most_probable(&scores);
        let tags: Vec<usize> = found.iter().map(|tagged| tagged.tag).collect();
        assert_eq!(Some(&tags), best);
        for (word, tagged) in found.iter().enumerate() {
            let having = all.iter().filter(|y| y[word] == tagged.tag);
            let expected: f64 = having.map(|y| (-crf.loss(&scores, y, &sets())).exp()).sum();
            let found = f64::from(tagged.probability);
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn a_field_that_keeps_to_iob2_chooses_among_what_that_has() {
        // Without a field the likeliest tags are I, O, I and O, and with it no entity begins within.
        let scores = [0.0, 1.0, 3.0, 2.0, 0.0, 0.0, 0.0, 1.5, 2.0, 1.0, 0.0, 0.0];
        let kept = |y: &Vec<usize>| {
            let before = [None].into_iter().chain(y.iter().copied().map(Some));
            before.zip(y).all(|(before, tag)| follows(before, *tag))
        };
        for field in [Crf::indifferent(TAGS), crf()] {
            let score = |y: &Vec<usize>| field.score(&scores, y);
            let all: Vec<_> = sequences().into_iter().filter(kept).collect();
            let best = all.iter().max_by(|a, b| score(a).total_cmp(&score(b)));
            let z: f64 = all.iter().map(|y| score(y).exp()).sum();
            let found = field.clone().keeping_to_iob2().most_probable(&scores);
            let tags: Vec<usize> = found.iter().map(|tagged| tagged.tag).collect();
            assert_eq!(Some(&tags), best);
            for (word, tagged) in found.iter().enumerate() {
                let having = all.iter().filter(|y| y[word] == tagged.tag);
                let expected = having.map(|y| score(y).exp()).sum::<f64>() / z;
                let found = f64::from(tagged.probability);
                assert!((found - expected).abs() < 1e-6, "{found} {expected}");
            }
        }
        let free = Crf::indifferent(TAGS).most_probable(&scores);
        let tags: Vec<usize> = free.iter().map(|tagged| tagged.tag).collect();
        assert_eq!(tags, [2, 0, 2, 0]);
    }

    #[test]
    fn neither_nothing_nor_large_scores_are_a_fault() {
        let (crf, sets) = (crf(), sets());
        assert_eq!(crf.most_probable(&[]), []);
        assert!(crf.loss(&[], &[], &sets).abs() < f64::EPSILON);
        let mut by_weights = vec![0.0; crf.weights.len()];
        assert!(crf.gradient(&mut [], &[], &sets, &mut by_weights).abs() < f64::EPSILON);
        let mut large = [3e4, -3e4, 0.0, -3e4, 3e4, 0.0];
        assert!(crf.loss(&large, &[0, 1], &sets).abs() < 1e-6);
        assert!((crf.loss(&large, &[1, 1], &sets) - 6e4).abs() < 10.0);
        crf.gradient(&mut large, &[1, 1], &sets, &mut by_weights);
        let all = large.iter().chain(&by_weights);
        assert!(all.into_iter().all(|value| value.is_finite()));
    }
}
