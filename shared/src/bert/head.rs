//! What a tagging head is, beyond what Hugging Face's is.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{BertConfig, Error, field_error};
use crate::manifest::TensorSpec;
use crate::serde_helpers::is_default;

/// A tagging head: linear on hidden states of a word and perhaps of its neighbours, its scores
/// perhaps weighed along the sentence. The default is Hugging Face's: the last layer of the word
/// alone. In a version's `config.json` under names that Hugging Face has none for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HeadShape {
    /// The layers whose hidden states it reads side by side, counted from 1, 0 being the
    /// embeddings; none: the last alone.
    #[serde(
        default,
        rename = "fedner_head_layers",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub layers: Vec<usize>,
    /// So many words before and as many after are read beside the word itself.
    #[serde(
        default,
        rename = "fedner_head_context",
        skip_serializing_if = "is_default"
    )]
    pub context: usize,
    /// Whether the tags of a sentence are chosen together: a linear-chain conditional random field
    /// (Lafferty et al. 2001) on the scores.
    #[serde(
        default,
        rename = "fedner_head_crf",
        skip_serializing_if = "is_default"
    )]
    pub crf: bool,
    /// Whether a sentence is given the most probable tags of those that IOB2 allows one after
    /// another, not every word its own. It has no weights, and training does not depend on it.
    #[serde(
        default,
        rename = "fedner_head_iob2",
        skip_serializing_if = "is_default"
    )]
    pub iob2: bool,
}

/// Words to either side that a head may read: more would be another layer of the encoder.
pub(crate) const MOST_CONTEXT: usize = 8;

impl HeadShape {
    /// Whether Hugging Face's own class has such a head; it gives every word its own most probable
    /// tag, whatever `iob2` says.
    pub fn is_plain(&self) -> bool {
        self.weighs_as(&Self::default())
    }

    /// Whether the weights of one are those of the other: they differ in nothing but `iob2`.
    pub fn weighs_as(&self, other: &Self) -> bool {
        let iob2 = self.iob2;
        *self
            == Self {
                iob2,
                ..other.clone()
            }
    }

    /// Words that it reads for one.
    pub fn window(&self) -> usize {
        2 * self.context + 1
    }

    /// The words of a sentence of so many that it reads for one of them, in their order; `None` beyond
    /// either end.
    pub fn neighbours(&self, word: usize, words: usize) -> impl Iterator<Item = Option<usize>> {
        let context = self.context;
        let shifted = word..word + self.window();
        shifted.map(move |place| place.checked_sub(context).filter(|place| *place < words))
    }

    pub(super) fn check(&self, hidden_layers: usize) -> Result<(), Error> {
        let layers = &self.layers;
        let ordered = layers.is_sorted_by(|a, b| a < b);
        if !ordered || layers.iter().any(|layer| *layer > hidden_layers) {
            let expected = format!("layers from 0 to {hidden_layers}, each once and in order");
            let found = format!("{layers:?}");
            return Err(field_error("fedner_head_layers", found, &expected));
        }
        if self.context > MOST_CONTEXT {
            let expected = format!("a number from 0 to {MOST_CONTEXT}");
            return Err(field_error("fedner_head_context", self.context, &expected));
        }
        Ok(())
    }
}

/// As in "a head …": "on the layers [2, 4, 6]".
impl fmt::Display for HeadShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layers.as_slice() {
            [] => write!(f, "on the last layer")?,
            layers => write!(f, "on the layers {layers:?}")?,
        }
        match self.context {
            0 => {}
            1 => write!(f, " of a word and one to either side")?,
            context => write!(f, " of a word and {context} to either side")?,
        }
        if self.crf {
            write!(f, ", with a CRF")?;
        }
        if self.iob2 {
            write!(f, ", keeping to IOB2")?;
        }
        Ok(())
    }
}

impl BertConfig {
    /// The layers that the head reads, counted from 1, 0 being the embeddings.
    pub fn read_layers(&self) -> Vec<usize> {
        if self.head.layers.is_empty() {
            vec![self.num_hidden_layers]
        } else {
            self.head.layers.clone()
        }
    }

    /// Hidden states of one word that the head reads.
    pub fn word_width(&self) -> usize {
        self.hidden_size * self.head.layers.len().max(1)
    }

    /// Hidden states that the head reads to tag one word: its own, and its neighbours' in the order
    /// of the sentence.
    pub fn head_width(&self) -> usize {
        self.word_width() * self.head.window()
    }

