//! The tag of a word.

/// What the model says of one word.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tagged {
    /// The most probable tag's place in the list of tags; with a CRF or a head that keeps to IOB2, that
    /// in the sentence's most probable tags together.
    pub tag: usize,
    /// Its probability.
    pub probability: f32,
}

/// The first of the largest scores, and its softmax.
pub(crate) fn most_probable(scores: &[f32]) -> Tagged {
    let mut tag = 0;
    for (index, score) in scores.iter().enumerate() {
        if *score > scores[tag] {
            tag = index;
        }
    }
    let sum: f32 = scores.iter().map(|score| (score - scores[tag]).exp()).sum();
    Tagged {
        tag,
        probability: sum.recip(),
    }
}
