//! What the operator calls.

use std::io::Write;
use std::time::Duration;

use fedner_proto::v1::control_run_request::Action;
use fedner_proto::v1::set_institution_state_request::State;
use fedner_proto::{convert, v1};
use fedner_round::Input;
use fedner_shared::digest::{Digest, canonical_text};
use fedner_shared::id::{InstitutionId, VersionName};
use fedner_shared::plan::Plan;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::state::InstitutionState;
use fedner_shared::version::Pruned;
use tonic::{Request, Response, Status, Streaming};

use super::Services;
use super::gate::{guest, status};
use super::stream::{Chunks, object};
use crate::engine::prune::Rule;
use crate::registry::Uploaded;

#[derive(Debug)]
pub(super) struct Operations(pub(super) Services);

#[tonic::async_trait]
impl v1::operations_server::Operations for Operations {
    async fn create_invite(
        &self,
        request: Request<v1::CreateInviteRequest>,
    ) -> Result<Response<v1::CreateInviteResponse>, Status> {
        let engine = self.0.operator(&request)?;
        let v1::CreateInviteRequest {
            institution,
            ttl_s,
            reenrol,
        } = request.into_inner();
        let institution: InstitutionId =
            convert::parsed("institution", &institution).map_err(status)?;
        if ttl_s == 0 || ttl_s > 90 * 24 * 3600 {
            let message = format!("an invite of {ttl_s} seconds: expected 1 second to 90 days");
            return Err(status(Refusal::new(Code::RequestInvalid, message)));
        }
        let mut secret = [0u8; 32];
        getrandom::fill(&mut secret)
            .map_err(|error| status(crate::authority::Error::from(error)))?;
        let secret = hex::encode(secret);
        let expires = self.0.engine.machine().now() + Duration::from_secs(ttl_s);
        let hash = Digest::of(secret.as_bytes());
        let reenrol = engine
            .call(move |engine| engine.invite(institution, hash, expires, reenrol))
            .await
            .map_err(status)?;
        Ok(Response::new(v1::CreateInviteResponse {
            secret,
            expires_ms: expires.as_millis(),
            address: self.0.address.first().to_string(),
            addresses: self.0.address.iter().map(ToString::to_string).collect(),
            authority_sha256: self.0.keys.serving().fingerprint().to_vec(),
            reenrol,
        }))
    }

    async fn list_invites(
        &self,
        request: Request<v1::ListInvitesRequest>,
    ) -> Result<Response<v1::ListInvitesResponse>, Status> {
        let engine = self.0.operator(&request)?;
        let invites = engine.call(|engine| engine.open_invites()).await;
        let invites = invites.map_err(status)?.into_iter();
        let invites = invites.map(|invite| v1::OpenInvite {
            institution: invite.institution.to_string(),
            expires_ms: invite.expires.as_millis(),
            reenrol: invite.reenrol,
        });
        Ok(Response::new(v1::ListInvitesResponse {
            invites: invites.collect(),
        }))
    }

    async fn withdraw_invites(
        &self,
        request: Request<v1::WithdrawInvitesRequest>,
    ) -> Result<Response<v1::WithdrawInvitesResponse>, Status> {
        let engine = self.0.operator(&request)?;
        let institution: InstitutionId =
            convert::parsed("institution", &request.into_inner().institution).map_err(status)?;
        let withdrawn = engine
            .call(move |engine| engine.withdraw_invites(institution))
            .await
            .map_err(status)?;
        let withdrawn = u32::try_from(withdrawn).unwrap_or(u32::MAX);
        Ok(Response::new(v1::WithdrawInvitesResponse { withdrawn }))
    }

    async fn set_institution_state(
        &self,
        request: Request<v1::SetInstitutionStateRequest>,
    ) -> Result<Response<v1::SetInstitutionStateResponse>, Status> {
        let engine = self.0.operator(&request)?;
        let message = request.into_inner();
        let state = match message.state() {
            State::Active => InstitutionState::Active,
            State::Suspended => InstitutionState::Suspended,
            State::Revoked => InstitutionState::Revoked,
            State::Unspecified => {
                return Err(status(Refusal::new(
                    Code::RequestInvalid,
                    "no state is given",
                )));
            }
        };
        let name: InstitutionId =
            convert::parsed("institution", &message.institution).map_err(status)?;
        engine
            .call(move |engine| engine.set_state(&name, state))
            .await
            .map_err(status)?;
        Ok(Response::new(v1::SetInstitutionStateResponse {}))
    }

