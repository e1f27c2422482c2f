//! Two years of a federation in one go.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::annotation::{declare, keep_only};
use crate::setting::{MINUTES, NO_NOISE, Setting, plan};

const KNOWN: &str = "\"Person\", \"Date\", \"Location\", \"Identifier\", \"Organisation\"";

/// A plan of the federation's model, in its next year.
fn next(base: &str, institutions: usize, rounds: u32, more: &str) -> String {
    plan(institutions, institutions, rounds, "head", "", NO_NOISE).replace("base@1", base) + more
}

fn finish(setting: &Setting, text: &str) -> Result<Value> {
    let run = setting.start_run(text)?;
    setting.wait_for_state(&run, "completed", MINUTES)
}

fn show(setting: &Setting, version: &str) -> Result<Value> {
    setting.cluster.coordinate(&["model", "show", version])
}

#[test]
fn two_years_with_a_new_type_a_new_institution_a_rollback_and_a_schedule() -> Result<()> {
    let mut setting = Setting::with_model()?;
    for number in 0..3 {
        setting.enrol(&format!("i{number}"), number, 8)?;
    }
    // Nobody has annotated drugs, and one has annotated dates alone.
    declare(&setting, "i0", &format!("annotated_types = [{KNOWN}]"))?;
    for file in ["1-train.conll", "1-devel.conll"] {
        keep_only("Date", &setting.path(file))?;
    }
    declare(&setting, "i1", "annotated_types = [\"Date\"]")?;
    declare(&setting, "i2", &format!("annotated_types = [{KNOWN}]"))?;
    for file in [
        "0-train.conll",
        "0-devel.conll",
        "2-train.conll",
        "2-devel.conll",
    ] {
        without("Drug", &setting, file)?;
    }
    for number in 0..3 {
        setting.cluster.start_client(&format!("i{number}"))?;
    }
    // The first year: five types.
    let labels =
        |text: String| text.replace(&format!("[{KNOWN}, \"Drug\"]"), &format!("[{KNOWN}]"));
    let view = finish(&setting, &labels(next("base@1", 3, 2, "")))?;
    assert_eq!(view["state"], "completed");
    let first = show(&setting, "notes@3")?;
    assert!(first["forgetting"].is_null(), "one run forgets nothing");
    setting.assert_replays()?;

    // The second: a new institution brings a new type, and what is known stays.
    setting.enrol("i3", 3, 8)?;
    for file in ["3-train.conll", "3-devel.conll"] {
        keep_only("Drug", &setting.path(file))?;
    }
    declare(&setting, "i3", "annotated_types = [\"Drug\"]")?;
    setting.cluster.start_client("i3")?;
    let grown =
        next("notes@3", 4, 2, "").replace("labels = ", "known_types = \"freeze\"\nlabels = ");
    finish(&setting, &grown)?;
    let second = show(&setting, "notes@6")?;
    let forgetting = &second["forgetting"];
    let steps = forgetting["steps"].as_array().context("steps")?;
    assert_eq!(steps.len(), 2, "{second}");
    assert_eq!(steps[1]["types"], json!(["Drug"]));
    assert_eq!(steps[0]["institutions"], json!(["i0", "i1", "i2"]));
    let r = &forgetting["matrix"];
    assert!(r[0][1].is_null() && r[1][1]["f1"].is_f64(), "{forgetting}");
    let (before, after) = (r[0][0]["f1"].as_f64(), r[1][0]["f1"].as_f64());
    let lost = before.context("before")? - after.context("after")?;
    assert!(lost <= 0.01, "{lost} lost on what was known: {forgetting}");
    setting.assert_replays()?;

    // An update that is not good enough is held back, and the alias goes back by hand.
    let gate = "\n[gate]\nmin_gain = 0.99\nmin_institutions = 4\non_regression = \"roll-back\"";
    let view = finish(&setting, &next("notes@6", 4, 2, gate))?;
    let held = show(&setting, "notes.challenger")?;
    let champion = show(&setting, "notes.champion")?;
    assert_ne!(held["digest"], champion["digest"]);
    assert_eq!(view["version"], champion["digest"], "the run goes back");
    let run = view["run"].as_str().context("run")?;
    let explained = setting.cluster.coordinate(&["run", "explain", run])?;
    assert!(
        explained["gate"]
            .as_str()
            .context("gate")?
            .contains("min_gain"),
        "{explained}"
    );
    setting.cluster.coordinate(&[
        "model",
        "rollback",
        "--to",
        "notes@6",
        "--alias",
        "notes.champion",
    ])?;
    assert_eq!(
        show(&setting, "notes.champion")?["digest"],
        second["digest"]
    );

    // What is in use is scored once more, at a time of its own.
    let schedule = "\n[schedule]\ntimes = \"* * * * *\"";
    let text = next("notes@6", 4, 0, schedule).replace("name = \"notes\"", "name = \"look\"");
    let run = setting.start_run(&text)?;
    let waiting = setting.cluster.coordinate(&["run", "show", &run])?;
    if waiting["state"] == "scheduled" {
        assert!(waiting["next_start"].is_i64(), "{waiting}");
        let explained = setting.cluster.coordinate(&["run", "explain", &run])?;
        let then = explained["then"].as_str().context("then")?;
        assert!(then.contains("the evaluation of notes@6"), "{explained}");
    }
    setting.wait_for_state(&run, "completed", MINUTES)?;
    let scored = show(&setting, "notes@6")?;
    assert_eq!(scored["scores"].as_array().map(Vec::len), Some(4));
    assert_eq!(scored["digest"], second["digest"]);

    let lineage = setting
        .cluster
        .coordinate(&["model", "lineage", "notes@6"])?;
    let names: Vec<&Value> = lineage
        .as_array()
        .context("lineage")?
        .iter()
        .map(|one| &one["version"]["name"])
        .collect();
    assert_eq!(
        names,
        [
            "notes@6", "notes@5", "notes@4", "notes@3", "notes@2", "notes@1", "base@1"
        ]
    );
    setting.assert_replays()?;
    setting.assert_no_errors_logged();
    Ok(())
}

/// Takes the tags of one type out of a file.
fn without(label: &str, setting: &Setting, file: &str) -> Result<()> {
    let path = setting.path(file);
    let text = std::fs::read_to_string(&path)?;
    let ends = format!("-{label}");
    let lines = text
        .lines()
        .map(|line| match line.rsplit_once(char::is_whitespace) {
            Some((word, tag)) if tag.ends_with(&ends) => format!("{word} O"),
            Some(_) | None => line.to_owned(),
        });
    Ok(std::fs::write(
        &path,
        lines.collect::<Vec<_>>().join("\n") + "\n",
    )?)
}
