//! What institutions call.

use std::collections::BTreeSet;
use std::time::Duration;

use fedner_proto::v1::check_in_response::Todo as WireTodo;
use fedner_proto::v1::decline_request::Task as WireTask;
use fedner_proto::v1::upload_request::Part;
use fedner_proto::{PROTOCOL, convert, v1};
use fedner_round::{Later, TaskKind};
use fedner_shared::audit::AuditReport;
use fedner_shared::digest::Digest;
use fedner_shared::history::{Head, Seen};
use fedner_shared::id::InstitutionId;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::secure::{
    OfAttempt as _, SecureKeys, SecureSet, SecureShares, SecureStep, SecureUnmasking,
};
use fedner_shared::sign::{SecretKey, Signed, Statement};
use fedner_shared::statement::{Consent, EvaluationReceipt, UpdateReceipt};
use fedner_shared::text;
use fedner_shared::time::Time;
use tonic::{Request, Response, Status, Streaming};

use super::Services;
use super::gate::{Member, status};
use super::stream::{Chunks, Cut as _, object};
use crate::door::{Program, Ration};
use crate::engine::check_in::{CheckIn, Opened, Todo};
use crate::engine::history::Shown;
use crate::engine::statements::Vouched;
use crate::store::StatementKind;
use crate::{SOFTWARE, observe, version};

/// How often it is looked whether an upload is still wanted.
const LOOK_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Federation(pub(super) Services);

