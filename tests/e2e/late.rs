//! Answers that come too late, institutions that do, and those that are missed.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fedner_tests::proxy::Proxy;
use serde_json::Value;

use crate::setting::{MINUTES, NO_NOISE, Setting, plan, refused, run};

/// What is cut off the end of an enrolment: its answer.
const ANSWER: u64 = 900;

#[test]
fn an_enrolment_whose_answer_was_lost_is_answered_again_to_the_same_keys_alone() -> Result<()> {
    let setting = Setting::new()?;
    let invite = |name: &str, through: &Proxy| -> Result<std::path::PathBuf> {
        let text = fs::read_to_string(setting.cluster.invite(name)?)?;
        let file = setting.path(&format!("{name}-through.toml"));
        fs::write(
            &file,
            text.replace(&setting.cluster.address(), &through.address()),
        )?;
        Ok(file)
    };
    let enroll = |folder: &str, invite: &std::path::Path| -> Result<std::process::Command> {
        let mut command = setting.cluster.client_command(folder, &["enroll"])?;
        command.arg(invite);
        Ok(command)
    };
    // How many bytes come down in a whole enrolment?
    let whole = Proxy::start(&setting.cluster.address())?;
    run(enroll("probe", &invite("probe", &whole)?)?)?;
    let bytes = whole.down().moved();
    ensure!(bytes > ANSWER, "{bytes} bytes came down");

    let cut = Proxy::start(&setting.cluster.address())?;
    cut.down().cut_after(bytes - ANSWER);
    let file = invite("anna", &cut)?;
    refused(enroll("anna", &file)?)?;
    let known = setting.cluster.coordinate(&["institution", "list"])?;
    let enrolled = known.as_array().context("list")?.iter();
    let enrolled = enrolled.filter(|one| one["institution"] == "anna").count();
    assert_eq!(
        enrolled, 1,
        "the cut came before the coordinator had agreed"
    );
    cut.mend();
    run(enroll("anna", &file)?)?;
    // Somebody else with the same invite has other keys.
    let said = refused(enroll("thief", &file)?)?;
    assert!(said.contains("invite-"), "{said}");
    Ok(())
}

#[test]
fn who_comes_when_a_run_is_under_way_takes_part_from_the_next_round_on() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.enrol("i0", 0, 2)?;
    setting.cluster.start_client("i0")?;
    let text = plan(2, 1, 60, "head", "recruit_timeout_s = 1", NO_NOISE);
    let id = setting.start_run(&text)?;
    setting.wait_until(&id, MINUTES, |view| view["round"].as_u64() >= Some(2))?;
    // While it comes the run waits, so that no round is too quick for it.
    setting.cluster.coordinate_quietly(&["run", "pause", &id])?;
    setting.enrol("i1", 1, 2)?;
    setting.cluster.start_client("i1")?;
    let agreed = |view: &Value| {
        let members = view["members"].as_array().into_iter().flatten();
        let mut own = members.filter(|member| member["institution"] == "i1");
        own.any(|member| member["examples"].is_u64())
    };
    setting.wait_until(&id, MINUTES, agreed)?;
    setting
        .cluster
        .coordinate_quietly(&["run", "resume", &id])?;
    setting.wait_for_state(&id, "completed", 2 * MINUTES)?;
    let receipts = setting.cluster.consult("i1", &["receipts", "list"])?;
    let receipts = receipts.as_array().context("receipts")?.iter();
    let rounds = receipts.filter(|receipt| receipt["kind"] == "update");
    let rounds: Vec<u64> = rounds
        .filter_map(|receipt| receipt["round"].as_u64())
        .collect();
    let late = !rounds.is_empty() && rounds.iter().all(|round| *round > 1);
    assert!(late, "{rounds:?}\n{}", setting.logs());
    setting.assert_replays()?;
    Ok(())
}

#[test]
fn when_somebody_was_last_heard_of_and_what_they_run_outlives_a_restart() -> Result<()> {
    let mut setting = Setting::new()?;
    setting.enrol("i0", 0, 2)?;
    setting.cluster.start_client("i0")?;
    let seen = |setting: &Setting| -> Result<Value> {
        setting.cluster.coordinate(&["institution", "show", "i0"])
    };
    let deadline = Instant::now() + MINUTES;
    while seen(&setting)?["software"].is_null() {
        ensure!(Instant::now() < deadline, "it never checked in");
        std::thread::sleep(Duration::from_millis(100));
    }
    setting.cluster.kill_client("i0")?;
    let before = seen(&setting)?;
    setting.cluster.kill_coordinator()?;
    setting.cluster.start_coordinator()?;
    let after = seen(&setting)?;
    assert!(after["last_seen"].is_i64(), "{after}");
    assert!(after["last_seen"].as_i64() <= before["last_seen"].as_i64());
    let software = after["software"].as_str().context("software")?;
    assert!(software.contains(env!("CARGO_PKG_VERSION")), "{software}");
    Ok(())
}
