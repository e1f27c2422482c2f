//! Losing the coordinator's whole directory.

use std::fs;

use anyhow::{Context, Result};

use crate::setting::{MINUTES, PROTECTED, Setting, plan, refused};

#[test]
fn after_backup_and_loss_a_restored_coordinator_goes_on_with_the_running_federation() -> Result<()>
{
    let mut setting = Setting::with_model()?;
    setting.start_institutions(2, 12)?;
    let run = setting.start_run(&plan(2, 2, 4, "full", "release_after_s = 2", PROTECTED))?;
    setting.wait_until(&run, MINUTES, |view| view["round"] == 2)?;
    let backup = setting.path("backup");
    let backup = backup.to_str().context("path")?;
    let written = setting.cluster.coordinate(&["backup", "--to", backup])?;
    assert!(written["objects"].as_u64() > Some(3), "{written}");

    let directory = setting.cluster.coordinator_directory();
    setting.cluster.kill_coordinator()?;
    fs::remove_dir_all(&directory)?;
    let restored = setting.cluster.coordinate(&["restore", "--from", backup])?;
    assert_eq!(restored["events"], written["events"]);
    setting.cluster.start_coordinator()?;

    let view = setting.wait_for_state(&run, "completed", MINUTES)?;
    assert_eq!(view["round"], 4);
    assert_eq!(setting.published()?.len(), 4);
    setting.assert_replays()
}

#[test]
fn a_damaged_backup_and_a_directory_in_use_are_refused() -> Result<()> {
    let setting = Setting::with_model()?;
    let backup = setting.path("backup");
    let to = backup.to_str().context("path")?;
    setting.cluster.coordinate(&["backup", "--to", to])?;
    let again = setting.cluster.coordinator_command(&["backup", "--to", to]);
    assert!(refused(again?)?.contains("already-exists"));
    let over = setting
        .cluster
        .coordinator_command(&["restore", "--from", to]);
    assert!(refused(over?)?.contains("already-exists"));

    let folder = fs::read_dir(backup.join("blobs"))?
        .next()
        .context("blobs")??;
    let object = fs::read_dir(folder.path())?.next().context("object")??;
    let mut bytes = fs::read(object.path())?;
    bytes[0] ^= 1;
    fs::write(object.path(), bytes)?;
    let mut command = std::process::Command::new(&fedner_tests::binaries::binaries()?.coordinator);
    let other = setting.path("other");
    command
        .arg("--dir")
        .arg(&other)
        .args(["restore", "--from", to]);
    assert!(refused(command)?.contains("state-invalid"));
    // What is not whole does not look whole.
    assert!(!other.join("coordinator.toml").exists());
    Ok(())
}
