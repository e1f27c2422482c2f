//! A machine beside the federation: the operator's commands, and whoever got hold of a site's keys.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fedner_proto::v1::control_run_request::Action;
use fedner_proto::v1::decline_request::Task as DeclinedTask;
use fedner_proto::v1::federation_client::FederationClient;
use fedner_proto::v1::operations_client::OperationsClient;
use fedner_proto::v1::set_institution_state_request::State;
use fedner_proto::v1::upload_request::Part;
use fedner_proto::{convert, v1};
use fedner_shared::digest::Digest;
use fedner_shared::id::RunId;
use fedner_shared::refusal::Code;
use fedner_shared::secure::SecureStep;
use fedner_shared::sign::Signed;
use tokio::sync::mpsc;
use tonic::Status;

use crate::machine::SimMachine;
use crate::network;
use crate::prepared::prepared;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Something said to the coordinator, and in whose name.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// For the log.
    pub(crate) what: String,
    /// Whose certificate it comes with.
    pub(crate) caller: String,
    pub(crate) call: Call,
    /// The run that it is a forgery about: while that is under way, it must be refused.
    pub(crate) forged: Option<RunId>,
}

#[derive(Debug, Clone)]
pub(crate) enum Call {
    CreateRun(Signed),
    /// So many versions of each model stay.
    Prune(u32),
    Control(String, Action),
    SetState(String, State),
    /// Run and institution.
    Exclude(String, String),
    Readmit(String, String),
    Upload {
        receipt: Signed,
        bytes: Vec<u8>,
    },
    Evaluation(Signed),
    Step(SecureStep, Signed),
    CheckIn(Vec<Signed>),
    Decline {
        run: String,
        round: u32,
    },
    Download(Digest),
}

/// What came of a message.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) message: Message,
    pub(crate) result: Result<(), Reply>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The coordinator said no.
    Refused(Code),
    /// It said nothing, or had a fault.
    Failed(String),
}

/// Sends messages as they are handed in, each on its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outsider {
    answers: Arc<Mutex<Vec<Answer>>>,
    /// Newer than those that simulations begin with.
    certificates: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl Outsider {
    pub(crate) fn take_answers(&self) -> Vec<Answer> {
        std::mem::take(&mut self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn renew(&self, caller: &str, certificate: Vec<u8>) {
        self.renewed().insert(caller.to_owned(), certificate);
    }

    fn renewed(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.certificates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn run(
        self,
        machine: Arc<SimMachine>,
        mut inbox: mpsc::UnboundedReceiver<Message>,
    ) -> turmoil::Result {
        while let Some(message) = inbox.recv().await {
            let (answers, machine) = (self.answers.clone(), machine.clone());
            let renewed = self.renewed().get(&message.caller).cloned();
            let first = || prepared().certificates.get(&message.caller).cloned();
            let certificate = renewed.or_else(first).unwrap_or_default();
            tokio::spawn(async move {
                let sent = send(&message, certificate, machine);
                let said = tokio::time::timeout(PATIENCE, sent).await;
                let result = match said {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(status)) => Err(reply(&status)),
                    Err(_) => Err(Reply::Failed("no answer".to_owned())),
                };
                let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
                answers.push(Answer { message, result });
            });
        }
        Ok(())
    }
}

fn reply(status: &Status) -> Reply {
    match convert::refusal_of(status) {
        Some(refusal) => Reply::Refused(refusal.code),
        None => Reply::Failed(format!("{:?}", status.code())),
    }
}

async fn send(
    message: &Message,
    certificate: Vec<u8>,
    machine: Arc<SimMachine>,
) -> Result<(), Status> {
    let channel = network::dial(&network::address(), certificate, machine)
        .map_err(|error| Status::internal(error.to_string()))?;
    let mut operations = OperationsClient::new(channel.clone());
    let mut federation = FederationClient::new(channel);
    match message.call.clone() {
        Call::CreateRun(plan) => {
            let plan = Some(convert::signed_to_wire(&plan));
            let request = v1::CreateRunRequest { plan, force: true };
            operations.create_run(request).await.map(|_| ())
        }
        Call::Prune(keep) => {
            let request = v1::PruneModelsRequest {
                keep,
                ..v1::PruneModelsRequest::default()
            };
            operations.prune_models(request).await.map(|_| ())
        }
        Call::Control(run, action) => {
            let action = action.into();
            let request = v1::ControlRunRequest { run, action };
            operations.control_run(request).await.map(|_| ())
        }
        Call::SetState(institution, state) => {
            let state = state.into();
            let request = v1::SetInstitutionStateRequest { institution, state };
            operations.set_institution_state(request).await.map(|_| ())
        }
        Call::Exclude(run, institution) => {
            let request = v1::ExcludeMemberRequest {
                run,
                institution,
                round: 0,
            };
            operations.exclude_member(request).await.map(|_| ())
        }
        Call::Readmit(run, institution) => {
            let request = v1::ReadmitMemberRequest { run, institution };
            operations.readmit_member(request).await.map(|_| ())
        }
        Call::Upload { receipt, bytes } => {
            let start = v1::UploadStart {
                receipt: Some(convert::signed_to_wire(&receipt)),
                offset: 0,
            };
            let parts = [Part::Start(start), Part::Data(bytes)];
            let parts = parts.map(|part| v1::UploadRequest { part: Some(part) });
            federation
                .upload(tokio_stream::iter(parts))
                .await
                .map(|_| ())
        }
        Call::Evaluation(receipt) => {
            let receipt = Some(convert::signed_to_wire(&receipt));
            let request = v1::SubmitEvaluationRequest { receipt };
            federation.submit_evaluation(request).await.map(|_| ())
        }
        Call::Step(step, statement) => {
            let request = v1::TakeSecureStepRequest {
                step: convert::secure_step_to_wire(step).into(),
                statement: Some(convert::signed_to_wire(&statement)),
            };
            federation.take_secure_step(request).await.map(|_| ())
        }
        Call::CheckIn(consents) => {
            let request = v1::CheckInRequest {
                wait_ms: 0,
                known_plans: Vec::new(),
                consents: consents.iter().map(convert::signed_to_wire).collect(),
                software: "an outsider".to_owned(),
                ..v1::CheckInRequest::default()
            };
            federation.check_in(request).await.map(|_| ())
        }
        Call::Decline { run, round } => {
            let request = v1::DeclineRequest {
                run,
                round,
                attempt: 1,
                task: DeclinedTask::Train.into(),
                code: Code::NotFinite.to_string(),
                reason: String::new(),
                again_ms: None,
            };
            federation.decline(request).await.map(|_| ())
        }
        Call::Download(digest) => {
            let digest = digest.as_bytes().to_vec();
            let request = v1::DownloadRequest { digest, offset: 0 };
            federation.download(request).await.map(|_| ())
        }
    }
}
