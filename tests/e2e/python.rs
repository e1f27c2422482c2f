//! The Python client: built from its folder without a network, against a real coordinator.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use fedner_tests::process::run;
use fedner_tests::skip::skipped;

use crate::setting::{Setting, plan};

const PRIVACY: &str =
    "unit = \"institution\"\nclip = 1.0\nnoise_multiplier = 4.0\ndelta = 1e-5\nmax_epsilon = 500.0";

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (path, target) = {
            let entry = entry?;
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

#[test]
fn the_python_client_lists_watches_starts_and_cancels() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let python = root.join("target/python/bin/python");
    if !python.exists() {
        return skipped("the Python client", "target/python, which .ci/tools makes");
    }
    let mut setting = Setting::with_model()?;
    // What building leaves behind stays out of the repository.
    let (source, site) = (setting.path("proto"), setting.path("site"));
    copy(&root.join("proto"), &source)?;
    let mut install = Command::new(&python);
    install
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-index",
            "--no-deps",
            "--no-build-isolation",
        ])
        .args(["--disable-pip-version-check", "--target"])
        .args([&site, &source]);
    run(install)?;

    setting.start_institutions(1, 4)?;
    let path = setting.path("plan.toml");
    fs::write(&path, plan(1, 1, 400, "head", "", PRIVACY))?;
    let path = path.to_str().context("path")?;
    let created = setting
        .cluster
        .coordinate(&["run", "create", path, "--force"])?;
    let run_name = created["run"].as_str().context("run")?;
    let mut follow = Command::new(&python);
    follow
        .env("PYTHONPATH", &site)
        .arg(root.join("proto/python/tests/follow_a_run.py"))
        .arg(setting.cluster.coordinator_directory())
        .arg(run_name)
        .arg(root.join("proto/python/examples/run.ipynb"));
    let said = String::from_utf8(run(follow)?.stdout)?;
    assert_eq!(said.trim(), "ok");
    let view = setting.cluster.coordinate(&["run", "show", run_name])?;
    assert_eq!(view["state"], "cancelled");
    Ok(())
}
