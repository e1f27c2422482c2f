//! A coordinator that lies in secure aggregations, with institutions that side with it.
//!
//! | part | is |
//! |---|---|
//! | honest institutions | the product's gate, with its own store on a disk, as after kill -9 at each question |
//! | the coordinator | made up: it shows each member what it likes ([`lies`]) |
//! | what it can compute | a model that follows every answer ([`knowledge`]) |
//! | controls | a client of the tests' own, without one of the rules ([`reference`](mod@reference)) |
//!
//! Whatever it asks, it computes no single update, and no sum with fewer honest members than the plan promises.

mod institution;
mod knowledge;
mod liar;
mod lies;
mod reference;

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use fedner_client::config::Policy;
use fedner_session::{Kind, Task};
use fedner_shared::bert::BertConfig;
use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::{Method, Plan, Unit, threshold};
use fedner_shared::secure::{SecureStep, Told, fingerprint};
use fedner_shared::sign::{SecretKey, Signed};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::plans::{SITES, site_key};
use institution::Institution;
use liar::Liar;
use lies::Lie;
use reference::{Reference, Rule};

pub(crate) const RUN: &str = "masked.1";
/// Seeds of an ordinary `cargo test`. Each is a coordinator that lies in one way, and all ways come in turn.
const SEEDS: u64 = 6 * Lie::ALL.len() as u64;

/// An honest member of the cohort.
pub(crate) trait Member {
    /// Its answer to a step; nothing where it refuses.
    fn ask(&mut self, asked: &Asked, step: SecureStep, told: &Told) -> Result<Option<Signed>>;
    /// Trains, and sends an update under masks: the digest of it.
    fn send(&mut self, asked: &Asked, told: &Told) -> Result<Option<Digest>>;
    /// Goes on from what is on its disk.
    fn restart(&mut self) {}
    /// Hears that the plan is under way no more.
    fn forget(&mut self) -> Result<()>;
}

/// A question of the coordinator's.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) task: Task,
    /// What the member draws for a new attempt.
    pub(crate) secret: [u8; 32],
}

pub(crate) fn site(number: usize) -> (InstitutionId, SecretKey) {
    (SITES[number].parse().expect("a name"), site_key(number))
}

/// Who takes part, and how many of them side with the coordinator.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cohort {
    members: usize,
    quorum: usize,
    /// Each round is one step that all take together.
    steps: bool,
    /// The last ones, as many as the plan's `colluding`.
    siding: usize,
}

impl Cohort {
    fn drawn(rng: &mut ChaCha8Rng) -> Self {
        let members = rng.random_range(4..=7);
        let quorum = rng.random_range(threshold(members)..=members);
        // As many as a plan may have.
        let most = (quorum..=members).map(|all| (2 * threshold(all)).saturating_sub(all + 1));
        let most = most.min().unwrap_or_default().min(quorum - 2);
        Self {
            members,
            quorum,
            steps: rng.random(),
            // As many as there may be are the worst.
            siding: if rng.random() {
                most
            } else {
                rng.random_range(0..=most)
            },
        }
    }

    const fn honest(self) -> usize {
        self.members - self.siding
    }

    /// How many honest members any sum has.
    const fn least(self) -> usize {
        self.quorum - self.siding
    }

    fn plan(self) -> Result<Plan> {
        let institutions = &SITES[..self.members];
        let Self { quorum, siding, .. } = self;
        let shares = self.least();
        let unit = if self.steps {
            let units = self.members as u32 * institution::EXAMPLES;
            format!("unit = \"sentence\"\ncohort_units = {units}")
        } else {
            "unit = \"institution\"".to_owned()
        };
        Ok(Plan::parse(&format!(
            r#"
            name = "masked"
            base = "base@1"
            labels = ["Disease"]
            method = "head"
            rounds = 3
            [cohort]
            institutions = {institutions:?}
            quorum = {quorum}
            weighting = "equal"
            [training]
            batch_size = 7
            [privacy]
            {unit}
            noise_multiplier = 4.0
            noise_shares = {shares}
            max_epsilon = 1000.0
            [secure_aggregation]
            colluding = {siding}
            "#
        ))?)
    }

    /// Every honest institution knows the others by their fingerprints.
    fn policy(self) -> Policy {
        let known = (0..self.honest()).map(|number| {
            let (name, key) = site(number);
            (name, fingerprint(&key.public()))
        });
        Policy {
            max_epsilon_run: 1e6,
            max_epsilon_total: 1e6,
            account: if self.steps {
                Unit::Sentence
            } else {
                Unit::Person
            },
            known_institutions: known.collect(),
            ..Policy::default()
        }
    }
}

