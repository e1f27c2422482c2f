//! The packages: built, installed, upgraded and removed in a clean root; units as systemd reads them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use fedner_tests::binaries::binaries;
use fedner_tests::config::free_address;
use fedner_tests::process::{Process, run};
use fedner_tests::skip::{impossible, skipped};
use tempfile::TempDir;

const PROGRAMS: [&str; 2] = ["fedner-coordinator", "fedner-client"];
/// The largest exposure that systemd may find, in tenths.
const EXPOSURE: &str = "25";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn said(command: Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&run(command)?.stdout).into_owned())
}

/// Builds the packages of the programs under test as that version; where they are.
fn packages(version: &str, scratch: &TempDir, more: &[&str]) -> Result<Vec<PathBuf>> {
    let programs = scratch.path().join("bin");
    if !programs.exists() {
        fs::create_dir(&programs)?;
        let built = binaries()?;
        for (name, program) in PROGRAMS.iter().zip([&built.coordinator, &built.client]) {
            let mut strip = Command::new("strip");
            strip.arg("-o").arg(programs.join(name)).arg(program);
            run(strip)?;
        }
    }
    let out = scratch.path().join(version);
    let mut command = Command::new(root().join(".github/package"));
    command.args(["--version", version, "--bin"]).arg(&programs);
    command.arg("--out").arg(&out).args(more);
    let listed = said(command)?;
    let files: Vec<PathBuf> = listed.lines().map(PathBuf::from).collect();
    ensure!(files.iter().all(|file| file.exists()), "{listed}");
    Ok(files)
}

fn is_deb(file: &Path) -> bool {
    file.extension().is_some_and(|ending| ending == "deb")
}

#[test]
fn units_are_sound_and_exposed_to_little() -> Result<()> {
    if !Path::new("/usr/bin/systemd-analyze").exists() {
        return skipped("the units", "systemd-analyze");
    }
    let scratch = tempfile::tempdir()?;
    for name in PROGRAMS {
        // What the unit starts must be there to be verified.
        let (bin, units) = (
            scratch.path().join("usr/bin"),
            scratch.path().join("etc/systemd/system"),
        );
        fs::create_dir_all(&bin)?;
        fs::create_dir_all(&units)?;
        for program in [name, "kill"] {
            fs::copy("/bin/true", bin.join(program))?;
        }
        let text = fs::read_to_string(root().join(format!(".github/packages/{name}.service")))?;
        let unit = units.join(format!("{name}.service"));
        fs::write(
            &unit,
            text.replace("/usr/bin/", &format!("{}/", bin.display())),
        )?;
        let mut verify = Command::new("systemd-analyze");
        verify.args(["verify", "--man=no"]).arg(&unit);
        let verified = verify.output().context("systemd-analyze")?;
        let found = String::from_utf8_lossy(&verified.stderr).into_owned();
        let ours: Vec<&str> = found
            .lines()
            .filter(|line| line.contains("fedner"))
            .collect();
        ensure!(verified.status.success() && ours.is_empty(), "{found}");
        let mut security = Command::new("systemd-analyze");
        security.args(["security", "--offline=true", "--no-pager"]);
        security.arg(format!("--threshold={EXPOSURE}")).arg(&unit);
        let found = said(security)?;
        ensure!(found.contains("Overall exposure level"), "{found}");
    }
    Ok(())
}

/// A Debian of its own, from the one that `.ci/tools` has made.
struct Clean(TempDir);

impl Clean {
    fn new(from: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(from.join(".")).arg(folder.path());
        run(copy)?;
        Ok(Self(folder))
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.0.path().join(inside.trim_start_matches('/'))
    }

