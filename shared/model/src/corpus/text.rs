//! Plain text with entities at character offsets, to sentences of tagged words.

use std::ops::Range;

use super::{Fault, Sentence};
use crate::split::{self, Word};

/// An entity as a file states it.
#[derive(Debug, Clone)]
pub(super) struct Mention {
    /// In characters.
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) label: String,
    /// What the file says stands there.
    pub(super) text: Option<String>,
    /// How problems with another entity name this one.
    pub(super) name: String,
    pub(super) line: usize,
}

/// A text as tagged sentences; document, person and line are left open.
#[derive(Debug, Default)]
pub(super) struct Annotated {
    pub(super) sentences: Vec<Sentence>,
    /// For each sentence, the line of the entity that begins at a word; 0 where none does.
    pub(super) lines: Vec<Vec<usize>>,
    /// For each sentence, the byte of the text at which it begins.
    pub(super) starts: Vec<usize>,
    /// Words cut because an entity begins or ends inside them.
    pub(super) split_words: usize,
}

/// Tags the words of `text`. What is wrong with an entity is returned with its line.
pub(super) fn annotate(
    text: &str,
    mut mentions: Vec<Mention>,
) -> Result<Annotated, Vec<(usize, Fault)>> {
    let faults = check(text, &mut mentions);
    if !faults.is_empty() {
        return Err(faults);
    }
    let words = split::words(text).map_err(|error| {
        let reason = error.to_string();
        vec![(1, Fault::Unreadable { reason })]
    })?;
    let before = words.len();
    let words = cut(words, &mentions);
    let mut annotated = Annotated {
        split_words: words.len() - before,
        ..Annotated::default()
    };
    let (tags, lines) = tags(&words, &mentions)?;
    for range in whole(split::sentences(text, &words), &tags) {
        let own = &words[range.clone()];
        annotated.starts.push(own[0].bytes.start);
        annotated.lines.push(lines[range.clone()].to_vec());
        annotated.sentences.push(Sentence {
            words: own.iter().map(|word| word.text.clone()).collect(),
            tags: tags[range].to_vec(),
            offsets: own.iter().map(|word| word.characters.clone()).collect(),
            ..Sentence::default()
        });
    }
    Ok(annotated)
}

/// Sorts the entities, and finds everything wrong with them.
fn check(text: &str, mentions: &mut [Mention]) -> Vec<(usize, Fault)> {
    // The byte at which each character begins, and the end.
    let mut bytes: Vec<usize> = text.char_indices().map(|(byte, _)| byte).collect();
    bytes.push(text.len());
    let mut faults: Vec<(usize, Fault)> = mentions
        .iter()
        .filter_map(|mention| Some((mention.line, mention.fault(text, &bytes)?)))
        .collect();
    if faults.is_empty() {
        mentions.sort_by_key(|mention| (mention.start, mention.end));
        // The entity that reaches furthest of those before.
        let mut furthest: Option<&Mention> = None;
        for mention in &*mentions {
            if let Some(other) = furthest.filter(|other| mention.start < other.end) {
                faults.push((mention.line, mention.conflict(other)));
            }
            if furthest.is_none_or(|other| mention.end > other.end) {
                furthest = Some(mention);
            }
        }
    }
    faults.sort_by_key(|(line, _)| *line);
    faults
}

