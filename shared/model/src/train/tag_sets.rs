//! Which tags a word may have: the one that it is annotated with, or one of several.
//!
//! Text of which only some entity types are annotated says nothing of the others. There `O` means "none of the
//! types that are annotated": the word has the tag `O`, or one of a type that is not. Its loss is the marginal
//! likelihood −ln Σ p(t) over these tags t (Bellare and McCallum 2007, section 3; Jie et al. 2019, section 3.1),
//! in place of −ln p(O), which would teach that the other types never occur.
//!
//! **Sensitivity.** The set of a word follows from the word's own tag and from which types its file is declared to
//! annotate. The declaration is public and the same whoever's text is there. So the loss of a unit is still a
//! function of that unit alone. Its gradient is clipped to the same norm as any other, and the sum over units has the
//! sensitivity that the clip gives it: the lemma *sum* of `fedner-privacy` asks for nothing else.

use std::sync::Arc;

use crate::Sentence;

/// A model's tags, and the sets of tags that words of partly annotated text may have.
///
/// A target below the number of tags is that tag; those from there on are sets.
#[derive(Debug, Clone)]
pub(crate) struct TagSets {
    tags: Vec<String>,
    /// 0, 1, 2 …: the sets of one tag.
    single: Vec<usize>,
    /// What each declaration leaves open.
    open: Vec<(Arc<[String]>, Vec<usize>)>,
    /// What a parent says of words; their targets follow the sets.
    taught: Arc<Vec<Taught>>,
}

/// Which tags of a set a word may have, and how probable its parent takes them to be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Taught {
    /// The place of the set in what is left open.
    set: usize,
    /// By tag; of those of [`rest`](Self::rest) the first has the probability of all. They add up to 1.
    pub(crate) parts: Vec<f32>,
    /// `O` and the types that the parent does not know and the text does not annotate: the parent takes all of
    /// these for `O`.
    pub(crate) rest: Vec<usize>,
}

impl TagSets {
    /// Of the declarations that `corpus` has.
    pub(crate) fn new(tags: &[String], corpus: &[Sentence]) -> Self {
        let mut sets = Self {
            tags: tags.to_vec(),
            single: (0..tags.len()).collect(),
            open: Vec::new(),
            taught: Arc::default(),
        };
        for annotated in corpus.iter().filter_map(|s| s.annotated.as_ref()) {
            if !sets.open.iter().any(|(known, _)| known == annotated) {
                let set = sets.left_open_by(annotated);
                sets.open.push((Arc::clone(annotated), set));
            }
        }
        sets
    }

    pub(crate) fn tags(&self) -> &[String] {
        &self.tags
    }

    /// Outside first, then every tag of a type that is not annotated.
    fn left_open_by(&self, annotated: &[String]) -> Vec<usize> {
        let is_open = |tag: &String| match tag.split_once('-') {
            Some((_, label)) => !annotated.iter().any(|known| known == label),
            None => true,
        };
        let open = self.tags.iter().enumerate();
        open.filter(|(_, tag)| is_open(tag))
            .map(|(at, _)| at)
            .collect()
    }

    /// The target of a word with that tag, in a sentence.
    pub(super) fn target(&self, tag: usize, sentence: &Sentence) -> usize {
        let outside = !self.tags[tag].contains('-');
        let Some(annotated) = sentence.annotated.as_ref().filter(|_| outside) else {
            return tag;
        };
        let known = self.open.iter().position(|(known, _)| known == annotated);
        match known {
            Some(at) if self.open[at].1.len() > 1 => self.tags.len() + at,
            Some(_) | None => tag,
        }
    }

    /// The tags that a target stands for.
    pub(crate) fn of(&self, target: usize) -> &[usize] {
        match target.checked_sub(self.tags.len()) {
            None => &self.single[target..=target],
            Some(set) => {
                let set = self.taught_of(target).map_or(set, |taught| taught.set);
                &self.open[set].1
            }
        }
    }

    /// What a parent says of a word with that target, if it was asked.
    pub(crate) fn taught_of(&self, target: usize) -> Option<&Taught> {
        let place = target.checked_sub(self.tags.len() + self.open.len())?;
        self.taught.get(place)
    }

    /// The target of a word with a set of tags, of which a parent that knows the rows `known` has `scores`. What
    /// it says of tags outside of the set is left out of account.
    pub(super) fn taught(&mut self, target: usize, scores: &[f32], known: &[usize]) -> usize {
        let Some(set) = target.checked_sub(self.tags.len()) else {
            return target;
        };
        let allowed = self.open[set].1.as_slice();
        let asked = |tag: &&usize| known.contains(*tag);
        if !allowed.iter().skip(1).any(|tag| known.contains(tag)) {
            return target;
        }
        let top = allowed.iter().filter(asked).map(|tag| scores[*tag]);
        let top = top.fold(f32::NEG_INFINITY, f32::max);
        let mut parts = vec![0.0; self.tags.len()];
        for tag in allowed.iter().filter(asked) {
            parts[*tag] = (scores[*tag] - top).exp();
        }
        let sum: f32 = parts.iter().sum();
        for part in &mut parts {
            *part /= sum;
        }
        let rest = allowed.iter().enumerate();
        let rest = rest.filter(|(place, tag)| *place == 0 || !known.contains(*tag));
        let rest = rest.map(|(_, tag)| *tag).collect();
        let taught = Taught { set, parts, rest };
        Arc::make_mut(&mut self.taught).push(taught);
        self.tags.len() + self.open.len() + self.taught.len() - 1
    }

    /// Whether a target stands for one tag.
    pub(crate) fn is_single(&self, target: usize) -> bool {
        target < self.tags.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(annotated: Option<&[&str]>) -> Sentence {
        let list = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect();
        Sentence {
            annotated: annotated.map(list),
            ..Sentence::default()
        }
    }

    #[test]
    fn what_is_not_annotated_is_left_open_where_a_word_is_outside() {
        let tags = ["O", "B-Drug", "I-Drug", "B-Gene", "I-Gene"].map(str::to_owned);
        let (drug, all) = (sentence(Some(&["Drug"])), sentence(Some(&["Gene", "Drug"])));
        let (none, whole) = (sentence(Some(&[])), sentence(None));
        let corpus = [
            drug.clone(),
            whole.clone(),
            all.clone(),
            drug.clone(),
            none.clone(),
        ];
        let sets = TagSets::new(&tags, &corpus);
        let allowed = |tag, sentence| sets.of(sets.target(tag, sentence));
        assert_eq!(allowed(0, &drug), [0, 3, 4]);
        assert_eq!(allowed(1, &drug), [1]);
        assert_eq!(allowed(0, &all), [0]);
        assert_eq!(allowed(0, &whole), [0]);
        assert_eq!(allowed(0, &none), [0, 1, 2, 3, 4]);
        assert!(sets.is_single(sets.target(2, &drug)) && !sets.is_single(sets.target(0, &drug)));
    }
}
