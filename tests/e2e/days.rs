//! The days after installation: files, clocks, copies and people that are not as they should be.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fedner_tests::proxy::Proxy;
use serde_json::Value;

use crate::old_copy::copy;
use crate::setting::{MINUTES, NO_NOISE, Setting, plan, refused};

const PRIVACY: &str =
    "unit = \"institution\"\nclip = 1.0\nnoise_multiplier = 4.0\ndelta = 1e-5\nmax_epsilon = 50.0";

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

fn wait_for_log(setting: &Setting, name: &str, words: &str) -> Result<()> {
    let log = setting.cluster.log(name);
    wait_for(words, || {
        let text = fs::read_to_string(&log)?;
        Ok(text.contains(words).then_some(()))
    })
    .with_context(|| setting.logs())
}

fn member(setting: &Setting, run: &str, name: &str) -> Result<Value> {
    let view = setting.cluster.coordinate(&["run", "show", run])?;
    let members = view["members"].as_array().context("members")?;
    let found = members.iter().find(|member| member["institution"] == name);
    Ok(found.context("a member")?.clone())
}

fn updates(setting: &Setting, name: &str) -> Result<usize> {
    let receipts = setting.cluster.consult(name, &["receipts", "list"])?;
    let receipts = receipts.as_array().context("receipts")?;
    Ok(receipts.iter().filter(|r| r["kind"] == "update").count())
}

/// Editors and configuration management make moments without a policy, or with half of one.
#[test]
fn an_update_is_held_while_its_policy_is_away_empty_cut_short_or_merely_looser() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.enrol("i0", 0, 4)?;
    setting.add_to_policy("i0", "hold = true\n")?;
    setting.cluster.start_client("i0")?;
    let run = setting.start_run(&plan(1, 1, 1, "head", "away_after_s = 600", PRIVACY))?;
    let waits = || -> Result<bool> {
        let list = setting.cluster.consult("i0", &["release", "list"])?;
        Ok(list.as_array().is_some_and(|rows| rows.len() == 1))
    };
    wait_for("the hold", || Ok(waits()?.then_some(())))?;
    let file = setting.cluster.client_directory("i0").join("policy.toml");
    let whole = fs::read_to_string(&file)?;
    let looser = whole.replace("hold = true\n", "");
    let moments: [(&str, Option<&str>); 4] = [
        ("away", None),
        ("empty", Some("")),
        ("cut in a word", Some("consent = \"au")),
        ("cut at a line, and looser", Some(&looser)),
    ];
    for (what, text) in moments {
        match text {
            Some(text) => fs::write(&file, text)?,
            None => fs::remove_file(&file)?,
        }
        // Several looks of the daemon.
        std::thread::sleep(Duration::from_millis(1500));
        assert!(waits()?, "{what}");
        assert!(setting.published()?.is_empty(), "{what}");
    }
    for words in [
        "policy.toml is missing",
        "policy.toml is empty",
        "would allow more in hold",
    ] {
        wait_for_log(&setting, "i0", words)?;
    }
    let shown = setting.cluster.consult("i0", &["policy", "show"])?;
    assert_eq!(shown["hold"], true, "the policy in force");
    // A person's word puts the looser one in force, and the update leaves.
    let applied = setting.cluster.consult("i0", &["policy", "apply"])?;
    assert_eq!(applied["looser"], serde_json::json!(["hold"]));
    setting.wait_for_state(&run, "completed", MINUTES)?;
    let history = setting.cluster.consult("i0", &["policy", "history"])?;
    let by: Vec<&Value> = history
        .as_array()
        .context("history")?
        .iter()
        .map(|row| &row["by"])
        .collect();
    assert_eq!(by, ["first", "apply"]);
    Ok(())
}

