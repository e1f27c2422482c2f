//! Plain text with entities at offsets, to sentences of tagged words.
//!
//! Words and sentences are those of the text alone, as [`crate::split`] finds them for any text. So
//! what is trained on and scored is what a prediction can give.

use super::mention::{Mention, RawMention, settle};
use super::reading::{LEFT_OUT, Place, RENAMED, Reading};
use super::{Fault, Sentence, offsets};
use crate::split::{self, Word};

/// What a record or a pair of files says of all its sentences.
pub(super) struct Source<'a> {
    pub(super) document: Option<u32>,
    pub(super) person: Option<&'a str>,
    /// The line of a sentence that begins at a byte of the text.
    pub(super) line: Box<dyn Fn(usize) -> usize + 'a>,
}

/// Tags the words of `text` and hands on its sentences, or what is wrong with the entities.
/// `source` is asked for once the entities are sound.
pub(super) fn read<'a>(
    text: &str,
    mentions: Vec<RawMention>,
    reading: &mut Reading,
    source: impl FnOnce(&mut Reading) -> Source<'a>,
) {
    let annotated = match annotate(text, mentions, reading) {
        Ok(annotated) => annotated,
        Err(faults) => {
            for (line, fault) in &faults {
                reading.problem(*line, fault);
            }
            return;
        }
    };
    let Source {
        document,
        person,
        line,
    } = source(reading);
    let file = reading.file.clone();
    if let Some(first) = annotated.widened.first() {
        let place = Place { file, line: *first };
        reading.summary.first_widened.get_or_insert(place);
        reading.summary.widened += annotated.widened.len();
    }
    let starts = annotated.starts.iter().zip(annotated.lines);
    for (sentence, (start, lines)) in annotated.sentences.into_iter().zip(starts) {
        let sentence = Sentence {
            document,
            person: person.map(str::to_owned),
            line: line(*start),
            ..sentence
        };
        reading.converted(sentence, |word| lines[word]);
    }
}

/// A text as tagged sentences; document, person and line are left open.
#[derive(Debug, Default)]
struct Annotated {
    sentences: Vec<Sentence>,
    /// For each sentence, the line of the entity that begins at a word; 0 where none does.
    lines: Vec<Vec<usize>>,
    /// For each sentence, the byte of the text at which it begins.
    starts: Vec<usize>,
    /// The lines of entities that begin or end inside a word.
    widened: Vec<usize>,
}

/// Tags the words of `text`. What is wrong with an entity is returned with its line.
fn annotate(
    text: &str,
    raw: Vec<RawMention>,
    reading: &mut Reading,
) -> Result<Annotated, Vec<(usize, Fault)>> {
    let count = raw.len();
    let placed = offsets::place(text, raw, (reading.options.offsets, reading.marked))?;
    if let Some(convention) = placed.found {
        let what = format!("entities whose offsets fit counted in {convention}");
        reading.changed(what, count);
    }
    if let Some((edges, convention)) = placed.hint {
        let what = format!(
            "edges of entities inside words, where none would be if offsets counted {convention} \
             (see `--offsets`)"
        );
        reading.changed(what, edges);
    }
    let mut mentions = placed.mentions;
    let settled = settle(text, &mut mentions, reading.options)?;
    for (what, count) in [
        (
            "entities passed over because they share text with others",
            settled.overlapping,
        ),
        ("entities of several parts joined", settled.joined),
        ("entities of several parts passed over", settled.dropped),
        (RENAMED, settled.renamed),
        (LEFT_OUT, settled.left_out),
    ] {
        reading.changed(what, count);
    }
    let words = split::words(text).map_err(|error| {
        let reason = error.to_string();
        vec![(1, Fault::Unreadable { reason })]
    })?;
    let mut annotated = Annotated::default();
    let mut tagged = Tagged::new(text, &words);
    let (mut crossing, mut crowded) = (0, 0);
    let sentences = split::sentences(text, &words);
    for mention in &mentions {
        match tagged.tag(mention)? {
            Fit::Exact => {}
            Fit::Widened => annotated.widened.push(mention.line),
            Fit::Crowded => crowded += 1,
        }
    }
    for range in &sentences {
        crossing += usize::from(tagged.begin_at(range.start));
    }
    for range in sentences {
        let own = &words[range.clone()];
        let within = |word: &&usize| range.contains(*word);
        let inexact = tagged.inexact.iter().filter(within);
        let lost = tagged.lost.iter().filter(|(word, _)| range.contains(word));
        annotated.starts.push(own[0].bytes.start);
        annotated.lines.push(tagged.lines[range.clone()].to_vec());
        annotated.sentences.push(Sentence {
            words: own.iter().map(|word| word.text.clone()).collect(),
            tags: tagged.tags[range.clone()].to_vec(),
            offsets: own.iter().map(|word| word.characters.clone()).collect(),
            inexact: inexact.map(|word| word - range.start).collect(),
            lost: lost.map(|(_, label)| label.clone()).collect(),
            ..Sentence::default()
        });
    }
    reading.changed("entities divided where a sentence ends", crossing);
    reading.changed(
        "entities left out because another has a word of theirs",
        crowded,
    );
    Ok(annotated)
}

