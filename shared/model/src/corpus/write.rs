//! Annotated sentences in the formats that they are read from.

use std::fmt::Write as _;
use std::ops::Range;

use fedner_shared::score;
use serde_json::json;

use super::{Sentence, escaped};
use crate::predict::{Entity, Prediction};

/// CoNLL columns of a word and its tag. `name` says what a document is called.
pub fn to_conll(sentences: &[Sentence], name: impl Fn(u32) -> String) -> String {
    let mut text = String::new();
    let (mut document, mut person) = (None, None);
    for sentence in sentences {
        if sentence.document != document {
            document = sentence.document;
            match document {
                Some(number) => {
                    let _ = writeln!(text, "# document = {}", one_line(&name(number)));
                }
                // Columns have no mark for the end of all documents.
                None => text.push_str("-DOCSTART- O\n\n"),
            }
        }
        if sentence.person != person
            && let Some(named) = &sentence.person
        {
            let _ = writeln!(text, "# person = {}", one_line(named));
            person.clone_from(&sentence.person);
        }
        for (word, tag) in sentence.words.iter().zip(&sentence.tags) {
            let _ = writeln!(text, "{}\t{tag}", escaped(word));
        }
        text.push('\n');
    }
    text
}

fn one_line(name: &str) -> String {
    name.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// JSON lines of tagged words, a sentence a line.
pub fn to_json_tokens(sentences: &[Sentence], name: impl Fn(u32) -> String) -> String {
    let line = |sentence: &Sentence| {
        let mut record = json!({ "tokens": sentence.words, "ner_tags": sentence.tags });
        about(&mut record, sentence, &name);
        format!("{record}\n")
    };
    sentences.iter().map(line).collect()
}

fn about(record: &mut serde_json::Value, sentence: &Sentence, name: impl Fn(u32) -> String) {
    if let Some(document) = sentence.document {
        record["document_id"] = json!(name(document));
    }
    if let Some(person) = &sentence.person {
        record["person_id"] = json!(person);
    }
}

/// JSON lines of texts with entities, a document a line.
pub fn to_json_text(sentences: &[Sentence], name: impl Fn(u32) -> String) -> String {
    let line = |text: Text<'_>| {
        let entities = text.entities();
        let entities: Vec<_> = entities
            .iter()
            .map(|entity| {
                json!({ "start": entity.start, "end": entity.end, "label": entity.label, "text": entity.text })
            })
            .collect();
        let mut record = json!({ "text": text.contents, "entities": entities });
        if let Some(first) = text.sentences.first() {
            about(&mut record, first, &name);
        }
        format!("{record}\n")
    };
    texts(sentences).map(line).collect()
}

/// A text and its annotations, for each document: what it is called, `.txt` and `.ann`.
pub fn to_brat(
    sentences: &[Sentence],
    name: impl Fn(u32) -> String,
) -> Vec<(Option<String>, String, String)> {
    let file = |text: Text<'_>| {
        let prediction = Prediction {
            sentences: Vec::new(),
            entities: text.entities(),
        };
        let mut annotations = String::new();
        for line in crate::brat(&prediction).lines().filter(|line| line.starts_with('T')) {
            annotations.push_str(line);
            annotations.push('\n');
        }
        let document = text
            .sentences
            .first()
            .and_then(|sentence| sentence.document);
        (document.map(&name), text.contents, annotations)
    };
    texts(sentences).map(file).collect()
}

/// A document's text put together of its words: where they stood if that is known.
struct Text<'a> {
    sentences: &'a [Sentence],
    contents: String,
    /// Where each word of each sentence stands, in characters.
    places: Vec<Vec<Range<usize>>>,
}

/// The documents of sentences; those without one are a document each.
fn texts(sentences: &[Sentence]) -> impl Iterator<Item = Text<'_>> {
    let same = |one: &Sentence, next: &Sentence| {
        let about = |sentence: &Sentence| (sentence.document, sentence.person.clone());
        one.document.is_some() && about(one) == about(next)
    };
    sentences.chunk_by(same).map(Text::of)
}

