//! Members that are left out: what the operator sees of them, and what becomes of their updates.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::setting::{MINUTES, PROTECTED, Setting, plan, refused, run};

fn participants(version: &Value) -> Vec<&str> {
    let all = version["version"]["origin"]["participants"].as_array();
    let names = all.into_iter().flatten();
    names
        .filter_map(|participant| participant["institution"].as_str())
        .collect()
}

#[test]
fn the_operator_leaves_a_member_out_of_a_round_and_sees_everyones_figures() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(3, 4)?;
    // Each round lasts some seconds, in which the operator has the word.
    let id = setting.start_run(&plan(3, 2, 3, "head", "release_after_s = 4", PROTECTED))?;
    let command = |words: &[&str]| setting.cluster.coordinator_command(words);
    run(command(&["run", "exclude", &id, "i1", "--round", "2"])?)?;
    run(command(&["run", "exclude", &id, "i2", "--round", "3"])?)?;
    run(command(&["run", "readmit", &id, "i2"])?)?;
    for (words, code) in [
        (
            vec!["run", "exclude", &id, "i0", "--round", "2"],
            "quorum-lost",
        ),
        (
            vec!["run", "exclude", &id, "i0", "--round", "4"],
            "round-stale",
        ),
        (
            vec!["run", "exclude", &id, "eve", "--round", "2"],
            "not-in-cohort",
        ),
        (vec!["run", "readmit", &id, "i0"], "run-state"),
    ] {
        let code_said = refused(command(&words)?)?;
        assert!(code_said.contains(code), "{words:?}: {code_said}");
    }
    let view = setting.wait_for_state(&id, "completed", MINUTES)?;

    let version = |name: &str| setting.cluster.coordinate(&["model", "show", name]);
    // notes@1 is the base with its new head.
    for (name, expected) in [
        ("notes@2", vec!["i0", "i1", "i2"]),
        ("notes@3", vec!["i0", "i2"]),
        ("notes@4", vec!["i0", "i1", "i2"]),
    ] {
        assert_eq!(participants(&version(name)?), expected, "{name}");
    }
    for member in view["members"].as_array().context("members")? {
        let figures = &member["figures"];
        assert!(
            figures["norm"].as_f64().is_some_and(|norm| norm > 0.0),
            "{view}"
        );
        for cosine in ["to_others", "to_last_step"] {
            let cosine = figures[cosine].as_f64().context(cosine)?;
            assert!(cosine.abs() <= 1.0, "{view}");
        }
    }
    let text = run(command(&["run", "show", &id])?)?;
    for column in ["norm", "cos others", "cos last"] {
        assert!(text.contains(column), "{text}");
    }
    setting.assert_replays()?;
    setting.assert_no_errors_logged();
    Ok(())
}