#[tonic::async_trait]
impl v1::federation_server::Federation for Federation {
    async fn check_in(
        &self,
        request: Request<v1::CheckInRequest>,
    ) -> Result<Response<v1::CheckInResponse>, Status> {
        let member = self.0.institution(&request).await?;
        let message = request.into_inner();
        let known_plans = message
            .known_plans
            .iter()
            .map(|plan| convert::digest("known_plans", plan));
        let consents = message
            .consents
            .into_iter()
            .map(|consent| convert::statement("consents", Some(consent)));
        let known_plans = known_plans.collect::<Result<_, _>>().map_err(status)?;
        let consents = consents.collect::<Result<_, _>>().map_err(status)?;
        let under_way = message
            .plans_under_way
            .iter()
            .map(|plan| convert::digest("plans_under_way", plan));
        // A run that ends is told at once, also one that ended since the last answer.
        let mut under_way: BTreeSet<Digest> =
            under_way.collect::<Result<_, _>>().map_err(status)?;
        let software = text::brief(&message.software);
        let least = *self.0.min_client.borrow();
        if let Some(least) = least {
            version::require(&software, &least).map_err(status)?;
        }
        let wanted = Duration::from_millis(message.wait_ms.into());
        let _waiting = observe::Waiting::new();
        let known = message.history_size;
        let trusts = message.trust;
        let later = convert::later(message.not_before_ms, &message.not_before_code);
        let later = later.map_err(status)?;
        let later = later.map(|(from, code)| Later { from, code });
        if let Some(seen) = message.history_seen {
            note_history_seen(&member, seen).await?;
        }
        let place = member.guest.polls.begin();
        let (opened, consents) = vouch_consents(&member, consents).await?;
        let Opened {
            mut waiter,
            longest_wait,
            ..
        } = opened;
        let until = tokio::time::Instant::now() + wanted.min(longest_wait);
        let mut check_in = CheckIn {
            institution: member.name.clone(),
            known_plans,
            consents,
            later,
            software,
            looks: member.program == Program::Looks,
        };
        loop {
            waiter.mark_unchanged();
            let asked = check_in.clone();
            // They count once, however long the poll is held.
            check_in.consents.clear();
            let keys = self.0.keys.clone();
            let (todo, heads, history, plans, (key, trust)) = member
                .engine
                .call(move |engine| {
                    let todo = engine.check_in(&asked)?;
                    let heads = engine.ledger_heads(&asked.institution)?;
                    let plans = engine.plans_under_way(&asked.institution);
                    // Keys change in a turn of the engine: what is signed and what is trusted are of the same one.
                    Ok((todo, heads, engine.show_history(known)?, plans, keys.said()))
                })
                .await
                .map_err(status)?;
            let news = (trust.digest().as_bytes() != trusts.as_slice()).then_some(trust);
            // Who says nothing of what it trusts is told with the next answer: it may be of an older version.
            let now = news.is_some() && !trusts.is_empty();
            let ended = under_way.iter().any(|plan| !plans.contains(plan));
            under_way.extend(&plans);
            let plans = plans.iter().map(|plan| plan.as_bytes().to_vec()).collect();
            let memory = match &todo {
                Some(Todo::Propose {
                    plan, dimension, ..
                }) => self.0.registry.training_bytes(plan, *dimension).await,
                Some(Todo::Work { .. }) | None => None,
            };
            let answer = |todo: Option<Todo>| {
                let (signed, proof) = self.0.sign_history(history, &key);
                Ok(Response::new(v1::CheckInResponse {
                    todo: todo.map(|todo| todo_to_wire(todo, memory)),
                    history: Some(signed),
                    history_proof: proof,
                    trust: news.as_deref().map(convert::trust_to_wire),
                    ledger_head: bytes_of(heads.first()),
                    ledger_heads: heads.iter().map(|head| bytes_of(Some(head))).collect(),
                    software: SOFTWARE.to_owned(),
                    protocol: PROTOCOL,
                    plans_under_way: plans,
                }))
            };
            if todo.is_some() || now || ended {
                return answer(todo);
            }
            let go_on = tokio::select! {
                biased;
                why = member.expelled() => return Err(why),
                changed = waiter.changed() => changed.is_ok(),
                () = tokio::time::sleep_until(until) => false,
                () = place.superseded() => false,
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
        let member = self.0.institution(&request).await?;
        let v1::DownloadRequest { digest, offset } = request.into_inner();
        let digest = convert::digest("digest", &digest).map_err(status)?;
        let name = member.name.clone();
        let may = member
            .engine
            .call(move |engine| engine.may_download(&name, digest))
            .await
            .map_err(status)?;
        if !may {
            let message = format!("object {digest} is no file of a version you work on");
            return Err(status(Refusal::new(Code::BlobUnknown, message)));
        }
        let place = member.guest.downloads.begin();
        let superseded = place.superseded();
        let cut = async move {
            tokio::select! {
                biased;
                why = member.expelled() => why,
                () = superseded => ().status(),
            }
        };
        let chunks = object(&self.0.blobs, digest, offset, place, cut).await?;
        Ok(Response::new(chunks))
    }

    async fn upload_offset(
        &self,
        request: Request<v1::UploadOffsetRequest>,
    ) -> Result<Response<v1::UploadOffsetResponse>, Status> {
        let member = self.0.institution(&request).await?;
        let digest = convert::digest("digest", &request.into_inner().digest).map_err(status)?;
        let intake = &self.0.intake;
        let offset = intake.offset(&member.name, digest).await.map_err(status)?;
        Ok(Response::new(v1::UploadOffsetResponse { offset }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        let member = self.0.institution(&request).await?;
        member.guest.take(Ration::Upload).map_err(status)?;
        let place = member.guest.uploads.begin();
        let mut parts = request.into_inner();
        let Some(Part::Start(start)) = next_part(&mut parts).await? else {
            return Err(status(Refusal::new(
                Code::RequestInvalid,
                "an upload begins with its receipt",
            )));
        };
        let signed = convert::statement("receipt", start.receipt).map_err(status)?;
        let receipt: Vouched<UpdateReceipt> =
            vouch(&member, signed, |r: &UpdateReceipt| &r.institution).await?;
        let announced = receipt.said.clone();
        note_head(&member, announced.ledger_head).await?;
        let mut upload = self
            .0
            .intake
            .begin(receipt, start.offset)
            .await
            .map_err(status)?;
        let (superseded, replaced) = (upload.superseded(), place.superseded());
        let (expelled, unwanted) = (member.expelled(), unwanted(&member, &announced));
        tokio::pin!(superseded, replaced, expelled, unwanted);
        loop {
            let part = tokio::select! {
                biased;
                part = next_part(&mut parts) => part?,
                () = &mut superseded => return Err(().status()),
                () = &mut replaced => return Err(().status()),
                why = &mut expelled => return Err(why),
                why = &mut unwanted => return Err(why),
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
        let member = self.0.institution(&request).await?;
        let message = request.into_inner();
        let task = match message.task() {
            WireTask::Train | WireTask::Unspecified => TaskKind::Train,
            WireTask::Evaluate => TaskKind::Evaluate,
        };
        let run = convert::parsed("run", &message.run).map_err(status)?;
        // A newer client says `not-done` then.
        let code = Code::parse(&message.code).ok_or_else(|| {
            status(Refusal::new(
                Code::RequestInvalid,
                format!("unknown code `{}`", text::brief(&message.code)),
            ))
        })?;
        // A reason is for people; it must not become a way to send data.
        let reason = text::brief(&message.reason);
        let round = (message.round, message.attempt);
        let again = message.again_ms.map(Time::from_millis);
        member.guest.take(Ration::Decline).map_err(status)?;
        let name = member.name.clone();
        member
            .engine
            .call(move |engine| engine.decline(name, &run, task, round, (code, again), reason))
            .await
            .map_err(status)?;
        observe::count_declined(code);
        Ok(Response::new(v1::DeclineResponse {}))
    }

    async fn progress(
        &self,
        request: Request<v1::ProgressRequest>,
    ) -> Result<Response<v1::ProgressResponse>, Status> {
        let member = self.0.institution(&request).await?;
        let v1::ProgressRequest {
            run,
            round,
            attempt,
            ..
        } = request.into_inner();
        let run = convert::parsed("run", &run).map_err(status)?;
        let name = member.name.clone();
        let wanted = member
            .engine
            .call(move |engine| engine.progress(&name, &run, round, attempt))
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ProgressResponse { wanted }))
    }

    async fn submit_evaluation(
        &self,
        request: Request<v1::SubmitEvaluationRequest>,
    ) -> Result<Response<v1::SubmitEvaluationResponse>, Status> {
        let member = self.0.institution(&request).await?;
        let signed = convert::signed("receipt", request.into_inner().receipt).map_err(status)?;
        let evaluation = vouch(&member, signed, |r: &EvaluationReceipt| &r.institution).await?;
        let noise = evaluation.said.noise.as_ref();
        note_head(&member, noise.map(|noise| noise.ledger_head)).await?;
        member
            .engine
            .call(move |engine| engine.accept_evaluation(&evaluation))
            .await
            .map_err(status)?;
        Ok(Response::new(v1::SubmitEvaluationResponse {}))
    }

    async fn submit_audit(
        &self,
        request: Request<v1::SubmitAuditRequest>,
    ) -> Result<Response<v1::SubmitAuditResponse>, Status> {
        let member = self.0.institution(&request).await?;
        member.guest.take(Ration::Audit).map_err(status)?;
        let (signed, version) = convert::submitted_audit(request.into_inner()).map_err(status)?;
        let report = vouch(&member, signed, |r: &AuditReport| &r.institution).await?;
        self.0
            .registry
            .keep_audit(report, version)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::SubmitAuditResponse {}))
    }

    async fn take_secure_step(
        &self,
        request: Request<v1::TakeSecureStepRequest>,
    ) -> Result<Response<v1::TakeSecureStepResponse>, Status> {
        let member = self.0.institution(&request).await?;
        let message = request.into_inner();
        let step = convert::secure_step(message.step()).map_err(status)?;
        let signed = convert::secure_statement("statement", message.statement).map_err(status)?;
        let taken = match step {
            SecureStep::Keys => {
                let said = vouch(&member, signed, SecureKeys::institution).await?;
                let engine = &member.engine;
                engine.call(move |engine| engine.take_keys(&said)).await
            }
            SecureStep::Shares => {
                let said = vouch(&member, signed, SecureShares::institution).await?;
                let engine = &member.engine;
                engine.call(move |engine| engine.take_shares(&said)).await
            }
            SecureStep::Consistency => {
                let said = vouch(&member, signed, SecureSet::institution).await?;
                let engine = &member.engine;
                engine.call(move |engine| engine.take_set(&said)).await
            }
            SecureStep::Unmasking => {
                let said = vouch(&member, signed, SecureUnmasking::institution).await?;
                let engine = &member.engine;
                engine
                    .call(move |engine| engine.take_unmasking(&said))
                    .await
            }
        };
        taken.map_err(status)?;
        Ok(Response::new(v1::TakeSecureStepResponse {}))
    }

    async fn list_receipts(
        &self,
        request: Request<v1::ListReceiptsRequest>,
    ) -> Result<Response<v1::ListReceiptsResponse>, Status> {
        let member = self.0.institution(&request).await?;
        member.guest.take(Ration::Receipts).map_err(status)?;
        let after = request.into_inner().after;
        let name = member.name.clone();
        let (kept, more) = member
            .engine
            .call(move |engine| engine.receipts_of(&name, after))
            .await
            .map_err(status)?;
        let receipts = kept.iter().map(|kept| v1::KeptReceipt {
            place: kept.place,
            receipt: Some(convert::signed_to_wire(&kept.receipt)),
            evaluation: kept.kind == StatementKind::Evaluation,
            plan: Some(convert::signed_to_wire(&kept.plan)),
            dimension: kept.dimension,
            units: kept.units,
        });
        Ok(Response::new(v1::ListReceiptsResponse {
            receipts: receipts.collect(),
            more,
        }))
    }

    async fn replace_signing_key(
        &self,
        request: Request<v1::ReplaceSigningKeyRequest>,
    ) -> Result<Response<v1::ReplaceSigningKeyResponse>, Status> {
        let member = self.0.institution(&request).await?;
        member.guest.take(Ration::Renewal).map_err(status)?;
        let succession = request.into_inner().succession;
        let succession = convert::statement("succession", succession).map_err(status)?;
        let name = member.name.clone();
        member
            .engine
            .call(move |engine| engine.replace_signing_key(&name, &succession))
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ReplaceSigningKeyResponse {}))
    }
}

