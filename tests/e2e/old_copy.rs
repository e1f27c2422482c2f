//! An institution's directory restored from an old copy.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fedner_proto::v1;
use fedner_shared::digest::Digest;
use fedner_shared::statement::UpdateReceipt;
use fedner_shared::time::Time;

use crate::bad_input::Hand;
use crate::setting::{MINUTES, NO_NOISE, Setting, plan, refused};

/// What an old copy does not know of was spent all the same, so that nothing more may leave by it.
#[test]
fn a_client_with_an_old_copy_of_its_ledger_is_barred_until_the_newest_is_back() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(2, 12)?;
    let first = setting.start_run(&one_round(1))?;
    setting.wait_for_state(&first, "completed", MINUTES)?;
    setting.cluster.kill_client("i0")?;
    let (directory, old) = (
        setting.cluster.client_directory("i0"),
        setting.path("old-copy"),
    );
    copy(&directory, &old)?;

    // One more update is paid for and leaves.
    setting.cluster.start_client("i0")?;
    let second = setting.start_run(&one_round(2))?;
    setting.wait_for_state(&second, "completed", MINUTES)?;
    setting.cluster.kill_client("i0")?;
    let newest = setting.path("newest");
    fs::rename(&directory, &newest)?;
    fs::rename(&old, &directory)?;

    setting.cluster.start_client("i0")?;
    let third = setting.start_run(&one_round(3))?;
    wait_for_log(&setting.cluster.log("i0"), "ledger-behind")?;
    let receipts = setting.cluster.consult("i0", &["receipts", "list"])?;
    let receipts = receipts.as_array().context("receipts")?.iter();
    let updates = receipts.filter(|row| row["kind"] == "update").count();
    assert_eq!(updates, 1, "only what the old copy knew of");

    setting.cluster.kill_client("i0")?;
    fs::remove_dir_all(&directory)?;
    fs::rename(&newest, &directory)?;
    setting.cluster.start_client("i0")?;
    setting.wait_for_state(&third, "completed", MINUTES)?;
    Ok(())
}

/// A disk is lost for good: a person has the books rebuilt from what the coordinator keeps, and it takes part again.
#[test]
fn an_institution_that_lost_its_disk_comes_back_with_what_it_must_have_spent() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(1, 12)?;
    let private = "unit = \"institution\"\nclip = 1.0\nnoise_multiplier = 4.0\ndelta = 1e-5\n\
                   max_epsilon = 50.0\nevaluation_noise = 4.0";
    let run = |setting: &Setting, seed: u32| -> Result<String> {
        let plan = plan(1, 1, 2, "head", "", private);
        setting.start_run(&plan.replace("seed = 7", &format!("seed = {seed}")))
    };
    let first = run(&setting, 1)?;
    setting.wait_for_state(&first, "completed", MINUTES)?;
    let spent = |setting: &Setting| setting.cluster.consult("i0", &["privacy", "show"]);
    let before = spent(&setting)?;
    setting.cluster.kill_client("i0")?;
    fs::remove_dir_all(setting.cluster.client_directory("i0"))?;

    let invite = setting
        .cluster
        .coordinator_command(&["invite", "i0", "--reenrol"])?;
    let invite = fedner_tests::process::run(invite)?.stdout;
    let file = setting.path("again.toml");
    fs::write(&file, invite)?;
    setting.enrol_with("i0", 0, 12, &file)?;
    // Its books are empty: it is barred, as an old copy is, and `check` says so too.
    let check = setting.cluster.client_command("i0", &["check"])?.output()?;
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(
        said.contains("ledger-behind") && said.contains("privacy recover"),
        "{said}"
    );
    setting.cluster.start_client("i0")?;
    let second = run(&setting, 2)?;
    wait_for_log(&setting.cluster.log("i0"), "ledger-behind")?;
    let beside = setting
        .cluster
        .client_command("i0", &["privacy", "recover"])?;
    assert!(
        refused(beside)?.contains("state-invalid"),
        "the daemon runs"
    );
    setting.cluster.kill_client("i0")?;

    let would = setting
        .cluster
        .consult("i0", &["privacy", "recover", "--dry-run"])?;
    assert_eq!(
        spent(&setting)?["accounts"].as_array().map(Vec::len),
        Some(0),
        "{would}"
    );
    let found = setting.cluster.consult("i0", &["privacy", "recover"])?;
    assert_eq!(found["debits"], 4, "two updates and two counts: {found}");
    assert_eq!(found["without_receipt"], 0, "{found}");
    assert_eq!(found, would);
    let after = spent(&setting)?;
    assert_eq!(epsilons(&after), epsilons(&before), "{after} {before}");
    setting.cluster.consult("i0", &["privacy", "verify"])?;
    let again = setting.cluster.consult("i0", &["privacy", "recover"])?;
    assert_eq!(again["debits"], 0, "once: {again}");
    setting.cluster.start_client("i0")?;
    setting.wait_for_state(&second, "completed", MINUTES)?;
    Ok(())
}

