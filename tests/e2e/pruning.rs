//! A disk that does not only fill: older versions are let go by a rule, and everything says so.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use fedner_coordinator::store::Store;
use fedner_proto::v1;
use fedner_proto::v1::monitoring_client::MonitoringClient;
use fedner_shared::digest::Digest;
use fedner_shared::plan::{Method, Rule};
use fedner_shared::time::Time;
use fedner_shared::version::{Origin, Participant, Round, Version};
use serde_json::{Value, json};

use crate::roles::Files;
use crate::setting::{MINUTES, NO_NOISE, Setting, plan, refused};

/// The objects below a folder of blobs.
fn objects(blobs: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for folder in fs::read_dir(blobs)? {
        for object in fs::read_dir(folder?.path())? {
            found.insert(object?.path());
        }
    }
    Ok(found)
}

/// As if all of them had been written days ago, so that those that nothing needs are removed at the next start.
fn age(blobs: &Path) -> Result<()> {
    for object in objects(blobs)? {
        let then = SystemTime::now() - Duration::from_hours(48);
        fs::File::options()
            .write(true)
            .open(object)?
            .set_modified(then)?;
    }
    Ok(())
}

struct Pruned {
    setting: Setting,
    blobs: PathBuf,
}

impl Pruned {
    fn refuses(&self, arguments: &[&str]) -> Result<()> {
        let said = refused(self.setting.cluster.coordinator_command(arguments)?)?;
        assert!(said.contains("model-pruned"), "{arguments:?}: {said}");
        Ok(())
    }

    fn prune(&self, more: &[&str]) -> Result<Value> {
        let arguments = [&["model", "prune", "--keep", "2"], more].concat();
        self.setting.cluster.coordinate(&arguments)
    }

