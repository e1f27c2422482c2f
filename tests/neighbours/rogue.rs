//! A coordinator that asks what it likes, and takes down what it hears.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fedner_proto::v1::check_in_response::Todo;
use fedner_proto::v1::decline_request::Task;
use fedner_proto::v1::federation_server::{Federation, FederationServer};
use fedner_proto::v1::progress_request::Stage;
use fedner_proto::{convert, v1};
use fedner_shared::digest::{Digest, canonical_text};
use fedner_shared::sign::Signed;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use crate::base::{Base, operator_key};
use crate::transcript::Transcript;

const RUN: &str = "run-1";
const CHUNK: usize = 1 << 16;

/// What it does beside asking for a training and an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Manner {
    /// Says of every training that it is not wanted, once it has begun.
    pub(crate) aborts: bool,
    /// Asks for an evaluation too.
    pub(crate) evaluates: bool,
}

/// How far it has come.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
enum Asked {
    #[default]
    Nothing,
    Training,
    Trained,
    Evaluation,
    Done,
}

#[derive(Debug, Default)]
struct State {
    asked: Asked,
    since: Option<Instant>,
    transcript: Transcript,
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Rogue {
    base: Arc<Base>,
    signed: Signed,
    manner: Manner,
    state: Arc<Mutex<State>>,
}

impl Rogue {
    pub(crate) fn new(base: Arc<Base>, manner: Manner) -> Self {
        Self {
            signed: Signed::new(&base.plan, &operator_key()),
            base,
            manner,
            state: Arc::default(),
        }
    }

    /// Serves on a port of its own, which it answers with.
    pub(crate) async fn serve(&self) -> anyhow::Result<u16> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let router = tonic::transport::Server::builder()
            .add_service(FederationServer::new(self.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(router);
        Ok(port)
    }

    /// What was heard, once all that was asked is answered.
    pub(crate) fn heard(&self) -> Option<Transcript> {
        let state = self.lock();
        (state.asked == Asked::Done).then(|| state.transcript.clone())
    }

    /// What was heard so far.
    pub(crate) fn so_far(&self) -> Transcript {
        self.lock().transcript.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, what: String) {
        let mut state = self.lock();
        let after = state.since.map_or(Duration::ZERO, |since| since.elapsed());
        state.transcript.add(what, after);
    }

    /// The training or the evaluation under way has come to its end.
    fn ended(&self) {
        let mut state = self.lock();
        state.asked = match state.asked {
            Asked::Training if self.manner.evaluates => Asked::Trained,
            Asked::Nothing => Asked::Nothing,
            Asked::Training | Asked::Trained | Asked::Evaluation | Asked::Done => Asked::Done,
        };
    }

    fn assignment(&self) -> v1::Assignment {
        let inputs = self.base.plan.inputs.as_ref();
        let manifest = inputs.map(|inputs| inputs.manifest);
        v1::Assignment {
            run: RUN.to_owned(),
            plan: Some(convert::signed_to_wire(&self.signed)),
            round: 1,
            attempt: 1,
            version: canonical_text(&self.base.version),
            participant: String::new(),
            manifest: manifest.map_or_else(Vec::new, |digest| digest.as_bytes().to_vec()),
            secure: None,
        }
    }

    /// What is asked next.
    fn next(&self, request: &v1::CheckInRequest) -> Option<Todo> {
        let digest = self.signed.digest();
        if !request
            .known_plans
            .iter()
            .any(|known| known == digest.as_bytes())
        {
            return Some(Todo::Proposal(v1::Proposal {
                run: RUN.to_owned(),
                plan: Some(convert::signed_to_wire(&self.signed)),
                dimension: 1,
                memory: 0,
                roster: Vec::new(),
            }));
        }
        if request.consents.is_empty() {
            return None;
        }
        let mut state = self.lock();
        match state.asked {
            Asked::Nothing => {
                state.asked = Asked::Training;
                state.since = Some(Instant::now());
                Some(Todo::Train(self.assignment()))
            }
            Asked::Trained => {
                state.asked = Asked::Evaluation;
                state.since = Some(Instant::now());
                Some(Todo::Evaluate(self.assignment()))
            }
            // The institution gave the training up in silence, as it was told to.
            Asked::Training if self.manner.aborts => {
                state.asked = Asked::Done;
                None
            }
            Asked::Training | Asked::Evaluation | Asked::Done => None,
        }
    }
}

type Chunks = Pin<Box<dyn Stream<Item = Result<v1::Chunk, Status>> + Send>>;

#[tonic::async_trait]
impl Federation for Rogue {
    type DownloadStream = Chunks;

