//! What an institution's own policy keeps back: updates that wait for a person, and hours.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fedner_shared::digest::Digest;
use serde_json::Value;

use crate::setting::{MINUTES, Setting, plan, refused};

const PRIVACY: &str =
    "unit = \"institution\"\nclip = 1.0\nnoise_multiplier = 4.0\ndelta = 1e-5\nmax_epsilon = 50.0";

/// One institution with more in its policy than the kit writes.
fn with_policy(more: &str) -> Result<Setting> {
    let setting = Setting::with_model()?;
    setting.enrol("i0", 0, 4)?;
    setting.add_to_policy("i0", more)?;
    Ok(setting)
}

fn wait_for<T>(what: &str, look: impl Fn() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + MINUTES;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn waiting(setting: &Setting) -> Result<Option<Value>> {
    let list = setting.cluster.consult("i0", &["release", "list"])?;
    Ok(list.as_array().and_then(|rows| rows.first()).cloned())
}

fn debits(setting: &Setting) -> Result<usize> {
    let receipts = setting.cluster.consult("i0", &["receipts", "list"])?;
    let receipts = receipts.as_array().context("receipts")?;
    setting.cluster.consult("i0", &["privacy", "verify"])?;
    Ok(receipts.iter().filter(|r| r["kind"] == "update").count())
}

fn member_state(setting: &Setting, run: &str) -> Result<Value> {
    let view = setting.cluster.coordinate(&["run", "show", run])?;
    Ok(view["members"][0]["state"].clone())
}

#[test]
fn a_held_update_waits_over_a_restart_and_leaves_as_it_was_shown() -> Result<()> {
    let mut setting = with_policy("hold = true\n")?;
    setting.cluster.start_client("i0")?;
    let run = setting.start_run(&plan(1, 1, 1, "head", "away_after_s = 600", PRIVACY))?;
    let shown = wait_for("the hold", || waiting(&setting))?;
    let receipt = shown["receipt"].as_str().context("receipt")?.to_owned();
    assert_eq!(shown["word"], "none");
    assert_eq!(debits(&setting)?, 1, "paid for before anybody sees it");
    let sealed = fs::read(shown["file"].as_str().context("file")?)?;
    let to = setting.path("update");
    let written = ["release", "bytes", &receipt[..12], "--to"];
    let mut command = setting.cluster.client_command("i0", &written)?;
    command.arg(&to);
    fedner_tests::process::run(command)?;
    let bytes = fs::read(to)?;
    assert!(sealed.len() > bytes.len() && !sealed.ends_with(&bytes[bytes.len() - 16..]));
    assert_eq!(
        shown["statement"]["blob"],
        Digest::of(&bytes).to_string().as_str()
    );
    // The round sees an institution at work.
    assert_eq!(member_state(&setting, &run)?, "working");

    setting.cluster.kill_client("i0")?;
    setting.cluster.start_client("i0")?;
    let dry = ["release", "grant", &receipt[..12], "--dry-run"];
    let would = setting.cluster.consult("i0", &dry)?;
    assert_eq!(
        (&would["word"], &would["receipt"]),
        (&"none".into(), &shown["receipt"])
    );
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(
        waiting(&setting)?.context("still held")?["receipt"],
        shown["receipt"]
    );
    assert!(setting.published()?.is_empty());

    let granted = setting
        .cluster
        .consult("i0", &["release", "grant", &receipt[..12]])?;
    assert_eq!(granted["word"], "granted");
    setting.wait_for_state(&run, "completed", MINUTES)?;
    let published = setting.published()?;
    let participant = &published[0]["version"]["origin"]["participants"][0];
    assert_eq!(participant["update"], shown["statement"]["blob"]);
    assert_eq!(participant["receipt"], shown["receipt"]);
    assert_eq!(debits(&setting)?, 1);
    let nothing = setting
        .cluster
        .client_command("i0", &["release", "grant", "00"])?;
    assert!(refused(nothing)?.contains("nothing-found"));
    setting.assert_replays()?;
    setting.assert_no_errors_logged();
    Ok(())
}

#[test]
fn a_refused_update_stays_and_one_let_go_too_late_is_dropped_and_both_are_paid_for() -> Result<()> {
    let mut setting = with_policy("hold = true\n")?;
    setting.cluster.start_client("i0")?;
    let cohort = "away_after_s = 600\nmax_attempts = 1";
    let run = setting.start_run(&plan(1, 1, 1, "head", cohort, PRIVACY))?;
    let shown = wait_for("the hold", || waiting(&setting))?;
    let receipt = shown["receipt"].as_str().context("receipt")?;
    let file = shown["file"].as_str().context("file")?.to_owned();
    setting
        .cluster
        .consult("i0", &["release", "refuse", receipt])?;
    let ended = |run: &str| {
        let view = setting.cluster.coordinate(&["run", "show", run])?;
        Ok((view["state"] == "failed").then_some(view))
    };
    wait_for("the end of the run", || ended(&run))?;
    wait_for("the refusal", || {
        let status = setting.cluster.consult("i0", &["status"])?;
        Ok((status["refusals"]["release-refused"] == 1).then_some(()))
    })?;
    wait_for("the file's end", || Ok((!fs::exists(&file)?).then_some(())))?;

    // Nobody says anything until the deadline.
    let cohort = "away_after_s = 600\nmax_attempts = 1\ntrain_timeout_s = 4";
    let late = plan(1, 1, 1, "head", cohort, PRIVACY).replace("\"notes\"", "\"late\"");
    let late = setting.start_run(&late)?;
    wait_for("the hold", || waiting(&setting))?;
    wait_for("the deadline", || ended(&late))?;
    wait_for("the drop", || {
        Ok(waiting(&setting)?.is_none().then_some(()))
    })?;
    assert_eq!(debits(&setting)?, 2);
    assert!(setting.published()?.is_empty());
    setting.assert_no_errors_logged();
    Ok(())
}

/// An hour that is not now, as the programs started with TZ=UTC reckon.
fn another_hour() -> Result<String> {
    let minutes = std::time::UNIX_EPOCH.elapsed()?.as_secs() / 60;
    let clock = |later: u64| {
        let minute = (minutes + later) % (24 * 60);
        format!("{:02}:{:02}", minute / 60, minute % 60)
    };
    Ok(format!("{}-{}", clock(600), clock(660)))
}

#[test]
fn outside_of_its_hours_an_institution_takes_nothing_on() -> Result<()> {
    let mut setting = with_policy(&format!("hours = \"{}\"\n", another_hour()?))?;
    setting.cluster.start_client_with("i0", &[("TZ", "UTC")])?;
    let cohort = "away_after_s = 600\nmax_attempts = 1";
    let run = setting.start_run(&plan(1, 1, 1, "head", cohort, PRIVACY))?;
    wait_for("its being put off", || {
        Ok((member_state(&setting, &run)? == "put_off").then_some(()))
    })?;
    let explained = setting.cluster.coordinate(&["run", "explain", &run])?;
    assert!(
        explained.to_string().contains("outside-hours"),
        "{explained}"
    );
    assert_eq!(debits(&setting)?, 0);
    // The hours are taken away, and the same attempt is carried out.
    let file = setting.cluster.client_directory("i0").join("policy.toml");
    let policy = fs::read_to_string(&file)?;
    let without = policy.lines().filter(|line| !line.starts_with("hours"));
    fs::write(&file, without.collect::<Vec<_>>().join("\n"))?;
    let view = setting.wait_for_state(&run, "completed", MINUTES)?;
    assert_eq!(view["attempt"], 1, "{view}");
    assert_eq!(debits(&setting)?, 1);
    Ok(())
}

#[test]
fn a_plan_that_protects_another_unit_is_turned_down_for_good() -> Result<()> {
    let mut setting = with_policy("units = [\"person\"]\n")?;
    setting.cluster.start_client("i0")?;
    let run = setting.start_run(&plan(1, 1, 1, "head", "", PRIVACY))?;
    wait_for("the refusal", || {
        let status = setting.cluster.consult("i0", &["status"])?;
        Ok((status["refusals"]["unit-forbidden"].as_u64() >= Some(1)).then_some(()))
    })?;
    wait_for("its leaving", || {
        Ok((member_state(&setting, &run)? == "left").then_some(()))
    })?;
    assert_eq!(debits(&setting)?, 0);
    Ok(())
}
