//! The same scores as seqeval and scikit-learn, on random tag sequences.

use std::fs;

use fedner_model::{TagCounts, TokenReport};
use fedner_shared::score::Scores;
use serde_json::Value;

#[test]
fn entities_and_tags_are_counted_as_python_does() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/scores.json"
    );
    let json = fs::read(path).expect("scores.json");
    let golden: Value = serde_json::from_slice(&json).expect("JSON");
    let sequences = |key: &str| -> Vec<Vec<String>> {
        serde_json::from_value(golden[key].clone()).expect("tag sequences")
    };
    let (mut scores, mut report) = (Scores::default(), TokenReport::default());
    for (gold, predicted) in sequences("gold").iter().zip(sequences("predicted")) {
        scores.count(gold, &predicted);
        report.count(gold, &predicted);
    }

    let entities = &golden["entities"];
    for (label, counts) in scores
        .by_type
        .iter()
        .map(|(label, c)| (label.as_str(), *c))
        .chain([("micro avg", scores.total())])
    {
        let found = TagCounts {
            precision: counts.precision(),
            recall: counts.recall(),
            f1: counts.f1(),
            support: counts.support(),
        };
        assert_same(label, &found, &entities[label]);
    }
    assert_eq!(
        scores.by_type.len() + 3,
        entities.as_object().expect("report").len()
    );

    let tags = &golden["tags"];
    for (tag, found) in report.rows() {
        assert_same(tag, &found, &tags[tag]);
    }
    assert_same("macro avg", &report.macro_average(), &tags["macro avg"]);
    assert_same("weighted avg", &report.weighted(), &tags["weighted avg"]);
    let accuracy = golden["accuracy"].as_f64().expect("accuracy");
    assert!((report.micro().f1 - accuracy).abs() < 1e-12);
}

fn assert_same(name: &str, found: &TagCounts, expected: &Value) {
    let parts = [
        ("precision", found.precision),
        ("recall", found.recall),
        ("f1", found.f1),
    ];
    for (part, found) in parts {
        let expected = expected[part].as_f64().expect("number");
        assert!(
            (found - expected).abs() < 1e-12,
            "{name} {part}: {found} for {expected}"
        );
    }
    assert_eq!(Some(found.support), expected["support"].as_u64(), "{name}");
}