impl Services {
    /// The history as the coordinator signs it, with the proof that it goes on from what is known.
    fn sign_history(&self, shown: Shown, key: &SecretKey) -> (v1::Signed, Vec<Vec<u8>>) {
        let head = Head {
            size: shown.size,
            root: shown.root,
            key: key.public(),
            at: self.engine.machine().now(),
        };
        let signed = convert::signed_to_wire(&Signed::new(&head, key));
        let proof = shown.proof.iter().map(|digest| digest.as_bytes().to_vec());
        (signed, proof.collect())
    }
}

async fn next_part(parts: &mut Streaming<v1::UploadRequest>) -> Result<Option<Part>, Status> {
    Ok(parts.message().await?.and_then(|message| message.part))
}

fn bytes_of(head: Option<&Digest>) -> Vec<u8> {
    head.map_or_else(Vec::new, |head| head.as_bytes().to_vec())
}

/// Keeps the head of the ledger that a signed receipt names, whatever becomes of it.
async fn note_head(member: &Member, head: Option<Digest>) -> Result<(), Status> {
    let name = member.name.clone();
    let noted = member
        .engine
        .call(move |engine| engine.note_ledger_head(&name, head));
    noted.await.map_err(status)
}

/// The statement, if the institution that calls signed it. This is done outside the engine.
async fn vouch<T: Statement>(
    member: &Member,
    signed: Signed,
    named: impl Fn(&T) -> &InstitutionId,
) -> Result<Vouched<T>, Status> {
    let name = member.name.clone();
    let key = member.engine.call(move |engine| engine.signing_key(&name));
    let key = key.await.map_err(status)?;
    Vouched::verify(signed, &member.name, key, Code::SignatureInvalid, named).map_err(status)
}