/// How an entity lies on the words of its text.
enum Fit {
    Exact,
    /// An edge stands inside a word, which counts as a whole.
    Widened,
    /// Another entity has one of its words.
    Crowded,
}

/// The tags of the words of a text.
struct Tagged<'a> {
    /// The words that stand at each place, in characters.
    words: &'a [Word],
    characters: Vec<char>,
    tags: Vec<String>,
    /// The line of the entity that begins at a word.
    lines: Vec<usize>,
    /// Words at which an entity begins that was widened or divided.
    inexact: Vec<usize>,
    /// Entities without tags of their own, with a word of theirs.
    lost: Vec<(usize, String)>,
}

impl<'a> Tagged<'a> {
    fn new(text: &str, words: &'a [Word]) -> Self {
        Self {
            words,
            characters: text.chars().collect(),
            tags: vec!["O".to_owned(); words.len()],
            lines: vec![0; words.len()],
            inexact: Vec::new(),
            lost: Vec::new(),
        }
    }

    /// Tags the words of an entity; white space at its edges is no part of it.
    fn tag(&mut self, mention: &Mention) -> Result<Fit, Vec<(usize, Fault)>> {
        let (mut start, mut end) = (mention.start, mention.end);
        let blank = |at: usize| self.characters.get(at).is_some_and(|c| c.is_whitespace());
        while start < end && blank(start) {
            start += 1;
        }
        while start < end && blank(end - 1) {
            end -= 1;
        }
        let words = self.words;
        let first = words.partition_point(|word| word.characters.end <= start);
        let after = words.partition_point(|word| word.characters.start < end);
        if first >= after {
            let (start, end) = (mention.start, mention.end);
            return Err(vec![(mention.line, Fault::SpanBlank { start, end })]);
        }
        if self.tags[first..after].iter().any(|tag| tag != "O") {
            self.lost.push((first, mention.label.clone()));
            return Ok(Fit::Crowded);
        }
        self.lines[first] = mention.line;
        self.tags[first] = format!("B-{}", mention.label);
        self.tags[first + 1..after].fill(format!("I-{}", mention.label));
        let (begins, ends) = (&words[first].characters, &words[after - 1].characters);
        if (begins.start, ends.end) == (start, end) {
            return Ok(Fit::Exact);
        }
        self.inexact.push(first);
        Ok(Fit::Widened)
    }

