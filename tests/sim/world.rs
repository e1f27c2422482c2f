//! Runs one scenario: machines, network, operations one after another, and the model beside it.

pub(crate) mod masked_liar;
mod people;
mod soak;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use fedner_client::state::Store as SiteStore;
use fedner_proto::v1::control_run_request::Action;
use fedner_proto::v1::set_institution_state_request::State;
use fedner_round::{Phase, Run};
use fedner_shared::plan::Plan;
use fedner_shared::sign::Signed;
use tempfile::TempDir;
use tokio::sync::mpsc;
use turmoil::Sim;

use crate::duplicate;
use crate::forge::two_consents;
use crate::hosts::{CoordinatorHost, SiteHost};
use crate::logs::anonymous;
use crate::machine::SimMachine;
use crate::mishap::Folder;
use crate::model::Model;
use crate::network::COORDINATOR;
use crate::objects::SimObjects;
use crate::op::{Op, Scenario, Setting};
use crate::outsider::{Answer, Call, Message, Outsider, Reply};
use crate::place::Place;
use crate::plans::{SITES, plan, write_policy};
use crate::prepared::{folder, operator_key, prepared};
use crate::trainer::{Mood, SimTrainer};

pub(crate) use soak::{Sizes, soak};

/// The least that a message takes; everything happens in steps of it.
const TICK: Duration = Duration::from_millis(100);
/// Seconds by which a clock is wrong that somebody sets right in the end: certificates and consents end.
const WRONG: i64 = 20 * 86_400;
const ELSEWHERE: &str = "elsewhere";

/// What became of a scenario.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Every event with its time, digests named in the order of their appearance.
    pub(crate) log: Vec<String>,
    /// The faults that were injected, and how often.
    pub(crate) faults: BTreeMap<String, u64>,
    pub(crate) published: usize,
    /// How many of them are sums of masked updates.
    pub(crate) unmasked: usize,
    pub(crate) simulated: Duration,
    /// How the runs ended.
    pub(crate) ends: BTreeMap<String, u64>,
}

pub(crate) struct World {
    sim: Sim<'static>,
    setting: Setting,
    directory: TempDir,
    /// The coordinator's first, then the institutions'.
    machines: Vec<Arc<SimMachine>>,
    up: Vec<bool>,
    moods: Vec<Arc<Mutex<Mood>>>,
    folders: Vec<Folder>,
    /// The machines on which copies of institutions' directories run.
    copies: BTreeMap<usize, Arc<SimMachine>>,
    objects: Arc<SimObjects>,
    place: Place,
    model: Model,
    outsider: Outsider,
    outbox: mpsc::UnboundedSender<Message>,
    plans: Vec<Plan>,
    /// Distinguishes one forgery from another.
    salt: u64,
    faults: BTreeMap<String, u64>,
}

/// Runs the scenario to its end, or to the first thing that must not be.
pub(crate) fn run(scenario: &Scenario) -> Result<Report> {
    let mut world = World::new(scenario)?;
    world.begin()?;
    for (number, op) in scenario.ops.iter().enumerate() {
        *world.faults.entry(op.name()).or_default() += 1;
        world
            .apply(*op)
            .with_context(|| format!("operation {number}, {op:?}"))?;
        world
            .check()
            .with_context(|| format!("after operation {number}, {op:?}"))?;
    }
    world.rest().context("after everything was mended")?;
    world.report()
}

