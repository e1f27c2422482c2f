//! Real coordinator, real clients.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fedner_tests::cluster::{Member, Policy};
use fedner_tests::notes::{self, Split, Style};
use fedner_tests::tiny;
use serde_json::Value;

use crate::federation::{Federation, plan, spread};

const REPEATS: usize = 5;
const PATIENCE: Duration = Duration::from_mins(2);

fn text(federation: &Federation, number: usize, split: Split, documents: usize) -> Result<PathBuf> {
    let name = format!("{number}-{}.conll", split.name());
    let path = federation.folder.path().join(name);
    let notes = notes::generate(Style::ALL[number % 3], split, documents, number as u64);
    fs::write(&path, notes::to_conll(&notes))?;
    Ok(path)
}

/// Enrols `i0`, `i1`, … with text to train on.
pub(crate) fn enrol(
    federation: &Federation,
    count: usize,
    documents: usize,
) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for number in 0..count {
        let name = format!("i{number}");
        federation.cluster.enrol(&Member {
            name: name.clone(),
            data: text(federation, number, Split::Train, documents)?,
            held_out: text(federation, number, Split::Devel, 1)?,
            policy: Policy {
                allow_no_privacy: true,
                share_evaluation: false,
                max_epsilon_run: 1000.0,
                declared_examples: Some(100),
            },
        })?;
        names.push(name);
    }
    Ok(names)
}

/// Asks until `reached`; seconds since `began`.
fn wait(began: Instant, reached: impl Fn() -> Result<bool>) -> Result<f64> {
    wait_within(PATIENCE, began, reached)
}

pub(crate) fn wait_within(
    patience: Duration,
    began: Instant,
    reached: impl Fn() -> Result<bool>,
) -> Result<f64> {
    while began.elapsed() < patience {
        if reached()? {
            return Ok(began.elapsed().as_secs_f64());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("that takes too long")
}

fn all_seen(federation: &Federation, count: usize) -> Result<bool> {
    let list = federation.cluster.coordinate(&["institution", "list"])?;
    let list = list.as_array().context("institutions")?;
    let seen = |institution: &&Value| !institution["last_seen"].is_null();
    Ok(list.iter().filter(seen).count() == count)
}

pub(crate) fn idle() -> Result<()> {
    let mut federation = Federation::start(tiny::TEST)?;
    let names = enrol(&federation, 4, 1)?;
    for name in &names {
        federation.cluster.start_client(name)?;
    }
    wait(Instant::now(), || all_seen(&federation, names.len()))?;
    std::thread::sleep(Duration::from_secs(3));
    let mut sizes = Vec::new();
    for name in &names {
        let process = federation.cluster.client_process(name).context("client")?;
        let memory = process.memory().context("memory")?;
        sizes.push(memory as f64 / f64::from(1 << 20));
    }
    println!("idle: a client, no model loaded: {}", spread(sizes, "MiB"));
    Ok(())
}

pub(crate) fn cold() -> Result<()> {
    let mut federation = Federation::start(tiny::TEST)?;
    let names = enrol(&federation, 4, 1)?;
    let mut times = Vec::new();
    for _ in 0..REPEATS {
        federation.cluster.kill_coordinator()?;
        let began = Instant::now();
        federation.cluster.start_coordinator()?;
        for name in &names {
            federation.cluster.start_client(name)?;
        }
        times.push(wait(began, || all_seen(&federation, names.len()))?);
        for name in &names {
            federation.cluster.kill_client(name)?;
        }
    }
    println!(
        "cold: coordinator and 4 clients to all checked in: {}",
        spread(times, "s")
    );
    Ok(())
}

/// The plan with the labels of the text, so that clients can train by it.
fn trainable(plan: &str) -> String {
    let labels = format!("labels = {:?}", notes::LABELS);
    plan.replace("labels = [\"L0\"]", &labels)
}

/// A plan of one client that sends noised updates, and may be away for so many seconds.
pub(crate) fn noised_plan(rounds: u32, away_after_s: u64) -> String {
    let cohort = format!("quorum = 1\naway_after_s = {away_after_s}");
    let privacy =
        "unit = \"institution\"\nclip = 1.0\nnoise_multiplier = 1.0\nmax_epsilon = 1000.0";
    trainable(&plan(1, rounds, "full", 1))
        .replace("quorum = 1", &cohort)
        .replace("unit = \"none\"", privacy)
}

/// A long training at everybody; the run, once all are at it.
fn all_training(federation: &mut Federation, count: usize, quorum: usize) -> Result<String> {
    for name in enrol(federation, count, 40)? {
        federation.cluster.start_client(&name)?;
    }
    let text = trainable(&plan(count, 2, "full", 1))
        .replace(
            &format!("quorum = {count}"),
            &format!("quorum = {quorum}\naway_after_s = 2"),
        )
        .replace("[cohort]", "[training]\nlocal_epochs = 20\n[cohort]");
    let run = federation.start_run(&text)?;
    wait(Instant::now(), || {
        let view = federation.cluster.coordinate(&["run", "show", &run])?;
        let members = view["members"].as_array().context("members")?;
        Ok(members.iter().all(|member| member["state"] == "working"))
    })?;
    Ok(run)
}

/// Times of the events of that kind, in milliseconds.
pub(crate) fn times_of(federation: &Federation, run: &str, kind: &str) -> Result<Vec<i64>> {
    let mut command = federation
        .cluster
        .coordinator_command(&["run", "watch", run, "--all"])?;
    command.args(["--output", "json"]);
    let output = fedner_tests::process::run(command)?;
    let mut times = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let entry: Value = serde_json::from_str(line)?;
        if entry["event"]["kind"] == kind {
            times.push(entry["time"].as_i64().context("time")?);
        }
    }
    Ok(times)
}

pub(crate) fn now_ms() -> Result<i64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(since.as_millis() as i64)
}

pub(crate) fn killed() -> Result<()> {
    let mut waits = Vec::new();
    for _ in 0..REPEATS {
        let mut federation = Federation::start(tiny::TEST)?;
        let run = all_training(&mut federation, 3, 2)?;
        federation.cluster.kill_client("i2")?;
        let killed = now_ms()?;
        let closed = times_of(&federation, &run, "round_closed")?;
        let accepted = times_of(&federation, &run, "update_accepted")?;
        // What the others' training takes is not the dead one's fault.
        let last = accepted.get(1).copied().unwrap_or(killed).max(killed);
        waits.push((closed.first().context("closed")? - last) as f64 / 1000.0);
    }
    println!(
        "killed: the round closes after the others' last update, or the death: {}",
        spread(waits, "s")
    );
    Ok(())
}

pub(crate) fn restarted() -> Result<()> {
    let mut waits = Vec::new();
    for _ in 0..REPEATS {
        let mut federation = Federation::start(tiny::TEST)?;
        let run = all_training(&mut federation, 3, 3)?;
        federation.cluster.kill_coordinator()?;
        std::thread::sleep(Duration::from_secs(3));
        let began = Instant::now();
        federation.cluster.start_coordinator()?;
        // The round goes on when the clients are back and at work.
        waits.push(wait(began, || {
            let view = federation.cluster.coordinate(&["run", "show", &run])?;
            let members = view["members"].as_array().context("members")?;
            Ok(all_seen(&federation, 3)? && members.iter().all(|member| member["state"] != "away"))
        })?);
        let completed = times_of(&federation, &run, "run_completed")?;
        anyhow::ensure!(completed.len() == 1, "the run was lost");
    }
    println!(
        "restarted: from the start of a coordinator that was away for 3 s to all at work: {}",
        spread(waits, "s")
    );
    Ok(())
}
