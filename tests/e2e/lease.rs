//! Several processes with one store: who leads, when another takes over, and what becomes of a leader that was paused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fedner_tests::binaries::binaries;
use fedner_tests::cluster::Engines;
use fedner_tests::config::free_address;
use fedner_tests::postgres::{PASSWORD, Postgres};
use fedner_tests::process::{Process, run};
use fedner_tests::skip::skipped;
use tempfile::TempDir;

use crate::setting::Setting;

/// A federation whose first process is the setting's, and a second one.
pub(crate) struct Pair {
    pub(crate) setting: Setting,
    server: Postgres,
    pub(crate) second: PathBuf,
    pub(crate) process: Option<Process>,
    _objects: TempDir,
}

impl Pair {
    pub(crate) fn start(lease: u64) -> Result<Option<Self>> {
        let Some(programs) = Postgres::programs() else {
            return Ok(None);
        };
        let server = Postgres::start(&programs)?;
        server.create("north")?;
        let objects = tempfile::tempdir()?;
        let mut engines = Postgres::engines(&server.address(), "north").and(Engines {
            config: format!(
                "cluster_address = \"{}\"\nlease_s = {lease}\n",
                free_address()?
            ),
            environment: Vec::new(),
            init: Vec::new(),
        });
        let folder = format!("file://{}", objects.path().display());
        engines.init.extend(["--blobs-url".to_owned(), folder]);
        let setting = Setting::with_model_on(engines)?;
        let second = setting.path("second");
        let mut pair = Self {
            setting,
            server,
            second,
            process: None,
            _objects: objects,
        };
        pair.join()?;
        pair.start_second()?;
        Ok(Some(pair))
    }

    pub(crate) fn first(&self) -> PathBuf {
        self.setting.cluster.coordinator_directory()
    }

    pub(crate) fn command(directory: &Path, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(&binaries()?.coordinator);
        command.env("PGPASSWORD", PASSWORD).arg("--dir");
        command.arg(directory).args(words);
        Ok(command)
    }

    fn join(&self) -> Result<()> {
        let (first, address, inner) = (self.first(), free_address()?, free_address()?);
        let first = first.to_str().context("path")?;
        let words = ["join", "--from", first, "--cluster-address", &inner];
        let mut command = Self::command(&self.second, &words)?;
        command.args(["--address", &address]);
        run(command)?;
        ensure!(
            !self.second.join("operator").exists(),
            "an operator's keys went along"
        );
        // This operator works at either.
        let operator = self.second.join("operator");
        fs::create_dir(&operator)?;
        for name in ["operator.pem", "operator.key"] {
            fs::copy(
                self.first().join("operator").join(name),
                operator.join(name),
            )?;
        }
        Ok(())
    }

    fn start_second(&mut self) -> Result<()> {
        let process = Process::start_ready(
            "the second process",
            Self::command(&self.second, &["serve"])?,
            &self.setting.cluster.log("second"),
            "listening on ",
            Duration::from_secs(30),
        )?;
        self.process = Some(process);
        Ok(())
    }

    fn signal(&mut self, signal: &str) -> Result<()> {
        let first = self.setting.cluster.coordinator_process();
        first.context("it runs")?.signal(signal)
    }

    /// Who holds the lease, by the second's part of its address.
    pub(crate) fn second_leads(&self) -> Result<bool> {
        let config = fs::read_to_string(self.second.join("coordinator.toml"))?;
        let leader = self.server.query("north", "SELECT address FROM writer")?;
        Ok(!leader.is_empty() && config.contains(&format!("cluster_address = \"{leader}\"")))
    }