#[test]
fn a_stricter_policy_holds_without_a_command() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(1, 4)?;
    let first = setting.start_run(&plan(1, 1, 1, "head", "", PRIVACY))?;
    setting.wait_for_state(&first, "completed", MINUTES)?;
    setting.add_to_policy("i0", "units = [\"person\"]\n")?;
    let second = plan(1, 1, 1, "head", "", PRIVACY).replace("seed = 7", "seed = 8");
    let second = setting.start_run(&second)?;
    wait_for("the refusal", || {
        let state = member(&setting, &second, "i0")?;
        Ok((state["refused"] == "unit-forbidden").then_some(()))
    })?;
    assert_eq!(updates(&setting, "i0")?, 1);
    Ok(())
}

#[test]
fn a_missing_share_leaves_the_attempt_open_until_it_is_back() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.enrol("i0", 0, 4)?;
    let data = setting.path("0-train.conll");
    let away = setting.path("unmounted");
    fs::rename(&data, &away)?;
    setting.cluster.start_client("i0")?;
    let run = setting.start_run(&plan(1, 1, 1, "head", "max_attempts = 1", PRIVACY))?;
    wait_for("the refusal", || {
        let member = member(&setting, &run, "i0")?;
        Ok((member["refused"] == "data-unavailable").then_some(()))
    })?;
    assert_eq!(updates(&setting, "i0")?, 0, "nothing was paid for");
    fs::rename(&away, &data)?;
    let view = setting.wait_for_state(&run, "completed", MINUTES)?;
    assert_eq!(view["attempt"], 1, "{view}");
    Ok(())
}

#[test]
fn a_run_that_failed_for_want_of_an_institution_is_retried_with_the_same_plan() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(1, 4)?;
    let cohort = "recruit_timeout_s = 1\nmax_attempts = 1";
    let run = setting.start_run(&plan(2, 2, 1, "head", cohort, NO_NOISE))?;
    let ended = wait_for("the failure", || {
        let view = setting.cluster.coordinate(&["run", "show", &run])?;
        Ok((view["state"] == "failed").then_some(view))
    })?;
    let failure = ended["failure"].as_str().context("a reason")?;
    assert!(failure.contains("i1: has not agreed"), "{failure}");
    setting.enrol("i1", 1, 4)?;
    setting.cluster.start_client("i1")?;
    // It takes a moment until it is there; each try is one.
    let deadline = Instant::now() + MINUTES;
    loop {
        setting
            .cluster
            .coordinate_quietly(&["run", "retry", &run])?;
        let view = setting.wait_until(&run, MINUTES, |view| {
            view["state"] == "failed" || view["state"] == "completed"
        })?;
        if view["state"] == "completed" {
            break;
        }
        ensure!(Instant::now() < deadline, "{view}");
    }
    let again = setting
        .cluster
        .coordinator_command(&["run", "retry", &run])?;
    assert!(refused(again)?.contains("run-state"));
    setting.assert_replays()?;
    Ok(())
}

#[test]
fn a_failure_names_the_institution_and_of_open_text_the_code() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.enrol("i0", 0, 4)?;
    setting.enrol("i1", 1, 4)?;
    let data = setting.path("1-train.conll");
    let text = fs::read_to_string(&data)?;
    fs::write(&data, format!("{text}\nxx B-Dose\n"))?;
    for name in ["i0", "i1"] {
        setting.cluster.start_client(name)?;
    }
    let run = setting.start_run(&plan(2, 2, 1, "head", "max_attempts = 1", NO_NOISE))?;
    let ended = wait_for("the failure", || {
        let view = setting.cluster.coordinate(&["run", "show", &run])?;
        Ok((view["state"] == "failed").then_some(view))
    })?;
    let failure = ended["failure"].as_str().context("a reason")?;
    assert!(failure.contains("i1: labels-mismatch"), "{failure}");
    let explained = setting.cluster.coordinate(&["run", "explain", &run])?;
    assert!(explained.to_string().contains("i1: labels-mismatch"));
    Ok(())
}

