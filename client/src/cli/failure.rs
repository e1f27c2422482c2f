//! From an error to what the user reads and to the exit status.

use std::error::Error as StdError;
use std::process::ExitCode;

use fedner_host::output::Output;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::{checkpoint, plan};

use crate::{agent, audit, config, consent, egress, identity, rules, state, training, transport};

/// Prints the error; 1 where the user or a peer is at fault, 3 where we are.
pub(super) fn report(error: &anyhow::Error, output: &Output) -> ExitCode {
    match refusal(error) {
        Some(refusal) => output.refused(&refusal),
        None => output.fault(&format!("{error:#}")),
    }
}

/// What the user or a peer did wrong; `None` where we are at fault.
pub(super) fn refusal(error: &anyhow::Error) -> Option<Refusal> {
    error.chain().find_map(refusal_of)
}

fn refusal_of(error: &(dyn StdError + 'static)) -> Option<Refusal> {
    fn is<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
        error.downcast_ref()
    }
    let of = |code| Some(Refusal::new(code, error.to_string().trim_end()));
    if let Some(refusal) = is::<Refusal>(error) {
        return Some(refusal.clone());
    }
    if let Some(error) = is::<config::Error>(error) {
        return Some(error.refusal());
    }
    if is::<plan::Error>(error).is_some() {
        return of(Code::PlanInvalid);
    }
    if is::<checkpoint::Error>(error).is_some() {
        return of(Code::CheckpointInvalid);
    }
    if let Some(error) = is::<fedner_model::corpus::Error>(error) {
        return of(training::code_of_corpus(error));
    }
    if is::<fedner_privacy::ledger::Error>(error).is_some() {
        return of(Code::LedgerInvalid);
    }
    if is::<fedner_privacy::accountant::Error>(error).is_some() {
        return of(Code::PlanInvalid);
    }
    None.or_else(|| is::<agent::Error>(error)?.refusal())
        .or_else(|| is::<audit::Error>(error)?.refusal())
        .or_else(|| is::<consent::Error>(error)?.refusal())
        .or_else(|| is::<egress::Error>(error)?.refusal())
        .or_else(|| is::<identity::Error>(error)?.refusal())
        .or_else(|| is::<rules::Error>(error)?.refusal())
        .or_else(|| is::<state::Error>(error)?.refusal())
        .or_else(|| is::<training::Error>(error)?.refusal())
        .or_else(|| is::<transport::Error>(error)?.refusal())
}
