use std::collections::{BTreeMap, BTreeSet};

use super::grammar::{OUTSIDE, entity, pieces, reserved};
use super::{LABELS, Note, Split, Style, generate, generate_long, to_conll};

const SEED: u64 = 11;

fn tagged(notes: &[Note]) -> impl Iterator<Item = &(String, String)> {
    notes
        .iter()
        .flat_map(|note| note.sentences.iter().flatten())
}

/// The entities of a set as (label, text).
fn entities(notes: &[Note]) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for (word, tag) in tagged(notes) {
        if let Some(label) = tag.strip_prefix("B-") {
            found.push((label.to_owned(), word.clone()));
        } else if tag.starts_with("I-") {
            let (_, text) = found.last_mut().expect("an entity begins with B-");
            text.push(' ');
            text.push_str(word);
        }
    }
    found
}

/// How many of a set's entities carry the label, in a thousand.
fn per_mille(notes: &[Note], label: &str) -> usize {
    let entities = entities(notes);
    let of_label = entities.iter().filter(|(l, _)| l == label).count();
    of_label * 1000 / entities.len()
}

#[test]
fn a_seed_gives_the_same_notes_again_and_another_seed_others() {
    for style in Style::ALL {
        let notes = generate(style, Split::Train, 40, SEED);
        assert_eq!(notes, generate(style, Split::Train, 40, SEED));
        assert_eq!(notes[..25], generate(style, Split::Train, 25, SEED));
        assert_ne!(notes, generate(style, Split::Train, 40, SEED + 1));
        assert_ne!(
            notes[0].sentences,
            generate(style, Split::Test, 1, SEED)[0].sentences
        );
    }
}

#[test]
fn tags_are_iob2_over_the_six_labels() {
    for style in Style::ALL {
        for split in Split::ALL {
            for note in generate(style, split, 150, SEED) {
                for sentence in &note.sentences {
                    assert!(
                        !sentence.is_empty(),
                        "{} has an empty sentence",
                        note.document
                    );
                    let mut before = OUTSIDE;
                    for (word, tag) in sentence {
                        if let Some(label) = tag.strip_prefix("I-") {
                            let open = before.split_once('-').map(|(_, label)| label);
                            assert_eq!(open, Some(label), "{word} in {}", note.document);
                        } else if tag != OUTSIDE {
                            let label = tag.strip_prefix("B-").unwrap_or_default();
                            assert!(LABELS.contains(&label), "{word} has {tag}");
                        }
                        before = tag;
                    }
                }
            }
        }
    }
}

#[test]
fn every_slot_names_a_rule_and_entities_are_whole_words_of_sentences() {
    for style in Style::ALL {
        let grammar = style.grammar();
        for (name, text) in grammar.entries() {
            assert!(!text.is_empty(), "{name} has an empty entry");
            let sentence = [".open", ".body", ".close"]
                .iter()
                .any(|part| name.ends_with(part));
            // Both sides of a choice are looked at.
            let text = text.replace(['<', '>', '|'], " ");
            for piece in pieces(&text) {
                let slots = match entity(piece) {
                    Some((_, rules)) => {
                        assert!(sentence, "{name} is no sentence and has the entity {piece}");
                        rules.split(' ').collect::<Vec<_>>()
                    }
                    None => piece
                        .split('{')
                        .skip(1)
                        .map(|part| part.split('}').next().unwrap_or_default())
                        .inspect(|slot| {
                            let label = slot.split(':').next().unwrap_or_default();
                            assert!(!LABELS.contains(&label), "{name}: {piece} is not whole");
                        })
                        .collect(),
                };
                for slot in slots {
                    let slot = slot.trim_start_matches(['!', '_']);
                    let slot = slot.strip_prefix("my.").unwrap_or(slot);
                    let slot = slot.strip_prefix("doc.").unwrap_or(slot);
                    let generated =
                        slot.contains("..") || slot.chars().all(|c| c == '#' || c == '@');
                    let known = match slot.strip_suffix('@') {
                        Some(stem) => {
                            grammar.has(&format!("{stem}.f")) && grammar.has(&format!("{stem}.m"))
                        }
                        None => grammar.has(slot),
                    };
                    assert!(
                        generated || known,
                        "{}: {name} asks for {slot}",
                        style.name()
                    );
                }
            }
        }
        let marks = generate(style, Split::Train, 200, SEED);
        let left = tagged(&marks).find(|(word, _)| word.contains(['{', '}', '<', '>', '|', '^']));
        assert_eq!(left, None);
    }
}

#[test]
fn institutions_have_forty_sentences_or_more() {
    for style in Style::ALL {
        let grammar = style.grammar();
        let bodies = grammar
            .entries()
            .filter(|(name, _)| name.rsplit('.').next() == Some("body"));
        assert!(bodies.count() >= 40, "{}", style.name());
    }
}

#[test]
fn every_label_occurs_in_every_institution_with_other_frequencies() {
    let [st_anna, mercy, north] = Style::ALL.map(|style| generate(style, Split::Train, 400, SEED));
    for label in LABELS {
        for notes in [&st_anna, &mercy, &north] {
            assert!(per_mille(notes, label) > 0, "no {label}");
        }
    }
    assert!(per_mille(&mercy, "Drug") > 10 * per_mille(&north, "Drug"));
    assert!(per_mille(&st_anna, "Drug") > 5 * per_mille(&north, "Drug"));
    assert!(per_mille(&north, "Organisation") > 2 * per_mille(&mercy, "Organisation"));
    assert!(per_mille(&north, "Organisation") > 2 * per_mille(&st_anna, "Organisation"));
    assert!(per_mille(&st_anna, "Location") > per_mille(&mercy, "Location"));
}

