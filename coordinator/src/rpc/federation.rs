//! What institutions call.

use std::time::Duration;

use fedner_proto::v1::check_in_response::Todo as WireTodo;
use fedner_proto::v1::decline_request::Task as WireTask;
use fedner_proto::v1::upload_request::Part;
use fedner_proto::{convert, v1};
use fedner_round::Task;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::statement::UpdateReceipt;
use tonic::{Request, Response, Status, Streaming};

use super::gate::status;
use super::stream::{Chunks, object};
use super::{STALLED, Services};
use crate::engine::dispatch::{CheckIn, Todo};
use crate::observe;

#[derive(Debug)]
pub(super) struct Federation(pub(super) Services);

#[tonic::async_trait]
impl v1::federation_server::Federation for Federation {
    async fn check_in(
        &self,
        request: Request<v1::CheckInRequest>,
    ) -> Result<Response<v1::CheckInResponse>, Status> {
        let institution = self.0.institution(&request).await?;
        let message = request.into_inner();
        let known_plans = message
            .known_plans
            .iter()
            .map(|plan| convert::digest("known_plans", plan));
        let consents = message
            .consents
            .into_iter()
            .map(|consent| convert::signed("consents", Some(consent)));
        let check_in = CheckIn {
            institution: institution.clone(),
            known_plans: known_plans.collect::<Result<_, _>>().map_err(status)?,
            consents: consents.collect::<Result<_, _>>().map_err(status)?,
        };
        let wanted = Duration::from_millis(message.wait_ms.into());
        let _waiting = observe::Waiting::new();
        let (mut waiter, longest) = self
            .0
            .engine
            .call(move |engine| {
                Ok((
                    engine.waiter(&institution),
                    engine.longest_wait(&institution),
                ))
            })
            .await
            .map_err(status)?;
        let until = tokio::time::Instant::now() + wanted.min(longest);
        loop {
            waiter.mark_unchanged();
            let asked = check_in.clone();
            let (todo, head) = self
                .0
                .engine
                .call(move |engine| {
                    let todo = engine.check_in(&asked)?;
                    Ok((todo, engine.ledger_head(&asked.institution)?))
                })
                .await
                .map_err(status)?;
            let answer = |todo: Option<Todo>| {
                Ok(Response::new(v1::CheckInResponse {
                    todo: todo.map(todo_to_wire),
                    ledger_head: head.map_or_else(Vec::new, |head| head.as_bytes().to_vec()),
                }))
            };
            if todo.is_some() {
                return answer(todo);
            }
            let go_on = tokio::select! {
                biased;
                changed = waiter.changed() => changed.is_ok(),
                () = tokio::time::sleep_until(until) => false,
                () = self.0.stop.cancelled() => false,
            };
            if !go_on {
                return answer(None);
            }
        }
    }

    type DownloadStream = Chunks;

    async fn download(
        &self,
        request: Request<v1::DownloadRequest>,
    ) -> Result<Response<Chunks>, Status> {
        let institution = self.0.institution(&request).await?;
        let v1::DownloadRequest { digest, offset } = request.into_inner();
        let digest = convert::digest("digest", &digest).map_err(status)?;
        let may = self
            .0
            .engine
            .call(move |engine| engine.may_download(&institution, digest))
            .await
            .map_err(status)?;
        if !may {
            let message = format!("object {digest} is no file of a version you work on");
            return Err(status(Refusal::new(Code::BlobUnknown, message)));
        }
        Ok(Response::new(object(&self.0.blobs, digest, offset).await?))
    }

