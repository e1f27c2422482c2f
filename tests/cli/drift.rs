//! Text that moves away from what a model was trained on.

use anyhow::{Context, Result};
use fedner_tests::dictionary::Dictionary;
use serde_json::Value;

use crate::desk::Desk;

const OLD: &str = "Aspirin helps. Rest helps. Aspirin again. Tea helps.\n";

fn band(report: &Value, feature: &str) -> Result<String> {
    let moved = report["moved"].as_array().context("moved")?;
    let found = moved.iter().find(|one| one["feature"] == feature);
    let band = found.context("the feature")?["band"].as_str();
    Ok(band.context("a band")?.to_owned())
}

#[test]
fn text_that_moved_is_told_feature_by_feature() -> Result<()> {
    let desk = Desk::new()?;
    let words = [("aspirin", "B-Drug"), ("ibuprofen", "B-Drug")];
    let dictionary = Dictionary::new("O B-Drug I-Drug", &words);
    desk.model("model", &dictionary.with_pieces("helps rest again tea ."))?;
    desk.write("old.txt", &OLD.repeat(20))?;
    desk.write("same.txt", &OLD.repeat(7))?;
    // No drugs, words that the vocabulary lacks, and one long sentence.
    desk.write(
        "new.txt",
        &"Ωδ helps and Ωδ helps and Ωδ helps and Ωδ helps. Tea.\n".repeat(20),
    )?;
    let monitor = |arguments: &[&str]| -> Vec<String> {
        let all = ["monitor", "--model", "model"].iter().chain(arguments);
        all.map(ToString::to_string).collect()
    };
    let run = |arguments: &[&str]| -> Result<Value> {
        let arguments = monitor(arguments);
        desk.json(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let kept = run(&["--file", "old.txt", "--save", "old.json"])?;
    assert_eq!(kept["sentences"], 80);
    assert!(kept.get("moved").is_none());
    let text = std::fs::read_to_string(desk.path("old.json"))?;
    assert!(!text.contains("spirin"), "a profile holds no text: {text}");

    let same = run(&["--file", "same.txt", "--reference", "old.json"])?;
    let new = run(&["--file", "new.txt", "--reference", "old.json"])?;
    for feature in ["predicted types", "unknown sub-tokens", "sentence lengths"] {
        assert_eq!(band(&same, feature)?, "stable", "{feature}");
        assert_eq!(band(&new, feature)?, "large", "{feature}");
    }
    let limit = monitor(&[
        "--file",
        "new.txt",
        "--reference",
        "old.json",
        "--fail-from",
        "large",
    ]);
    let limit: Vec<&str> = limit.iter().map(String::as_str).collect();
    assert_eq!(desk.run(&limit)?.status.code(), Some(1));

    // A profile of another model says nothing about this one, and none is written over.
    desk.model(
        "other",
        &Dictionary::new("O B-Drug I-Drug", &[("tea", "B-Drug")]),
    )?;
    let other = [
        "monitor",
        "--model",
        "other",
        "--file",
        "new.txt",
        "--reference",
        "old.json",
    ];
    let said = desk.refused(&other)?;
    assert!(said.contains("another model"), "{said}");
    let again = monitor(&["--file", "old.txt", "--save", "old.json"]);
    let said = desk.refused(&again.iter().map(String::as_str).collect::<Vec<_>>())?;
    assert!(said.contains("new file"), "{said}");
    Ok(())
}
