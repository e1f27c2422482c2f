//! What pages show, read from the directory.

use fedner_host::machine::{Machine as _, ThisMachine};
use fedner_privacy::ledger::Ledger;
use fedner_session::State;
use fedner_shared::plan::Plan;
use fedner_shared::time::Time;

use crate::cli::consent::{self, Row};
use crate::cli::privacy::Bounded;
use crate::cli::release::{self, Waiting};
use crate::config::{Directory, Policy, Settings};
use crate::consent::Terms;
use crate::egress;
use crate::identity::Identity;
use crate::rules;
use crate::state::{Contact, Decision, PlanRecord, Receipt, Standing, Store};

/// The institution at one moment.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) now: Time,
    pub(super) settings: Settings,
    pub(super) policy: Policy,
    /// Why nothing is allowed now.
    pub(super) fault: Option<String>,
    pub(super) running: bool,
    pub(super) contact: Contact,
    pub(super) certificate: Time,
    /// What it does, and in which round of which run.
    pub(super) work: (&'static str, Option<(String, u32)>),
    pub(super) plans: Vec<(Row, Plan)>,
    pub(super) waiting: Option<Waiting>,
    pub(super) account: Bounded,
    pub(super) ledger: Ledger,
    /// Newest first.
    pub(super) receipts: Vec<Receipt>,
}

impl Look {
    pub(super) fn at(directory: &Directory) -> anyhow::Result<Self> {
        let settings = directory.settings()?;
        let identity = Identity::load(&directory.identity(), settings.institution.clone())?;
        let store = Store::open(&directory.database())?;
        let shown = rules::shown(&store, directory)?;
        let policy = shown.policy;
        let terms = Terms {
            directory,
            settings: &settings,
            policy: &policy,
        };
        let plan = |record: PlanRecord| -> anyhow::Result<(Row, Plan)> {
            Ok((
                consent::row(&store, &identity, terms, &record)?,
                record.plan,
            ))
        };
        let plans = store.plans()?.into_iter().map(plan);
        let mut plans = plans.collect::<anyhow::Result<Vec<_>>>()?;
        plans.reverse();
        let mut receipts = store.receipts()?;
        let ledger = store.ledger()?;
        let limit = egress::limit(&settings.institution, &policy);
        let account = Bounded::now(&ledger, &limit, &receipts);
        receipts.reverse();
        let session = store.session()?;
        let task = session.task();
        let work = task.map(|task| (task.run.to_string(), task.round));
        Ok(Self {
            now: ThisMachine.now(),
            running: directory.is_running(),
            contact: store.contact()?,
            certificate: identity.validity.not_after,
            work: (State::name(&session.state), work),
            waiting: release::waiting(&store, directory, policy.hold)?,
            fault: shown.fault.map(|fault| fault.to_string()),
            plans,
            account,
            ledger,
            receipts,
            policy,
            settings,
        })
    }

    /// Plans that nobody has decided on, and that the policy allows.
    pub(super) fn asked(&self) -> impl Iterator<Item = &(Row, Plan)> {
        let open = |(row, _): &&(Row, Plan)| {
            row.forbidden.is_none() && matches!(row.consent, Standing::Pending | Standing::Expired)
        };
        self.plans.iter().filter(open)
    }

    /// An update on which nobody has said a word.
    pub(super) fn held(&self) -> Option<&Waiting> {
        let open = |waiting: &&Waiting| waiting.word == Decision::None;
        self.waiting.as_ref().filter(open)
    }

    /// How many things wait for a person.
    pub(super) fn open(&self) -> usize {
        self.asked().count() + usize::from(self.held().is_some())
    }
}
