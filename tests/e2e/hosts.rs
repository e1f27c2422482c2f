//! Machines as they are found: a daemon's own user, another host name, a sealed unit, logs, and very little text.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fedner_tests::notes::Split;
use fedner_tests::process::{self, Process};
use tempfile::TempDir;

use crate::setting::{MINUTES, NO_NOISE, Setting, plan};

/// A user of a daemon's own.
const NOBODY: u32 = 65_534;

fn as_nobody(mut command: Command) -> Command {
    command.uid(NOBODY).gid(NOBODY).env("HOME", "/nonexistent");
    command
}

/// Everything below `path`, with itself.
fn below(path: &Path) -> Result<Vec<PathBuf>> {
    let mut all = vec![path.to_owned()];
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            all.extend(below(&entry?.path())?);
        }
    }
    Ok(all)
}

/// `sudo fedner-client check`, while the daemon has a user of its own. Only root can try this.
#[test]
fn a_look_by_root_leaves_a_daemon_of_another_user_its_files() -> Result<()> {
    let setting = Setting::with_model()?;
    if fs::metadata(setting.cluster.directory())?.uid() != 0 {
        return Ok(());
    }
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(setting.cluster.directory(), open)?;
    let version = setting.cluster.client_command("i0", &["--version"])?;
    if as_nobody(version).output().is_err() {
        // Another user cannot reach the program that was built here.
        return Ok(());
    }
    let data = setting.text(0, Split::Train, 4)?;
    let invite = setting.cluster.invite("i0")?;
    for file in [&data, &invite] {
        fs::set_permissions(file, fs::Permissions::from_mode(0o644))?;
    }
    let directory = setting.cluster.client_directory("i0");
    fs::create_dir(&directory)?;
    chown(&directory, Some(NOBODY), Some(NOBODY))?;
    let mut enroll = setting.cluster.client_command("i0", &["enroll"])?;
    enroll.arg(&invite).arg("--data").arg(&data);
    process::run(as_nobody(enroll))?;
    let policy = "consent = \"auto\"\nallow_no_privacy = true\n";
    fs::write(directory.join("policy.toml"), policy)?;

    setting.cluster.consult("i0", &["check"])?;
    setting.cluster.consult("i0", &["status"])?;
    for path in below(&directory)? {
        let owner = fs::metadata(&path)?.uid();
        let ours = owner == NOBODY || path.ends_with("policy.toml");
        assert!(ours, "{} is of the user {owner} now", path.display());
    }
    let daemon = as_nobody(setting.cluster.client_command("i0", &["start"])?);
    let _daemon = Process::start("i0", daemon, &setting.cluster.log("i0"))?;
    let run = setting.start_run(&plan(1, 1, 1, "head", "", NO_NOISE))?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    setting.assert_no_errors_logged();
    Ok(())
}

/// The same command on a machine of that name, where the system lets a test have one.
fn on_host(name: &str, command: &Command) -> Option<Command> {
    let rename = format!("echo {name} > /proc/sys/kernel/hostname");
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-r", "-u", "sh", "-c", script, "sh"]);
        command
    };
    let mut probe = unshare(&rename);
    if !probe.output().is_ok_and(|output| output.status.success()) {
        return None;
    }
    let mut wrapped = unshare(&format!("{rename} && exec \"$@\""));
    wrapped.arg(command.get_program()).args(command.get_args());
    Some(wrapped)
}

/// Containers are made anew on the same volumes.
#[test]
fn both_programs_go_on_under_another_host_name() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(1, 4)?;
    let first = setting.start_run(&plan(1, 1, 1, "head", "", NO_NOISE))?;
    setting.wait_for_state(&first, "completed", MINUTES)?;
    setting.cluster.kill_client("i0")?;
    setting.cluster.kill_coordinator()?;
    let serve = setting.cluster.coordinator_command(&["serve"])?;
    let start = setting.cluster.client_command("i0", &["start"])?;
    let (Some(serve), Some(start)) = (
        on_host("two-9f8e7d", &serve),
        on_host("three-0a1b2c", &start),
    ) else {
        return Ok(());
    };
    let log = setting.cluster.log("coordinator");
    let ready = Duration::from_secs(30);
    let _coordinator =
        Process::start_ready("the coordinator", serve, &log, "listening on ", ready)?;
    let _client = Process::start("i0", start, &setting.cluster.log("i0"))?;
    let second = plan(1, 1, 1, "head", "", NO_NOISE).replace("seed = 7", "seed = 8");
    let second = setting.start_run(&second)?;
    setting.wait_for_state(&second, "completed", MINUTES)?;
    setting.assert_no_errors_logged();
    Ok(())
}

/// Files that a process has open for writing.
fn open_for_writing(process: u32) -> Vec<PathBuf> {
    let folder = PathBuf::from(format!("/proc/{process}"));
    let entries = fs::read_dir(folder.join("fd"))
        .into_iter()
        .flatten()
        .flatten();
    let writes = |name: &OsString| {
        let info = fs::read_to_string(folder.join("fdinfo").join(name)).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        flags.is_some_and(|flags| flags & 0o3 != 0)
    };
    let named = entries.filter(|entry| writes(&entry.file_name()));
    let targets = named.filter_map(|entry| fs::read_link(entry.path()).ok());
    // Sockets and the like have no path.
    targets.filter(|target| target.is_absolute()).collect()
}

