//! The calls that are answered at once, and the long poll.

use std::time::Duration;

use fedner_proto::v1::check_in_response::Todo as WireTodo;
use fedner_proto::v1::decline_request::Task as DeclinedTask;
use fedner_proto::v1::progress_request::Stage;
use fedner_proto::v1::{
    Assignment, CheckInRequest, DeclineRequest, ProgressRequest, Proposal, RenewRequest,
    ReplaceSigningKeyRequest, SecureStepAssignment, SubmitAuditRequest, SubmitEvaluationRequest,
    TakeSecureStepRequest,
};
use fedner_proto::{PROTOCOL, convert};
use fedner_session::{Kind, Task};
use fedner_shared::digest::Digest;
use fedner_shared::history::LONGEST_PROOF;
use fedner_shared::keys::Trust;
use fedner_shared::refusal::Code;
use fedner_shared::sign::Signed;
use fedner_shared::time::Time;

use super::{CALL, Coordinator, Error, LONG_CALL};
use crate::SOFTWARE;
use crate::egress::{Reason, ReleasedAudit, ReleasedEvaluation, ReleasedStep};

/// The coordinator holds a check-in for so long if there is nothing to do.
pub const POLL: Duration = Duration::from_secs(20);

/// Heads of the ledger that a coordinator may name at once.
const MOST_HEADS: usize = 64;

/// What the coordinator asks for, nothing of it verified.
#[derive(Debug)]
pub enum Todo {
    Nothing,
    Consider(Proposal),
    Do(Kind, Assignment),
    /// A step of a secure aggregation.
    Step(SecureStepAssignment),
}

/// What a check-in is answered with.
#[derive(Debug)]
pub struct Answer {
    pub todo: Todo,
    /// The ledger entries named by the newest receipts that the coordinator has seen from here.
    pub ledger_heads: Vec<Digest>,
    /// How far the coordinator says that its history of events goes.
    pub history: Option<Signed>,
    /// That it goes on from what was shown before.
    pub history_proof: Vec<Digest>,
    /// What is to be trusted from now on, where that is news.
    pub trust: Option<Trust>,
    /// What the coordinator runs; empty where it does not say.
    pub software: String,
    /// The form of messages that it speaks.
    pub protocol: u32,
    /// Plans of runs under way that this institution is a member of.
    pub under_way: Vec<Digest>,
}

/// What a check-in says.
#[derive(Debug, Default)]
pub struct Says<'a> {
    /// How long it may be held.
    pub poll: Duration,
    /// Plans that were shown here.
    pub known: &'a [Digest],
    pub consents: &'a [Signed],
    pub told: Told,
    /// From when on work is taken on, and why not before.
    pub later: Option<(Time, Code)>,
    /// The plans under way that the last answer named.
    pub under_way: &'a [Digest],
}

/// What the coordinator has told so far, as it is said back.
#[derive(Debug, Default)]
pub struct Told {
    /// How far the history went.
    pub history: u64,
    /// That, countersigned.
    pub seen: Option<Signed>,
    /// What is to be trusted.
    pub trust: Option<Digest>,
}

impl Coordinator {
    /// Asks what is to be done; answers at once if there is something, else after the poll.
    pub async fn check_in(&self, says: Says<'_>) -> Result<Answer, Error> {
        let Says {
            poll,
            known,
            consents,
            told,
            later,
            under_way,
        } = says;
        let bytes = |plans: &[Digest]| plans.iter().map(|plan| plan.as_bytes().to_vec()).collect();
        let request = CheckInRequest {
            wait_ms: poll.as_millis() as u32,
            known_plans: bytes(known),
            consents: consents.iter().map(convert::signed_to_wire).collect(),
            software: SOFTWARE.to_owned(),
            history_size: told.history,
            history_seen: told.seen.as_ref().map(convert::signed_to_wire),
            trust: told
                .trust
                .map_or_else(Vec::new, |trust| trust.as_bytes().to_vec()),
            not_before_ms: later.map(|(from, _)| from.as_millis()),
            not_before_code: later.map(|(_, code)| code.to_string()).unwrap_or_default(),
            protocol: PROTOCOL,
            plans_under_way: bytes(under_way),
        };
        let mut client = self.federation();
        let response = self.within(poll + CALL, client.check_in(request)).await?;
        // Older coordinators name one.
        let one = Some(&response.ledger_head).filter(|bytes| !bytes.is_empty());
        let heads = response.ledger_heads.iter().take(MOST_HEADS).chain(one);
        let heads = heads.map(|bytes| convert::digest("ledger_heads", bytes));
        let ledger_heads = heads.collect::<Result<_, _>>().map_err(Error::Refused)?;
        let history = response
            .history
            .map(|signed| convert::signed("history", Some(signed)));
        let history = history.transpose().map_err(Error::Refused)?;
        let proof = response.history_proof.iter().take(LONGEST_PROOF + 1);
        let proof = proof.map(|digest| convert::digest("history_proof", digest));
        let history_proof = proof.collect::<Result<_, _>>().map_err(Error::Refused)?;
        let under_way = response.plans_under_way.iter();
        let under_way = under_way.map(|plan| convert::digest("plans_under_way", plan));
        let under_way = under_way
            .collect::<Result<_, _>>()
            .map_err(Error::Refused)?;
        let todo = match response.todo {
            None => Todo::Nothing,
            Some(WireTodo::Proposal(proposal)) => Todo::Consider(proposal),
            Some(WireTodo::Train(assignment)) => Todo::Do(Kind::Train, assignment),
            Some(WireTodo::Evaluate(assignment)) => Todo::Do(Kind::Evaluate, assignment),
            Some(WireTodo::SecureStep(step)) => Todo::Step(step),
        };
        let trust = response.trust.map(convert::trust);
        Ok(Answer {
            trust: trust.transpose().map_err(Error::Refused)?,
            todo,
            ledger_heads,
            history,
            history_proof,
            under_way,
            software: response.software,
            protocol: response.protocol,
        })
    }

