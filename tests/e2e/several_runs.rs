//! Several runs at once, with institutions that take part in more than one.

use anyhow::{Context, Result};

use crate::setting::{MINUTES, NO_NOISE, Setting, plan};

/// Why an institution takes no part in the run at present; nothing where it does.
fn absence(setting: &Setting, run: &str, name: &str) -> Result<Option<String>> {
    let explained = setting.cluster.coordinate(&["run", "explain", run])?;
    let absent = explained["absent"].as_array().cloned().unwrap_or_default();
    let found = absent.iter().find(|absence| absence["institution"] == name);
    Ok(found
        .and_then(|absence| absence["why"].as_str())
        .map(str::to_owned))
}

/// Institutions that work on the run at this moment, each with its phase, round and attempt.
fn working(setting: &Setting, run: &str) -> Result<Vec<(String, String)>> {
    let view = setting.cluster.coordinate(&["run", "show", run])?;
    // One attempt has a training and an evaluation: the phase tells them apart.
    let turn = format!("{} {}/{}", view["state"], view["round"], view["attempt"]);
    let members = view["members"].as_array().context("members")?;
    let working = members
        .iter()
        .filter(|member| member["state"] == "working")
        .filter_map(|member| member["institution"].as_str());
    Ok(working
        .map(|name| (name.to_owned(), turn.clone()))
        .collect())
}

#[test]
fn runs_share_institutions_and_each_works_on_one_at_a_time() -> Result<()> {
    let mut setting = Setting::with_model()?;
    let institutions = ["i0", "i1", "i2"];
    for (number, name) in institutions.into_iter().enumerate() {
        setting.enrol(name, number, 8)?;
    }
    let first = setting.start_run(&plan(3, 3, 2, "full", "", NO_NOISE))?;
    let second = plan(2, 2, 2, "head", "", NO_NOISE).replace("\"notes\"", "\"others\"");
    let second = setting.start_run(&second)?;
    assert_ne!(first, second);

    // One agrees to both and is gone: once the others are there, both runs await it, and one has it first.
    setting.cluster.start_client("i0")?;
    for run in [&first, &second] {
        setting.wait_until(run, MINUTES, |view| {
            view["members"][0]["institution"] == "i0" && view["members"][0]["state"] == "ready"
        })?;
    }
    setting.cluster.kill_client("i0")?;
    setting.cluster.start_client("i1")?;
    setting.cluster.start_client("i2")?;
    let deadline = std::time::Instant::now() + MINUTES;
    loop {
        assert!(std::time::Instant::now() < deadline, "{}", setting.logs());
        let told = |run: &str, other: &str| -> Result<bool> {
            Ok(absence(&setting, run, "i0")?.is_some_and(|why| why.contains(other)))
        };
        let (of_first, of_second) = (told(&first, &second)?, told(&second, &first)?);
        assert!(!(of_first && of_second), "each has it first");
        if of_first || of_second {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    setting.cluster.start_client("i0")?;

    let ended = |run: &str| -> Result<bool> {
        let view = setting.cluster.coordinate(&["run", "show", run])?;
        assert!(view["state"] != "failed", "{view}");
        Ok(view["state"] == "completed")
    };
    let deadline = std::time::Instant::now() + MINUTES;
    while !(ended(&first)? && ended(&second)?) {
        assert!(std::time::Instant::now() < deadline, "the runs do not end");
        // One after the other: who works on the same attempt of the first run before and after a
        // look at the second worked on it in between.
        let before = working(&setting, &first)?;
        let there = working(&setting, &second)?;
        let after = working(&setting, &first)?;
        let throughout = before.iter().filter(|turn| after.contains(turn));
        for (name, _) in throughout {
            let doubled = there.iter().any(|(other, _)| other == name);
            assert!(!doubled, "{before:?}, {there:?}, {after:?}");
        }
    }
    setting.assert_replays()?;
    for name in ["notes@3", "others@3"] {
        let model = setting.cluster.coordinate(&["model", "show", name])?;
        assert_eq!(model["version"]["origin"]["round"], 2, "{model}");
    }
    setting.assert_no_errors_logged();
    Ok(())
}
