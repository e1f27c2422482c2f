//! Logs as JSON: one record a line, with the fields of what is worked on.

use std::fs;

use anyhow::{Context, Result};
use fedner_tests::process::Process;
use serde_json::Value;

use crate::setting::{MINUTES, NO_NOISE, Setting, plan};

fn records(setting: &Setting, name: &str) -> Result<Vec<Value>> {
    let text = fs::read_to_string(setting.cluster.log(name))?;
    let records = text.lines().map(|line| {
        let record: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        for field in ["time", "level", "target", "message"] {
            assert!(record[field].is_string(), "{field}: {line}");
        }
        Ok(record)
    });
    records.collect()
}

#[test]
fn records_name_the_institution_the_run_and_the_round() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.cluster.kill_coordinator()?;
    let json = ["serve", "--log-format", "json"];
    let command = setting.cluster.coordinator_command(&json)?;
    let log = setting.cluster.log("coordinator-json");
    let _coordinator =
        Process::start_ready("coordinator", command, &log, "listening on ", MINUTES)?;
    setting.enrol("i0", 0, 4)?;
    let json = ["start", "--log-format", "json"];
    let command = setting.cluster.client_command("i0", &json)?;
    let log = setting.cluster.log("i0-json");
    let _client = Process::start("i0", command, &log)?;
    let run = setting.start_run(&plan(1, 1, 1, "head", "", NO_NOISE))?;
    setting.wait_for_state(&run, "completed", MINUTES)?;

    let client = records(&setting, "i0-json")?;
    let of_round = |record: &&Value| record["run"] == run.as_str() && record["round"] == 1;
    let found = client
        .iter()
        .find(of_round)
        .context("a record of the round")?;
    assert_eq!(found["institution"], "i0", "{found}");
    let coordinator = records(&setting, "coordinator-json")?;
    let of_run = |record: &&Value| record["run"] == run.as_str() && record["event"].is_string();
    coordinator
        .iter()
        .find(of_run)
        .context("a record of the run")?;
    Ok(())
}
