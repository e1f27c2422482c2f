//! Steps of a secure aggregation: what an institution signs so that the coordinator sees a sum alone.
//!
//! Nothing here depends on private text. But what is said wrongly, or twice, would take the masks off: so each answer
//! is durable before it leaves, and follows from what was answered before ([`Said`](fedner_session::secure::Said)).

use fedner_secagg::{Dealt, Masker, Members, Width};
use fedner_session::Task;
use fedner_session::secure::Contradiction;
use fedner_shared::id::InstitutionId;
use fedner_shared::plan::Plan;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::secure::{
    AttemptId, SecureSet, SecureStep, Signers, Told, fingerprint, is_fingerprint,
};
use fedner_shared::sign::{Signed, Statement};
use fedner_shared::statement::Masked;

use super::{Error, Gate};
use crate::config::Policy;
use crate::state::SecureAttempt;

/// A statement of a step that may leave.
#[derive(Debug)]
pub struct ReleasedStep {
    step: SecureStep,
    statement: Signed,
}

impl ReleasedStep {
    pub const fn step(&self) -> SecureStep {
        self.step
    }

    pub const fn statement(&self) -> &Signed {
        &self.statement
    }
}

/// What the coordinator asks for, and what it tells of the attempt.
#[derive(Debug)]
pub struct StepRequest<'a> {
    pub task: &'a Task,
    pub plan: &'a Plan,
    pub policy: &'a Policy,
    pub step: SecureStep,
    pub told: &'a Told,
    /// For a new attempt, from a cryptographic generator.
    pub secret: [u8; 32],
}

/// The masks of an update, and what becomes of the attempt once it is under them.
#[derive(Debug)]
pub(super) struct Masks {
    pub(super) masker: Masker,
    pub(super) masked: Masked,
    pub(super) attempt: SecureAttempt,
}

fn refuse<T>(message: impl Into<String>) -> Result<T, Error> {
    Err(Refusal::new(Code::SecureStep, message.into()).into())
}

impl From<Contradiction> for Error {
    fn from(error: Contradiction) -> Self {
        Self::Refused(Refusal::new(Code::SecureStep, error.to_string()))
    }
}

impl From<fedner_secagg::Error> for Error {
    fn from(error: fedner_secagg::Error) -> Self {
        Self::Refused(error.refusal())
    }
}

/// The attempt that a task is of, for which keys were asked for the `number`-th time in the run.
pub fn attempt_id(task: &Task, number: u64) -> AttemptId {
    AttemptId {
        run: task.run.clone(),
        plan: task.plan,
        round: task.round,
        attempt: task.attempt,
        base: task.version,
        number,
    }
}

/// How many of these the policy knows by their fingerprints, this institution aside.
fn known(policy: &Policy, signers: &Signers, own: &InstitutionId) -> Result<u32, Refusal> {
    let mut count = 0;
    for (name, text) in &policy.known_institutions {
        let Some(key) = signers.get(name).filter(|_| name != own) else {
            continue;
        };
        if !is_fingerprint(text, key) {
            let found = fingerprint(key);
            let message =
                format!("the key of {name} has the fingerprint {found}: the policy knows {text}");
            return Err(Refusal::new(Code::RosterRefused, message));
        }
        count += 1;
    }
    Ok(count)
}

fn check_known(policy: &Policy, signers: &Signers, own: &InstitutionId) -> Result<(), Refusal> {
    let (found, least) = (known(policy, signers, own)?, policy.min_known);
    if found >= least {
        return Ok(());
    }
    let message = format!(
        "{found} of the other members are known here: the policy asks for min_known = {least}"
    );
    Err(Refusal::new(Code::RosterRefused, message))
}

impl Gate {
    /// The answer to a step, durable. The same again where it was answered before.
    pub fn take_step(&self, request: &StepRequest<'_>) -> Result<ReleasedStep, Error> {
        if request.plan.secure_aggregation.is_none() {
            return refuse("the plan does not mask updates");
        }
        self.check_roster(request.plan, request.policy, &request.told.signers)?;
        match request.step {
            SecureStep::Keys => self.send_keys(request),
            SecureStep::Shares => self.deal(request),
            SecureStep::Consistency => self.confirm(request),
            SecureStep::Unmasking => self.unmask(request),
        }
    }