    /// How long it takes until a call at that process is answered.
    pub(crate) fn answers(directory: &Path, within: Duration) -> Result<Duration> {
        let began = Instant::now();
        loop {
            let output = Self::command(directory, &["run", "list"])?.output()?;
            if output.status.success() {
                return Ok(began.elapsed());
            }
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(
                said.contains("unreachable"),
                "not what may be tried again: {said}"
            );
            ensure!(began.elapsed() < within, "no answer in {within:?}: {said}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    pub(crate) fn wait_for(&self, what: &str, log: &str, within: Duration) -> Result<()> {
        let began = Instant::now();
        let log = self.setting.cluster.log(log);
        while !fs::read_to_string(&log)?.contains(what) {
            ensure!(began.elapsed() < within, "no `{what}` in {}", log.display());
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn invite(directory: &Path, name: &str) -> Result<()> {
        run(Self::command(directory, &["invite", name])?).map(drop)
    }
}

#[test]
fn a_leader_that_was_paused_past_its_lease_stands_by_and_the_next_one_goes_on() -> Result<()> {
    let Some(mut pair) = Pair::start(2)? else {
        return skipped("a leader that is paused", Postgres::NEEDED);
    };
    let (first, second) = (pair.first(), pair.second.clone());
    ensure!(!pair.second_leads()?, "the first one holds the lease");
    pair.wait_for("another process leads", "second", Duration::from_secs(10))?;
    Pair::invite(&first, "anna")?;
    // Paused for less than that, it stays.
    pair.signal("-STOP")?;
    thread::sleep(Duration::from_millis(500));
    pair.signal("-CONT")?;
    Pair::invite(&first, "bert")?;
    ensure!(!pair.second_leads()?);

    let epoch = |pair: &Pair| pair.server.query("north", "SELECT epoch FROM writer");
    let before = epoch(&pair)?;
    pair.signal("-STOP")?;
    let took = Pair::answers(&second, Duration::from_secs(30))?;
    ensure!(pair.second_leads()?);
    ensure!(
        took > Duration::from_secs(1),
        "before its lease had ended: {took:?}"
    );
    Pair::invite(&second, "carla")?;
    let events = "SELECT count(*) FROM events";
    let written = pair.server.query("north", events)?;
    pair.signal("-CONT")?;
    // It may well try to write at once, and finds that it must not.
    pair.wait_for(
        "another process may write now",
        "coordinator",
        Duration::from_secs(20),
    )?;
    ensure!(pair.second_leads()?);
    ensure!(pair.server.query("north", events)? == written, "it wrote");
    ensure!(
        epoch(&pair)?.parse::<u64>()? == before.parse::<u64>()? + 1,
        "one change"
    );
    let verdict = pair.setting.cluster.coordinate(&["verify"])?;
    ensure!(verdict["problems"] == serde_json::json!([]), "{verdict}");
    Ok(())
}

#[test]
fn who_ends_in_order_gives_the_lease_away_and_who_starts_anew_has_it_back() -> Result<()> {
    // Nobody could wait for the end of this one.
    let Some(mut pair) = Pair::start(60)? else {
        return skipped("a lease that is given away", Postgres::NEEDED);
    };
    let (first, second) = (pair.first(), pair.second.clone());
    let soon = Duration::from_secs(20);
    // A directory has one process: the next one there needs not wait for itself.
    pair.setting.cluster.kill_coordinator()?;
    pair.setting.cluster.start_coordinator()?;
    Pair::answers(&first, soon)?;
    ensure!(!pair.second_leads()?);
    let leader = pair.setting.cluster.coordinator_process();
    leader.context("it runs")?.terminate(soon)?;
    Pair::answers(&second, soon)?;
    ensure!(pair.second_leads()?);
    pair.setting.cluster.start_coordinator()?;
    ensure!(pair.second_leads()?, "who comes back stands by");

    // Keys that one process makes anew, the other one has as soon as it leads.
    run(Pair::command(&second, &["key", "rotate", "history"])?)?;
    run(Pair::command(&second, &["key", "rotate", "authority"])?)?;
    let key = |directory: &Path, name: &str| fs::read(directory.join("authority").join(name));
    let newest = (key(&second, "history.key")?, key(&second, "next.key")?);
    pair.process.as_mut().context("it runs")?.kill()?;
    pair.server
        .query("north", "UPDATE writer SET until = 'epoch'")?;
    Pair::answers(&first, soon)?;
    ensure!((key(&first, "history.key")?, key(&first, "next.key")?) == newest);
    let sealed = "SELECT count(*) FROM keyring WHERE position('PRIVATE KEY'::bytea IN sealed) > 0";
    ensure!(pair.server.query("north", sealed)? == "0", "in the clear");
    Pair::invite(&first, "anna")?;
    let verdict = pair.setting.cluster.coordinate(&["verify"])?;
    ensure!(verdict["problems"] == serde_json::json!([]), "{verdict}");
    Ok(())
}
