//! Death at every durable step: the run ends with the same weights as without it.
//!
//! The programs are built with crash points (`fedner_host::crash`). A first, undisturbed run
//! notes which points it reaches; each case then dies at one of them and is started again. The
//! plan is deterministic: no noise, everybody needed, time enough.
//!
//! | variable | does |
//! |---|---|
//! | `FEDNER_CRASH_POINTS=all` | dies at every point that a run reaches, not at a few only |
//! | `FEDNER_KILLS=1000` | kills the programs so often at random times |
//! | `FEDNER_KILL_SEED=7` | draws other times |

use std::collections::BTreeMap;
use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::setting::{MINUTES, NO_NOISE, Setting, plan};

/// Who trains, by which plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cohort {
    pub(crate) names: &'static [&'static str],
    /// More tables of the plan.
    pub(crate) tables: &'static str,
}

pub(crate) const TWO: Cohort = Cohort {
    names: &["i0", "i1"],
    tables: "",
};
pub(crate) const ROUNDS: u32 = 3;

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Program {
    Coordinator,
    Client,
}

/// A federation whose programs are started again whenever they have died.
pub(crate) struct Federation {
    pub(crate) setting: Setting,
    pub(crate) deaths: usize,
    cohort: Cohort,
}

impl Federation {
    /// Enrolled, not yet running; the variables are for the first lives of coordinator and `i0`.
    fn start(coordinator: &[(&str, &str)], client: &[(&str, &str)]) -> Result<Self> {
        Self::start_in(Setting::with_model()?, coordinator, client)
    }

    /// The same in that setting.
    pub(crate) fn start_in(
        setting: Setting,
        coordinator: &[(&str, &str)],
        client: &[(&str, &str)],
    ) -> Result<Self> {
        Self::start_of(TWO, setting, coordinator, client)
    }

    /// The same of that cohort.
    fn start_of(
        cohort: Cohort,
        mut setting: Setting,
        coordinator: &[(&str, &str)],
        client: &[(&str, &str)],
    ) -> Result<Self> {
        for (number, name) in cohort.names.iter().enumerate() {
            setting.enrol(name, number, 4)?;
        }
        setting.cluster.kill_coordinator()?;
        setting.cluster.start_coordinator_with(coordinator)?;
        setting.cluster.start_client_with("i0", client)?;
        for name in &cohort.names[1..] {
            setting.cluster.start_client(name)?;
        }
        Ok(Self {
            setting,
            deaths: 0,
            cohort,
        })
    }

    /// Starts whatever has died.
    fn revive(&mut self) -> Result<()> {
        let cluster = &mut self.setting.cluster;
        let lives = |process: Option<&mut fedner_tests::process::Process>| {
            process.is_some_and(|process| process.is_running())
        };
        if !lives(cluster.coordinator_process()) {
            self.deaths += 1;
            cluster.start_coordinator()?;
        }
        for name in self.cohort.names {
            if !lives(cluster.client_process(name)) {
                self.deaths += 1;
                cluster.start_client(name)?;
            }
        }
        Ok(())
    }

    /// Creates and starts the run, however often the coordinator dies of it.
    pub(crate) fn create_run(&mut self) -> Result<String> {
        let deadline = Instant::now() + MINUTES;
        let text = steady_plan(self.cohort, "notes");
        while Instant::now() < deadline {
            // What was created, or started, before the coordinator died is refused the second time.
            let _ = self.setting.start_run(&text);
            self.revive()?;
            let _ = self.setting.cluster.coordinate(&["run", "start", "notes"]);
            self.revive()?;
            if let Ok(view) = self.setting.cluster.coordinate(&["run", "show", "notes"])
                && view["state"] != "created"
            {
                return Ok(view["run"].as_str().context("run")?.to_owned());
            }
        }
        bail!("the run could not be created: {}", self.setting.logs())
    }