    /// Installs, or upgrades to, what is in these files.
    fn install(&self, packages: &[PathBuf]) -> Result<()> {
        let folder = self.path("/packages");
        fs::create_dir_all(&folder)?;
        let mut names = Vec::new();
        for package in packages.iter().filter(|file| is_deb(file)) {
            let name = package.file_name().context("a name")?;
            fs::copy(package, folder.join(name))?;
            names.push(Path::new("/packages").join(name));
        }
        let mut install = self.command("dpkg");
        install.arg("-i").args(names);
        run(install)?;
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("chroot");
        command.arg(self.0.path()).arg(program);
        command.env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// A program as its own user runs it.
    fn own(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = self.command("runuser");
        command.args(["-u", program, "--", program, "--dir"]);
        command.arg(format!("/var/lib/{program}")).args(arguments);
        command
    }
}

#[test]
fn packages_are_installed_upgraded_removed_and_purged_in_a_clean_root() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let built = packages("0.1.0", &scratch, &[])?;
    check_rpms(&built)?;
    let debian = root().join("target/debian");
    if let Ok(why) = fs::read_to_string(root().join("target/debian.impossible")) {
        impossible("installing the packages", &why);
        return Ok(());
    }
    let own = fs::metadata("/proc/self")?;
    let is_root = std::os::unix::fs::MetadataExt::uid(&own) == 0;
    if !is_root || !root().join("target/debian.ready").exists() {
        return skipped(
            "installing the packages",
            "root and target/debian, which .ci/tools makes with debootstrap",
        );
    }
    let clean = Clean::new(&debian)?;
    clean.install(&built)?;
    check_template(&clean)?;
    for name in PROGRAMS {
        for file in [
            format!("/usr/share/man/man1/{name}.1.gz"),
            format!("/usr/share/bash-completion/completions/{name}"),
            format!("/usr/lib/systemd/system/{name}.service"),
            format!("/usr/share/doc/{name}/README.md"),
        ] {
            ensure!(clean.path(&file).exists(), "{file}");
        }
        let state = fs::metadata(clean.path(&format!("/var/lib/{name}")))?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&state.permissions());
        assert_eq!(mode & 0o777, 0o700, "{name}");
    }
    let address = free_address()?;
    let coordinator = "fedner-coordinator";
    run(clean.own(
        coordinator,
        &["init", "--name", "north", "--address", &address],
    ))?;
    let serve = clean.own(coordinator, &["serve"]);
    let log = scratch.path().join("log");
    let within = std::time::Duration::from_secs(30);
    let mut serving = Process::start_ready(coordinator, serve, &log, "listening on ", within)?;
    let invite = said(clean.own(coordinator, &["invite", "st-anna"]))?;
    // Where the person at the institution has saved it.
    fs::write(clean.path("/invite.toml"), invite)?;
    let mut enrol = clean.own("fedner-client", &["enroll", "/invite.toml"]);
    enrol.env("NO_PROXY", "*");
    run(enrol)?;
    serving.terminate(within)?;

    clean.install(&packages("0.1.1", &scratch, &["--deb-only"])?)?;
    let mut query = clean.command("dpkg-query");
    query.args(["-W", "-f", "${Version}", coordinator]);
    assert_eq!(said(query)?, "0.1.1");
    let kept = [
        "/var/lib/fedner-coordinator/state.sqlite",
        "/var/lib/fedner-client/client.toml",
    ];
    for file in kept {
        ensure!(clean.path(file).exists(), "an upgrade keeps {file}");
    }
    let verdict = said(clean.own(coordinator, &["verify", "--output", "json"]))?;
    ensure!(verdict.contains("\"problems\":[]"), "{verdict}");
    for (how, stays) in [("--remove", true), ("--purge", false)] {
        let mut go = clean.command("dpkg");
        go.arg(how).args(PROGRAMS);
        run(go)?;
        ensure!(!clean.path("/usr/bin/fedner-coordinator").exists(), "{how}");
        for file in kept {
            assert_eq!(clean.path(file).exists(), stays, "{how}: {file}");
        }
    }
    Ok(())
}

/// The unit of one process of several has a directory of its own, and is else as the unit of a single one.
fn check_template(clean: &Clean) -> Result<()> {
    let unit =
        |name: &str| fs::read_to_string(clean.path(&format!("/usr/lib/systemd/system/{name}")));
    let (alone, one) = (
        unit("fedner-coordinator.service")?,
        unit("fedner-coordinator@.service")?,
    );
    ensure!(
        one.contains("--dir /var/lib/fedner-coordinator/%i serve"),
        "{one}"
    );
    ensure!(
        one.contains("StateDirectory=fedner-coordinator/%i\n"),
        "{one}"
    );
    ensure!(
        one.contains("ConditionPathExists=/var/lib/fedner-coordinator/%i/coordinator.toml"),
        "{one}"
    );
    let other = alone
        .lines()
        .zip(one.lines())
        .filter(|(alone, one)| alone != one);
    ensure!(
        other.count() == 4 && alone.lines().count() == one.lines().count(),
        "{one}"
    );
    Ok(())
}

/// An `.rpm` holds what the `.deb` holds, where its distributions look for it.
fn check_rpms(built: &[PathBuf]) -> Result<()> {
    if !Path::new("/usr/bin/rpmbuild").exists() {
        return skipped("the .rpm packages", "Debian's package rpm");
    }
    let rpms: Vec<&PathBuf> = built.iter().filter(|file| !is_deb(file)).collect();
    assert_eq!(rpms.len(), PROGRAMS.len(), "{built:?}");
    for (name, file) in PROGRAMS.iter().zip(rpms) {
        let mut query = Command::new("rpm");
        query.args(["-qlp"]).arg(file);
        let listed = said(query)?;
        for wanted in [
            format!("/usr/bin/{name}"),
            format!("/usr/lib/systemd/system/{name}.service"),
            format!("/usr/share/man/man1/{name}.1.gz"),
        ] {
            ensure!(
                listed.lines().any(|line| line == wanted),
                "{wanted}: {listed}"
            );
        }
        let mut scripts = Command::new("rpm");
        scripts.args(["-qp", "--scripts"]).arg(file);
        ensure!(said(scripts)?.contains("useradd"), "{name}");
    }
    Ok(())
}