/// Without the coordinator, the second place of the heads tells that the end of the ledger is gone.
#[test]
fn the_second_place_of_the_heads_tells_of_an_old_copy() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(2, 12)?;
    setting.cluster.kill_client("i0")?;
    let (directory, old) = (
        setting.cluster.client_directory("i0"),
        setting.path("old-copy"),
    );
    let (heads, file) = (setting.path("heads"), directory.join("client.toml"));
    let text = fs::read_to_string(&file)?;
    fs::write(
        &file,
        format!("ledger_heads = {:?}\n{text}", heads.display()),
    )?;
    copy(&directory, &old)?;
    setting.cluster.start_client("i0")?;
    let run = setting.start_run(&one_round(1))?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    setting.cluster.kill_client("i0")?;

    let verify = |setting: &Setting| -> Result<(bool, String)> {
        let output = setting
            .cluster
            .client_command("i0", &["privacy", "verify"])?
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((output.status.success(), said))
    };
    let lines = fs::read_to_string(&heads)?.lines().count();
    assert!(lines > 0, "each entry has a line");
    let (sound, said) = verify(&setting)?;
    assert!(sound, "{said}");
    fs::rename(&directory, setting.path("newest"))?;
    fs::rename(&old, &directory)?;
    let (sound, said) = verify(&setting)?;
    assert!(!sound && said.contains("names ledger entry 1"), "{said}");
    // The control: without that place an old copy looks whole.
    fs::write(&file, text)?;
    let (sound, said) = verify(&setting)?;
    assert!(sound, "{said}");
    Ok(())
}

/// Every ε of an answer, in its order.
fn epsilons(shown: &serde_json::Value) -> Vec<String> {
    let text = shown.to_string();
    let parts = text.split("\"epsilon\":").skip(1);
    parts.map(|part| part.chars().take(8).collect()).collect()
}

fn one_round(seed: u32) -> String {
    plan(2, 2, 1, "full", "", NO_NOISE).replace("seed = 7", &format!("seed = {seed}"))
}

pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn wait_for_log(log: &Path, code: &str) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < MINUTES {
        let text = fs::read_to_string(log).context("log")?;
        if text.contains(code) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    anyhow::bail!("{code} was not logged")
}

/// An upload that is refused at its first message was paid for all the same.
#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_head_of_a_refused_upload_is_kept() -> Result<()> {
    let setting = Setting::with_model()?;
    setting.enrol("i0", 0, 2)?;
    let mut hand = Hand::new(&setting, "i0").await?;
    let heads = async |hand: &mut Hand| -> Result<Vec<Vec<u8>>> {
        let request = v1::CheckInRequest {
            software: "hand".into(),
            ..v1::CheckInRequest::default()
        };
        let answer = hand.client.check_in(request).await?.into_inner();
        assert_eq!(
            answer.ledger_heads.first().cloned().unwrap_or_default(),
            answer.ledger_head
        );
        Ok(answer.ledger_heads)
    };
    assert!(heads(&mut hand).await?.is_empty());
    let mut known = Vec::new();
    for number in 0..20u8 {
        let head = Digest::of(&[number]);
        let receipt = UpdateReceipt {
            run: "nothing-1".parse()?,
            plan: Digest::of(b"plan"),
            round: 1,
            attempt: 1,
            institution: "i0".parse()?,
            base: Digest::of(b"base"),
            manifest: Digest::of(b"manifest"),
            weight: 1,
            blob: Digest::of(b"blob"),
            bytes: 5,
            masked: None,
            sigma: 1.0,
            epsilon_after: None,
            epsilon_alone: None,
            ledger_head: Some(head),
            at: Time::from_millis(i64::from(number)),
        };
        let refused = hand.upload(&receipt, b"bytes", 0).await;
        assert!(refused.is_err(), "there is no such run");
        known.insert(0, head.as_bytes().to_vec());
    }
    // The newest ones, by when they came.
    assert_eq!(heads(&mut hand).await?, known[..16]);
    Ok(())
}