/// A virtual machine that was cloned, or restored beside the old one.
#[test]
fn a_second_copy_of_a_directory_is_refused_before_it_trains_and_both_sides_are_told() -> Result<()>
{
    let mut setting = Setting::with_model()?;
    setting.start_institutions(2, 8)?;
    wait_for_log(&setting, "i0", "starts")?;
    wait_for("its first check-in", || {
        let shown = setting.cluster.coordinate(&["institution", "show", "i0"])?;
        Ok((!shown["last_seen"].is_null()).then_some(()))
    })?;
    copy(
        &setting.cluster.client_directory("i0"),
        &setting.cluster.client_directory("clone"),
    )?;
    setting.cluster.start_client("clone")?;
    wait_for_log(&setting, "clone", "identity-in-use")?;
    let run = setting.start_run(&plan(2, 2, 2, "head", "", PRIVACY))?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    assert_eq!(updates(&setting, "i0")?, 2, "{}", setting.logs());
    assert_eq!(updates(&setting, "clone")?, 0, "it has paid for nothing");
    let shown = setting.cluster.coordinate(&["institution", "show", "i0"])?;
    assert_eq!(shown["twice"], true, "{shown}");
    // A look beside the daemon is no second copy.
    let looks = setting.cluster.client_command("i0", &["check"])?;
    let looks = String::from_utf8(fedner_tests::process::run(looks)?.stdout)?;
    assert!(looks.contains("fedner-coordinator/"), "{looks}");
    Ok(())
}

/// A moment without a connection would let the copy in.
#[test]
fn an_institution_changes_its_connection_without_a_moment_in_between() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.enrol("i0", 0, 4)?;
    let proxy = Proxy::start(&setting.cluster.address())?;
    setting.cluster.redirect("i0", &proxy.address())?;
    setting.cluster.start_client("i0")?;
    let run = setting.start_run(&plan(1, 1, 2, "head", "", PRIVACY))?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    assert!(proxy.dialled() > 1, "{}", setting.logs());
    assert_eq!(proxy.deserted(), 0);
    setting.cluster.kill_client("i0")?;
    wait_for("the end of the last", || {
        Ok((proxy.deserted() == 1).then_some(()))
    })?;
    Ok(())
}

#[test]
fn a_moved_institution_works_from_its_new_directory_only() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(1, 4)?;
    let first = setting.start_run(&plan(1, 1, 1, "head", "", PRIVACY))?;
    setting.wait_for_state(&first, "completed", MINUTES)?;
    let to = setting.cluster.client_directory("new");
    let to = to.to_str().context("path")?;
    // Not beside a running daemon.
    let beside = setting
        .cluster
        .client_command("i0", &["move", "--to", to])?;
    assert!(refused(beside)?.contains("state-invalid"));
    setting.cluster.kill_client("i0")?;
    setting.cluster.consult("i0", &["move", "--to", to])?;
    for again in [&["start"][..], &["move", "--to", to]] {
        let again = setting.cluster.client_command("i0", again)?;
        assert!(refused(again)?.contains("directory-moved"));
    }
    setting.cluster.start_client("new")?;
    let second = plan(1, 1, 1, "head", "", PRIVACY).replace("seed = 7", "seed = 8");
    let second = setting.start_run(&second)?;
    setting.wait_for_state(&second, "completed", MINUTES)?;
    assert_eq!(updates(&setting, "new")?, 2, "its books went with it");
    assert_eq!(updates(&setting, "i0")?, 1, "and stayed");
    Ok(())
}

#[test]
fn a_paused_institution_is_waited_for_and_seen_to_pause() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(1, 4)?;
    setting.cluster.consult("i0", &["pause", "--for", "600"])?;
    // Before, the institution might have begun already.
    wait_for("the announcement", || {
        let shown = setting.cluster.coordinate(&["institution", "show", "i0"])?;
        Ok((shown["not_before_code"] == "institution-paused").then_some(()))
    })?;
    let run = setting.start_run(&plan(1, 1, 1, "head", "max_attempts = 1", PRIVACY))?;
    wait_for("its being put off", || {
        let member = member(&setting, &run, "i0")?;
        Ok((member["state"] == "put_off").then_some(()))
    })?;
    assert_eq!(updates(&setting, "i0")?, 0);
    setting.cluster.consult("i0", &["resume"])?;
    let view = setting.wait_for_state(&run, "completed", MINUTES)?;
    assert_eq!(view["attempt"], 1, "{view}");
    Ok(())
}