impl Mention {
    /// What is wrong with the entity alone.
    fn fault(&self, text: &str, bytes: &[usize]) -> Option<Fault> {
        let length = bytes.len() - 1;
        let (start, end) = (self.start, self.end);
        let label = &self.label;
        let tag = ["B-", "I-", "E-", "S-"]
            .iter()
            .any(|prefix| label.starts_with(prefix));
        if label.is_empty() {
            return Some(Fault::TypeEmpty);
        }
        if label.contains(|c: char| c.is_whitespace() || c.is_control()) {
            let label = label.clone();
            return Some(Fault::TypeBlank { label });
        }
        if tag || label == "O" {
            let label = label.clone();
            return Some(Fault::TypeIsTag { label });
        }
        if start > end {
            return Some(Fault::SpanOrder { start, end });
        }
        if start == end {
            return Some(Fault::SpanEmpty { start, end });
        }
        if end > length {
            return Some(Fault::SpanOutside { start, end, length });
        }
        let found = &text[bytes[start]..bytes[end]];
        if found.trim().is_empty() {
            return Some(Fault::SpanBlank { start, end });
        }
        let said = self.text.clone().filter(|said| !same(said, found))?;
        Some(Fault::SpanText {
            start,
            end,
            said,
            found: found.to_owned(),
        })
    }

    /// What keeps the entity from standing beside `other`, which begins no later.
    fn conflict(&self, other: &Self) -> Fault {
        let (start, end) = (self.start, self.end);
        let name = if other.line == self.line {
            other.name.clone()
        } else {
            format!("{} in line {}", other.name, other.line)
        };
        if (start, end) == (other.start, other.end) {
            return Fault::SpanTwice {
                start,
                end,
                other: name,
            };
        }
        if end <= other.end || start == other.start {
            return Fault::SpanNested {
                start,
                end,
                other: name,
            };
        }
        Fault::SpanOverlaps {
            start,
            end,
            other: name,
        }
    }
}

/// BRAT writes a line's end inside an entity as a blank.
fn same(said: &str, found: &str) -> bool {
    let blank = |c: char| if c.is_whitespace() { ' ' } else { c };
    said.chars().map(blank).eq(found.chars().map(blank))
}

/// Cuts the words in which an entity begins or ends. The entities are in order and apart.
fn cut(words: Vec<Word>, mentions: &[Mention]) -> Vec<Word> {
    let mut edges = mentions.iter().flat_map(|m| [m.start, m.end]).peekable();
    let mut all = Vec::with_capacity(words.len());
    for mut word in words {
        while let Some(edge) = edges.next_if(|edge| *edge < word.characters.end) {
            if edge > word.characters.start {
                let (first, rest) = halves(&word, edge);
                all.push(first);
                word = rest;
            }
        }
        all.push(word);
    }
    all
}

fn halves(word: &Word, edge: usize) -> (Word, Word) {
    let Range { start, end } = word.characters;
    let cut = word.text.char_indices().nth(edge - start);
    let cut = cut.map_or(word.text.len(), |(byte, _)| byte);
    let middle = word.bytes.start + cut;
    let part = |text: &str, bytes, characters| Word {
        text: text.to_owned(),
        bytes,
        characters,
    };
    let (first, rest) = word.text.split_at(cut);
    (
        part(first, word.bytes.start..middle, start..edge),
        part(rest, middle..word.bytes.end, edge..end),
    )
}

type Tagged = (Vec<String>, Vec<usize>);

/// The tag of each word, and the line of the entity that begins there.
fn tags(words: &[Word], mentions: &[Mention]) -> Result<Tagged, Vec<(usize, Fault)>> {
    let mut tags = vec!["O".to_owned(); words.len()];
    let mut lines = vec![0; words.len()];
    let mut faults = Vec::new();
    for mention in mentions {
        let first = words.partition_point(|word| word.characters.end <= mention.start);
        let after = words.partition_point(|word| word.characters.start < mention.end);
        if first >= after {
            let (start, end) = (mention.start, mention.end);
            faults.push((mention.line, Fault::SpanBlank { start, end }));
            continue;
        }
        lines[first] = mention.line;
        tags[first] = format!("B-{}", mention.label);
        tags[first + 1..after].fill(format!("I-{}", mention.label));
    }
    if faults.is_empty() {
        Ok((tags, lines))
    } else {
        Err(faults)
    }
}