    /// Restarts the coordinator, which collects; the objects that are there then.
    fn collect(&mut self, expected: usize) -> Result<()> {
        self.setting.cluster.kill_coordinator()?;
        age(&self.blobs)?;
        self.setting.cluster.start_coordinator()?;
        let deadline = std::time::Instant::now() + MINUTES;
        loop {
            let found = objects(&self.blobs)?.len();
            if found == expected {
                return Ok(());
            }
            anyhow::ensure!(
                std::time::Instant::now() < deadline,
                "{found} objects: expected {expected}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn older_versions_are_let_go_by_a_rule_and_all_say_so_that_they_were() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(1, 4)?;
    let run = setting.start_run(&plan(1, 1, 4, "head", "", NO_NOISE))?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    setting
        .cluster
        .coordinate(&["model", "tag", "notes@2", "liked"])?;
    let blobs = setting.cluster.coordinator_directory().join("blobs");
    let all = objects(&blobs)?.len();
    let mut pruned = Pruned { setting, blobs };

    // The base made ready is the first, and no sum of updates.
    let would = pruned.prune(&["--updates-only", "--dry-run"])?;
    assert_eq!(would["versions"], json!(["notes@3"]));
    assert_eq!(would["beyond_replay"], json!(["notes@3"]));
    assert_eq!(would["objects"], 1);
    let young = pruned.prune(&["--updates-only", "--older-than", "1d"])?;
    assert_eq!(young["versions"], json!([]), "all of them are of today");
    pruned.setting.assert_replays()?;

    assert_eq!(pruned.prune(&["--updates-only"])?, would);
    pruned.collect(all - 1)?;
    pruned.refuses(&["replay", "notes@3"])?;
    for other in ["notes@2", "notes@4", "notes@5"] {
        let replayed = pruned.setting.cluster.coordinate(&["replay", other])?;
        assert_eq!(replayed["same"], true, "{replayed}");
    }
    let export = pruned.setting.path("third");
    let to = export.to_str().context("path")?;
    let third = ["model", "export", "notes@3", "--to", to];
    pruned.setting.cluster.coordinate(&third)?;

    // Their files too: of the first, which the second is computed from, and of the third.
    let let_go = pruned.prune(&[])?;
    assert_eq!(let_go["versions"], json!(["notes@1", "notes@3"]));
    let beyond = json!(["notes@2", "notes@4"]);
    assert_eq!(let_go["beyond_replay"], beyond, "{let_go}");
    assert!(let_go["bytes"].as_u64() > Some(1000), "{let_go}");
    let files = let_go["objects"].as_u64().context("objects")? as usize;
    pruned.collect(all - 1 - files)?;
    assert_eq!(pruned.prune(&[])?["versions"], json!([]), "once");
    for gone in ["notes@2", "notes@3", "notes@4"] {
        pruned.refuses(&["replay", gone])?;
    }
    pruned.setting.cluster.coordinate(&["replay", "notes@5"])?;
    fs::remove_dir_all(&export)?;
    pruned.refuses(&third)?;
    pruned.refuses(&["model", "tag", "notes@3", "again"])?;
    let again = plan(1, 1, 1, "head", "", NO_NOISE).replace("base@1", "notes@3");
    let file = pruned.setting.path("again.toml");
    fs::write(&file, again)?;
    pruned.refuses(&["run", "create", file.to_str().context("path")?, "--force"])?;
    let shown = pruned
        .setting
        .cluster
        .coordinate(&["model", "show", "notes@3"])?;
    assert_eq!(shown["pruned"], "files", "its record stays");

    // What is missing on purpose is no problem, in the directory and in a backup of it.
    let sound = pruned.setting.cluster.coordinate(&["verify"])?;
    assert_eq!(sound["pruned"], json!(["notes@1: files", "notes@3: files"]));
    let backup = pruned.setting.path("backup");
    let to = backup.to_str().context("path")?;
    let written = pruned.setting.cluster.coordinate(&["backup", "--to", to])?;
    assert_eq!(written["pruned"], 2, "{written}");
    pruned.setting.cluster.kill_coordinator()?;
    let directory = pruned.setting.cluster.coordinator_directory();
    fs::remove_dir_all(&directory)?;
    pruned
        .setting
        .cluster
        .coordinate(&["restore", "--from", to])?;
    let sound = pruned.setting.cluster.coordinate(&["verify"])?;
    assert_eq!(sound["problems"], json!([]), "{sound}");
    // What is missing otherwise is one.
    let lost = objects(&pruned.blobs)?.pop_first().context("an object")?;
    fs::remove_file(lost)?;
    let verify = pruned.setting.cluster.coordinator_command(&["verify"])?;
    assert!(refused(verify)?.contains("state-invalid"));
    Ok(())
}

/// An operator writes the rule down, and reloads.
#[test]
fn older_versions_are_let_go_by_the_rule_of_the_file_without_a_command() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(1, 4)?;
    let run = setting.start_run(&plan(1, 1, 3, "head", "", NO_NOISE))?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    let file = setting
        .cluster
        .coordinator_directory()
        .join("coordinator.toml");
    let text = fs::read_to_string(&file)?;
    let rule = "[retention]\nkeep = 2\nupdates_only = true\n";
    fs::write(&file, format!("{text}\n{rule}"))?;
    let prune = ["model", "prune", "--dry-run"];
    let would = setting.cluster.coordinate(&prune)?;
    assert_eq!(would["versions"], json!(["notes@2"]), "by the file");
    let coordinator = setting.cluster.coordinator_process().context("running")?;
    let id = coordinator.id().to_string();
    let asked = Command::new("kill").args(["-HUP", &id]).status()?;
    assert!(asked.success());
    let deadline = std::time::Instant::now() + MINUTES;
    loop {
        let shown = setting.cluster.coordinate(&["model", "show", "notes@2"])?;
        if shown["pruned"] == "updates" {
            break;
        }
        anyhow::ensure!(std::time::Instant::now() < deadline, "{shown}");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(setting.cluster.coordinate(&prune)?["versions"], json!([]));
    let replay = ["replay", "notes@2"];
    let said = refused(setting.cluster.coordinator_command(&replay)?)?;
    assert!(said.contains("model-pruned"), "{said}");
    for kept in ["notes@3", "notes@4"] {
        let replayed = setting.cluster.coordinate(&["replay", kept])?;
        assert_eq!(replayed["same"], true, "{replayed}");
    }
    setting.cluster.coordinate(&["verify"])?;
    setting.assert_no_errors_logged();
    Ok(())
}

/// Years of rounds of many institutions: ordinary clients take messages of 4 MiB.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_history_is_listed_in_pages_to_an_ordinary_client() -> Result<()> {
    const VERSIONS: u32 = 500;
    let mut setting = Setting::new()?;
    setting.cluster.kill_coordinator()?;
    let directory = setting.cluster.coordinator_directory();
    let mut store = Store::open(&directory.join("state.sqlite"))?;
    let file = Digest::of(b"file");
    let participant = |number: usize| Participant {
        institution: format!("hospital-{number}").parse().expect("a name"),
        weight: 1,
        update: file,
        receipt: file,
        epsilon: Some(1.0),
        annotation: None,
    };
    let participants: Vec<Participant> = (0..50).map(participant).collect();
    store.transact("years of rounds", |tx| {
        for number in 1..=VERSIONS {
            tx.put_version(&Version {
                name: format!("notes@{number}").parse().expect("a name"),
                parent: None,
                origin: Origin::Round(Round {
                    run: "notes.1".parse().expect("a run"),
                    plan: file,
                    method: Method::Head,
                    round: number,
                    attempt: 1,
                    manifest: file,
                    rule: Rule::default(),
                    moments: None,
                    unmasking: None,
                    sealed: Vec::new(),
                    participants: participants.clone(),
                }),
                labels: Vec::new(),
                weights: file,
                frozen: None,
                config: file,
                tokenizer: file,
                created: Time::from_millis(0),
            })?;
        }
        Ok::<_, fedner_coordinator::store::Error>(())
    })?;
    drop(store);
    setting.cluster.start_coordinator()?;
    let listed = setting.cluster.coordinate(&["model", "list"])?;
    assert_eq!(listed.as_array().map(Vec::len), Some(VERSIONS as usize));

    let viewer = Files::of_coordinator(&setting, "viewer");
    let mut client = MonitoringClient::new(viewer.dial(&setting).await?);
    let mut request = v1::ListModelsRequest::default();
    let (mut versions, mut pages) = (0, 0);
    loop {
        let page = client.list_models(request.clone()).await?.into_inner();
        versions += page.models.len();
        pages += 1;
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(versions, VERSIONS as usize);
    assert!(pages > 1, "the history is longer than a message");
    Ok(())
}