#[test]
fn test_sets_hold_known_and_unknown_entities() {
    for style in Style::ALL {
        let seen: BTreeSet<_> = entities(&generate(style, Split::Train, 400, SEED))
            .into_iter()
            .collect();
        for split in [Split::Devel, Split::Test] {
            let mut counts: BTreeMap<_, (usize, usize)> = BTreeMap::new();
            for entity in entities(&generate(style, split, 400, SEED)) {
                let (known, unknown) = counts.entry(entity.0.clone()).or_default();
                *if seen.contains(&entity) {
                    known
                } else {
                    unknown
                } += 1;
            }
            for label in ["Person", "Location", "Organisation", "Drug"] {
                let (known, unknown) = counts[label];
                let place = format!("{} {} {label}", style.name(), split.name());
                assert!(known > 0, "{place}: nothing is known");
                assert!(
                    unknown * 10 > known,
                    "{place}: {unknown} new, {known} known"
                );
            }
        }
    }
}

#[test]
fn held_out_words_never_reach_another_split() {
    for split in Split::ALL {
        // Every drug of St. Anna comes from a held-out rule and is written as the rule has it.
        let notes = generate(Style::StAnna, split, 400, SEED);
        let drugs = entities(&notes).into_iter().filter(|(l, _)| l == "Drug");
        let (own, open): (Vec<_>, Vec<_>) = drugs
            .map(|(_, drug)| match reserved(&drug) {
                Some(other) if other != split => panic!("{drug} belongs to {}", other.name()),
                kept => kept.is_some(),
            })
            .partition(|own| *own);
        assert!(!open.is_empty());
        assert_eq!(own.is_empty(), split == Split::Train);
    }
}

#[test]
fn institutions_share_part_of_their_entities() {
    let [st_anna, mercy, north] = Style::ALL.map(|style| {
        let notes = generate(style, Split::Train, 400, SEED);
        let words = tagged(&notes).filter(|(_, tag)| tag.ends_with("Person"));
        words.map(|(word, _)| word.clone()).collect::<BTreeSet<_>>()
    });
    for (one, other) in [(&st_anna, &mercy), (&mercy, &north), (&north, &st_anna)] {
        let common = one.intersection(other).count();
        assert!(common > 20, "{common} words in common");
        assert!(
            common * 2 < one.len(),
            "{common} of {} in common",
            one.len()
        );
    }
}

#[test]
fn the_same_word_is_an_entity_here_and_none_there() {
    let notes = Style::ALL.map(|style| generate(style, Split::Train, 400, SEED));
    let mut tags: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (word, tag) in notes.iter().flat_map(|notes| tagged(notes)) {
        let kind = tag.split_once('-').map_or(OUTSIDE, |(_, label)| label);
        tags.entry(word).or_default().insert(kind);
    }
    for (word, least) in [
        ("May", 4),
        ("Paris", 3),
        ("Hill", 4),
        ("Rose", 3),
        ("Winter", 2),
    ] {
        let tags = &tags[word];
        assert!(tags.len() >= least, "{word} is only {tags:?}");
    }
}

#[test]
fn persons_have_one_note_or_more_and_documents_their_own_names() {
    let notes = generate(Style::North, Split::Train, 300, SEED);
    let documents: BTreeSet<_> = notes.iter().map(|note| &note.document).collect();
    let persons: BTreeSet<_> = notes.iter().map(|note| &note.person).collect();
    assert_eq!(documents.len(), 300);
    assert!((100..290).contains(&persons.len()), "{}", persons.len());

    let test = generate(Style::North, Split::Test, 300, SEED);
    assert!(test.iter().all(|note| !persons.contains(&note.person)));
}

#[test]
fn persons_of_long_records_have_one_note_to_the_most() {
    let notes = generate_long(Style::Mercy, Split::Train, (200, 50), SEED);
    let mut counts = BTreeMap::<&str, usize>::new();
    for note in &notes {
        *counts.entry(&note.person).or_default() += 1;
    }
    assert_eq!(counts.len(), 200);
    let (least, most) = (counts.values().min(), counts.values().max());
    assert_eq!(least, Some(&1));
    assert!(
        most.is_some_and(|most| (40..=50).contains(most)),
        "{most:?}"
    );
    // Half of the persons have at most √50 notes.
    let few = counts.values().filter(|count| **count <= 7).count();
    assert!((80..=120).contains(&few), "{few}");
}

#[test]
fn conll_text_gives_the_notes_back() {
    let notes: Vec<_> = Style::ALL
        .iter()
        .flat_map(|style| generate(*style, Split::Devel, 30, SEED))
        .collect();
    let text = to_conll(&notes);
    assert!(text.ends_with("\n\n"));

    let mut read: Vec<Note> = Vec::new();
    let mut sentence = Vec::new();
    for line in text.lines() {
        if let Some(document) = line.strip_prefix("# document = ") {
            read.push(Note {
                person: String::new(),
                document: document.to_owned(),
                sentences: Vec::new(),
            });
            continue;
        }
        let note = read.last_mut().expect("a document begins the text");
        if let Some(person) = line.strip_prefix("# person = ") {
            person.clone_into(&mut note.person);
        } else if line.is_empty() {
            note.sentences.push(std::mem::take(&mut sentence));
        } else {
            let (word, tag) = line.split_once('\t').expect("a word, a tab, a tag");
            assert!(!word.is_empty() && !word.contains(char::is_whitespace));
            assert!(!tag.contains(char::is_whitespace));
            sentence.push((word.to_owned(), tag.to_owned()));
        }
    }
    assert_eq!(read, notes);
}
