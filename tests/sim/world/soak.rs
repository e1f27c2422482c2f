//! A federation that works for a year: certificates and consents end and are renewed, machines start again, older versions
//! are let go of, and nobody is in anybody's way.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fedner_proto::v1::control_run_request::Action;
use fedner_round::Phase;
use fedner_shared::digest::Digest;
use fedner_shared::plan::{Inputs, Pinned};
use fedner_shared::sign::Signed;
use fedner_shared::version::Version;

use super::World;
use crate::op::{Op, Scenario, Setting};
use crate::outsider::{Answer, Call};
use crate::plans::SITES;
use crate::plans::plan;
use crate::prepared::{operator_key, prepared};

/// So much of each day is simulated; then every clock goes on by the rest of it.
const OF_A_DAY: Duration = Duration::from_secs(4);
const DAY: i64 = 86_400;
/// A run in so many days.
const RUN_EVERY: u32 = 7;
/// Simulated time in which a run has to come to its end.
const RUN_TAKES: Duration = Duration::from_mins(3);
/// Versions of the model that are kept; older ones are let go of every month.
const KEPT: u32 = 3;

/// What became of the year.
#[derive(Debug, Default)]
pub(crate) struct Year {
    pub(crate) runs: u32,
    pub(crate) published: usize,
    /// New certificates of institutions.
    pub(crate) renewed: usize,
    pub(crate) restarts: u32,
    pub(crate) pruned: usize,
    pub(crate) months: Vec<Sizes>,
}

/// How large directories are, after versions were let go of.
#[derive(Debug)]
pub(crate) struct Sizes {
    /// What the coordinator keeps.
    pub(crate) objects: usize,
    /// Bytes in the largest directory of an institution, without its database.
    pub(crate) files: u64,
    /// Bytes in the largest database of an institution.
    pub(crate) database: u64,
}

/// Lets so many institutions work together for so many days.
pub(crate) fn soak(sites: usize, days: u32) -> Result<Year> {
    let setting = Setting {
        training: 2,
        ..Setting::plain(sites, sites, 2)
    };
    let mut world = World::new(&Scenario {
        seed: 1,
        setting,
        ops: Vec::new(),
    })?;
    world.model.patient = true;
    let mut year = Year::default();
    for day in 0..days {
        world
            .day(day, &mut year)
            .with_context(|| format!("day {day}"))?;
    }
    world.pass(Duration::from_secs(30))?;
    world.quiet()?;
    world.histories_agree()?;
    world.model.look_back(&mut world.place, &world.objects)?;
    let told = |what: &str| {
        world
            .model
            .log
            .iter()
            .filter(|line| line.contains(what))
            .count()
    };
    year.published = told("\"version_published\"");
    year.renewed = told("\"certificate_renewed\"");
    year.pruned = told("\"models_pruned\"");
    for what in [
        "\"declined\"",
        "\"left\"",
        "\"round_repeated\"",
        "\"went_away\"",
        "\"run_failed\"",
    ] {
        ensure!(told(what) == 0, "{what}: {:#?}", world.model.log);
    }
    let refusals = world.sites(|store| Ok(store.refusals()?))?;
    ensure!(
        refusals.iter().all(|refused| refused.is_empty()),
        "{refusals:?}"
    );
    Ok(year)
}

impl World {
    fn day(&mut self, day: u32, year: &mut Year) -> Result<()> {
        if day.is_multiple_of(RUN_EVERY) {
            self.whole_run(year.runs)?;
            year.runs += 1;
        }
        if day % 30 == 11 {
            self.operate("prune", Call::Prune(KEPT));
            // The operator's own certificate is renewed beside the coordinator.
            let now = self.machines[0].at(self.sim.elapsed());
            self.outsider
                .renew("operator", prepared().operator_at(now)?);
        }
        if day % 30 == 12 {
            year.months.push(self.sizes()?);
        }
        if day % 5 == 2 {
            // The coordinator once in a while, the institutions one after another.
            let machine = (day / 5) as usize % (self.setting.sites + 1);
            let power = day.is_multiple_of(2);
            self.apply(Op::Crash { machine, power })?;
            self.apply(Op::Restart { machine })?;
            year.restarts += 1;
        }
        self.pass(OF_A_DAY)?;
        self.quiet()?;
        for machine in 0..self.machines.len() {
            self.set_clock(machine, DAY - OF_A_DAY.as_secs() as i64);
        }
        Ok(())
    }

    /// A run goes on from where the last one ended, and is completed.
    fn whole_run(&mut self, number: u32) -> Result<()> {
        let mut plan = plan(&self.setting, 1)?;
        plan.name = "soak".parse()?;
        plan.inputs = Some(prepared().inputs(&plan)?);
        if let Some(last) = self.place.runs()?.last() {
            let version = self.place.version(last.version)?.context("a version")?;
            plan.base = version.name.to_string().parse()?;
            plan.inputs = Some(self.inputs(&version, last.manifest)?);
        }
        let signed = Signed::new(&plan, &operator_key());
        self.plans = vec![plan];
        self.operate("create a run", Call::CreateRun(signed));
        self.pass(Duration::from_secs(2))?;
        self.control(|run| run.phase == Phase::Created, Action::Start);
        let until = self.sim.elapsed() + RUN_TAKES;
        loop {
            self.pass(Duration::from_secs(2))?;
            self.quiet()?;
            let runs = self.place.runs()?;
            let last = runs.last().context("a run")?;
            if runs.len() == number as usize + 1 && last.phase == Phase::Completed {
                return Ok(());
            }
            ensure!(self.sim.elapsed() < until, "{:?}", last.explain());
        }
    }

    /// What a run on that version begins with.
    fn inputs(&self, version: &Version, manifest: Digest) -> Result<Inputs> {
        let pinned = |digest: Digest| {
            let object = self.objects.peek(digest).context("an object")?;
            let bytes = object.len() as u64;
            Ok::<_, anyhow::Error>(Pinned { digest, bytes })
        };
        Ok(Inputs {
            config: pinned(version.config)?,
            tokenizer: pinned(version.tokenizer)?,
            weights: pinned(version.weights)?,
            frozen: version.frozen.map(pinned).transpose()?,
            known: Vec::new(),
            manifest,
        })
    }

    /// Nobody was refused anything, and all that must hold does.
    fn quiet(&mut self) -> Result<()> {
        for Answer { message, result } in self.outsider.take_answers() {
            ensure!(result.is_ok(), "{}: {result:?}", message.what);
        }
        self.model.look(&mut self.place, &self.objects)
    }

    fn sizes(&mut self) -> Result<Sizes> {
        let database = |file: &str| file.starts_with("state.sqlite");
        Ok(Sizes {
            objects: self.place.collect()?,
            files: self.largest(|file| !database(file))?,
            database: self.largest(database)?,
        })
    }

    /// The most bytes of an institution's files of those names.
    fn largest(&self, counts: impl Fn(&str) -> bool) -> Result<u64> {
        let mut most = 0;
        for site in &SITES[..self.setting.sites] {
            most = most.max(bytes(&self.directory.path().join(site), &counts)?);
        }
        Ok(most)
    }
}

fn bytes(folder: &Path, counts: &impl Fn(&str) -> bool) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if path.is_dir() {
            sum += bytes(&path, counts)?;
        } else if name.is_some_and(counts) {
            sum += std::fs::metadata(&path)?.len();
        }
    }
    Ok(sum)
}
