//! Machines that lack what a plan requires.

use std::fs;
use std::io::Write;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::setting::{MINUTES, NO_NOISE, Setting, plan};

fn member(view: &Value, name: &str) -> Result<Value> {
    let members = view["members"].as_array().context("members")?;
    let found = members.iter().find(|member| member["institution"] == name);
    Ok(found.context("the member")?.clone())
}

#[test]
fn who_lacks_what_a_plan_requires_is_left_out_and_named() -> Result<()> {
    let mut setting = Setting::with_model()?;
    for number in 0..3 {
        let name = format!("i{number}");
        setting.enrol(&name, number, 24)?;
        let file = setting.cluster.client_directory(&name).join("client.toml");
        let cores = if number == 2 { 3 } else { 4 };
        let mut file = fs::OpenOptions::new().append(true).open(file)?;
        write!(file, "\n[resources]\nmemory_gib = 8\ncores = {cores}\n")?;
        setting.cluster.start_client(&name)?;
    }
    let required = plan(3, 2, 2, "head", "", NO_NOISE) + "[requires]\nmemory_gib = 8\ncores = 4\n";
    let run = setting.start_run(&required)?;
    let view = setting.wait_for_state(&run, "completed", MINUTES)?;
    let without = member(&view, "i2")?;
    assert_eq!(without["refused"], "resources-lacking", "{view}");
    let explained = setting.cluster.coordinate(&["run", "explain", &run])?;
    assert!(
        explained.to_string().contains("resources-lacking"),
        "{explained}"
    );
    assert_ne!(member(&view, "i0")?["refused"], "resources-lacking");
    // Its people see why, and cannot agree by mistake.
    let plans = setting.cluster.consult("i2", &["consent", "list"])?;
    assert_eq!(plans[0]["requires"], "8 GiB of memory and 4 cores");
    let forbidden = plans[0]["forbidden"].as_str().context("a reason")?;
    assert!(forbidden.contains("here are 3 cores"), "{forbidden}");
    setting.assert_replays()?;
    setting.assert_no_errors_logged();
    Ok(())
}
