//! Where the two programs are, built from the present sources.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

/// The paths of the programs. `FEDNER_COORDINATOR` and `FEDNER_CLIENT` name others, of another release.
#[derive(Debug, Clone)]
pub struct Binaries {
    pub coordinator: PathBuf,
    pub client: PathBuf,
}

/// Builds the programs once in this process, in the profile this program was built in. Cargo
/// builds the programs of other packages only when asked to.
pub fn binaries() -> Result<&'static Binaries> {
    once(&["--quiet"])
}

/// The same, for a person who waits: cargo shows what it compiles.
pub fn binaries_in_sight() -> Result<&'static Binaries> {
    once(&[])
}

fn once(how: &[&str]) -> Result<&'static Binaries> {
    static BUILT: OnceLock<std::result::Result<Binaries, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build(how).map_err(|error| format!("{error:#}")));
    built.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn build(how: &[&str]) -> Result<Binaries> {
    let executable = std::env::current_exe().context("find this program")?;
    // target/PROFILE/demo, or target/PROFILE/deps/e2e-HASH.
    let mut folder = executable.parent().context("find the target directory")?;
    if folder.ends_with("deps") {
        folder = folder.parent().context("find the target directory")?;
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // The whole workspace, so that features unify as in `cargo test` and nothing is built twice.
    command
        .args(["build", "--workspace", "--bins", "--manifest-path"])
        .arg(manifest)
        .args(how);
    command
        .arg("--target-dir")
        .arg(folder.parent().context("find the target directory")?);
    if folder.ends_with("release") {
        command.arg("--release");
    }
    let status = command.status().context("start cargo")?;
    if !status.success() {
        bail!("the programs do not build: cargo ended with {status}");
    }
    let or = |variable: &str, built: &str| {
        std::env::var_os(variable).map_or_else(|| folder.join(built), PathBuf::from)
    };
    Ok(Binaries {
        coordinator: or("FEDNER_COORDINATOR", "fedner-coordinator"),
        client: or("FEDNER_CLIENT", "fedner-client"),
    })
}
