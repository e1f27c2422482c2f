//! The rules of an institution's privacy ledger: what was spent, and whether more may be.
//!
//! Entries are only ever added, and durably so before the first private byte is read: a crash may
//! waste budget and never creates any. Keeping the entries is the caller's business; nothing here opens
//! a file or reads a clock.
//!
//! A debit has [stages](Stage): debited when work for it begins, confirmed when the coordinator has the
//! result. Only the first spends. A crash leaves a debit in the stage that it had reached, which is
//! never one too early.
//!
//! Spending adds up in ρ, and for sampled mechanisms in Rényi divergences ([`Cost`]; both valid under
//! adaptive composition), and is converted to ε at a δ only to be compared or shown. Within one plan,
//! whose settings were fixed beforehand, loss distributions are the tighter figure. Two sums
//! count: that of one plan on an account, against the plan's limit, and that of the whole account,
//! against the institution's own.
//!
//! Each entry carries the digest of the one before. [`Ledger::replay`] finds an entry that was
//! edited, removed from the middle or moved. The chain has no key, so whoever rewrites it from some
//! entry to the *end*, or cuts the end off, leaves a valid one: that shows when a receipt, which
//! names the newest entry of its moment, names one that the ledger does not
//! [`contain`](Ledger::contains).

mod charge;
mod cost;
mod entry;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use fedner_shared::digest::Digest;
use fedner_shared::plan::Unit;
use fedner_shared::time::Time;

pub use charge::{Charged, group_of};
pub use cost::Cost;
pub use entry::{Account, Debit, Entry, GENESIS, Kind, Stage};

use charge::{Against, Charges};
use cost::Spending;

/// What the chain says against an entry. Sequences count from 1.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("ledger entry {found} stands where entry {expected} should")]
    Sequence { expected: u64, found: u64 },
    #[error(
        "ledger entry {sequence} follows {}: expected {}",
        found.short(),
        expected.short()
    )]
    Chain {
        sequence: u64,
        expected: Digest,
        found: Digest,
    },
    #[error("ledger entry {sequence} records ε = {found}: its entries add up to {expected}")]
    Figure {
        sequence: u64,
        expected: f64,
        found: f64,
    },
    #[error("ledger entry {sequence} confirms a debit that was not made, or once more")]
    Confirmation { sequence: u64 },
    #[error("ledger entry {sequence} has {key} = {found}: expected {expected}")]
    Value {
        sequence: u64,
        key: &'static str,
        found: f64,
        expected: &'static str,
    },
}

/// The debit is not made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refused {
    #[error("the run would reach ε = {epsilon_next}: the plan allows {max}")]
    Run { epsilon_next: f64, max: f64 },
    #[error(
        "the account of each {unit} would reach ε = {epsilon_next}: the institution allows {max}"
    )]
    Account {
        unit: Unit,
        epsilon_next: f64,
        max: f64,
    },
    #[error(
        "what the release tells of a {unit} has no bound: it protects each {protected}{}",
        if *capped { "" } else { ", of which a person may have any number" }
    )]
    Unbounded {
        unit: Unit,
        protected: Unit,
        capped: bool,
    },
    #[error(
        "the account of each {unit} has no bound: ledger entry {sequence} protects another unit"
    )]
    AccountOpen { unit: Unit, sequence: u64 },
    #[error("a debit of {key} = {found} cannot be accounted: expected {expected}")]
    Value {
        key: &'static str,
        found: f64,
        expected: &'static str,
    },
}

/// What an institution allows altogether.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    /// Whom every release is charged to.
    pub account: Account,
    /// The institution's own: a plan's δ does not make its limit wider.
    pub delta: f64,
    pub max_epsilon: f64,
}

/// A verified chain of entries and what they add up to. The lemma *ledger* of the [crate]
/// says why a crash creates no budget.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    entries: Vec<Entry>,
    digests: HashSet<Digest>,
    head: Option<Digest>,
    /// Of an account, over all plans and by plan. Only ever looked up.
    by_account: HashMap<Account, Spending>,
    by_plan: HashMap<(Account, Digest), Spending>,
    /// How many debits of a release are made and not confirmed.
    open: HashMap<Release, u32>,
}

/// What one debit is for. Every attempt is its own, and so is every release of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Release {
    account: Account,
    plan: Digest,
    round: u32,
    attempt: u32,
    kind: Kind,
}

impl Release {
    fn of(debit: &Debit) -> Self {
        Self {
            account: debit.account.clone(),
            plan: debit.plan,
            round: debit.round,
            attempt: debit.attempt,
            kind: debit.kind,
        }
    }
}

/// Figures are recomputed with the same formulas; a later version may round its own differently.
const TOLERANCE: f64 = 1e-9;

impl Ledger {
    /// The ledger of `entries`, oldest first, each of which is verified.
    pub fn replay(entries: impl IntoIterator<Item = Entry>) -> Result<Self, Error> {
        let mut ledger = Self::default();
        for entry in entries {
            ledger.append(entry)?;
        }
        Ok(ledger)
    }