    async fn check_in(
        &self,
        request: Request<v1::CheckInRequest>,
    ) -> Result<Response<v1::CheckInResponse>, Status> {
        let request = request.into_inner();
        let todo = self.next(&request);
        if todo.is_none() {
            let wait = Duration::from_millis(u64::from(request.wait_ms).min(200));
            tokio::time::sleep(wait).await;
        }
        Ok(Response::new(v1::CheckInResponse {
            todo,
            ledger_head: Vec::new(),
            ledger_heads: Vec::new(),
            ..v1::CheckInResponse::default()
        }))
    }

    async fn download(
        &self,
        request: Request<v1::DownloadRequest>,
    ) -> Result<Response<Chunks>, Status> {
        let v1::DownloadRequest { digest, offset } = request.into_inner();
        let digest: [u8; 32] = digest
            .try_into()
            .map_err(|_| Status::invalid_argument("digest"))?;
        let file = self.base.files.get(&Digest::from_bytes(digest));
        let file = file.ok_or_else(|| Status::not_found("file"))?;
        let rest = file.get(offset as usize..).unwrap_or_default();
        let chunks: Vec<_> = rest
            .chunks(CHUNK)
            .map(|data| {
                Ok(v1::Chunk {
                    data: data.to_vec(),
                })
            })
            .collect();
        self.hear(format!("Download {}", Digest::from_bytes(digest).short()));
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }

    async fn upload_offset(
        &self,
        _: Request<v1::UploadOffsetRequest>,
    ) -> Result<Response<v1::UploadOffsetResponse>, Status> {
        self.hear("UploadOffset".to_owned());
        Ok(Response::new(v1::UploadOffsetResponse { offset: 0 }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        let mut parts = request.into_inner();
        while let Some(part) = parts.next().await {
            part?;
        }
        self.hear("Upload".to_owned());
        self.ended();
        Ok(Response::new(v1::UploadResponse {}))
    }

    async fn decline(
        &self,
        request: Request<v1::DeclineRequest>,
    ) -> Result<Response<v1::DeclineResponse>, Status> {
        let request = request.into_inner();
        let size = request.encoded_len();
        let task = request.task() == Task::Train;
        self.hear(format!(
            "Decline training {task} {} {:?} {size}",
            request.code, request.reason
        ));
        self.ended();
        Ok(Response::new(v1::DeclineResponse {}))
    }

    async fn progress(
        &self,
        request: Request<v1::ProgressRequest>,
    ) -> Result<Response<v1::ProgressResponse>, Status> {
        let stage = request.into_inner().stage();
        self.hear(format!("Progress {}", stage.as_str_name()));
        let wanted = !(self.manner.aborts && stage == Stage::Training);
        Ok(Response::new(v1::ProgressResponse { wanted }))
    }

    async fn submit_evaluation(
        &self,
        _: Request<v1::SubmitEvaluationRequest>,
    ) -> Result<Response<v1::SubmitEvaluationResponse>, Status> {
        self.hear("SubmitEvaluation".to_owned());
        self.ended();
        Ok(Response::new(v1::SubmitEvaluationResponse {}))
    }

    async fn submit_audit(
        &self,
        _: Request<v1::SubmitAuditRequest>,
    ) -> Result<Response<v1::SubmitAuditResponse>, Status> {
        Err(Status::unimplemented("audits"))
    }

    async fn take_secure_step(
        &self,
        _: Request<v1::TakeSecureStepRequest>,
    ) -> Result<Response<v1::TakeSecureStepResponse>, Status> {
        Err(Status::unimplemented("steps"))
    }

    async fn list_receipts(
        &self,
        _: Request<v1::ListReceiptsRequest>,
    ) -> Result<Response<v1::ListReceiptsResponse>, Status> {
        Err(Status::unimplemented("receipts"))
    }

    async fn replace_signing_key(
        &self,
        _: Request<v1::ReplaceSigningKeyRequest>,
    ) -> Result<Response<v1::ReplaceSigningKeyResponse>, Status> {
        Err(Status::unimplemented("keys"))
    }
}