/// The consents that are new, verified: at most one for each plan.
async fn vouch_consents(
    member: &Member,
    consents: Vec<Signed>,
) -> Result<(Opened, Vec<Vouched<Consent>>), Status> {
    let invalid = |message: String| status(Refusal::new(Code::ConsentInvalid, message));
    let mut claimed = Vec::with_capacity(consents.len());
    let mut plans = BTreeSet::new();
    for consent in &consents {
        let said: Consent = consent.peek().map_err(|error| invalid(error.to_string()))?;
        if !plans.insert(said.plan) {
            let message = format!("two consents are to the plan {}", said.plan.short());
            return Err(invalid(message));
        }
        claimed.push((consent.digest(), said.plan));
    }
    let name = member.name.clone();
    let opened = member
        .engine
        .call(move |engine| engine.open_check_in(&name, &claimed));
    let opened = opened.await.map_err(status)?;
    let mut vouched = Vec::with_capacity(opened.news.len());
    for place in &opened.news {
        member.guest.take(Ration::Consent).map_err(status)?;
        let Some(consent) = consents.get(*place) else {
            continue;
        };
        let code = Code::ConsentInvalid;
        let consent = Vouched::verify(
            consent.clone(),
            &member.name,
            opened.key,
            code,
            |consent: &Consent| &consent.institution,
        );
        vouched.push(consent.map_err(status)?);
    }
    Ok((opened, vouched))
}

