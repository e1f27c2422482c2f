//! The charge of an attempt: durable before the first private byte is read.
//!
//! Were only what leaves charged, a training could be begun again and again, and whether each came to
//! its end would tell of the text at no charge. So an attempt costs the same whatever becomes of it.

use fedner_privacy::ledger::{Cost, Debit, Entry, Kind};
use fedner_session::{Charge, Input, Kind as Work, Session, Task, Transition};
use fedner_shared::plan::Plan;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::time::Time;

use super::{Budget, Error, Gate};
use crate::config::Policy;

/// How often private text is begun on for one charge: a restart or a full disk may cut work short.
const MOST_BEGUN: u32 = 5;

/// An attempt that asks to begin.
#[derive(Debug)]
pub struct ChargeRequest<'a> {
    pub task: &'a Task,
    pub plan: &'a Plan,
    pub policy: &'a Policy,
    /// Trainable weights.
    pub dimension: usize,
    /// In the state `training` or `evaluating`.
    pub session: &'a Session,
    pub now: Time,
}

impl Gate {
    /// Makes the attempt's debit durable, together with the session that may read private text.
    ///
    /// An attempt that was cut short keeps its charge: nothing has left that it paid for.
    pub fn charge(&self, request: &ChargeRequest<'_>) -> Result<Transition, Error> {
        let consent = self.permitted(request.plan, request.policy, request.now)?;
        if let Some(before) = request.session.charge() {
            return self.begin_again(request, before);
        }
        let entry = match self.budget(request, consent.examples)? {
            Some(budget) => Some(budget.debit(&self.store.ledger()?, request.now)?),
            None => None,
        };
        let charge = Charge {
            entry: entry.as_ref().map(Entry::digest),
            at: request.now,
            begun: 1,
        };
        let transition = request.session.step(request.now, Input::Charged(charge))?;
        self.store
            .commit_charge(entry.as_ref(), &transition.session)?;
        Ok(transition)
    }

    fn begin_again(
        &self,
        request: &ChargeRequest<'_>,
        before: &Charge,
    ) -> Result<Transition, Error> {
        if before.begun >= MOST_BEGUN {
            let message = format!("{} was cut short {} times", request.task, before.begun);
            return Err(Refusal::new(Code::NotDone, message).into());
        }
        let charge = Charge {
            begun: before.begun + 1,
            ..*before
        };
        let transition = request.session.step(request.now, Input::Charged(charge))?;
        self.store.commit_charge(None, &transition.session)?;
        Ok(transition)
    }

    /// What is to be paid; nothing for counts that no ε covers.
    fn budget<'a>(
        &'a self,
        request: &ChargeRequest<'a>,
        units: u32,
    ) -> Result<Option<Budget<'a>>, Refusal> {
        let ChargeRequest {
            task, plan, policy, ..
        } = *request;
        let (kind, cost) = match task.kind {
            Work::Train => (
                Kind::Update,
                Cost::of_update(plan, units, request.dimension),
            ),
            Work::Evaluate => {
                policy.allows_evaluation(plan)?;
                let Some(noise) = plan.privacy.count_noise() else {
                    return Ok(None);
                };
                (Kind::Evaluation, Cost::of_counts(noise))
            }
        };
        Ok(Some(Budget {
            institution: &self.identity.institution,
            task,
            plan,
            policy,
            kind,
            cost,
        }))
    }

    /// The durable debit that pays for `wish`, which nothing else was paid with.
    pub(super) fn paid(&self, charge: Option<&Charge>, wish: &Debit) -> Result<Entry, Error> {
        let invalid = |what: &str| {
            let message = format!("the debit of round {} {what}", wish.round);
            Error::Refused(Refusal::new(Code::StateInvalid, message))
        };
        let digest = charge.and_then(|charge| charge.entry);
        let digest = digest.ok_or_else(|| invalid("was not made"))?;
        let ledger = self.store.ledger()?;
        let entry = ledger
            .entries()
            .iter()
            .rev()
            .find(|entry| entry.digest() == digest && entry.spends().is_some())
            .ok_or_else(|| invalid("is not in the ledger"))?;
        if entry.debit != *wish {
            return Err(invalid("is for something else"));
        }
        if self.store.is_used(&digest)? {
            return Err(invalid("has paid for another release"));
        }
        Ok(entry.clone())
    }
}
