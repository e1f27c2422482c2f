//! Runs that train nothing: versions scored on everybody's held-out text.

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::setting::{MINUTES, NO_NOISE, Setting, plan, refused};

/// A plan that scores `base`.
fn evaluation(base: &str, institutions: usize, privacy: &str) -> String {
    plan(institutions, institutions, 0, "head", "", privacy)
        .replace("base@1", base)
        .replace("name = \"notes\"", "name = \"look\"")
}

fn create(setting: &Setting, text: &str) -> Result<String> {
    let path = setting.path("refused.toml");
    fs::write(&path, text)?;
    let create = ["run", "create", path.to_str().context("path")?];
    refused(setting.cluster.coordinator_command(&create)?)
}

#[test]
fn a_version_is_scored_where_nothing_is_trained() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(2, 4)?;
    let run = setting.start_run(&plan(2, 2, 1, "head", "", NO_NOISE))?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    let published = setting.cluster.coordinate(&["model", "list"])?;

    // One that has nothing to train on has held-out text.
    setting.enrol("i2", 2, 4)?;
    let file = setting.cluster.client_directory("i2").join("client.toml");
    let text = fs::read_to_string(&file)?;
    let lines = text.lines().map(|line| {
        if line.starts_with("data = ") {
            "data = []"
        } else {
            line
        }
    });
    fs::write(&file, lines.collect::<Vec<_>>().join("\n") + "\n")?;
    setting.cluster.start_client("i2")?;

    let run = setting.start_run(&evaluation("notes@2", 3, NO_NOISE))?;
    let view = setting.wait_for_state(&run, "completed", MINUTES)?;
    assert_eq!((&view["round"], &view["rounds"]), (&json!(0), &json!(0)));
    let model = setting.cluster.coordinate(&["model", "show", "notes@2"])?;
    let scores = model["scores"].as_array().context("scores")?;
    let of: Vec<&Value> = scores.iter().map(|own| &own["institution"]).collect();
    assert_eq!(of, ["i0", "i1", "i2"]);
    // No version came of it, and nothing but counts left.
    assert_eq!(
        setting
            .cluster
            .coordinate(&["model", "list"])?
            .as_array()
            .map(Vec::len),
        published.as_array().map(Vec::len)
    );
    let receipts = setting.cluster.consult("i2", &["receipts", "list"])?;
    let kinds: Vec<&Value> = receipts
        .as_array()
        .context("list")?
        .iter()
        .map(|r| &r["kind"])
        .collect();
    assert_eq!(kinds, ["evaluation"], "{receipts}");
    let plans = setting.cluster.consult("i2", &["consent", "list"])?;
    assert!(
        plans[0]["cost"]
            .as_str()
            .context("cost")?
            .contains("trains nothing"),
        "{plans}"
    );
    setting.assert_replays()?;
    setting.assert_no_errors_logged();
    Ok(())
}

#[test]
fn what_cannot_be_scored_is_refused_before_anything_runs() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(1, 4)?;
    // A bare encoder.
    let said = create(&setting, &evaluation("base@1", 1, NO_NOISE))?;
    assert!(
        said.contains("labels-mismatch") && said.contains("has no head"),
        "{said}"
    );
    let run = setting.start_run(&plan(1, 1, 1, "head", "", NO_NOISE))?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    // Other types than the version has.
    let other = evaluation("notes@2", 1, NO_NOISE).replace("\"Drug\"", "\"Dose\"");
    let said = create(&setting, &other)?;
    assert!(said.contains("labels-mismatch"), "{said}");
    let gate = format!("{NO_NOISE}\n[gate]\nmin_institutions = 1");
    let said = create(&setting, &evaluation("notes@2", 1, &gate))?;
    assert!(
        said.contains("plan-invalid") && said.contains("gate"),
        "{said}"
    );
    // An institution whose counts may not leave does not agree to it.
    let client = setting.cluster.client_directory("i0").join("policy.toml");
    let policy =
        fs::read_to_string(&client)?.replace("share_evaluation = true", "share_evaluation = false");
    fs::write(&client, policy)?;
    setting.cluster.consult("i0", &["policy", "apply"])?;
    let run = setting.start_run(&evaluation("notes@2", 1, NO_NOISE))?;
    let left = |view: &Value| view["members"][0]["refused"] == "policy-forbids";
    setting
        .wait_until(&run, MINUTES, left)
        .map(drop)
        .or_else(|error| {
            let said = error.to_string();
            anyhow::ensure!(said.contains("policy-forbids"), "{said}");
            Ok(())
        })
}