    /// Whether these may see what is sent. They are of the plan's cohort, this institution with its own key among them.
    /// As many are known as the policy asks for, and no more are unknown than a plan that shares noise counts on.
    ///
    /// Every sum is over some of them, of the quorum at least. So it has the noise of as many honest ones as the plan
    /// divides noise among, whatever policies others have.
    fn check_roster(&self, plan: &Plan, policy: &Policy, signers: &Signers) -> Result<(), Refusal> {
        let own = &self.identity.institution;
        let stranger = signers
            .keys()
            .find(|name| !plan.cohort.institutions.contains(name));
        if let Some(name) = stranger {
            let message = format!("{name} is in the roster and not in the plan");
            return Err(Refusal::new(Code::RosterRefused, message));
        }
        if signers.get(own) != Some(&self.identity.signing.public()) {
            let message = "the roster has another key for this institution";
            return Err(Refusal::new(Code::RosterRefused, message));
        }
        policy.allows_sharing(plan, signers.keys().filter(|name| *name != own))?;
        check_known(policy, signers, own)
    }

    fn signed<T: Statement>(&self, step: SecureStep, statement: &T) -> ReleasedStep {
        ReleasedStep {
            step,
            statement: Signed::new(statement, &self.identity.signing),
        }
    }

    /// Keys are for one attempt, and attempts do not come back.
    fn send_keys(&self, request: &StepRequest<'_>) -> Result<ReleasedStep, Error> {
        let of = attempt_id(request.task, request.told.number);
        let newest = self.store.secure_attempt(of.run.as_str())?;
        let attempt = match newest {
            Some(newest) if newest.of == of => newest,
            Some(newest) if newest.of.number >= of.number => {
                let message = format!(
                    "keys were sent for a later attempt already, in round {}",
                    newest.of.round
                );
                return refuse(message);
            }
            Some(_) | None => {
                let attempt = SecureAttempt::new(of.clone(), request.secret);
                self.store.save_secure_attempt(&attempt)?;
                attempt
            }
        };
        let keys = attempt.secret()?.keys_of(&of, &self.identity.institution)?;
        Ok(self.signed(SecureStep::Keys, &keys))
    }

    /// The attempt that keys were sent for, if it is this one.
    fn attempt(&self, of: &AttemptId) -> Result<SecureAttempt, Error> {
        match self.store.secure_attempt(of.run.as_str())? {
            Some(attempt) if attempt.of == *of => Ok(attempt),
            Some(_) | None => refuse("no keys were sent from here for this attempt"),
        }
    }

    /// The roster as it is told, with this institution's own keys in it.
    ///
    /// It has the quorum at least. `colluding` of a smaller one could be enough to open what is dealt to it.
    fn members(&self, attempt: &SecureAttempt, told: &Told, plan: &Plan) -> Result<Members, Error> {
        let members = Members::new(&attempt.of, &told.signers, &told.keys)?;
        let (found, least) = (told.signers.len(), plan.cohort.quorum);
        if found < least {
            return refuse(format!(
                "the roster has {found} members: expected the quorum, {least}, at least"
            ));
        }
        if !members.names().iter().eq(told.signers.keys()) {
            return refuse("the roster names others than those who sent keys");
        }
        let own = attempt
            .secret()?
            .keys_of(&attempt.of, &self.identity.institution)?;
        let shown = members.keys(&self.identity.institution)?;
        if shown.mask[..] != own.mask.0 || shown.seal[..] != own.seal.0 {
            return refuse("the roster has other keys of this institution than it sent");
        }
        Ok(members)
    }

    fn deal(&self, request: &StepRequest<'_>) -> Result<ReleasedStep, Error> {
        let mut attempt = self.attempt(&attempt_id(request.task, request.told.number))?;
        let members = self.members(&attempt, request.told, request.plan)?;
        attempt.said = attempt.said.deal(members.digest())?;
        self.store.save_secure_attempt(&attempt)?;
        let shares = members.deal(&attempt.secret()?, &self.identity.institution)?;
        Ok(self.signed(SecureStep::Shares, &shares))
    }