    /// Begins an entity anew at the first word of a sentence, where one goes on from the sentence
    /// before. Whether there was one.
    fn begin_at(&mut self, word: usize) -> bool {
        let Some(label) = self.tags[word].strip_prefix("I-").map(str::to_owned) else {
            return false;
        };
        let mut first = word;
        while first > 0 && self.tags[first].starts_with("I-") {
            first -= 1;
        }
        self.lines[word] = self.lines[first];
        self.tags[word] = format!("B-{label}");
        for part in [first, word] {
            if !self.inexact.contains(&part) {
                self.inexact.push(part);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Corpus, ReadOptions, Reader, Sentence};
    use crate::corpus::{Discontinuous, Overlaps, Summary};

    /// Entities, and the code of what is wrong with them.
    type Case<'a> = (&'a [(usize, usize, &'a str)], &'a str);

    /// A JSON record of a text and its entities, read; or the code of its first problem.
    fn read_with(
        text: &str,
        entities: &[(usize, usize, &str)],
        options: ReadOptions,
    ) -> Result<(Vec<Sentence>, Summary), String> {
        let entities: Vec<_> = entities
            .iter()
            .map(|(start, end, label)| serde_json::json!({"start": start, "end": end, "label": label}))
            .collect();
        let record = serde_json::json!({"text": text, "entities": entities}).to_string();
        let mut reader = Reader::new(options);
        let corpus = Corpus::collect("a.jsonl", |sink| {
            reader.stream_lines("a.jsonl", record.as_bytes(), sink)
        });
        let corpus = corpus.map_err(|error| error.to_string())?;
        Ok((corpus.sentences, corpus.summary))
    }

    fn shown(text: &str, entities: &[(usize, usize, &str)]) -> Vec<String> {
        let (sentences, _) = read_with(text, entities, ReadOptions::default()).expect("sound");
        let sentence = |sentence: &Sentence| {
            let pairs = sentence.words.iter().zip(&sentence.tags);
            let words: Vec<String> = pairs.map(|(word, tag)| format!("{word}/{tag}")).collect();
            words.join(" ")
        };
        sentences.iter().map(sentence).collect()
    }

    #[test]
    fn entities_are_tagged_where_they_stand() {
        let text = "Früh Zöliakie. Seen by Dr. Roe\nat cancer.";
        let entities = [(34, 40, "Kind"), (5, 13, "Disease"), (23, 31, "Name")];
        assert_eq!(
            shown(text, &entities),
            [
                "Früh/O Zöliakie/B-Disease ./O",
                "Seen/O by/O Dr/B-Name ./I-Name Roe/I-Name at/O cancer/B-Kind ./O"
            ]
        );
        assert_eq!(shown("", &[]), Vec::<String>::new());
    }

    #[test]
    fn words_are_those_of_the_text_whatever_its_entities() {
        let text = "pancancers are bad";
        let (sentences, summary) = read_with(
            text,
            &[(3, 9, "D"), (9, 10, "E"), (11, 14, "F")],
            ReadOptions::default(),
        )
        .expect("sound");
        assert_eq!(sentences[0].words, ["pancancers", "are", "bad"]);
        assert_eq!(sentences[0].tags, ["B-D", "B-F", "O"]);
        assert_eq!(
            (sentences[0].inexact.as_slice(), summary.widened),
            (&[0][..], 1)
        );
        assert_eq!(sentences[0].lost, ["E"]);
        let notices = summary.notices().join("\n");
        assert!(
            notices.contains("widened") && notices.contains("left out"),
            "{notices}"
        );
        // White space at an edge is no part of an entity.
        let (sentences, summary) =
            read_with("a flu b", &[(1, 6, "D")], ReadOptions::default()).expect("sound");
        assert_eq!(
            (sentences[0].tags.join(" "), summary.widened),
            ("O B-D O".to_owned(), 0)
        );
    }

    #[test]
    fn an_entity_over_the_end_of_a_sentence_is_divided_and_counted() {
        let text = "It is flu. Then it went";
        let (sentences, summary) =
            read_with(text, &[(6, 15, "D")], ReadOptions::default()).expect("sound");
        let tags: Vec<String> = sentences.iter().map(|s| s.tags.join(" ")).collect();
        assert_eq!(tags, ["O O B-D I-D", "B-D O O"]);
        assert_eq!(
            (sentences[0].inexact.len(), sentences[1].inexact.len()),
            (1, 1)
        );
        assert_eq!(summary.changed["entities divided where a sentence ends"], 1);
    }

    #[test]
    fn overlaps_are_refused_or_settled() {
        let text = "left lung cancer screening";
        let entities = [(0, 9, "Site"), (5, 16, "D"), (5, 26, "P"), (5, 9, "Site")];
        let refused = read_with(text, &entities, ReadOptions::default()).expect_err("overlaps");
        assert!(refused.contains("--overlaps"), "{refused}");
        for (choice, tags) in [
            (Overlaps::Outermost, "B-Site I-Site O O"),
            (Overlaps::Longest, "O B-P I-P I-P"),
            (Overlaps::First, "B-Site I-Site O O"),
        ] {
            let options = ReadOptions {
                overlaps: choice,
                ..ReadOptions::default()
            };
            assert_eq!(options.discontinuous(), Discontinuous::Drop);
            let (sentences, summary) = read_with(text, &entities, options).expect("settled");
            assert_eq!(sentences[0].tags.join(" "), tags, "{choice}");
            let notices = summary.notices().join("\n");
            assert!(notices.contains("share text with others: 3"), "{notices}");
        }
    }

    #[test]
    fn entities_that_cannot_be_are_told_apart() {
        let text = "one two three";
        let cases: [Case<'_>; 11] = [
            (&[(0, 3, "")], "type-empty"),
            (&[(0, 3, "a b")], "type-blank"),
            (&[(0, 3, "B-X")], "type-is-tag"),
            (&[(3, 0, "X")], "span-order"),
            (&[(3, 3, "X")], "span-empty"),
            (&[(0, 14, "X")], "span-outside"),
            (&[(3, 4, "X")], "span-blank"),
            (&[(0, 3, "X"), (0, 3, "Y")], "span-twice"),
            (&[(0, 7, "X"), (4, 7, "Y")], "span-nested"),
            (&[(0, 3, "X"), (0, 7, "Y")], "span-nested"),
            (&[(0, 7, "X"), (4, 13, "Y")], "span-overlaps"),
        ];
        for (entities, code) in cases {
            let said = read_with(text, entities, ReadOptions::default()).expect_err(code);
            assert!(said.contains(&format!("[{code}]")), "{said}");
        }
    }

    #[test]
    fn types_have_the_names_that_are_asked_for() {
        let options = ReadOptions {
            rename: [("Patient Name", "Name"), ("Draft", "")]
                .map(|(old, new)| (old.to_owned(), new.to_owned()))
                .into(),
            ..ReadOptions::default()
        };
        let entities = [(0, 3, "Patient Name"), (4, 8, "Draft")];
        let (sentences, summary) = read_with("Roe came", &entities, options).expect("renamed");
        assert_eq!(sentences[0].tags, ["B-Name", "O"]);
        let notices = summary.notices().join("\n");
        assert!(
            notices.contains("renamed: 1") && notices.contains("type: 1"),
            "{notices}"
        );
    }
}
