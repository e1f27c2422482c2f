//! The federation itself: set up, run, watched.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fedner_shared::checkpoint;
use fedner_shared::event::{Entry, Event};
use fedner_shared::plan::{Plan, Unit};
use fedner_tests::cluster::{Cluster, Member, Policy};
use fedner_tests::process;
use indicatif::{ProgressBar, ProgressStyle};

use crate::data::Data;

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) run: String,
    pub(crate) version: String,
    /// The newest version as a Hugging Face directory.
    pub(crate) exported: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) epsilon: Option<f64>,
    /// Of each round.
    pub(crate) seconds: Vec<f64>,
    pub(crate) total: Duration,
    pub(crate) client_peak: u64,
    pub(crate) coordinator_peak: u64,
}

/// A coordinator and its institutions.
#[derive(Debug)]
pub(crate) struct Federation {
    cluster: Cluster,
    directory: PathBuf,
    names: Vec<String>,
}

impl Federation {
    /// Everybody is enrolled, and agrees to what the plan asks for.
    pub(crate) fn start(directory: &Path, model: &Path, plan: &Plan, data: &Data) -> Result<Self> {
        eprintln!(
            "starting a coordinator and {} institutions on loopback",
            data.institutions.len()
        );
        let mut cluster = Cluster::start(directory)?;
        let config = fs::read_to_string(model.join("config.json"))
            .context("read the model's config.json")?;
        let tags = checkpoint::tags_of_config(&config).context("read the model's tags")?;
        let from = model.to_str().context("the model's path is not text")?;
        let mut import = vec!["model", "import", "--from", from, "--name", "base"];
        if tags.is_some_and(|tags| tags != plan.tags()) {
            import.push("--encoder-only");
        }
        process::run(cluster.coordinator_command(&import)?)?;
        for institution in &data.institutions {
            cluster.enrol(&Member {
                name: institution.name.clone(),
                data: institution.train.clone(),
                held_out: institution.devel.clone(),
                policy: Policy {
                    allow_no_privacy: true,
                    share_evaluation: true,
                    max_epsilon_run: plan.privacy.max_epsilon.max(8.0),
                    declared_examples: Some(institution.declares(plan.privacy.unit)?),
                },
            })?;
            if matches!(plan.privacy.unit, Unit::Document | Unit::Sentence) {
                // A corpus that names no persons.
                let file = cluster
                    .client_directory(&institution.name)
                    .join("policy.toml");
                let policy = fs::read_to_string(&file).context("read the policy")?;
                let account = format!("{policy}account = \"{}\"\n", plan.privacy.unit);
                fs::write(&file, account).context("write the policy")?;
            }
            cluster.start_client(&institution.name)?;
        }
        let names = data.institutions.iter().map(|one| one.name.clone());
        Ok(Self {
            cluster,
            directory: directory.to_owned(),
            names: names.collect(),
        })
    }

    /// Runs the plan to its end, and exports what it has trained to that folder.
    pub(crate) fn train(&mut self, plan: &Plan, folder: &str) -> Result<Outcome> {
        let plan_path = self.directory.join(format!("{}.toml", plan.name));
        fs::write(&plan_path, toml::to_string(plan)?).context("write the plan")?;
        let plan_text = plan_path.to_str().context("the plan's path is not text")?;
        let create = ["run", "create", plan_text, "--start", "--force"];
        let created = self.cluster.coordinate(&create)?;
        let run = created["run"]
            .as_str()
            .context("the run's name")?
            .to_owned();
        eprintln!(
            "run {run}: {} rounds of `{}`, privacy unit `{}`",
            plan.rounds, plan.method, plan.privacy.unit
        );
        if plan.privacy.shares_noise() {
            eprintln!("the institutions read their fingerprints to each other");
            let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
            let asked = self.cluster.asked_with_roster(names[0], names.len())?;
            self.cluster.introduce(&names, &asked)?;
        }
        let began = Instant::now();
        let mut outcome = Outcome {
            run: run.clone(),
            version: String::new(),
            exported: self.directory.join(folder),
            bytes: 0,
            epsilon: None,
            seconds: Vec::new(),
            total: Duration::ZERO,
            client_peak: 0,
            coordinator_peak: 0,
        };
        follow(&mut self.cluster, plan, &mut outcome)?;
        outcome.total = began.elapsed();
        let exported = outcome.exported.to_str();
        let exported = exported.context("the path is not text")?;
        let export = ["model", "export", &outcome.version, "--to", exported];
        process::run(self.cluster.coordinator_command(&export)?)?;
        (outcome.client_peak, outcome.coordinator_peak) = self.cluster.peak_memory();
        Ok(outcome)
    }

