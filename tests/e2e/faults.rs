//! Programs that die at the worst moment.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::setting::{MINUTES, PROTECTED, Setting, plan};

fn is_working(view: &Value, name: &str) -> bool {
    let members = view["members"].as_array().into_iter().flatten();
    members
        .filter(|member| member["institution"] == name)
        .any(|member| member["state"] == "working")
}

/// Long enough rounds that a program can be killed in the middle of one.
fn long_plan(institutions: usize, quorum: usize) -> String {
    plan(
        institutions,
        quorum,
        2,
        "full",
        "away_after_s = 3\nrecruit_timeout_s = 30\nrelease_after_s = 3",
        PROTECTED,
    )
    .replace("local_epochs = 2", "local_epochs = 12")
}

#[test]
fn a_killed_client_and_a_killed_coordinator_do_not_stop_a_run() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(4, 16)?;
    let run = setting.start_run(&long_plan(4, 2))?;
    // One client dies in mid-training and never comes back.
    setting.wait_until(&run, MINUTES, |view| is_working(view, "i3"))?;
    setting.cluster.kill_client("i3")?;
    // The coordinator dies in mid-round, and comes back ten seconds later.
    setting.wait_until(&run, MINUTES, |view| {
        is_working(view, "i0") || view["round"] == 2
    })?;
    setting.cluster.kill_coordinator()?;
    std::thread::sleep(Duration::from_secs(10));
    setting.cluster.start_coordinator()?;

    let view = setting.wait_for_state(&run, "completed", MINUTES)?;
    assert_eq!(view["round"], 2);
    setting.assert_replays()?;
    for model in setting.published()? {
        let participants = model["version"]["origin"]["participants"]
            .as_array()
            .context("participants")?;
        assert!((2..=3).contains(&participants.len()), "{participants:?}");
    }
    Ok(())
}

#[test]
fn a_killed_client_that_comes_back_takes_its_assignment_up_again() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(2, 16)?;
    // Both are needed, so the run can only go on once the killed one is back.
    let run = setting.start_run(&long_plan(2, 2))?;
    setting.wait_until(&run, MINUTES, |view| is_working(view, "i1"))?;
    setting.cluster.kill_client("i1")?;
    std::thread::sleep(Duration::from_millis(500));
    setting.cluster.start_client("i1")?;
    let view = setting.wait_for_state(&run, "completed", MINUTES)?;
    assert_eq!(view["attempt"], 1);
    setting.assert_replays()
}

#[test]
fn sigterm_ends_both_programs_in_order() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(1, 4)?;
    std::thread::sleep(Duration::from_millis(500));
    let client = setting.cluster.client_process("i0").context("client")?;
    assert!(client.terminate(Duration::from_secs(10))?.success());
    let coordinator = setting
        .cluster
        .coordinator_process()
        .context("coordinator")?;
    assert!(coordinator.terminate(Duration::from_secs(10))?.success());
    Ok(())
}