    async fn put_object(
        &self,
        request: Request<Streaming<v1::Chunk>>,
    ) -> Result<Response<v1::PutObjectResponse>, Status> {
        self.0.operator(&request)?;
        let mut chunks = request.into_inner();
        let mut file = self.0.blobs.scratch().map_err(status)?;
        let mut hasher = blake3::Hasher::new();
        while let Some(chunk) = chunks.message().await? {
            hasher.update(&chunk.data);
            file.write_all(&chunk.data)
                .map_err(|error| status(crate::blobs::Error::Staging(error)))?;
        }
        let digest = Digest::from_bytes(*hasher.finalize().as_bytes());
        self.0
            .blobs
            .put_file(digest, file.path())
            .await
            .map_err(status)?;
        Ok(Response::new(v1::PutObjectResponse {
            digest: digest.as_bytes().to_vec(),
        }))
    }

    type GetObjectStream = Chunks;

    async fn get_object(
        &self,
        request: Request<v1::DownloadRequest>,
    ) -> Result<Response<Chunks>, Status> {
        self.0.operator(&request)?;
        let place = guest(&request)?.downloads.begin();
        let v1::DownloadRequest { digest, offset } = request.into_inner();
        let digest = convert::digest("digest", &digest).map_err(status)?;
        let cut = place.superseded();
        let chunks = object(&self.0.blobs, digest, offset, place, cut).await?;
        Ok(Response::new(chunks))
    }

    async fn import_model(
        &self,
        request: Request<v1::ImportModelRequest>,
    ) -> Result<Response<v1::ModelVersion>, Status> {
        self.0.operator(&request)?;
        let v1::ImportModelRequest {
            name,
            config,
            tokenizer,
            weights,
        } = request.into_inner();
        let name = convert::parsed("name", &name).map_err(status)?;
        let files = Uploaded {
            config: convert::digest("config", &config).map_err(status)?,
            tokenizer: convert::digest("tokenizer", &tokenizer).map_err(status)?,
            weights: convert::digest("weights", &weights).map_err(status)?,
        };
        let view = self.0.registry.import(name, files).await.map_err(status)?;
        Ok(Response::new(convert::version_to_wire(&view)))
    }

    async fn prune_models(
        &self,
        request: Request<v1::PruneModelsRequest>,
    ) -> Result<Response<v1::PruneModelsResponse>, Status> {
        let engine = self.0.operator(&request)?;
        let v1::PruneModelsRequest {
            keep,
            older_than_s,
            updates_only,
            dry_run,
        } = request.into_inner();
        let what = if updates_only {
            Pruned::Updates
        } else {
            Pruned::Files
        };
        let rule = Rule {
            keep: keep.max(1),
            older_than: Duration::from_secs(older_than_s),
            what,
        };
        let let_go = engine
            .call(move |engine| engine.prune_models(rule, dry_run))
            .await
            .map_err(status)?;
        let mut bytes = 0;
        for object in &let_go.objects {
            // One that is missing already takes no room.
            bytes += self.0.blobs.length(*object).await.unwrap_or_default();
        }
        let texts = |names: &[VersionName]| names.iter().map(ToString::to_string).collect();
        Ok(Response::new(v1::PruneModelsResponse {
            versions: texts(&let_go.versions),
            beyond_replay: texts(&let_go.beyond_replay),
            objects: let_go.objects.len() as u64,
            bytes,
        }))
    }

    async fn move_alias(
        &self,
        request: Request<v1::MoveAliasRequest>,
    ) -> Result<Response<v1::ModelVersion>, Status> {
        let engine = self.0.operator(&request)?;
        let v1::MoveAliasRequest {
            alias,
            version,
            rollback,
        } = request.into_inner();
        let alias = convert::parsed("alias", &alias).map_err(status)?;
        let view = engine
            .call(move |engine| {
                let digest = engine.resolve(&version)?;
                engine.move_alias(alias, digest, rollback)
            })
            .await
            .map_err(status)?;
        Ok(Response::new(convert::version_to_wire(&view)))
    }

    async fn prepare_plan(
        &self,
        request: Request<v1::PreparePlanRequest>,
    ) -> Result<Response<v1::PreparePlanResponse>, Status> {
        self.0.operator(&request)?;
        let invalid = |reason: String| status(Refusal::new(Code::PlanInvalid, reason));
        let v1::PreparePlanRequest { plan } = request.into_inner();
        let plan: Plan = serde_json::from_str(&plan).map_err(|error| invalid(error.to_string()))?;
        plan.check().map_err(|error| invalid(error.to_string()))?;
        let inputs = self.0.registry.inputs(plan).await.map_err(status)?;
        Ok(Response::new(v1::PreparePlanResponse {
            inputs: canonical_text(&inputs),
        }))
    }