impl<'a> Text<'a> {
    fn of(sentences: &'a [Sentence]) -> Self {
        let (mut text, mut at) = (String::new(), 0);
        let mut places = Vec::with_capacity(sentences.len());
        for sentence in sentences {
            // Words of formats without a text count from the beginning of each sentence.
            let first = sentence.offsets.first().map_or(0, |place| place.start);
            let shift = if first >= at && (at == 0 || first > 0) {
                0
            } else {
                at + 1
            };
            let begins = if shift == 0 { first } else { shift };
            let base = begins - first;
            let own: Vec<Range<usize>> = sentence
                .offsets
                .iter()
                .map(|place| place.start + base..place.end + base)
                .collect();
            for (index, (word, place)) in sentence.words.iter().zip(&own).enumerate() {
                let gap = place.start.saturating_sub(at);
                let fill = if index == 0 && at > 0 { "\n" } else { " " };
                for filled in 0..gap {
                    // A sentence ends where a line does.
                    text.push_str(if filled == 0 { fill } else { " " });
                }
                text.push_str(word);
                at = place.end;
            }
            places.push(own);
        }
        Self {
            sentences,
            contents: text,
            places,
        }
    }

    fn entities(&self) -> Vec<Entity> {
        let mut entities = Vec::new();
        for (sentence, places) in self.sentences.iter().zip(&self.places) {
            for span in score::entities(&sentence.tags) {
                let (start, end) = (places[span.start].start, places[span.end - 1].end);
                entities.push(Entity {
                    label: span.label,
                    start,
                    end,
                    text: self.contents.chars().skip(start).take(end - start).collect(),
                    score: 1.0,
                });
            }
        }
        entities
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Corpus;
    use super::*;

    fn sentence(words: &[&str], tags: &str, document: Option<u32>) -> Sentence {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Sentence {
            offsets: super::super::joined(&words),
            words,
            tags: tags.split(' ').map(str::to_owned).collect(),
            document,
            ..Sentence::default()
        }
    }

    fn name(number: u32) -> String {
        format!("d{number}")
    }

    fn content(corpus: &Corpus) -> Vec<(Vec<String>, Vec<String>, Option<u32>)> {
        let sentences = corpus.sentences.iter();
        sentences
            .map(|s| (s.words.clone(), s.tags.clone(), s.document))
            .collect()
    }

    #[test]
    fn texts_are_put_together_of_words() {
        let sentences = [
            sentence(&["The", "flu"], "O B-D", Some(0)),
            sentence(&["It", "went"], "O O", Some(0)),
            sentence(&["Lung", "cancer"], "B-D I-D", Some(1)),
        ];
        let lines = to_json_text(&sentences, name);
        let corpus = Corpus::parse("a", lines.as_bytes()).expect("read back");
        let expected: Vec<_> = sentences
            .iter()
            .map(|s| (s.words.clone(), s.tags.clone(), s.document))
            .collect();
        assert_eq!(content(&corpus), expected);
        let files = to_brat(&sentences, name);
        assert_eq!(files[0].1, "The flu\nIt went");
        assert_eq!(files[1].2, "T1\tD 0 11\tLung cancer\n");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            drawn in prop::collection::vec(
                prop::collection::vec(("[a-z#\\t\\n ␉␛.\\PC]{0,4}[a-z\\PC]", 0usize..5), 1..6), 1..6,
            ),
        ) {
            let tags = ["O", "B-X", "I-X", "B-Y", "I-Y"];
            let sentences: Vec<Sentence> = drawn
                .iter()
                .enumerate()
                .map(|(index, words)| {
                    let mut given: Vec<String> = words.iter().map(|(_, tag)| tags[*tag].to_owned()).collect();
                    fedner_shared::scheme::to_iob2(&mut given);
                    let words: Vec<&str> = words.iter().map(|(word, _)| word.as_str()).collect();
                    sentence(&words, &given.join(" "), Some(index as u32 / 2))
                })
                .filter(|sentence| sentence.words.iter().all(|word| !word.trim().is_empty()))
                .collect();
            prop_assume!(!sentences.is_empty());
            let options = super::super::ReadOptions {
                scheme: Some(fedner_shared::scheme::Scheme::Iob2),
                ..super::super::ReadOptions::default()
            };
            for (format, text) in [
                (super::super::Format::Conll, to_conll(&sentences, name)),
                (super::super::Format::JsonTokens, to_json_tokens(&sentences, name)),
            ] {
                let mut reader = super::super::Reader::new(super::super::ReadOptions {
                    format: Some(format),
                    ..options.clone()
                });
                let corpus = Corpus::collect("a", |sink| reader.stream_lines("a", text.as_bytes(), sink));
                let corpus = corpus.map_err(|error| TestCaseError::fail(format!("{error}: {text:?}")))?;
                let found: Vec<_> = content(&corpus).into_iter().map(|(w, t, _)| (w, t)).collect();
                let expected: Vec<_> = sentences.iter().map(|s| (s.words.clone(), s.tags.clone())).collect();
                prop_assert_eq!(found, expected, "{}", text);
            }
        }
    }
}