impl World {
    pub(crate) fn new(scenario: &Scenario) -> Result<Self> {
        let Scenario { seed, setting, .. } = scenario;
        let directory = folder()?;
        let prepared = prepared();
        prepared.copy(directory.path(), setting.sites)?;
        let mut sim = turmoil::Builder::new()
            .rng_seed(*seed)
            .tick_duration(TICK)
            .simulation_duration(Duration::from_hours(10_000))
            .min_message_latency(Duration::from_millis(10))
            .max_message_latency(Duration::from_millis(400))
            .tcp_capacity(4096)
            .build();
        let machines: Vec<_> = (0..=setting.sites)
            .map(|number| Arc::new(SimMachine::new(seed.wrapping_add(number as u64))))
            .collect();
        let objects = Arc::new(SimObjects::new(prepared.objects(), machines[0].clone()));
        let coordinator = CoordinatorHost {
            directory: directory.path().join(COORDINATOR),
            machine: machines[0].clone(),
            objects: objects.clone(),
        };
        sim.host(COORDINATOR, move || coordinator.clone().run());
        let mut moods = Vec::new();
        let mut folders = Vec::new();
        for site in 0..setting.sites {
            let mood = Arc::new(Mutex::new(Mood::default()));
            moods.push(mood.clone());
            let directory = directory.path().join(SITES[site]);
            write_policy(&directory, setting, site)?;
            folders.push(Folder::new(directory.clone()));
            let host = SiteHost {
                directory,
                machine: machines[site + 1].clone(),
                trainer: Arc::new(SimTrainer {
                    seconds: setting.training,
                    mood,
                }),
            };
            sim.host(SITES[site], move || host.clone().run());
        }
        let outsider = Outsider::default();
        let (outbox, inbox) = mpsc::unbounded_channel();
        let reliable = Arc::new(SimMachine::new(0));
        sim.client(ELSEWHERE, outsider.clone().run(reliable, inbox));
        let place = Place::open(directory.path(), &SITES[..setting.sites], objects.clone())?;
        Ok(Self {
            up: vec![true; machines.len()],
            sim,
            setting: setting.clone(),
            directory,
            machines,
            moods,
            folders,
            copies: BTreeMap::new(),
            objects,
            place,
            model: Model::default(),
            outsider,
            outbox,
            plans: Vec::new(),
            salt: 0,
            faults: BTreeMap::new(),
        })
    }

    /// The operator creates a run and starts it.
    pub(crate) fn begin(&mut self) -> Result<()> {
        for _ in 0..if self.setting.evaluates { 2 } else { 1 } {
            self.create_run()?;
        }
        self.pass(Duration::from_secs(2))?;
        self.start_all();
        self.pass(Duration::from_secs(2))?;
        self.check()
    }

    fn create_run(&mut self) -> Result<()> {
        let mut plan = plan(&self.setting, self.plans.len())?;
        plan.inputs = Some(prepared().inputs(&plan)?);
        let signed = Signed::new(&plan, &operator_key());
        self.plans.push(plan);
        self.operate("create a run", Call::CreateRun(signed));
        Ok(())
    }

    fn start_all(&mut self) {
        self.control(|run| run.phase == Phase::Created, Action::Start);
    }

    fn control(&mut self, which: impl Fn(&Run) -> bool, action: Action) {
        for run in self.place.runs().unwrap_or_default() {
            if which(&run) {
                let call = Call::Control(run.id.to_string(), action);
                self.operate(&format!("{action:?} of {}", run.id), call);
            }
        }
    }

    /// Says something of one member to each run.
    fn each_run(&mut self, site: usize, call: fn(String, String) -> Call) {
        for run in self.place.runs().unwrap_or_default() {
            let call = call(run.id.to_string(), SITES[site].to_owned());
            self.operate(&format!("{call:?}"), call);
        }
    }

    fn operate(&mut self, what: &str, call: Call) {
        let message = Message {
            what: what.to_owned(),
            caller: "operator".to_owned(),
            call,
            forged: None,
        };
        self.say(message);
    }

    fn say(&mut self, message: Message) {
        // The outsider lives as long as the simulation.
        let _ = self.outbox.send(message);
    }

