//! Three processes of one coordinator under random faults: the weights are those of an undisturbed run on one machine,
//! and nothing is lost or doubled.
//!
//! The faults hit one after another while runs go on, whose plans differ in their names alone.
//!
//! | variable | does |
//! |---|---|
//! | `FEDNER_FAULTS=500` | so many faults |
//! | `FEDNER_KILL_SEED=7` | draws other faults |

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fedner_tests::faulty::Fault as Trouble;
use fedner_tests::proxy::Proxy;
use fedner_tests::several::{Ground, Several, Wires};
use fedner_tests::skip::skipped;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use crate::crash::{ROUNDS, TWO, note, number, steady_plan, undisturbed, weights};
use crate::setting::{MINUTES, Setting};

const PROCESSES: usize = 3;
const LEASE: Duration = Duration::from_secs(2);

/// What is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    LeaderKilled,
    LeaderPaused,
    FrontEndKilled,
    /// A process's wire to the database, to its callers, and to the other processes.
    Database,
    Callers,
    Others,
    /// The objects, for one process and for all.
    ObjectsOfOne,
    ObjectsOfAll,
    /// The server of the database ends in its immediate mode.
    DatabaseRestarted,
}

const FAULTS: [Fault; 9] = [
    Fault::LeaderKilled,
    Fault::Database,
    Fault::LeaderPaused,
    Fault::ObjectsOfAll,
    Fault::DatabaseRestarted,
    Fault::Callers,
    Fault::Others,
    Fault::ObjectsOfOne,
    Fault::FrontEndKilled,
];

/// What a log may call an ERROR, since the faults explain it: that a store does not answer.
const EXPLAINED: [&str; 2] = [
    "a request must be made again",
    "cannot publish a version; will try again",
];

struct Federation {
    setting: Setting,
    several: Several,
    random: ChaCha8Rng,
    /// How often each fault hit.
    hit: BTreeMap<String, usize>,
    /// Runs that were begun.
    runs: usize,
    /// Processes that ended by themselves, and were started again as a service manager does.
    ended: usize,
    _folder: TempDir,
}