    /// A sign of life; answers whether the task is still wanted.
    pub async fn progress(&self, task: &Task, stage: Stage) -> Result<bool, Error> {
        let request = ProgressRequest {
            run: task.run.to_string(),
            round: task.round,
            attempt: task.attempt,
            stage: stage.into(),
        };
        let mut client = self.federation();
        let response = self.within(CALL, client.progress(request)).await?;
        Ok(response.wanted)
    }

    /// Says that the institution will not do it. The reason is one of a fixed list.
    pub async fn decline(
        &self,
        kind: Kind,
        run: &str,
        round: u32,
        attempt: u32,
        code: Code,
        again: Option<Time>,
    ) -> Result<(), Error> {
        let task = match kind {
            Kind::Train => DeclinedTask::Train,
            Kind::Evaluate => DeclinedTask::Evaluate,
        };
        let mut request = DeclineRequest {
            run: run.to_owned(),
            round,
            attempt,
            task: task.into(),
            code: code.to_string(),
            reason: Reason::from_code(code).as_str().to_owned(),
            again_ms: again.map(Time::as_millis),
        };
        let mut client = self.federation();
        let declined = self.within(CALL, client.decline(request.clone())).await;
        // A coordinator of an earlier release refuses a code that came later.
        if let Err(error) = &declined
            && error.code() == Some(Code::RequestInvalid)
            && round > 0
        {
            request.code = Code::NotDone.to_string();
            self.within(CALL, client.decline(request)).await?;
            return Ok(());
        }
        declined.map(drop)
    }

    /// Sends a step of a secure aggregation.
    pub async fn take_secure_step(&self, released: &ReleasedStep) -> Result<(), Error> {
        let request = TakeSecureStepRequest {
            step: convert::secure_step_to_wire(released.step()).into(),
            statement: Some(convert::signed_to_wire(released.statement())),
        };
        let mut client = self.federation();
        self.within(CALL, client.take_secure_step(request)).await?;
        Ok(())
    }

    /// Sends evaluation counts that passed the egress gate.
    pub async fn submit_evaluation(&self, released: &ReleasedEvaluation) -> Result<(), Error> {
        let request = SubmitEvaluationRequest {
            receipt: Some(convert::signed_to_wire(released.receipt())),
        };
        let mut client = self.federation();
        self.within(CALL, client.submit_evaluation(request)).await?;
        Ok(())
    }

    /// Sends a report that passed the egress gate.
    pub async fn submit_audit(&self, released: &ReleasedAudit) -> Result<(), Error> {
        let request = SubmitAuditRequest {
            report: Some(convert::signed_to_wire(released.report())),
            version: released.version().map(ToString::to_string),
        };
        let mut client = self.federation();
        self.within(LONG_CALL, client.submit_audit(request)).await?;
        Ok(())
    }

    /// Says which key signs for this institution from now on.
    pub async fn replace_signing_key(&self, succession: &Signed) -> Result<(), Error> {
        let request = ReplaceSigningKeyRequest {
            succession: Some(convert::signed_to_wire(succession)),
        };
        let mut client = self.federation();
        self.within(CALL, client.replace_signing_key(request))
            .await?;
        Ok(())
    }

    /// A new certificate for the request.
    pub async fn renew(&self, certificate_request: String) -> Result<String, Error> {
        let request = RenewRequest {
            certificate_request,
        };
        let mut client = self.enrolment();
        let response = self.within(CALL, client.renew(request)).await?;
        Ok(response.certificate)
    }
}