    async fn create_run(
        &self,
        request: Request<v1::CreateRunRequest>,
    ) -> Result<Response<v1::CreateRunResponse>, Status> {
        let engine = self.0.operator(&request)?;
        let v1::CreateRunRequest { plan, force } = request.into_inner();
        let signed = convert::signed("plan", plan).map_err(status)?;
        let plan = signed.digest();
        let new = self
            .0
            .registry
            .prepare(signed, force)
            .await
            .map_err(status)?;
        let run = engine
            .call(move |engine| engine.create_run(new))
            .await
            .map_err(status)?;
        Ok(Response::new(v1::CreateRunResponse {
            run: run.to_string(),
            plan: plan.as_bytes().to_vec(),
        }))
    }

    async fn exclude_member(
        &self,
        request: Request<v1::ExcludeMemberRequest>,
    ) -> Result<Response<v1::ExcludeMemberResponse>, Status> {
        let engine = self.0.operator(&request)?;
        let v1::ExcludeMemberRequest {
            run,
            institution,
            round,
        } = request.into_inner();
        let institution = convert::parsed("institution", &institution).map_err(status)?;
        let round = (round > 0).then_some(round);
        let round = engine
            .call(move |engine| {
                let run = engine.find_run(&run)?;
                engine.exclude_member(&run, institution, round)
            })
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ExcludeMemberResponse { round }))
    }

    async fn readmit_member(
        &self,
        request: Request<v1::ReadmitMemberRequest>,
    ) -> Result<Response<v1::ReadmitMemberResponse>, Status> {
        let engine = self.0.operator(&request)?;
        let v1::ReadmitMemberRequest { run, institution } = request.into_inner();
        let institution = convert::parsed("institution", &institution).map_err(status)?;
        engine
            .call(move |engine| {
                let run = engine.find_run(&run)?;
                engine.step(&run, Input::Readmitted { institution })
            })
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ReadmitMemberResponse {}))
    }

    async fn control_run(
        &self,
        request: Request<v1::ControlRunRequest>,
    ) -> Result<Response<v1::ControlRunResponse>, Status> {
        let engine = self.0.operator(&request)?;
        let message = request.into_inner();
        let input = match message.action() {
            Action::Start => Input::Start,
            Action::Pause => Input::Pause,
            Action::Resume => Input::Resume,
            Action::Cancel => Input::Cancel,
            Action::Retry => Input::Retry,
            Action::Unspecified => {
                return Err(status(Refusal::new(
                    Code::RequestInvalid,
                    "no action is given",
                )));
            }
        };
        engine
            .call(move |engine| {
                let run = engine.find_run(&message.run)?;
                if input == Input::Retry {
                    engine.require_version_of(&run)?;
                }
                engine.step(&run, input)
            })
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ControlRunResponse {}))
    }

    async fn list_keys(
        &self,
        request: Request<v1::ListKeysRequest>,
    ) -> Result<Response<v1::ListKeysResponse>, Status> {
        self.0.keys_known(&request).await.map(Response::new)
    }

    async fn rotate_key(
        &self,
        request: Request<v1::RotateKeyRequest>,
    ) -> Result<Response<v1::RotateKeyResponse>, Status> {
        self.0.rotate(request).await.map(Response::new)
    }

    async fn withdraw_authority(
        &self,
        request: Request<v1::WithdrawAuthorityRequest>,
    ) -> Result<Response<v1::WithdrawAuthorityResponse>, Status> {
        self.0.withdraw_older(request).await.map(Response::new)
    }

    async fn replace_plan_key(
        &self,
        request: Request<v1::ReplacePlanKeyRequest>,
    ) -> Result<Response<v1::ReplacePlanKeyResponse>, Status> {
        self.0.replace_plans_key(request).await.map(Response::new)
    }

    async fn issue_certificate(
        &self,
        request: Request<v1::IssueCertificateRequest>,
    ) -> Result<Response<v1::IssueCertificateResponse>, Status> {
        self.0.issue(request).await.map(Response::new)
    }

    async fn revoke_certificate(
        &self,
        request: Request<v1::RevokeCertificateRequest>,
    ) -> Result<Response<v1::RevokeCertificateResponse>, Status> {
        self.0.revoke(request).await.map(Response::new)
    }

    async fn list_open_plans(
        &self,
        request: Request<v1::ListOpenPlansRequest>,
    ) -> Result<Response<v1::ListOpenPlansResponse>, Status> {
        let engine = self.0.operator(&request)?;
        let plans = engine.call(|engine| engine.open_plans());
        let plans = plans.await.map_err(status)?;
        Ok(Response::new(v1::ListOpenPlansResponse {
            plans: plans
                .iter()
                .map(|plan| convert::signed_to_wire(plan))
                .collect(),
        }))
    }
}