/// A hardened unit lets a daemon write into its directory, and nowhere else.
#[test]
fn both_programs_write_nowhere_but_into_their_directories() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.enrol("i0", 0, 8)?;
    let elsewhere = TempDir::new()?;
    let sealed = |mut command: Command| {
        for name in [
            "HOME",
            "TMPDIR",
            "XDG_CACHE_HOME",
            "XDG_DATA_HOME",
            "XDG_CONFIG_HOME",
        ] {
            command.env(name, elsewhere.path());
        }
        command.current_dir(elsewhere.path());
        command
    };
    setting.cluster.kill_coordinator()?;
    let serve = sealed(setting.cluster.coordinator_command(&["serve"])?);
    let start = sealed(setting.cluster.client_command("i0", &["start"])?);
    let ready = Duration::from_secs(30);
    let log = setting.cluster.log("coordinator");
    let coordinator = Process::start_ready("the coordinator", serve, &log, "listening on ", ready)?;
    let client = Process::start("i0", start, &setting.cluster.log("i0"))?;
    let run = setting.start_run(&plan(1, 1, 3, "full", "", NO_NOISE))?;
    let (root, mut seen) = (setting.cluster.directory().canonicalize()?, 0);
    // What whoever runs the tests has open is handed down.
    let handed = open_for_writing(std::process::id());
    let stray = |path: &PathBuf| {
        let own = !path.starts_with("/dev") && !handed.contains(path);
        own && !path.starts_with(&root)
    };
    loop {
        for process in [coordinator.id(), client.id()] {
            let files = open_for_writing(process);
            seen += files.len();
            let outside: Vec<_> = files.into_iter().filter(stray).collect();
            assert!(outside.is_empty(), "{outside:?}");
        }
        let view = setting.cluster.coordinate(&["run", "show", &run])?;
        if view["state"] == "completed" {
            break;
        }
        ensure!(view["state"] != "failed", "{view}");
    }
    assert!(seen > 0, "no file was looked at");
    let left = below(elsewhere.path())?;
    assert_eq!(left, [elsewhere.path()], "nothing is left elsewhere");
    setting.assert_no_errors_logged();
    Ok(())
}

fn lines(log: &Path) -> Result<usize> {
    let text = fs::read_to_string(log).with_context(|| format!("read {}", log.display()))?;
    Ok(text.lines().count())
}

/// What repeats itself without end is said once.
#[test]
fn scanners_outages_and_a_revoked_institution_leave_a_handful_of_lines() -> Result<()> {
    let mut setting = Setting::new()?;
    setting.start_institutions(2, 2)?;
    let [first, second] = ["i0", "i1"].map(|name| setting.cluster.log(name));
    let coordinator = setting.cluster.log("coordinator");
    let deadline = std::time::Instant::now() + MINUTES;
    loop {
        let listed = setting.cluster.coordinate(&["institution", "list"])?;
        let seen = listed.as_array().context("institutions")?.iter();
        if seen.filter(|row| !row["last_seen"].is_null()).count() == 2 {
            break;
        }
        ensure!(std::time::Instant::now() < deadline, "{listed}");
        std::thread::sleep(Duration::from_millis(100));
    }
    setting
        .cluster
        .coordinate_quietly(&["institution", "revoke", "i1"])?;
    let before = lines(&coordinator)?;
    for _ in 0..100 {
        let mut probe = TcpStream::connect(setting.cluster.address())?;
        // It may have been closed already.
        let _ = probe.write_all(b"GET / HTTP/1.0\r\n\r\n");
    }
    std::thread::sleep(Duration::from_secs(2));
    let probes = lines(&coordinator)? - before;
    assert!(probes < 40, "{probes} lines for 100 probes");
    let before = lines(&first)?;
    setting.cluster.kill_coordinator()?;
    // Several attempts of each.
    std::thread::sleep(Duration::from_secs(8));
    let outage = lines(&first)? - before;
    assert!(outage <= 6, "{outage} lines for an outage");
    let revoked = lines(&second)?;
    assert!(revoked <= 12, "{revoked} lines of a revoked institution");
    Ok(())
}

/// Fewer persons than one batch takes, beside institutions with many.
#[test]
fn three_patients_take_part_beside_hundreds() -> Result<()> {
    let mut setting = Setting::with_model()?;
    for (number, documents, declared) in [(0, 40, 300), (1, 40, 300), (2, 1, 3)] {
        let name = format!("i{number}");
        setting.enrol(&name, number, documents)?;
        let path = setting.cluster.client_directory(&name).join("client.toml");
        let text = fs::read_to_string(&path)?;
        let standing = format!("declared_examples = {}", 100 + number);
        ensure!(text.contains(&standing), "{text}");
        let declares = format!("declared_examples = {declared}");
        fs::write(&path, text.replace(&standing, &declares))?;
        setting.cluster.start_client(&name)?;
    }
    let privacy = "unit = \"person\"\nnoise_multiplier = 20.0\ndelta = 1e-5\nmax_epsilon = 8.0";
    let plan = plan(3, 3, 2, "head", "", privacy).replace("batch_size = 8", "batch_size = 256");
    let run = setting.start_run(&plan)?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    let published = setting.published()?;
    assert_eq!(published.len(), 2);
    for version in &published {
        let participants = version["version"]["origin"]["participants"].as_array();
        let participants = participants.context("participants")?;
        assert_eq!(participants.len(), 3, "{participants:?}");
        let epsilons = participants.iter().map(|p| p["epsilon"].as_f64());
        assert!(
            epsilons.flatten().all(|e| e > 0.0 && e < 8.0),
            "{participants:?}"
        );
    }
    setting.assert_replays()?;
    setting.assert_no_errors_logged();
    Ok(())
}
