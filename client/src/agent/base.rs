//! Whether an assignment begins with what was consented to.
//!
//! The signed plan pins config, tokenizer, frozen weights, manifest and the first round's weights. The
//! weights of later rounds are not known when it is signed. Of them the record is checked: it must be of
//! this run, of an earlier round, and must agree with every update that this institution sent. That they
//! are what the record's updates add up to is the coordinator's word; `replay` there shows it.

use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use fedner_shared::plan::{Inputs, Plan};
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::statement::UpdateReceipt;
use fedner_shared::version::{Round, Version};

/// An update that this institution released, as its receipt has it.
#[derive(Debug, Clone)]
pub(super) struct Own {
    pub(super) receipt: Digest,
    pub(super) statement: UpdateReceipt,
}

/// An assignment of a plan: of which version, under which manifest, in which round.
#[derive(Debug)]
pub(super) struct Begins<'a> {
    pub(super) plan: &'a Plan,
    pub(super) run: &'a str,
    pub(super) version: &'a Version,
    pub(super) manifest: Digest,
    /// Versions of rounds before this one may be begun with.
    pub(super) before: u32,
    pub(super) institution: &'a InstitutionId,
}

impl Begins<'_> {
    /// Compares with the plan's inputs and with what was released here; `own` has the updates of this
    /// institution to the run.
    pub(super) fn check(&self, own: &[Own]) -> Result<(), Refusal> {
        let inputs = self.plan.inputs.as_ref().ok_or_else(|| {
            let message = format!(
                "the plan {} does not name what it begins with: its run must be created anew",
                self.plan.name
            );
            Refusal::new(Code::PlanInvalid, message)
        })?;
        self.check_files(inputs)?;
        match self.version.round() {
            _ if self.version.weights == inputs.weights.digest => Ok(()),
            Some(round) => self.check_round(round, own),
            None => Err(mismatch("weights are not those of the plan")),
        }
    }

    fn check_files(&self, inputs: &Inputs) -> Result<(), Refusal> {
        let version = self.version;
        let pairs = [
            ("config.json", inputs.config.digest == version.config),
            (
                "tokenizer.json",
                inputs.tokenizer.digest == version.tokenizer,
            ),
            (
                "frozen weights",
                inputs.frozen.map(|frozen| frozen.digest) == version.frozen,
            ),
            ("manifest", inputs.manifest == self.manifest),
        ];
        match pairs.iter().find(|(_, same)| !same) {
            Some((what, _)) => Err(mismatch(&format!("{what} is not that of the plan"))),
            None => Ok(()),
        }
    }

    fn check_round(&self, round: &Round, own: &[Own]) -> Result<(), Refusal> {
        let plan = self.plan;
        let of_run = round.run.as_str() == self.run && round.plan == plan.digest();
        if !of_run || round.manifest != self.manifest {
            return Err(mismatch("weights are of another run"));
        }
        let attempts = 1..=plan.cohort.max_attempts;
        if round.round >= self.before || !attempts.contains(&round.attempt) {
            return Err(mismatch(
                "weights are of a round that is not before this one",
            ));
        }
        // A coordinator that came back from a backup asks for an attempt again, and has either update.
        let of_attempt = |own: &&Own| {
            (own.statement.round, own.statement.attempt) == (round.round, round.attempt)
        };
        let sent: Vec<&Own> = own.iter().filter(of_attempt).collect();
        let began = |own: &&Own| self.version.parent == Some(own.statement.base);
        if !sent.is_empty() && !sent.iter().any(began) {
            return Err(mismatch(
                "record has another parent than the version that was trained on here",
            ));
        }
        let listed = round
            .participants
            .iter()
            .find(|participant| participant.institution == *self.institution);
        // Where it is not listed it was silent, too late or set aside.
        let made = listed.is_none_or(|listed| {
            sent.iter()
                .any(|own| listed.receipt == own.receipt && listed.update == own.statement.blob)
        });
        if !made {
            return Err(mismatch("record names an update that was not made here"));
        }
        if round.shows_what_it_seals() {
            return Ok(());
        }
        Err(mismatch("record shows another update than it seals"))
    }
}

fn mismatch(what: &str) -> Refusal {
    let message = format!("the {what}: nothing is computed with it");
    Refusal::new(Code::BaseMismatch, message)
}

#[cfg(test)]
#[path = "base_tests.rs"]
mod tests;