    pub(crate) fn apply(&mut self, op: Op) -> Result<()> {
        let sites = self.setting.sites;
        match op {
            Op::Wait { seconds } => return self.pass(Duration::from_secs(seconds.into())),
            Op::Partition { site } => self.sim.partition(SITES[site % sites], COORDINATOR),
            Op::OneWay { site, out: true } => {
                self.sim.partition_oneway(SITES[site % sites], COORDINATOR);
            }
            Op::OneWay { site, out: false } => {
                self.sim.partition_oneway(COORDINATOR, SITES[site % sites]);
            }
            Op::Hold { site } => self.sim.hold(SITES[site % sites], COORDINATOR),
            Op::Slow { site, millis } => {
                let latency = Duration::from_millis(millis.into());
                self.sim
                    .set_link_latency(SITES[site % sites], COORDINATOR, latency);
            }
            Op::Lossy { site, percent } => {
                let rate = f64::from(percent) / 100.0;
                self.sim
                    .set_link_fail_rate(SITES[site % sites], COORDINATOR, rate);
            }
            Op::Heal { site } => self.heal(site % sites),
            Op::Crash { machine, power } => self.crash(machine % (sites + 1), power)?,
            Op::Restart { machine } => self.restart(machine % (sites + 1)),
            Op::StopAtWrite {
                machine,
                writes,
                side,
            } => {
                self.machines[machine % (sites + 1)].stop_at_write(writes.into(), side);
            }
            Op::DiskFull { machine, writes } => {
                self.machines[machine % (sites + 1)].fill_disk(writes.into());
            }
            Op::ClockJump { machine, seconds } => {
                self.set_clock(machine % (sites + 1), seconds.into());
            }
            Op::Asleep { hours } => {
                for machine in 0..=sites {
                    self.set_clock(machine, i64::from(hours) * 3600);
                }
            }
            Op::Sleep { machine, seconds } => {
                let machine = self.machines[machine % (sites + 1)].clone();
                machine.suspend(self.sim.elapsed());
                self.pass(Duration::from_secs(seconds.into()))?;
                machine.wake();
            }
            Op::Years { machine, days } => {
                let machines = match machine {
                    Some(machine) => vec![machine % (sites + 1)],
                    None => (0..=sites).collect(),
                };
                for machine in machines {
                    self.set_clock(machine, i64::from(days) * 86_400);
                }
            }
            Op::Spoil { site, file, how } => {
                let site = site % sites;
                self.folders[site].spoil(file, how)?;
                // What was begun before is let go.
                self.pass(Duration::from_secs(1))?;
                let store = self.place.site(&SITES[site].parse()?)?;
                self.folders[site].note_silence(store)?;
            }
            Op::Mend { site } => self.folders[site % sites].mend()?,
            Op::Clone { site } => self.copy(site % sites)?,
            Op::Decline { site, no } => self.decline(site % sites, no)?,
            Op::Late { site } => self.mood(site % sites, |mood| mood.late = 60),
            Op::Diverge { site } => self.mood(site % sites, |mood| mood.diverges = true),
            Op::Forge { site, forgery } => self.forge(site % sites, forgery)?,
            Op::Duplicate { site } => {
                let site = site % sites;
                let name = SITES[site].parse()?;
                for message in duplicate::everything(&mut self.place, &name, &self.objects)? {
                    self.say(message);
                }
            }
            Op::TwoConsents { site } => {
                let site = site % sites;
                let now = self.machines[site + 1].at(self.sim.elapsed());
                for run in self.place.runs()? {
                    self.salt += 1;
                    self.say(two_consents(&run, site, now, self.salt));
                }
            }
            Op::Revoke { site } => self.consent(site % sites, false)?,
            Op::Grant { site } => self.consent(site % sites, true)?,
            Op::Pause => self.control(|run| !run.phase.is_end(), Action::Pause),
            Op::Resume => self.control(|run| run.paused.is_some(), Action::Resume),
            Op::Cancel => self.control(|run| !run.phase.is_end(), Action::Cancel),
            Op::Suspend { site } => self.set_state(site % sites, State::Suspended),
            Op::Reinstate { site } => self.set_state(site % sites, State::Active),
            Op::Expel { site } => self.set_state(site % sites, State::Revoked),
            Op::Exclude { site } => self.each_run(site % sites, Call::Exclude),
            Op::Readmit { site } => self.each_run(site % sites, Call::Readmit),
            Op::SecondRun => {
                if self.plans.len() < 2 {
                    self.create_run()?;
                    self.pass(Duration::from_secs(2))?;
                    self.start_all();
                }
            }
        }
        // Whatever was said takes a moment to arrive.
        self.pass(Duration::from_millis(500))
    }