    /// The tagging head over `tags` tags; the names of a CRF's weights are those of pytorch-crf.
    pub fn head_tensors(&self, tags: usize) -> Vec<TensorSpec> {
        let mut tensors = vec![
            TensorSpec::new("classifier.weight", [tags, self.head_width()]),
            TensorSpec::new("classifier.bias", [tags]),
        ];
        if self.head.crf {
            tensors.extend([
                TensorSpec::new("crf.start_transitions", [tags]),
                TensorSpec::new("crf.transitions", [tags, tags]),
                TensorSpec::new("crf.end_transitions", [tags]),
            ]);
        }
        tensors
    }
}

/// Whether IOB2 allows the tag behind that before it, `None` where a sentence begins; both in the
/// order of [`tags`](super::tags): a word within an entity stands behind another of it.
pub fn follows(before: Option<usize>, tag: usize) -> bool {
    let within = tag > 0 && tag.is_multiple_of(2);
    !within || before.is_some_and(|before| before == tag || before + 1 == tag)
}

/// Where no entity of a type stands before, a word within one is this much less likely to begin
/// with, in natural logarithms: IOB2 has no such sequence.
const UNLIKELY: f32 = -10.0;

/// What a weight of a CRF over tags in the order of [`tags`](super::tags) begins with; `None` for
/// other tensors.
pub(crate) fn initial_transitions(spec: &TensorSpec) -> Option<Vec<f32>> {
    let count = *spec.shape.first()?;
    let value = |before, tag| {
        if follows(before, tag) { 0.0 } else { UNLIKELY }
    };
    match spec.name.as_str() {
        "crf.start_transitions" => Some((0..count).map(|tag| value(None, tag)).collect()),
        "crf.transitions" => {
            let moves = (0..count * count).map(|place| (place / count, place % count));
            Some(moves.map(|(from, to)| value(Some(from), to)).collect())
        }
        "crf.end_transitions" => Some(vec![0.0; count]),
        _ => None,
    }
}

/// Whether the tensor of this name is of a tagging head.
pub fn is_of_head(tensor: &str) -> bool {
    tensor.starts_with("classifier.") || tensor.starts_with("crf.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_iob2_has_is_likely_from_the_start() {
        let tags = crate::bert::tags(&["A".to_owned(), "B".to_owned()]);
        let transitions = TensorSpec::new("crf.transitions", [tags.len(), tags.len()]);
        let transitions = initial_transitions(&transitions).expect("of a CRF");
        for (from, row) in transitions.chunks_exact(tags.len()).enumerate() {
            for (to, value) in row.iter().enumerate() {
                let begun = match tags[to].strip_prefix("I-") {
                    Some(label) => tags[from].ends_with(label) && tags[from] != "O",
                    None => true,
                };
                assert_eq!(*value < 0.0, !begun, "{} {}", tags[from], tags[to]);
            }
        }
        let start = initial_transitions(&TensorSpec::new("crf.start_transitions", [tags.len()]));
        let unlikely = start
            .expect("of a CRF")
            .into_iter()
            .map(|value| value < 0.0);
        let within = tags.iter().map(|tag| tag.starts_with("I-"));
        assert!(unlikely.eq(within));
        assert!(initial_transitions(&TensorSpec::new("classifier.bias", [5])).is_none());
    }

    #[test]
    fn beyond_a_sentence_there_are_no_neighbours() {
        let head = HeadShape {
            context: 2,
            ..HeadShape::default()
        };
        let of = |word, words| head.neighbours(word, words).collect::<Vec<_>>();
        assert_eq!(of(0, 2), [None, None, Some(0), Some(1), None]);
        assert_eq!(of(3, 6), [1, 2, 3, 4, 5].map(Some));
        assert_eq!(
            HeadShape::default().neighbours(1, 2).collect::<Vec<_>>(),
            [Some(1)]
        );
    }

    #[test]
    fn a_head_is_told_in_words() {
        let mut head = HeadShape::default();
        assert_eq!(head.to_string(), "on the last layer");
        head.iob2 = true;
        assert_eq!(head.to_string(), "on the last layer, keeping to IOB2");
        assert!(head.is_plain(), "Hugging Face has its weights");
        let head = HeadShape {
            layers: vec![2, 6],
            context: 2,
            crf: true,
            iob2: false,
        };
        assert_eq!(
            head.to_string(),
            "on the layers [2, 6] of a word and 2 to either side, with a CRF"
        );
        assert!(!head.is_plain());
    }
}