    async fn upload_offset(
        &self,
        request: Request<v1::UploadOffsetRequest>,
    ) -> Result<Response<v1::UploadOffsetResponse>, Status> {
        let institution = self.0.institution(&request).await?;
        let digest = convert::digest("digest", &request.into_inner().digest).map_err(status)?;
        let intake = &self.0.intake;
        let offset = intake.offset(&institution, digest).await.map_err(status)?;
        Ok(Response::new(v1::UploadOffsetResponse { offset }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        let institution = self.0.institution(&request).await?;
        let mut parts = request.into_inner();
        let Some(Part::Start(start)) = next_part(&mut parts).await? else {
            return Err(status(Refusal::new(
                Code::RequestInvalid,
                "an upload begins with its receipt",
            )));
        };
        let signed = convert::signed("receipt", start.receipt).map_err(status)?;
        let to_verify = signed.clone();
        let receipt: UpdateReceipt = self
            .0
            .engine
            .call(move |engine| {
                engine
                    .verify_statement(&institution, &to_verify, |r: &UpdateReceipt| &r.institution)
            })
            .await
            .map_err(status)?;
        let mut upload = self
            .0
            .intake
            .begin(signed, receipt.clone(), start.offset)
            .await
            .map_err(status)?;
        let superseded = upload.superseded();
        tokio::pin!(superseded);
        loop {
            let part = tokio::select! {
                biased;
                part = next_part(&mut parts) => part?,
                () = &mut superseded => {
                    return Err(Status::aborted("another stream of yours took this one's place"));
                }
            };
            let Some(part) = part else {
                break;
            };
            let Part::Data(data) = part else {
                return Err(status(Refusal::new(
                    Code::RequestInvalid,
                    "an upload has one receipt",
                )));
            };
            upload.write(data).await.map_err(status)?;
        }
        upload.finish().await.map_err(status)?;
        Ok(Response::new(v1::UploadResponse {}))
    }

    async fn decline(
        &self,
        request: Request<v1::DeclineRequest>,
    ) -> Result<Response<v1::DeclineResponse>, Status> {
        let institution = self.0.institution(&request).await?;
        let message = request.into_inner();
        let task = match message.task() {
            WireTask::Train | WireTask::Unspecified => Task::Train,
            WireTask::Evaluate => Task::Evaluate,
        };
        let run = convert::parsed("run", &message.run).map_err(status)?;
        let code = Code::parse(&message.code).ok_or_else(|| {
            status(Refusal::new(
                Code::RequestInvalid,
                format!("unknown code `{}`", message.code),
            ))
        })?;
        // A reason is for people; it must not become a way to send data.
        let reason: String = message
            .reason
            .chars()
            .filter(|c| !c.is_control())
            .take(300)
            .collect();
        let round = (message.round, message.attempt);
        self.0
            .engine
            .call(move |engine| engine.decline(institution, &run, task, round, code, reason))
            .await
            .map_err(status)?;
        observe::count_declined(code);
        Ok(Response::new(v1::DeclineResponse {}))
    }

    async fn progress(
        &self,
        request: Request<v1::ProgressRequest>,
    ) -> Result<Response<v1::ProgressResponse>, Status> {
        let institution = self.0.institution(&request).await?;
        let v1::ProgressRequest {
            run,
            round,
            attempt,
            ..
        } = request.into_inner();
        let run = convert::parsed("run", &run).map_err(status)?;
        let wanted = self
            .0
            .engine
            .call(move |engine| engine.progress(&institution, &run, round, attempt))
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ProgressResponse { wanted }))
    }

    async fn submit_evaluation(
        &self,
        request: Request<v1::SubmitEvaluationRequest>,
    ) -> Result<Response<v1::SubmitEvaluationResponse>, Status> {
        let institution = self.0.institution(&request).await?;
        let signed = convert::signed("receipt", request.into_inner().receipt).map_err(status)?;
        self.0
            .engine
            .call(move |engine| engine.accept_evaluation(&institution, signed))
            .await
            .map_err(status)?;
        Ok(Response::new(v1::SubmitEvaluationResponse {}))
    }

    async fn submit_audit(
        &self,
        request: Request<v1::SubmitAuditRequest>,
    ) -> Result<Response<v1::SubmitAuditResponse>, Status> {
        let institution = self.0.institution(&request).await?;
        let (signed, version) = convert::submitted_audit(request.into_inner()).map_err(status)?;
        self.0
            .registry
            .keep_audit(institution, signed, version)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::SubmitAuditResponse {}))
    }
}

async fn next_part(parts: &mut Streaming<v1::UploadRequest>) -> Result<Option<Part>, Status> {
    let message = tokio::time::timeout(STALLED, parts.message())
        .await
        .map_err(|_| Status::deadline_exceeded("the stream stalled; go on from the offset"))??;
    Ok(message.and_then(|message| message.part))
}

fn todo_to_wire(todo: Todo) -> WireTodo {
    match todo {
        Todo::Propose {
            run,
            plan,
            dimension,
        } => WireTodo::Proposal(v1::Proposal {
            run: run.to_string(),
            plan: Some(convert::signed_to_wire(&plan)),
            dimension,
        }),
        Todo::Work {
            run,
            plan,
            assignment,
            version,
            manifest,
        } => {
            let message = v1::Assignment {
                run: run.to_string(),
                plan: Some(convert::signed_to_wire(&plan)),
                round: assignment.round,
                attempt: assignment.attempt,
                version: version.json.clone(),
                manifest: manifest.as_bytes().to_vec(),
            };
            match assignment.task {
                Task::Train => WireTodo::Train(message),
                Task::Evaluate => WireTodo::Evaluate(message),
            }
        }
    }
}