/// Features and the state of a training are made of private text.
#[test]
fn what_was_made_of_text_is_gone_soon_after_its_run_however_that_ends() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(1, 60)?;
    let directory = setting.cluster.client_directory("i0");
    let left = || {
        let features = directory.join("features").exists();
        features || directory.join("training.checkpoint").exists()
    };
    let run = setting.start_run(&plan(1, 1, 1, "head", "", NO_NOISE))?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    wait_for("the removal", || Ok((!left()).then_some(())))?;
    let long = plan(1, 1, 1, "full", "", NO_NOISE)
        .replace("local_epochs = 2", "local_epochs = 1000")
        .replace("seed = 7", "seed = 8");
    let run = setting.start_run(&long)?;
    wait_for("the training", || {
        let status = setting.cluster.consult("i0", &["status"])?;
        Ok((status["session"]["state"] == "training").then_some(()))
    })?;
    setting
        .cluster
        .coordinate_quietly(&["run", "cancel", &run])?;
    wait_for("its end", || {
        let status = setting.cluster.consult("i0", &["status"])?;
        Ok((status["session"]["state"] == "idle").then_some(()))
    })?;
    // The stopped training keeps its state a moment later.
    std::thread::sleep(Duration::from_secs(1));
    wait_for("the removal", || Ok((!left()).then_some(())))?;
    Ok(())
}

#[test]
fn an_expired_or_lost_identity_is_enrolled_again_in_place_with_its_books() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(1, 4)?;
    let first = setting.start_run(&plan(1, 1, 1, "head", "", PRIVACY))?;
    setting.wait_for_state(&first, "completed", MINUTES)?;
    let invite = setting
        .cluster
        .coordinator_command(&["invite", "i0", "--reenrol"])?;
    let invite = fedner_tests::process::run(invite)?.stdout;
    let file = setting.path("again.toml");
    fs::write(&file, invite)?;
    let path = file.to_str().context("path")?;
    let beside = setting.cluster.client_command("i0", &["enroll", path])?;
    assert!(
        refused(beside)?.contains("state-invalid"),
        "the daemon runs"
    );
    setting.cluster.kill_client("i0")?;
    let other = setting.cluster.invite("i7")?;
    let other = other.to_str().context("path")?;
    let other = setting.cluster.client_command("i0", &["enroll", other])?;
    assert!(refused(other)?.contains("already-exists"), "another name");
    setting.cluster.consult("i0", &["enroll", path])?;
    assert_eq!(updates(&setting, "i0")?, 1);
    setting.cluster.start_client("i0")?;
    let second = plan(1, 1, 1, "head", "", PRIVACY).replace("seed = 7", "seed = 8");
    let second = setting.start_run(&second)?;
    setting.wait_for_state(&second, "completed", MINUTES)?;
    setting.cluster.consult("i0", &["privacy", "verify"])?;
    Ok(())
}

/// An invite went to the wrong address.
#[test]
fn an_open_invite_is_listed_without_its_secret_and_withdrawn() -> Result<()> {
    let setting = Setting::new()?;
    let invite = setting.cluster.invite("i0")?;
    let listed = setting.cluster.coordinate(&["invite", "list"])?;
    assert_eq!(listed[0]["institution"], "i0");
    assert!(!listed.to_string().contains("secret"), "{listed}");
    setting
        .cluster
        .coordinate_quietly(&["invite", "withdraw", "i0"])?;
    let path = invite.to_str().context("path")?;
    let late = setting.cluster.client_command("i0", &["enroll", path])?;
    assert!(refused(late)?.contains("invite-void"));
    let none = setting
        .cluster
        .coordinator_command(&["invite", "withdraw", "i0"])?;
    assert!(refused(none)?.contains("invite-unknown"));
    Ok(())
}

