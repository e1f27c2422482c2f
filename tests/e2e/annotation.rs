//! Institutions that annotate different types.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::setting::{MINUTES, NO_NOISE, Setting, plan, refused};

/// Leaves the tags of one type in a file of columns.
fn keep_only(label: &str, file: &Path) -> Result<()> {
    let kept = format!("-{label}");
    let text = fs::read_to_string(file)?;
    let lines = text
        .lines()
        .map(|line| match line.rsplit_once(char::is_whitespace) {
            Some((word, tag)) if tag.contains('-') && !tag.ends_with(&kept) => format!("{word} O"),
            Some(_) | None => line.to_owned(),
        });
    let lines: Vec<String> = lines.collect();
    Ok(fs::write(file, lines.join("\n") + "\n")?)
}

fn declare(setting: &Setting, name: &str, line: &str) -> Result<()> {
    let file = setting.cluster.client_directory(name).join("client.toml");
    let text = fs::read_to_string(&file)?;
    Ok(fs::write(file, format!("{line}\n{text}"))?)
}

#[test]
fn an_institution_says_which_types_its_text_annotates() -> Result<()> {
    let mut setting = Setting::with_model()?;
    for number in 0..2 {
        setting.enrol(&format!("i{number}"), number, 24)?;
    }
    for file in ["1-train.conll", "1-devel.conll"] {
        keep_only("Date", &setting.path(file))?;
    }
    declare(&setting, "i1", "annotated_types = [\"Date\"]")?;
    setting.cluster.start_client("i0")?;
    setting.cluster.start_client("i1")?;
    let run = setting.start_run(&plan(2, 2, 2, "head", "", NO_NOISE))?;
    let view = setting.wait_for_state(&run, "completed", MINUTES)?;

    let of = |value: &Value, name: &str| -> Result<Value> {
        let all = value.as_array().context("a list")?;
        let found = all.iter().find(|one| one["institution"] == name);
        found.cloned().context("the institution")
    };
    let declared = json!({ "types": ["Date"] });
    assert_eq!(of(&view["members"], "i1")?["annotation"], declared);
    assert!(of(&view["members"], "i0")?["annotation"].is_null());
    let plans = setting.cluster.consult("i1", &["consent", "list"])?;
    assert_eq!(plans[0]["annotation"], declared);
    // What i1 has not annotated it does not count.
    let model = setting.cluster.coordinate(&["model", "show", "notes@3"])?;
    let types = |name: &str| -> Result<Vec<String>> {
        let own = of(&model["scores"], name)?;
        let by_type = own["scores"].as_object().context("types")?;
        Ok(by_type.keys().cloned().collect())
    };
    assert_eq!(types("i1")?, ["Date"]);
    assert!(types("i0")?.len() > 1);
    setting.assert_replays()?;
    setting.assert_no_errors_logged();

    // An entity of another type contradicts the declaration, and is named with its line.
    let text = setting.path("0-train.conll");
    let text = text.to_str().context("path")?;
    let inspect = ["data", "inspect", "--annotated-types", "Date", text];
    let said = refused(setting.cluster.client_command("i0", &inspect)?)?;
    assert!(
        said.contains("type-not-annotated") || said.contains("labels-mismatch"),
        "{said}"
    );
    Ok(())
}