    /// Brings the run to its end, while `disturb` does its worst; the weights of all rounds.
    pub(crate) fn finish(
        &mut self,
        run: &str,
        mut disturb: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<Vec<Value>> {
        let deadline = Instant::now() + 5 * MINUTES;
        loop {
            ensure!(
                Instant::now() < deadline,
                "the run does not end: {}",
                self.setting.logs()
            );
            self.revive()?;
            disturb(self)?;
            let view = self.setting.cluster.coordinate(&["run", "show", run]);
            match view {
                Ok(view) if view["state"] == "completed" => break,
                Ok(view) => ensure!(view["state"] != "failed", "{view}: {}", self.setting.logs()),
                Err(_) => {}
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.revive()?;
        self.setting.assert_replays()?;
        for name in self.cohort.names {
            self.setting
                .cluster
                .consult(name, &["receipts", "verify"])?;
            self.setting.cluster.consult(name, &["privacy", "verify"])?;
        }
        let count = self.cohort.names.len();
        Ok(weights(&self.setting.published()?, count))
    }
}

/// A plan that needs everybody in each round, and has time enough. Its weights do not depend on its name.
pub(crate) fn steady_plan(cohort: Cohort, name: &str) -> String {
    let all = cohort.names.len();
    let text = plan(all, all, ROUNDS, "full", "away_after_s = 600", NO_NOISE);
    let text = text.replace("\"notes\"", &format!("{name:?}"));
    match cohort.tables {
        "" => text,
        tables => text.replace("weighting = \"examples\"", "weighting = \"equal\"") + tables,
    }
}

/// The weights of versions in each of which so many took part.
pub(crate) fn weights(published: &[Value], count: usize) -> Vec<Value> {
    let weights = |model: &Value| {
        let participants = &model["version"]["origin"]["participants"];
        assert_eq!(
            participants.as_array().map(Vec::len),
            Some(count),
            "{model}"
        );
        model["version"]["weights"].clone()
    };
    published.iter().map(weights).collect()
}

/// The number that a variable names.
pub(crate) fn number(variable: &str, default: usize) -> Result<usize> {
    let named = std::env::var(variable);
    Ok(named.map_or(Ok(default), |text| text.parse())?)
}

/// What a run makes when nobody dies, and how often it reaches each point.
pub(crate) struct Undisturbed {
    pub(crate) weights: Vec<Value>,
    points: BTreeMap<(Program, String), usize>,
}

pub(crate) fn undisturbed() -> Result<&'static Undisturbed> {
    static ONCE: OnceLock<std::result::Result<Undisturbed, String>> = OnceLock::new();
    let observed = ONCE.get_or_init(|| observe().map_err(|error| format!("{error:#}")));
    observed
        .as_ref()
        .map_err(|error| anyhow::anyhow!("{error}"))
}

fn observe() -> Result<Undisturbed> {
    let folder = tempfile::tempdir()?;
    let logs = [
        (Program::Coordinator, folder.path().join("coordinator")),
        (Program::Client, folder.path().join("client")),
    ];
    let of = |index: usize| logs[index].1.to_str().context("path");
    let mut federation = Federation::start(
        &[("FEDNER_CRASH_LOG", of(0)?)],
        &[("FEDNER_CRASH_LOG", of(1)?)],
    )?;
    let run = federation.create_run()?;
    let weights = federation.finish(&run, |_| Ok(()))?;
    ensure!(federation.deaths == 0, "somebody died undisturbed");
    let mut points = BTreeMap::new();
    for (program, path) in &logs {
        for point in fs::read_to_string(path)?.lines() {
            *points.entry((*program, point.to_owned())).or_default() += 1;
        }
    }
    Ok(Undisturbed { weights, points })
}

/// Dies at the point's `occurrence`-th time.
fn dies_at(program: Program, point: &str, occurrence: usize) -> Result<()> {
    let fuse = format!("{point}:{occurrence}");
    let armed = [("FEDNER_CRASH_AT", fuse.as_str())];
    let none: &[(&str, &str)] = &[];
    let mut federation = match program {
        Program::Coordinator => Federation::start(&armed, none)?,
        Program::Client => Federation::start(none, &armed)?,
    };
    let run = federation.create_run()?;
    let weights = federation.finish(&run, |_| Ok(()))?;
    ensure!(federation.deaths > 0, "nobody died at {fuse}");
    ensure!(
        weights == undisturbed()?.weights,
        "after a death of the {program:?} at {fuse} the weights differ"
    );
    Ok(())
}

#[test]
fn a_death_at_a_durable_step_changes_nothing() -> Result<()> {
    let few = [
        (Program::Coordinator, "before commit accept update"),
        (Program::Coordinator, "after link object"),
        (Program::Coordinator, "before commit publish version"),
        (Program::Client, "after rename update"),
        (Program::Client, "after commit release update"),
        (Program::Client, "before commit mark taken"),
    ];
    let reached = &undisturbed()?.points;
    let all = std::env::var("FEDNER_CRASH_POINTS").is_ok_and(|points| points == "all");
    let mut cases = 0;
    for ((program, point), times) in reached {
        if !all && !few.contains(&(*program, point.as_str())) {
            continue;
        }
        // The first time, and one in the middle of the run.
        let mut occurrences = vec![1];
        if all && *times > 2 {
            occurrences.push(times.div_ceil(2));
        }
        for occurrence in occurrences {
            dies_at(*program, point, occurrence)
                .with_context(|| format!("{program:?} at {point}, time {occurrence}"))?;
            cases += 1;
        }
    }
    ensure!(
        cases >= few.len(),
        "only {cases} of the points are reached: {reached:?}"
    );
    note(&format!("{cases} deaths at crash points, all without loss"));
    Ok(())
}

#[test]
fn kills_at_random_times_lose_and_double_nothing() -> Result<()> {
    let killed = |weights: &[Value], _: &Federation| {
        ensure!(weights == undisturbed()?.weights, "the weights differ");
        Ok(())
    };
    kill_at_random(TWO, killed)
}

/// Kills programs of federations of that cohort until there were enough kills. Each run must end, and `look` at its
/// weights and directories must find nothing.
pub(crate) fn kill_at_random(
    cohort: Cohort,
    mut look: impl FnMut(&[Value], &Federation) -> Result<()>,
) -> Result<()> {
    let wanted = number("FEDNER_KILLS", 3)?;
    let seed = number("FEDNER_KILL_SEED", 1)? as u64;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut kills, mut runs) = (BTreeMap::<&str, usize>::new(), 0);
    while kills.values().sum::<usize>() < wanted {
        let mut federation = Federation::start_of(cohort, Setting::with_model()?, &[], &[])?;
        let run = federation.create_run()?;
        let weights = federation.finish(&run, |federation| {
            std::thread::sleep(Duration::from_millis(rng.random_range(0..400)));
            let victim = rng.random_range(0..=cohort.names.len());
            let cluster = &mut federation.setting.cluster;
            let name = if let Some(name) = cohort.names.get(victim) {
                cluster.kill_client(name)?;
                "clients"
            } else {
                cluster.kill_coordinator()?;
                "coordinator"
            };
            *kills.entry(name).or_default() += 1;
            federation.revive()
        })?;
        runs += 1;
        look(&weights, &federation).with_context(|| format!("with seed {seed}, in run {runs}"))?;
        note(&format!(
            "{kills:?} in {runs} runs, nothing lost or doubled"
        ));
    }
    Ok(())
}

/// For the long modes, whose counts somebody wants to read.
#[expect(clippy::print_stderr, reason = "a test says what it did")]
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}
