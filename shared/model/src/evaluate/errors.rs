//! The mistakes that a model makes most often, with sentences to look at. They quote the text
//! and are for its owner alone.

use std::cmp::Reverse;
use std::collections::HashMap;

use fedner_shared::score::Span;
use serde::Serialize;

use super::pairs::{Mistake, Pair};
use crate::Sentence;

/// A mistake that is made once or more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Frequent {
    pub mistake: Mistake,
    pub gold: Option<Named>,
    pub predicted: Option<Named>,
    pub count: usize,
    pub examples: Vec<Example>,
}

/// An entity by its words.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Named {
    pub label: String,
    pub text: String,
}

/// A sentence in which the mistake is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    /// Its place among the sentences that were evaluated.
    #[serde(skip)]
    pub sentence: usize,
    pub line: usize,
    /// The sentence, with the entity of the corpus in `[` `]` and that of the model in `{` `}`.
    pub text: String,
}

/// Sentences that are shown of one mistake.
const EXAMPLES: usize = 3;

/// The `most` mistakes that are most frequent; of equals, that which comes first.
pub(super) fn frequent(sentences: &[Sentence], pairs: &[Vec<Pair>], most: usize) -> Vec<Frequent> {
    let mut places = HashMap::new();
    let mut found: Vec<Frequent> = Vec::new();
    for (index, (sentence, pairs)) in sentences.iter().zip(pairs).enumerate() {
        for pair in pairs {
            let Some(mistake) = pair.mistake() else {
                continue;
            };
            let name = |span: &Option<Span>| span.as_ref().map(|span| Named::of(sentence, span));
            let (gold, predicted) = (name(&pair.gold), name(&pair.predicted));
            let key = (gold.clone(), predicted.clone());
            let place = *places.entry(key).or_insert(found.len());
            if place == found.len() {
                found.push(Frequent {
                    mistake,
                    gold,
                    predicted,
                    count: 0,
                    examples: Vec::new(),
                });
            }
            let known = &mut found[place];
            known.count += 1;
            if known.examples.len() < EXAMPLES {
                known.examples.push(Example {
                    sentence: index,
                    line: sentence.line,
                    text: marked(sentence, pair),
                });
            }
        }
    }
    found.sort_by_key(|mistake| Reverse(mistake.count));
    found.truncate(most);
    found
}

impl Named {
    fn of(sentence: &Sentence, span: &Span) -> Self {
        Self {
            label: span.label.clone(),
            text: sentence.words[span.start..span.end].join(" "),
        }
    }
}

fn marked(sentence: &Sentence, pair: &Pair) -> String {
    let at = |span: &Option<Span>, place: fn(&Span) -> usize, index: usize| {
        span.as_ref().is_some_and(|span| place(span) == index)
    };
    let mut text = String::new();
    for (index, word) in sentence.words.iter().enumerate() {
        if index > 0 {
            text.push(' ');
        }
        for (span, mark) in [(&pair.gold, '['), (&pair.predicted, '{')] {
            if at(span, |span| span.start, index) {
                text.push(mark);
            }
        }
        text.push_str(word);
        for (span, mark) in [(&pair.predicted, '}'), (&pair.gold, ']')] {
            if at(span, |span| span.end - 1, index) {
                text.push(mark);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::pairs::pairs;
    use super::*;

    fn sentence(words: &str, tags: &str) -> Sentence {
        let split = |text: &str| text.split(' ').map(str::to_owned).collect();
        Sentence {
            words: split(words),
            tags: split(tags),
            line: words.len(),
            ..Sentence::default()
        }
    }

    #[test]
    fn mistakes_are_counted_and_shown() {
        let sentences = [
            sentence("the flu again", "O B-D O"),
            sentence("lung cancer found", "B-D I-D O"),
            sentence("no flu", "O B-D"),
        ];
        let predicted = ["O O B-D", "B-D I-D I-D", "O O"];
        let pairs: Vec<Vec<Pair>> = sentences
            .iter()
            .zip(predicted)
            .map(|(sentence, predicted)| {
                let predicted: Vec<String> = predicted.split(' ').map(str::to_owned).collect();
                pairs(&sentence.tags, &predicted)
            })
            .collect();
        let found = frequent(&sentences, &pairs, 3);
        let shown: Vec<_> = found
            .iter()
            .map(|f| (f.mistake, f.count, f.examples[0].text.as_str()))
            .collect();
        let expected = [
            (Mistake::Missed, 2, "the [flu] again"),
            (Mistake::Spurious, 1, "the flu {again}"),
            (Mistake::Boundary, 1, "[{lung cancer] found}"),
        ];
        assert_eq!(shown, expected);
        assert_eq!(found[0].examples[1].line, 6);
        assert_eq!(frequent(&sentences, &pairs, 1).len(), 1);
    }
}