    fn set_clock(&mut self, machine: usize, by_seconds: i64) {
        self.machines[machine].set_clock(by_seconds);
        if machine == 0 && by_seconds < 0 {
            self.model.set_back += Duration::from_secs(by_seconds.unsigned_abs());
        }
    }

    fn set_state(&mut self, site: usize, state: State) {
        let what = format!("{state:?} of {}", SITES[site]);
        self.operate(&what, Call::SetState(SITES[site].to_owned(), state));
    }

    fn heal(&mut self, site: usize) {
        let site = SITES[site];
        self.sim.repair(site, COORDINATOR);
        self.sim.release(site, COORDINATOR);
        self.sim.set_link_fail_rate(site, COORDINATOR, 0.0);
        self.sim
            .set_link_latency(site, COORDINATOR, Duration::from_millis(50));
    }

    fn host(machine: usize) -> &'static str {
        if machine == 0 {
            COORDINATOR
        } else {
            SITES[machine - 1]
        }
    }

    fn crash(&mut self, machine: usize, power: bool) -> Result<()> {
        if !std::mem::replace(&mut self.up[machine], false) {
            return Ok(());
        }
        self.sim.crash(Self::host(machine));
        if power {
            let folder = if machine == 0 { "staging" } else { "blobs" };
            self.salt += 1;
            tear(
                &self.directory.path().join(Self::host(machine)).join(folder),
                self.salt,
            )?;
        }
        Ok(())
    }

    fn restart(&mut self, machine: usize) {
        if !std::mem::replace(&mut self.up[machine], true) {
            self.sim.bounce(Self::host(machine));
        }
    }

    /// Lets simulated time pass. A machine that lost its power in it stays off for a while.
    pub(crate) fn pass(&mut self, time: Duration) -> Result<()> {
        let until = self.sim.elapsed() + time;
        while self.sim.elapsed() < until {
            self.sim
                .step()
                .map_err(|error| anyhow!("a machine failed: {error}"))?;
            let machines = self.machines.iter().chain(self.copies.values());
            // Each of them is asked, since it is told once.
            if machines.filter(|machine| machine.has_said()).count() > 0 {
                self.model.masked.look(&mut self.place)?;
            }
            for machine in 0..self.machines.len() {
                if self.up[machine] && !self.machines[machine].is_powered() {
                    self.crash(machine, true)?;
                }
            }
        }
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        for Answer { message, result } in self.outsider.take_answers() {
            self.model.log.push(format!("{}: {result:?}", message.what));
            if let (Some(run), Ok(())) = (&message.forged, &result) {
                let ended = self.place.run(run)?.phase.is_end();
                ensure!(ended, "the forgery was taken: {}", message.what);
            }
            if let Err(Reply::Failed(text)) = &result {
                ensure!(
                    text != "Internal" || self.breaks(),
                    "a fault over {}",
                    message.what
                );
            }
        }
        for (site, folder) in self.folders.iter().enumerate() {
            let name = SITES[site].parse()?;
            folder.check(self.place.site(&name)?, &name)?;
        }
        self.model.look(&mut self.place, &self.objects)
    }

    /// Whether some disk was broken, so that a fault is no wonder.
    fn breaks(&self) -> bool {
        self.machines
            .iter()
            .any(|machine| !machine.happened().is_empty())
    }

    /// Everything is mended, and everybody comes back: every run must come to an end.
    fn rest(&mut self) -> Result<()> {
        for site in self.copies.keys() {
            self.sim.crash(format!("{}-copy", SITES[*site]));
        }
        for (number, machine) in self.machines.clone().iter().enumerate() {
            machine.mend();
            if machine.ahead().abs() > WRONG {
                self.set_clock(number, -machine.ahead());
            }
            self.restart(number);
        }
        for (site, name) in SITES.iter().enumerate().take(self.setting.sites) {
            self.heal(site);
            self.folders[site].mend()?;
            self.place.site(&name.parse()?)?.save_paused(None)?;
            self.set_state(site, State::Active);
            self.consent(site, true)?;
        }
        let cohort = &self.plans[0].cohort;
        let mut attempt =
            cohort.recruit_timeout() + cohort.train_timeout() + cohort.evaluate_timeout();
        let masks = self
            .plans
            .iter()
            .filter_map(|plan| plan.secure_aggregation.as_ref());
        attempt += 4 * masks
            .map(|masks| masks.step_timeout())
            .max()
            .unwrap_or_default();
        let rounds: u32 = self.plans.iter().map(|plan| plan.last_round() + 1).sum();
        let attempts = rounds * cohort.max_attempts;
        let mut longest = attempt * attempts + Duration::from_mins(3);
        if self.setting.scheduled {
            longest += Duration::from_mins(1) * rounds;
        }
        let until = self.sim.elapsed() + longest;
        loop {
            self.pass(Duration::from_secs(5))?;
            self.check()?;
            let runs = self.place.runs()?;
            if runs.iter().all(|run| run.phase.is_end()) {
                break;
            }
            self.start_all();
            self.control(|run| run.paused.is_some(), Action::Resume);
            ensure!(
                self.sim.elapsed() < until,
                "after {longest:?} there still wait: {:?}",
                runs.iter().map(Run::explain).collect::<Vec<_>>()
            );
        }
        // Late answers may still come in.
        self.pass(Duration::from_secs(5))?;
        self.check()?;
        self.histories_agree()?;
        self.model.look_back(&mut self.place, &self.objects)
    }

    /// Where the coordinator's state lies.
    pub(crate) fn coordinator_database(&self) -> PathBuf {
        self.directory.path().join(COORDINATOR).join("state.sqlite")
    }

    /// What `look` finds in each institution's store.
    pub(crate) fn sites<T>(&self, look: impl Fn(&SiteStore) -> Result<T>) -> Result<Vec<T>> {
        let names = SITES[..self.setting.sites].iter();
        names
            .map(|name| look(self.place.site(&name.parse()?)?))
            .collect()
    }

    /// Nobody was ever shown two pasts: this coordinator is honest, whatever happens to it.
    fn histories_agree(&self) -> Result<()> {
        let contradictions = self.sites(|store| Ok(store.history()?.contradictions))?;
        ensure!(
            contradictions.iter().all(Vec::is_empty),
            "a member thinks that the history was rewritten: {contradictions:?}"
        );
        Ok(())
    }

    fn report(mut self) -> Result<Report> {
        let mut faults = self.faults;
        for machine in &self.machines {
            for (what, count) in machine.happened() {
                *faults.entry(what).or_default() += count;
            }
        }
        let runs = self.place.runs()?;
        let mut ends = BTreeMap::new();
        for run in &runs {
            *ends.entry(run.phase.state().to_string()).or_default() += 1;
        }
        Ok(Report {
            published: self
                .model
                .log
                .iter()
                .filter(|line| line.contains("version_published"))
                .count(),
            unmasked: self.model.unmasked,
            log: anonymous(&self.model.log),
            faults,
            simulated: self.sim.elapsed(),
            ends,
        })
    }
}

/// What was not synced when the power went out is cut short, or not what was written.
fn tear(folder: &Path, salt: u64) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != "part") {
            continue;
        }
        let length = fs::metadata(&path)?.len();
        let kept = length * (salt * 7 % 10) / 10;
        let file = OpenOptions::new().write(true).open(&path)?;
        file.set_len(kept)?;
        if salt.is_multiple_of(3) {
            // The length was written, the bytes were not.
            file.set_len(length)?;
        }
    }
    Ok(())
}