/// Keeps what the institution countersigned, now and then. What is wrong with it is told and counted.
async fn note_history_seen(member: &Member, seen: v1::Signed) -> Result<(), Status> {
    let signed = convert::statement("history_seen", Some(seen)).map_err(status)?;
    if member.guest.take(Ration::History).is_err() {
        return Ok(());
    }
    let seen = vouch(member, signed, |seen: &Seen| &seen.institution).await?;
    let noted = member
        .engine
        .call(move |engine| engine.note_history_seen(&seen));
    if let Err(failure) = noted.await {
        // It is counted and logged. The institution finds the same by itself, and keeps the evidence.
        let _ = status(failure);
    }
    Ok(())
}

/// Resolves when the update is no longer awaited: with its round ends its upload.
async fn unwanted(member: &Member, announced: &UpdateReceipt) -> Status {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let announced = announced.clone();
        let wanted = member
            .engine
            .call(move |engine| engine.check_update(&announced));
        if let Err(failure) = wanted.await {
            return status(failure);
        }
    }
}

fn todo_to_wire(todo: Todo, memory: Option<u64>) -> WireTodo {
    match todo {
        Todo::Propose {
            run,
            plan,
            dimension,
            roster,
        } => WireTodo::Proposal(v1::Proposal {
            run: run.to_string(),
            plan: Some(convert::signed_to_wire(&plan)),
            dimension,
            memory: memory.unwrap_or_default(),
            roster: convert::roster_to_wire(&roster),
        }),
        Todo::Work {
            run,
            plan,
            assignment,
            record,
            participant,
            manifest,
            secure,
        } => {
            let message = v1::Assignment {
                run: run.to_string(),
                plan: Some(convert::signed_to_wire(&plan)),
                round: assignment.round,
                attempt: assignment.attempt,
                version: record,
                participant,
                manifest: manifest.as_bytes().to_vec(),
                secure: secure.as_deref().map(convert::secure_attempt_to_wire),
            };
            match assignment.task {
                TaskKind::Train => WireTodo::Train(message),
                TaskKind::Evaluate => WireTodo::Evaluate(message),
                TaskKind::Agree(step) => WireTodo::SecureStep(v1::SecureStepAssignment {
                    step: convert::secure_step_to_wire(step).into(),
                    assignment: Some(message),
                }),
            }
        }
    }
}