impl Federation {
    fn start(seed: u64) -> Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let Some(ground) = Ground::new(PROCESSES, LEASE, &folder.path().join("log"))? else {
            return Ok(None);
        };
        let mut setting = Setting::with_model_on(ground.engines())?;
        let several = Several::join(ground, &mut setting.cluster)?;
        several.wait_for_leader(MINUTES)?;
        for (number, name) in TWO.names.iter().enumerate() {
            setting.enrol(name, number, 4)?;
            setting.cluster.start_client(name)?;
        }
        Ok(Some(Self {
            setting,
            several,
            random: ChaCha8Rng::seed_from_u64(seed),
            hit: BTreeMap::new(),
            runs: 0,
            ended: 0,
            _folder: folder,
        }))
    }

    fn faults(&self) -> usize {
        self.hit.values().sum()
    }

    fn note_hit(&mut self, what: &str) {
        *self.hit.entry(what.to_owned()).or_default() += 1;
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.random_range(range))
    }

    /// For a while: about half of them outlast the lease.
    fn wait(&mut self) {
        let long = self.random.random();
        let more = if long { LEASE } else { Duration::ZERO };
        let time = more + self.millis(50..1500);
        thread::sleep(time);
    }

    /// Hits, and mends it again.
    fn inflict(&mut self, fault: Fault) -> Result<()> {
        // In the middle of a change it is whoever comes first.
        let leader = self.several.leader()?.unwrap_or_default();
        let follower = (leader + self.random.random_range(1..PROCESSES)) % PROCESSES;
        let either = if self.random.random() {
            leader
        } else {
            follower
        };
        match fault {
            Fault::LeaderKilled => self.kill("leader killed", leader),
            Fault::FrontEndKilled => self.kill("front end killed", follower),
            Fault::LeaderPaused => {
                self.note_hit("leader paused");
                let process = self.several.process(leader).context("it runs")?;
                process.signal("-STOP")?;
                let time = LEASE + self.millis(500..2000);
                thread::sleep(time);
                let process = self.several.process(leader).context("it runs")?;
                process.signal("-CONT")
            }
            Fault::Database => {
                self.wire("database", either, |wires| &wires.database);
                Ok(())
            }
            Fault::Callers => {
                self.wire("callers", either, |wires| &wires.callers);
                Ok(())
            }
            Fault::Others => {
                self.wire("other processes", leader, |wires| &wires.others);
                Ok(())
            }
            Fault::ObjectsOfOne => {
                self.objects("objects of one", &[either]);
                Ok(())
            }
            Fault::ObjectsOfAll => {
                self.objects("objects of all", &[0, 1, 2]);
                Ok(())
            }
            Fault::DatabaseRestarted => {
                self.note_hit("database restarted");
                self.several.ground.server.abort()?;
                let time = self.millis(0..1500);
                thread::sleep(time);
                self.several.ground.server.resume()
            }
        }
    }

    fn kill(&mut self, what: &str, number: usize) -> Result<()> {
        self.note_hit(what);
        self.several.kill(number)?;
        self.wait();
        self.several.start(number)
    }

    /// Cuts a wire, stalls it, or makes it slow.
    fn wire(&mut self, what: &str, number: usize, of: impl Fn(&Wires) -> &Proxy) {
        let wire = of(&self.several.ground.wires[number]);
        let how = match self.random.random_range(0..3) {
            0 => {
                wire.cut();
                "cut"
            }
            1 => {
                wire.stall();
                "stalled"
            }
            _ => {
                wire.up().slow_down(20_000);
                wire.down().slow_down(20_000);
                "slowed"
            }
        };
        self.note_hit(&format!("{what} {how}"));
        self.wait();
        self.several.ground.wires[number].mend();
    }

    fn objects(&mut self, what: &str, numbers: &[usize]) {
        let (trouble, how) = match self.random.random_range(0..5) {
            0 => (Trouble::Answer(500, String::new()), "answer 500"),
            1 => (Trouble::LostAnswer, "lose answers"),
            2 => (Trouble::HalfAnswer, "break off answers"),
            3 => (Trouble::Silence(LEASE), "are silent"),
            _ => (Trouble::Delay(Duration::from_millis(300)), "are slow"),
        };
        self.note_hit(&format!("{what} {how}"));
        for number in numbers {
            let trouble = trouble.clone();
            let wires = &self.several.ground.wires[*number];
            wires.objects.decide(move |_, _| Some(trouble.clone()));
        }
        self.wait();
        for number in numbers {
            self.several.ground.wires[*number].mend();
        }
    }

    /// Starts what has ended by itself.
    fn revive(&mut self) -> Result<()> {
        for number in 0..self.several.count() {
            let process = self.several.process(number);
            if !process.is_some_and(|process| process.is_running()) {
                self.several.start(number)?;
                self.ended += 1;
            }
        }
        for name in TWO.names {
            let client = self.setting.cluster.client_process(name);
            ensure!(
                client.is_some_and(|client| client.is_running()),
                "{name} ended"
            );
        }
        Ok(())
    }

    /// Creates and starts one more run, whoever leads.
    fn begin_run(&mut self) -> Result<String> {
        self.runs += 1;
        let name = format!("notes-{}", self.runs);
        let deadline = Instant::now() + MINUTES;
        while Instant::now() < deadline {
            // What was created, or started, before its answer was lost is refused the second time.
            let _ = self.setting.start_run(&steady_plan(TWO, &name));
            let _ = self.setting.cluster.coordinate(&["run", "start", &name]);
            let view = self.setting.cluster.coordinate(&["run", "show", &name]);
            if view.is_ok_and(|view| view["state"] != "created") {
                return Ok(name);
            }
            self.revive()?;
        }
        anyhow::bail!("{name} could not be created: {}", self.setting.logs())
    }

    fn is_over(&self, run: &str) -> Result<bool> {
        let Ok(view) = self.setting.cluster.coordinate(&["run", "show", run]) else {
            return Ok(false);
        };
        ensure!(view["state"] != "failed", "{view}: {}", self.setting.logs());
        Ok(view["state"] == "completed")
    }

    /// Brings a run to its end, while faults hit until there were so many.
    fn suffer(&mut self, run: &str, wanted: usize) -> Result<()> {
        let mut quiet = Instant::now();
        while !self.is_over(run)? {
            if self.faults() < wanted {
                // Each kind once, before chance decides.
                let chance = self.random.random_range(0..FAULTS.len());
                let fault = *FAULTS.get(self.faults()).unwrap_or(&FAULTS[chance]);
                self.inflict(fault)
                    .with_context(|| format!("{fault:?} after {:?}", self.hit))?;
                quiet = Instant::now();
            }
            ensure!(
                quiet.elapsed() < 2 * MINUTES,
                "{run} does not end: {}",
                self.setting.logs()
            );
            let time = self.millis(0..1000);
            thread::sleep(time);
            self.revive()?;
        }
        let published = self.setting.published()?;
        let of_run = |name: &str| {
            name.strip_prefix(run)
                .is_some_and(|rest| rest.starts_with('@'))
        };
        let published: Vec<_> = published
            .into_iter()
            .filter(|model| model["version"]["name"].as_str().is_some_and(of_run))
            .collect();
        ensure!(
            weights(&published, TWO.names.len()) == undisturbed()?.weights,
            "the weights of {run} differ after {:?}",
            self.hit
        );
        Ok(())
    }

    /// Nothing was lost or doubled, and nothing was logged that the faults do not explain.
    fn check(&self) -> Result<()> {
        self.setting.assert_replays()?;
        for name in TWO.names {
            for what in ["receipts", "privacy"] {
                self.setting.cluster.consult(name, &[what, "verify"])?;
            }
        }
        self.accepted_as_due()?;
        let errors = self.unexplained()?;
        ensure!(errors.is_empty(), "{errors:#?}");
        Ok(())
    }

    /// Each institution has one update in each round.
    fn accepted_as_due(&self) -> Result<()> {
        let accepted =
            "SELECT count(*) FROM events WHERE entry::json->'event'->>'kind' = 'update_accepted'";
        let accepted: usize = self.several.ground.query(accepted)?.parse()?;
        let due = self.runs * TWO.names.len() * ROUNDS as usize;
        ensure!(
            accepted == due,
            "{accepted} updates were accepted, not {due}"
        );
        Ok(())
    }

    /// What processes logged as an ERROR that no fault explains.
    fn unexplained(&self) -> Result<Vec<String>> {
        let explained = |line: &str| EXPLAINED.iter().any(|what| line.contains(what));
        let said = self.several.said()?.into_iter();
        let errors = said.filter(|line| line.contains(" ERROR ") && !explained(line));
        Ok(errors.collect())
    }
}