    /// ε spent on `account` at `delta`, rounded up: by the plan named, or by all of them.
    pub fn spent(&self, account: &Account, plan: Option<Digest>, delta: f64) -> f64 {
        epsilon(&self.spending(account, plan), plan, delta)
    }

    /// The same against everybody: by the institution's own noise alone. Where no noise was shared it is the same
    /// figure.
    pub fn spent_alone(&self, account: &Account, plan: Option<Digest>, delta: f64) -> f64 {
        let of = |entry: &&Entry| {
            let same = entry.debit.account == *account;
            same && plan.is_none_or(|plan| entry.debit.plan == plan)
        };
        let mut charges = Charges::default();
        for cost in self.entries.iter().filter(of).filter_map(Entry::spends) {
            charges.add(Against::Everybody.cost(*cost));
        }
        epsilon(&charges.sum(), plan, delta)
    }

    /// Whether what a plan spent, or all of them, rests on the noise of others too.
    pub fn shares_noise(&self, plan: Option<Digest>) -> bool {
        let of = |entry: &&Entry| plan.is_none_or(|plan| entry.debit.plan == plan);
        let mut costs = self.entries.iter().filter(of).filter_map(Entry::spends);
        costs.any(|cost| cost.alone() != *cost)
    }

    /// ρ spent on `account`, rounded up: by the plan named, or by all of them. What sampled
    /// mechanisms spent is not in it.
    pub fn rho(&self, account: &Account, plan: Option<Digest>) -> f64 {
        self.spending(account, plan).rho()
    }

    fn spending(&self, account: &Account, plan: Option<Digest>) -> Spending {
        let sum = match plan {
            Some(plan) => self.by_plan.get(&(account.clone(), plan)),
            None => self.by_account.get(account),
        };
        sum.cloned().unwrap_or_default()
    }

    /// The entry that would record `debit`, if both limits allow it. Nothing is recorded yet: make
    /// the entry durable, [`append`](Self::append) it, and only then let anything leave.
    ///
    /// The run's limit is an ε at the debit's δ, and the institution's one at its own, to whose account
    /// the release is charged whatever it protects. A release without noise costs ∞ and passes no limit
    /// but an infinite one.
    pub fn propose(
        &self,
        now: Time,
        debit: Debit,
        max_epsilon_run: f64,
        limit: Option<&Limit>,
    ) -> Result<Entry, Refused> {
        if let Some((key, found, expected)) = debit.fault() {
            return Err(Refused::Value {
                key,
                found,
                expected,
            });
        }
        let (epsilon_after, epsilon_account) = self.figures_after(&debit);
        if !within(epsilon_after, max_epsilon_run) {
            return Err(Refused::Run {
                epsilon_next: epsilon_after,
                max: max_epsilon_run,
            });
        }
        if let Some(limit) = limit {
            self.check_limit(&debit, limit)?;
        }
        Ok(Entry {
            sequence: self.next_sequence(),
            time: now,
            stage: Stage::Debited,
            debit,
            epsilon_after,
            epsilon_account,
            previous: self.head(),
        })
    }

    fn check_limit(&self, debit: &Debit, limit: &Limit) -> Result<(), Refused> {
        let unit = limit.account.unit;
        let mut charges = self.charges(&limit.account, Against::Coalition);
        if let Some(sequence) = charges.unbounded.first() {
            let sequence = *sequence;
            return Err(Refused::AccountOpen { unit, sequence });
        }
        let cost = debit.cost_to(unit).ok_or(Refused::Unbounded {
            unit,
            protected: debit.account.unit,
            capped: debit.per_person.is_some(),
        })?;
        charges.add(cost);
        let epsilon_next = charges.sum().epsilon(limit.delta);
        if within(epsilon_next, limit.max_epsilon) {
            return Ok(());
        }
        Err(Refused::Account {
            unit,
            epsilon_next,
            max: limit.max_epsilon,
        })
    }

    /// What all releases of the account's cohort cost its unit together, at `delta`: never less after
    /// one more.
    pub fn charged(&self, account: &Account, delta: f64) -> Charged {
        self.charged_against(account, delta, Against::Coalition)
    }

    /// The same against everybody: by the institution's own noise alone.
    pub fn charged_alone(&self, account: &Account, delta: f64) -> Charged {
        self.charged_against(account, delta, Against::Everybody)
    }

    fn charged_against(&self, account: &Account, delta: f64, against: Against) -> Charged {
        let charges = self.charges(account, against);
        let epsilon = if charges.unbounded.is_empty() {
            charges.sum().epsilon(delta)
        } else {
            f64::INFINITY
        };
        Charged {
            epsilon,
            unbounded: charges.unbounded,
            unprotected: charges.unprotected,
        }
    }

    fn charges(&self, account: &Account, against: Against) -> Charges {
        let of_cohort = |entry: &&Entry| entry.debit.account.cohort == account.cohort;
        let entries = self.entries.iter().filter(of_cohort);
        Charges::of(entries, account.unit, against)
    }

