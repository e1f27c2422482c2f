//! The same scores as seqeval and scikit-learn, on random tag sequences.

use std::collections::BTreeMap;
use std::fs;

use fedner_model::{Averages, Evaluation, Sentence, TagCounts};
use fedner_shared::scheme::to_iob2;
use fedner_shared::score::{Counts, Scores};
use serde_json::Value;

fn golden() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/scores.json"
    );
    let json = fs::read(path).expect("scores.json");
    serde_json::from_slice(&json).expect("JSON")
}

fn evaluation(golden: &Value) -> Evaluation {
    let sequences = |key: &str| -> Vec<Vec<String>> {
        serde_json::from_value(golden[key].clone()).expect("tag sequences")
    };
    let sentence = |tags: Vec<String>| Sentence {
        words: vec!["word".to_owned(); tags.len()],
        tags,
        ..Sentence::default()
    };
    let sentences: Vec<Sentence> = sequences("gold").into_iter().map(sentence).collect();
    Evaluation::new(&sentences, sequences("predicted"))
}

#[test]
fn entities_are_counted_as_seqeval_does() {
    let golden = golden();
    let found = evaluation(&golden);
    assert_same(&found.scores.by_type, &golden["entities"]);
    assert_same(&found.strict.by_type, &golden["strict"]);
    assert_ne!(found.scores, found.strict);
}

/// Corpora and heads of every scheme are counted as IOB2, with the figures that seqeval has for them.
#[test]
fn every_scheme_is_counted_as_seqeval_does() {
    let golden = golden();
    let schemes = golden["schemes"].as_object().expect("schemes");
    assert_eq!(schemes.len(), 6);
    for (name, golden) in schemes {
        let sequences = |key: &str| -> Vec<Vec<String>> {
            serde_json::from_value(golden[key].clone()).expect("tag sequences")
        };
        let (mut gold, predicted) = (sequences("gold"), sequences("predicted"));
        for tags in &mut gold {
            to_iob2(tags);
        }
        let mut rewritten = predicted.clone();
        for tags in &mut rewritten {
            to_iob2(tags);
        }
        let (mut scores, mut strict) = (Scores::default(), Scores::default());
        let rows = gold.iter().zip(&predicted).zip(&rewritten);
        for ((gold, predicted), rewritten) in rows {
            scores.count(gold, rewritten);
            match name.as_str() {
                "IOBES" | "BILOU" => strict.count_strict_with_ends(gold, predicted),
                "IOB2" => strict.count_strict(gold, predicted),
                _ => {}
            }
        }
        if name != "BILOU" {
            assert_same(&scores.by_type, &golden["entities"]);
        }
        if !strict.by_type.is_empty() {
            assert_same(&strict.by_type, &golden["strict"]);
        }
    }
}

#[test]
fn words_are_counted_as_scikit_learn_does() {
    let golden = golden();
    let found = evaluation(&golden);
    assert_same(&found.tokens.by_tag, &golden["tags"]);
    let accuracy = golden["accuracy"].as_f64().expect("accuracy");
    let micro = Averages::from_counts(&found.tokens.by_tag).micro;
    for figure in [micro.precision, micro.recall, micro.f1] {
        assert!((figure - accuracy).abs() < 1e-12);
    }
}

#[test]
fn every_entity_is_confused_once() {
    let found = evaluation(&golden());
    let total = found.scores.total();
    let count = |wanted: fn(&fedner_model::Confused) -> bool| -> u64 {
        let cells = found.confusion.cells.iter().filter(|cell| wanted(cell));
        cells.map(|cell| cell.count).sum()
    };
    assert_eq!(count(|cell| cell.gold.is_some()), total.support());
    let predicted = total.true_positives + total.false_positives;
    assert_eq!(count(|cell| cell.predicted.is_some()), predicted);
    let right = found.confusion.cells.iter();
    let right = right.filter(|cell| cell.gold == cell.predicted);
    let right: u64 = right.map(|cell| cell.same_words).sum();
    assert_eq!(right, total.true_positives);
}

fn assert_same(found: &BTreeMap<String, Counts>, expected: &Value) {
    let averages = Averages::from_counts(found);
    let mut rows: Vec<(&str, TagCounts)> = found
        .iter()
        .map(|(name, counts)| (name.as_str(), TagCounts::from_counts(*counts)))
        .collect();
    rows.push(("macro avg", averages.macro_average));
    rows.push(("weighted avg", averages.weighted));
    if expected.get("micro avg").is_some() {
        rows.push(("micro avg", averages.micro));
    }
    assert_eq!(rows.len(), expected.as_object().expect("report").len());
    for (name, found) in rows {
        let expected = &expected[name];
        for (part, found) in [
            ("precision", found.precision),
            ("recall", found.recall),
            ("f1", found.f1),
        ] {
            let expected = expected[part].as_f64().expect("number");
            assert!(
                (found - expected).abs() < 1e-12,
                "{name} {part}: {found} for {expected}"
            );
        }
        assert_eq!(Some(found.support), expected["support"].as_u64(), "{name}");
    }
}