/// Updates that were paid for.
fn debits(setting: &Setting, name: &str) -> Result<i64> {
    let database = setting.cluster.client_directory(name).join("state.sqlite");
    let connection = rusqlite::Connection::open(database)?;
    let sql = "SELECT count(*) FROM ledger WHERE body LIKE '%\"stage\":\"debited\"%'
               AND body LIKE '%\"kind\":\"update\"%'";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

/// A run whose one institution paid for an update, and died before it released it.
fn paid_and_died(setting: &mut Setting) -> Result<String> {
    setting.enrol("i0", 0, 4)?;
    let dies = [("FEDNER_CRASH_AT", "before commit release update:1")];
    setting.cluster.start_client_with("i0", &dies)?;
    let run = setting.start_run(&plan(1, 1, 1, "head", "away_after_s = 600", PRIVACY))?;
    let first = setting.cluster.client_process("i0").context("running")?;
    assert!(
        !first.ended(MINUTES)?.success(),
        "it died before it released"
    );
    Ok(run)
}

/// Both copies would release an update for the one payment that they share.
#[test]
fn a_copy_made_in_the_midst_of_an_attempt_pays_for_it_again() -> Result<()> {
    let mut setting = Setting::with_model()?;
    let run = paid_and_died(&mut setting)?;
    assert_eq!(debits(&setting, "i0")?, 1, "paid, and nothing left");
    let [from, to] = ["i0", "copy"].map(|name| setting.cluster.client_directory(name));
    copy(&from, &to)?;
    for secret in fs::read_dir(to.join("identity"))? {
        let owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(secret?.path(), owner)?;
    }
    setting.cluster.start_client("copy")?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    wait_for_log(&setting, "copy", "copied or restored in the midst")?;
    assert_eq!(
        debits(&setting, "copy")?,
        2,
        "the copy paid for what it released"
    );
    Ok(())
}

/// The control: the directory that paid goes on with what it paid.
#[test]
fn the_directory_that_paid_goes_on_after_a_death_without_paying_again() -> Result<()> {
    let mut setting = Setting::with_model()?;
    let run = paid_and_died(&mut setting)?;
    setting.cluster.start_client("i0")?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    assert_eq!(debits(&setting, "i0")?, 1);
    Ok(())
}

/// A plan names who takes part: more of them are a plan of its own, which begins where the first one ended.
#[test]
fn an_institution_joins_between_rounds_by_a_plan_that_goes_on() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(2, 4)?;
    let first = setting.start_run(&plan(1, 1, 1, "head", "", NO_NOISE))?;
    setting.wait_for_state(&first, "completed", MINUTES)?;
    let extend = [
        "run", "extend", &first, "--rounds", "1", "--with", "i1", "--start",
    ];
    let created = setting.cluster.coordinate(&extend)?;
    let second = created["run"].as_str().context("run")?;
    setting.wait_for_state(second, "completed", MINUTES)?;
    let published = setting.published()?;
    let participants = |version: &Value| {
        let all = version["version"]["origin"]["participants"].as_array();
        all.map(Vec::len)
    };
    assert_eq!(published.len(), 2);
    assert_eq!(participants(&published[0]), Some(1));
    assert_eq!(participants(&published[1]), Some(2));
    assert_eq!(
        published[1]["version"]["parent"], published[0]["digest"],
        "it goes on from there"
    );
    setting.assert_replays()?;

    // What the training takes is said before and after the word.
    let listed = setting.cluster.consult("i1", &["consent", "list"])?;
    let memory = listed[0]["memory"].as_u64().context("memory")?;
    assert!((100 << 20..4 << 30).contains(&memory), "{memory}");
    let check = setting.cluster.client_command("i1", &["check"])?.output()?;
    let check = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(
        check.contains("a training of the plan notes takes up to about"),
        "{check}"
    );
    Ok(())
}