    /// The entry that says that the coordinator has what the entry `debited` paid for; nothing where
    /// that is said already, or where there is no such debit.
    pub fn confirm(&self, now: Time, debited: &Digest) -> Option<Entry> {
        let is = |entry: &&Entry| entry.stage == Stage::Debited && entry.digest() == *debited;
        let debit = self.entries.iter().rev().find(is)?.debit.clone();
        let open = self.open.get(&Release::of(&debit)).copied().unwrap_or(0);
        (open > 0).then(|| self.unpaid(now, Stage::Confirmed, debit))
    }

    /// Entries of an account in this stage.
    pub fn count(&self, account: &Account, stage: Stage) -> usize {
        let is = |entry: &&Entry| entry.stage == stage && entry.debit.account == *account;
        self.entries.iter().filter(is).count()
    }

    fn unpaid(&self, now: Time, stage: Stage, debit: Debit) -> Entry {
        let (epsilon_after, epsilon_account) = self.figures(&debit, None);
        Entry {
            sequence: self.next_sequence(),
            time: now,
            stage,
            debit,
            epsilon_after,
            epsilon_account,
            previous: self.head(),
        }
    }

    /// Adds an entry after verifying that it continues the chain and that its figures are right.
    pub fn append(&mut self, entry: Entry) -> Result<(), Error> {
        self.verify(&entry)?;
        if let Some(cost) = entry.spends() {
            let Debit { account, plan, .. } = &entry.debit;
            let sum = self.by_account.entry(account.clone()).or_default();
            *sum = sum.with(cost);
            let key = (account.clone(), *plan);
            let sum = self.by_plan.entry(key).or_default();
            *sum = sum.with(cost);
        }
        let open = self.open.entry(Release::of(&entry.debit)).or_insert(0);
        match entry.stage {
            Stage::Planned => {}
            Stage::Debited => *open += 1,
            Stage::Confirmed => *open -= 1,
        }
        let digest = entry.digest();
        self.head = Some(digest);
        self.digests.insert(digest);
        self.entries.push(entry);
        Ok(())
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The digest of the newest entry, or [`GENESIS`].
    pub fn head(&self) -> Digest {
        self.head.unwrap_or(GENESIS)
    }

    /// Whether an entry has this digest. A ledger that does not contain what one of its
    /// institution's receipts names as its head has lost its end.
    pub fn contains(&self, digest: &Digest) -> bool {
        *digest == GENESIS || self.digests.contains(digest)
    }

    fn next_sequence(&self) -> u64 {
        self.entries.len() as u64 + 1
    }

    /// ε of the debit's run and of its account, once it is made.
    fn figures_after(&self, debit: &Debit) -> (f64, f64) {
        self.figures(debit, Some(&debit.cost))
    }

    /// ε of the debit's run and of its account, with so much more spent.
    fn figures(&self, debit: &Debit, more: Option<&Cost>) -> (f64, f64) {
        let after = |plan| {
            let spending = self.spending(&debit.account, plan);
            let spending = more.map_or(spending.clone(), |cost| spending.with(cost));
            epsilon(&spending, plan, debit.delta)
        };
        (after(Some(debit.plan)), after(None))
    }

    fn verify(&self, entry: &Entry) -> Result<(), Error> {
        let (sequence, expected) = (entry.sequence, self.next_sequence());
        if sequence != expected {
            return Err(Error::Sequence {
                expected,
                found: sequence,
            });
        }
        if entry.previous != self.head() {
            return Err(Error::Chain {
                sequence,
                expected: self.head(),
                found: entry.previous,
            });
        }
        if let Some((key, found, expected)) = entry.debit.fault() {
            return Err(Error::Value {
                sequence,
                key,
                found,
                expected,
            });
        }
        if entry.stage == Stage::Confirmed {
            let open = self.open.get(&Release::of(&entry.debit));
            if open.is_none_or(|open| *open == 0) {
                return Err(Error::Confirmation { sequence });
            }
        }
        let (run, account) = self.figures(&entry.debit, entry.spends());
        for (expected, found) in [(run, entry.epsilon_after), (account, entry.epsilon_account)] {
            if !same(expected, found) {
                return Err(Error::Figure {
                    sequence,
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }
}

/// One plan fixed its settings beforehand; those of several may depend on what the first released.
fn epsilon(spending: &Spending, plan: Option<Digest>, delta: f64) -> f64 {
    match plan {
        Some(_) => spending.epsilon_of_plan(delta),
        None => spending.epsilon(delta),
    }
}

/// Also false where either is not a number.
fn within(epsilon: f64, max: f64) -> bool {
    epsilon <= max
}

fn same(expected: f64, found: f64) -> bool {
    let infinite = expected == f64::INFINITY && found == f64::INFINITY;
    infinite || (expected - found).abs() <= TOLERANCE * expected.max(1.0)
}