    /// Keeps with whom there are masks, before text is read. That everybody's shares can be opened is found out now.
    pub fn agree_on_masks(
        &self,
        task: &Task,
        plan: &Plan,
        policy: &Policy,
        told: Option<&Told>,
    ) -> Result<(), Error> {
        if plan.secure_aggregation.is_none() {
            return Ok(());
        }
        let Some(told) = told else {
            return refuse("nothing is told of the members whose masks are to cancel");
        };
        self.check_roster(plan, policy, &told.signers)?;
        let mut attempt = self.attempt(&attempt_id(task, told.number))?;
        let dealt = self.members(&attempt, told, plan)?.dealt(&told.shares)?;
        attempt.said = attempt
            .said
            .agree(dealt.members().digest(), dealt.digest())?;
        self.masker(&attempt, &dealt, plan)?;
        attempt.told = Some(told.clone());
        Ok(self.store.save_secure_attempt(&attempt)?)
    }

    fn masker(&self, attempt: &SecureAttempt, dealt: &Dealt, plan: &Plan) -> Result<Masker, Error> {
        let width = Width::of_sums(plan.masked_sum_bound())?;
        Ok(dealt.masker(&attempt.secret()?, &self.identity.institution, width)?)
    }

    /// The masks that were agreed on; nothing where the plan does not mask.
    pub(super) fn masks(&self, task: &Task, plan: &Plan) -> Result<Option<Masks>, Error> {
        if plan.secure_aggregation.is_none() {
            return Ok(None);
        }
        let newest = self.store.secure_attempt(task.run.as_str())?;
        let number = newest.map_or(0, |newest| newest.of.number);
        let attempt = self.attempt(&attempt_id(task, number))?;
        if attempt.said.has_masked() {
            return refuse("another update is under these masks already");
        }
        let Some(told) = &attempt.told else {
            return refuse("no masks were agreed on");
        };
        let dealt = self.members(&attempt, told, plan)?.dealt(&told.shares)?;
        Ok(Some(Masks {
            masker: self.masker(&attempt, &dealt, plan)?,
            masked: Masked {
                roster: dealt.members().digest(),
                dealt: dealt.digest(),
            },
            attempt,
        }))
    }

    /// The set that the coordinator names, after it was found large enough and this institution in it: durable, and the
    /// only one of this attempt.
    fn settle(&self, request: &StepRequest<'_>) -> Result<(SecureAttempt, Dealt), Error> {
        let StepRequest {
            plan, policy, told, ..
        } = request;
        let own = &self.identity.institution;
        let mut attempt = self.attempt(&attempt_id(request.task, request.told.number))?;
        let dealt = self.members(&attempt, told, plan)?.dealt(&told.shares)?;
        let set = &told.members;
        let sorted = set.is_sorted_by(|a, b| a < b);
        let within = set
            .iter()
            .all(|name| dealt.names().any(|dealer| dealer == name));
        let least = dealt.members().threshold().max(plan.cohort.quorum);
        if !sorted || !within || set.len() < least || !set.contains(own) {
            let found = set.len();
            return refuse(format!(
                "a sum of {found} members is named: expected at least {least} who dealt shares, this institution among them"
            ));
        }
        let mut signers = told.signers.clone();
        signers.retain(|name, _| set.contains(name));
        check_known(policy, &signers, own)?;
        let of = (dealt.members().digest(), dealt.digest());
        attempt.said = attempt.said.settle(of, set)?;
        self.store.save_secure_attempt(&attempt)?;
        Ok((attempt, dealt))
    }

    fn confirm(&self, request: &StepRequest<'_>) -> Result<ReleasedStep, Error> {
        let (attempt, dealt) = self.settle(request)?;
        let set = SecureSet {
            of: attempt.of,
            institution: self.identity.institution.clone(),
            roster: dealt.members().digest(),
            dealt: dealt.digest(),
            members: request.told.members.clone(),
        };
        Ok(self.signed(SecureStep::Consistency, &set))
    }

    /// Tells one share of each member, once enough members have signed the very set that decides which.
    fn unmask(&self, request: &StepRequest<'_>) -> Result<ReleasedStep, Error> {
        let told = request.told;
        let of = attempt_id(request.task, told.number);
        let attempt = self.attempt(&of)?;
        let dealt = self
            .members(&attempt, told, request.plan)?
            .dealt(&told.shares)?;
        dealt.check_sets(&told.members, &told.sets)?;
        let (attempt, dealt) = self.settle(request)?;
        let (secret, own) = (attempt.secret()?, &self.identity.institution);
        let unmasking = dealt.unmasking(&secret, own, &told.members)?;
        Ok(self.signed(SecureStep::Unmasking, &unmasking))
    }
}