    /// The coordinator ends; its directory stays.
    pub(crate) fn end(&mut self) -> Result<()> {
        if let Some(coordinator) = self.cluster.coordinator_process() {
            coordinator.terminate(Duration::from_secs(15))?;
        }
        Ok(())
    }
}

/// Follows `run watch` until the run ends.
fn follow(cluster: &mut Cluster, plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    let mut command = cluster.coordinator_command(&[
        "run",
        "watch",
        &outcome.run,
        "--all",
        "--output",
        "json",
    ])?;
    let mut watch = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("start `run watch`")?;
    let stdout = watch.stdout.take().context("read `run watch`")?;
    let steps = u64::from(plan.rounds) * (2 * plan.cohort.institutions.len() as u64 + 1);
    let bar = ProgressBar::new(steps).with_style(ProgressStyle::with_template(
        "{elapsed_precise} {wide_bar} {msg}",
    )?);
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut said = String::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("read `run watch`")?;
        let entry: Entry =
            serde_json::from_str(&line).with_context(|| format!("read the event {line}"))?;
        let (steps, message) = digest_event(&entry.event, outcome);
        bar.inc(steps);
        if let Some(message) = message {
            if bar.is_hidden() {
                eprintln!("{message}");
            }
            bar.set_message(message.clone());
            said = message;
        }
    }
    bar.finish_and_clear();
    let status = watch.wait().context("wait for `run watch`")?;
    if !status.success() {
        bail!(
            "the run did not complete; the last thing it said: {said}\nthe logs are in {}",
            cluster.directory().join("logs").display()
        );
    }
    Ok(())
}

/// How far the bar moves, and what to say.
fn digest_event(event: &Event, outcome: &mut Outcome) -> (u64, Option<String>) {
    if let Event::UpdateAccepted {
        round,
        institution,
        bytes,
        epsilon,
        ..
    } = event
    {
        outcome.bytes += bytes;
        outcome.epsilon = [outcome.epsilon, *epsilon]
            .into_iter()
            .flatten()
            .reduce(f64::max);
        let cost = epsilon.map_or_else(String::new, |epsilon| format!(", ε {epsilon:.1}"));
        let megabytes = *bytes as f64 / 1e6;
        return (
            1,
            Some(format!(
                "round {round}: update of {institution}, {megabytes:.2} MB{cost}"
            )),
        );
    }
    if let Event::VersionPublished {
        round,
        version,
        seconds,
        ..
    } = event
    {
        outcome.version = version.to_string();
        outcome.seconds.push(*seconds);
        return (
            1,
            Some(format!(
                "round {round}: published {version} after {seconds:.0} s"
            )),
        );
    }
    if let Event::Evaluated {
        round,
        institution,
        f1,
        ..
    } = event
    {
        return (
            1,
            Some(format!(
                "round {round}: {institution} measures F1 {f1:.3} on its held-out text"
            )),
        );
    }
    if let Event::RoundFinished {
        round,
        f1: Some(f1),
        ..
    } = event
    {
        return (
            0,
            Some(format!("round {round}: F1 {f1:.3} over all held-out text")),
        );
    }
    if let Event::Declined {
        institution,
        code,
        reason,
        ..
    } = event
    {
        return (
            1,
            Some(format!("{institution} declined ({code}): {reason}")),
        );
    }
    if let Event::RoundRepeated { round, reason, .. } = event {
        return (0, Some(format!("round {round} is repeated: {reason}")));
    }
    if let Event::RunFailed { reason } = event {
        return (0, Some(format!("the run failed: {reason}")));
    }
    (0, None)
}
