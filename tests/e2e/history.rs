//! The coordinator's events only grow, and whoever was shown them can tell.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::setting::{NO_NOISE, Setting, plan, refused, run};

fn wait_for(what: &str, reached: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(40);
    while !reached()? {
        anyhow::ensure!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

#[test]
fn a_coordinator_that_forgets_events_is_found_out_by_its_members_and_keeps_their_signatures()
-> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.enrol("i0", 0, 2)?;
    setting.enrol("i1", 1, 2)?;
    // It waits for i1, and is answered every two seconds.
    setting.start_run(&plan(2, 2, 1, "head", "away_after_s = 6", NO_NOISE))?;
    let directory = setting.cluster.coordinator_directory();
    let verify = |setting: &Setting| setting.cluster.coordinate(&["verify"]);
    // The member's signature stands under what it was shown.
    setting.cluster.start_client("i0")?;
    std::thread::sleep(Duration::from_secs(6));
    setting.cluster.kill_client("i0")?;
    let countersigned = verify(&setting)?["countersigned"].as_u64();
    assert_eq!(countersigned, Some(1), "{}", setting.logs());
    run(setting
        .cluster
        .client_command("i0", &["privacy", "verify"])?)?;

    // What the coordinator hands out agrees with the member's own copies.
    let compare = |setting: &Setting| -> Result<std::process::Command> {
        let export = ["institution", "history", "i0"];
        let export = run(setting.cluster.coordinator_command(&export)?)?;
        let file = setting.path("history.json");
        fs::write(&file, export)?;
        let mut command = setting.cluster.client_command("i0", &["verify"])?;
        command.arg(file);
        Ok(command)
    };
    run(compare(&setting)?)?;

    // Events that the member sees, and that the coordinator then knows nothing of.
    setting.cluster.kill_coordinator()?;
    let files = ["state.sqlite", "state.sqlite-wal", "state.sqlite-shm"];
    let aside = setting.path("aside");
    fs::create_dir_all(&aside)?;
    for file in files {
        if directory.join(file).exists() {
            fs::copy(directory.join(file), aside.join(file))?;
        }
    }
    setting.cluster.start_coordinator()?;
    for name in ["x", "y", "z"] {
        run(setting.cluster.coordinator_command(&["invite", name])?)?;
    }
    setting.cluster.start_client("i0")?;
    std::thread::sleep(Duration::from_secs(5));
    setting.cluster.kill_client("i0")?;
    run(setting
        .cluster
        .client_command("i0", &["privacy", "verify"])?)?;
    setting.cluster.kill_coordinator()?;
    for file in files {
        let _ = fs::remove_file(directory.join(file));
        if aside.join(file).exists() {
            fs::copy(aside.join(file), directory.join(file))?;
        }
    }
    setting.cluster.start_coordinator()?;
    setting.cluster.start_client("i0")?;
    let log = setting.cluster.log("i0");
    wait_for("the warning", || {
        Ok(fs::read_to_string(&log)?.contains("history-rewritten"))
    })?;
    setting.cluster.kill_client("i0")?;
    let command = setting
        .cluster
        .client_command("i0", &["privacy", "verify"])?;
    let said = refused(command)?;
    assert!(
        said.contains("history-rewritten") && said.contains("events"),
        "{said}"
    );
    let said = refused(compare(&setting)?)?;
    assert!(said.contains("history-rewritten"), "{said}");
    let log = fs::read_to_string(setting.cluster.log("coordinator")).context("log")?;
    assert!(
        log.contains("history-rewritten"),
        "the member's signature says more than the coordinator knows"
    );
    Ok(())
}