/// Joins sentences between which an entity goes on: a name such as `Dr. Roe` may have a stop.
fn whole(sentences: Vec<Range<usize>>, tags: &[String]) -> Vec<Range<usize>> {
    let mut joined: Vec<Range<usize>> = Vec::with_capacity(sentences.len());
    for sentence in sentences {
        match joined.last_mut() {
            Some(last) if tags[sentence.start].starts_with("I-") => last.end = sentence.end,
            _ => joined.push(sentence),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mention(start: usize, end: usize, label: &str) -> Mention {
        Mention {
            start,
            end,
            label: label.to_owned(),
            text: None,
            name: format!("{start}..{end}"),
            line: start,
        }
    }

    fn shown(text: &str, mentions: Vec<Mention>) -> Vec<String> {
        let annotated = annotate(text, mentions).expect("sound");
        let sentence = |sentence: &Sentence| {
            let pairs = sentence.words.iter().zip(&sentence.tags);
            let words: Vec<String> = pairs.map(|(word, tag)| format!("{word}/{tag}")).collect();
            words.join(" ")
        };
        annotated.sentences.iter().map(sentence).collect()
    }

    #[test]
    fn entities_are_tagged_where_they_stand() {
        let text = "Früh Zöliakie. Seen by Dr. Roe\nat pancancer.";
        let mentions = vec![
            mention(34, 43, "Kind"),
            mention(5, 13, "Disease"),
            mention(23, 31, "Name"),
        ];
        assert_eq!(
            shown(text, mentions),
            [
                "Früh/O Zöliakie/B-Disease ./O",
                "Seen/O by/O Dr/B-Name ./I-Name Roe/I-Name",
                "at/O pancancer/B-Kind ./O"
            ]
        );
        assert_eq!(shown("", vec![]), Vec::<String>::new());
    }

    #[test]
    fn words_are_cut_at_the_edges_of_entities() {
        let mentions = vec![mention(3, 9, "D"), mention(9, 10, "E")];
        let annotated = annotate("pancancers are bad", mentions.clone()).expect("sound");
        assert_eq!(annotated.split_words, 2);
        assert_eq!(annotated.sentences[0].offsets[..3], [0..3, 3..9, 9..10]);
        assert_eq!(annotated.lines[0], [0, 3, 9, 0, 0]);
        assert_eq!(
            shown("pancancers are bad", mentions),
            ["pan/O cancer/B-D s/B-E are/O bad/O"]
        );
        assert_eq!(shown("öäü", vec![mention(1, 2, "D")]), ["ö/O ä/B-D ü/O"]);
    }

    #[test]
    fn entities_that_cannot_be_are_told_apart() {
        let text = "one two three";
        let code = |mentions: Vec<Mention>| {
            let faults = annotate(text, mentions).expect_err("a fault");
            faults[0].1.code()
        };
        let cases = [
            (vec![mention(0, 3, "")], "type-empty"),
            (vec![mention(0, 3, "a b")], "type-blank"),
            (vec![mention(0, 3, "B-X")], "type-is-tag"),
            (vec![mention(3, 0, "X")], "span-order"),
            (vec![mention(3, 3, "X")], "span-empty"),
            (vec![mention(0, 14, "X")], "span-outside"),
            (vec![mention(3, 4, "X")], "span-blank"),
            (vec![mention(0, 3, "X"), mention(0, 3, "Y")], "span-twice"),
            (vec![mention(0, 7, "X"), mention(4, 7, "Y")], "span-nested"),
            (vec![mention(0, 3, "X"), mention(0, 7, "Y")], "span-nested"),
            (
                vec![mention(0, 7, "X"), mention(4, 13, "Y")],
                "span-overlaps",
            ),
        ];
        for (mentions, expected) in cases {
            assert_eq!(code(mentions.clone()), expected, "{mentions:?}");
        }
        let said = |said: &str| Mention {
            text: Some(said.to_owned()),
            ..mention(0, 3, "X")
        };
        assert_eq!(code(vec![said("two")]), "span-text");
        assert!(annotate(text, vec![said("one")]).is_ok());
    }
}