#[test]
fn random_faults_over_three_processes_lose_and_double_nothing() -> Result<()> {
    let wanted = number("FEDNER_FAULTS", 10)?;
    let seed = number("FEDNER_KILL_SEED", 1)? as u64;
    let Some(mut federation) = Federation::start(seed)? else {
        return skipped("three processes under faults", &Ground::needed());
    };
    note(&format!("{wanted} faults, drawn from seed {seed}"));
    let began = Instant::now();
    while federation.faults() < wanted {
        let run = federation.begin_run()?;
        federation
            .suffer(&run, wanted)
            .with_context(|| format!("with seed {seed}"))?;
    }
    let leaders = federation.several.leaders()?;
    note(&format!(
        "{:?} in {} runs and {:?}, {leaders} leaders, {} processes ended by themselves",
        federation.hit,
        federation.runs,
        began.elapsed(),
        federation.ended
    ));
    federation
        .check()
        .with_context(|| format!("with seed {seed}"))?;
    ensure!(leaders > 2, "only {leaders} leaders");
    note("nothing was lost or doubled");
    Ok(())
}

/// What a leader would leave behind that nobody keeps from writing: one update stands twice.
#[test]
fn an_update_that_stands_twice_would_be_noticed() -> Result<()> {
    let Some(mut federation) = Federation::start(1)? else {
        return skipped("an update that stands twice", &Ground::needed());
    };
    let run = federation.begin_run()?;
    federation.suffer(&run, 0)?;
    federation.check()?;
    federation.several.ground.query(
        "WITH next AS (SELECT max(sequence) + 1 AS number FROM events)
         INSERT INTO events SELECT number, run, digest, jsonb_set(entry::jsonb, '{sequence}', to_jsonb(number))::text
         FROM events, next WHERE entry::json->'event'->>'kind' = 'update_accepted' ORDER BY sequence LIMIT 1",
    )?;
    ensure!(
        federation.accepted_as_due().is_err(),
        "it was not counted twice"
    );
    let verified = federation.setting.cluster.coordinate(&["verify"]);
    let clean = verified.is_ok_and(|verdict| verdict["problems"] == serde_json::json!([]));
    ensure!(!clean, "the chain was taken for whole");
    Ok(())
}
