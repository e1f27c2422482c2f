//! Programs of an earlier release beside the present ones.
//!
//! Each folder of `tests/recorded` has what the two programs of one commit said in one whole run, and the
//! directories with which they began. What the client said is said again to the present coordinator; what the
//! coordinator answered is answered again to the present client. `tests/README.md` says how a run is recorded.

mod at_client;
mod at_coordinator;
mod record;
mod recording;
mod wire;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use self::recording::Recording;
use crate::setting::{self, NO_NOISE, Setting};

/// All runs that are kept.
fn recorded() -> Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recorded");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        found.push(entry?.path());
    }
    found.sort();
    Ok(found)
}

/// What an earlier client says is understood, and led to the same model then as now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_earlier_client_works_with_this_coordinator() -> Result<()> {
    let recorded = recorded()?;
    assert!(!recorded.is_empty());
    for folder in recorded {
        let recording = Recording::read(&folder)?;
        let name = folder.display().to_string();
        at_coordinator::replay(&recording).await.context(name)?;
    }
    Ok(())
}

/// What an earlier coordinator answers is understood, by a directory that an earlier client left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn this_client_works_with_an_earlier_coordinator() -> Result<()> {
    for folder in recorded()? {
        let recording = Recording::read(&folder)?;
        let name = folder.display().to_string();
        at_client::train(&recording).await.context(name.clone())?;
        at_client::evaluate(&recording).await.context(name)?;
    }
    Ok(())
}

/// An operator who is ahead writes a plan with a key that this client does not know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_of_a_later_release_is_declined_once_with_its_own_code() -> Result<()> {
    let folder = recorded()?.pop().context("a recording")?;
    at_client::meet_a_later_plan(&Recording::read(&folder)?).await
}

/// The recorder works, and what it records of the present programs passes; what was changed in it does not.
#[test]
fn a_run_can_be_recorded_and_a_changed_one_is_noticed() -> Result<()> {
    let kept = TempDir::new()?;
    let asked = std::env::var_os("FEDNER_RECORD").map(PathBuf::from);
    let folder = asked.unwrap_or_else(|| kept.path().join("now"));
    record::record(&folder)?;
    let recording = Recording::read(&folder)?;
    tokio::runtime::Runtime::new()?.block_on(async {
        at_coordinator::replay(&recording).await?;
        at_client::train(&recording).await?;
        at_client::evaluate(&recording).await?;
        for (what, changed) in recording.changed()? {
            let outcome = at_coordinator::replay(&changed).await;
            assert!(outcome.is_err(), "{what} was not noticed");
        }
        Ok(())
    })
}

/// With `FEDNER_COORDINATOR` or `FEDNER_CLIENT` one of the two is of another release.
#[test]
fn two_rounds_with_a_restart_of_both_programs() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(2, 6)?;
    // A plan file of today has a key in it that an earlier client does not know.
    let earlier = std::env::var_os("FEDNER_CLIENT").is_some();
    let former = if earlier { "members_see = \"all\"" } else { "" };
    let run = setting.start_run(&setting::plan(2, 2, 2, "head", former, NO_NOISE))?;
    setting.wait_until(&run, setting::MINUTES, |view| view["round"] == 2)?;
    setting.cluster.kill_client("i0")?;
    setting.cluster.kill_coordinator()?;
    setting.cluster.start_coordinator()?;
    setting.cluster.start_client("i0")?;
    setting.wait_for_state(&run, "completed", setting::MINUTES)?;
    setting.assert_replays()?;
    setting.assert_no_errors_logged();
    Ok(())
}