fn manifest() -> Result<Manifest> {
    let json = r#"{"model_type":"bert","vocab_size":11,"hidden_size":4,"num_hidden_layers":1,
        "num_attention_heads":2,"intermediate_size":8,"max_position_embeddings":16}"#;
    Ok(BertConfig::parse(json)?.manifest(&Method::Head.into(), 3))
}

fn task(plan: &Plan, attempt: u32) -> Result<Task> {
    Ok(Task {
        kind: Kind::Train,
        run: RUN.parse()?,
        plan: plan.digest(),
        round: 1,
        attempt,
        version: Digest::of(b"version"),
        record: "{}".into(),
        manifest: manifest()?.digest(),
    })
}

/// The members that a lie is told to.
#[derive(Debug, Clone, Copy)]
enum Clients {
    Product,
    Reference(Option<Rule>),
}

/// What was computed of a lie of that seed that must not be, and how many sums were computed.
fn told(seed: u64, lie: Lie, clients: Clients) -> Result<(Option<String>, usize)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let cohort = Cohort::drawn(&mut rng);
    let plan = cohort.plan()?;
    let known = || {
        (0..cohort.honest())
            .map(site)
            .map(|(name, key)| (name, key.public()))
    };
    let member = |number: usize| -> Result<Box<dyn Member>> {
        Ok(match clients {
            Clients::Product => Box::new(Institution::new(
                number,
                &plan,
                cohort.policy(),
                &manifest()?,
            )?),
            Clients::Reference(without) => Box::new(Reference::new(
                site(number),
                known().collect(),
                cohort.quorum,
                without,
            )),
        })
    };
    let members = (0..cohort.honest()).map(|number| Ok((site(number).0, member(number)?)));
    let mut liar = Liar::new(cohort, plan.clone(), members.collect::<Result<_>>()?, rng);
    lies::tell(&mut liar, lie)?;
    Ok((
        liar.heard.violation(cohort.least()),
        liar.heard.sums().len(),
    ))
}

/// Runs so many seeds, or those that the variables name, on all processors.
fn each_seed(seeds: u64, run: impl Fn(u64) -> Result<()> + Sync) -> Result<u64> {
    let first = crate::variable("FEDNER_SIM_FIRST").unwrap_or(0);
    let seeds = match crate::variable("FEDNER_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => first..first + crate::variable("FEDNER_SIM_SEEDS").unwrap_or(seeds),
    };
    let next = AtomicU64::new(seeds.start);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !seeds.contains(&seed) {
                return Ok(());
            }
            run(seed).with_context(|| format!("seed {seed}"))?;
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let ends = workers
            .into_iter()
            .map(|worker| worker.join().expect("no worker panics"));
        ends.collect::<Result<Vec<()>>>()
    })?;
    Ok(seeds.end - seeds.start)
}

/// Whatever an honest institution is shown, its update stays its own.
#[test]
fn no_lie_opens_a_single_update_or_a_small_sum() {
    let seeds = each_seed(SEEDS, |seed| {
        let lie = Lie::ALL[seed as usize % Lie::ALL.len()];
        let (violation, sums) = told(seed, lie, Clients::Product)?;
        ensure!(
            violation.is_none(),
            "{lie:?}: {}",
            violation.unwrap_or_default()
        );
        // Without a lie the sum is what the coordinator is to have.
        ensure!(
            lie != Lie::Nothing || sums == 1,
            "{sums} sums of an honest attempt"
        );
        Ok(())
    });
    let seeds = seeds.expect("nothing is opened");
    crate::say(&format!("{} ways to lie in {seeds} seeds", Lie::ALL.len()));
}

/// Without one of its rules a client is fooled, and the model notices. With all of them it is not.
#[test]
fn each_rule_is_needed_against_a_lie() {
    for (rule, lie) in [
        (Rule::OneSet, Lie::TwoSets),
        (Rule::Durable, Lie::TwoSets),
        (Rule::OneVector, Lie::OtherRoster),
        (Rule::OneKind, Lie::Nothing),
        (Rule::Roster, Lie::SmallRoster),
        (Rule::Quorum, Lie::SmallSet),
        (Rule::Threshold, Lie::SmallSet),
        (Rule::Known, Lie::Invented),
    ] {
        let fooled = |seed, rule| {
            told(seed, lie, Clients::Reference(rule))
                .expect("no fault")
                .0
        };
        let seed = (0..80).find(|seed| fooled(*seed, Some(rule)).is_some());
        let seed =
            seed.unwrap_or_else(|| panic!("{lie:?} opens nothing without the rule {rule:?}"));
        assert_eq!(fooled(seed, None), None, "{lie:?}, seed {seed}");
    }
}
