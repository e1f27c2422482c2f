//! Telling the coordinator: uploads, evaluation counts, refusals.

use fedner_proto::v1::progress_request::Stage;
use fedner_session::{Input, Release, Task};
use fedner_shared::digest::Digest;
use fedner_shared::plan::Unit;
use fedner_shared::refusal::{Code, Refusal};

use super::charge::stage_of_work;
use super::{Agent, Error};
use crate::egress;
use crate::transport;

/// How often a refusal or counts are told again over a bad connection. The coordinator asks again
/// for what it did not hear.
const ATTEMPTS: u32 = 5;

impl Agent {
    /// Sends a released update, or the rest of it. A cut connection is an error, after which the
    /// session comes here again.
    pub(super) async fn upload(&mut self, task: &Task, release: &Release) -> Result<Input, Error> {
        if let Some(input) = self.wait_for_time(task).await? {
            return Ok(input);
        }
        if let Some(input) = self.hold(task, release).await? {
            return Ok(input);
        }
        let policy = self.policy().await?;
        let released = match self.gate.resume(release, &policy) {
            Ok(released) => released,
            Err(egress::Error::Refused(refusal)) if refusal.code != Code::ReleaseHeld => {
                tracing::error!("{task}: {refusal}; what was paid for it is lost");
                return Ok(Input::Dropped);
            }
            Err(error) => return Err(error.into()),
        };
        let offset = match self.coordinator.upload_offset(&released).await {
            Ok(offset) => offset,
            Err(error) => return self.after_upload(task, release, Err(error)),
        };
        if offset > self.uploaded {
            // The transfer comes on, however often it is cut.
            self.backoff.succeeded();
        }
        self.uploaded = offset;
        let work = self.coordinator.upload(&released, offset);
        let outcome = self.with_signs_of_life(task, Stage::Uploading, work).await;
        self.after_upload(task, release, outcome)
    }

    /// Waits for the time of release. Nothing when it has come; else what became of the result.
    async fn wait_for_time(&mut self, task: &Task) -> Result<Option<Input>, Error> {
        let now = self.environment.machine.now();
        let consent = self.store.consent_in_force(&task.plan, now)?;
        let units = consent.map_or(1, |consent| consent.examples);
        let (plan, _) = self.background(task)?;
        let stage = stage_of_work(task.kind);
        let wait = self.until(self.session.not_before(), &plan, units);
        match self.with_heartbeat(task, stage, wait).await {
            Ok(()) => Ok(None),
            Err(why) => Ok(Some(self.give_up(task, why).await)),
        }
    }

    fn after_upload(
        &mut self,
        task: &Task,
        release: &Release,
        outcome: Result<(), transport::Error>,
    ) -> Result<Input, Error> {
        let refusal = match outcome {
            Ok(()) => return self.taken(task, release),
            Err(transport::Error::Refused(refusal)) => refusal,
            Err(error) => return Err(error.into()),
        };
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "whatever else is said, it will be said again"
        )]
        match refusal.code {
            Code::UpdateRepeated => self.taken(task, release),
            // To be asked for the offset and sent again, or when there is room, or when a person
            // has put it right.
            Code::TransferOffset
            | Code::TransferSize
            | Code::UpdateDigest
            | Code::StorageFull
            | Code::InstitutionSuspended
            | Code::InstitutionRevoked
            | Code::CertificateUntrusted
            | Code::CertificateMissing => Err(transport::Error::Refused(refusal).into()),
            _ => {
                tracing::warn!(
                    "{task}: the update is not taken: {refusal} [{}]",
                    refusal.code
                );
                self.uploaded = 0;
                Ok(Input::Dropped)
            }
        }
    }

    fn taken(&mut self, task: &Task, release: &Release) -> Result<Input, Error> {
        self.store
            .mark_taken(&release.receipt, self.environment.machine.now())?;
        self.uploaded = 0;
        self.heard();
        tracing::info!("{task}: the update of {} bytes is taken", release.bytes);
        Ok(Input::Accepted)
    }

    /// Sends counts that passed the gate.
    pub(super) async fn submit(&mut self, task: &Task, receipt: &Digest) -> Result<Input, Error> {
        if let Some(input) = self.wait_for_time(task).await? {
            return Ok(input);
        }
        let released = match self.gate.resume_evaluation(receipt) {
            Ok(released) => released,
            Err(egress::Error::Refused(refusal)) => {
                tracing::error!("{task}: {refusal}; what was paid for it is lost");
                return Ok(Input::Dropped);
            }
            Err(error) => return Err(error.into()),
        };
        for attempt in 1.. {
            match self.coordinator.submit_evaluation(&released).await {
                Ok(()) => {
                    self.store
                        .mark_taken(receipt, self.environment.machine.now())?;
                    self.heard();
                    tracing::info!("{task}: the counts are taken");
                    return Ok(Input::Submitted);
                }
                Err(transport::Error::Refused(refusal)) => {
                    tracing::warn!(
                        "{task}: the counts are not taken: {refusal} [{}]",
                        refusal.code
                    );
                    return Ok(Input::Dropped);
                }
                Err(error) if attempt == ATTEMPTS => return Err(error.into()),
                Err(error) => self.pause(&error).await,
            }
        }
        Ok(Input::Dropped)
    }

    /// Says that the institution will not do it.
    pub(super) async fn decline(&mut self, task: Task, refusal: &Refusal) {
        let code = refusal.code;
        tracing::warn!("declines {task}: {refusal} [{code}]; hint: {}", code.hint());
        self.count_refusal(code);
        let run = task.run.to_string();
        let told = self.told(&task, code);
        for attempt in 1..=ATTEMPTS {
            let (round, number) = (task.round, task.attempt);
            match self
                .coordinator
                .decline(task.kind, &run, round, number, told, None)
                .await
            {
                Ok(()) => break,
                Err(error) if attempt < ATTEMPTS && error.code().is_none() => {
                    self.pause(&error).await;
                }
                Err(error) => {
                    tracing::warn!("that could not be told: {error}");
                    break;
                }
            }
        }
        self.declined = Some((run, task.round, task.attempt, task.kind));
    }

    /// The code that the coordinator is told.
    fn told(&self, task: &Task, code: Code) -> Code {
        // Of text that is not protected everything may be told, so that people can mend it.
        let open =
            matches!(self.background(task), Ok((plan, _)) if plan.privacy.unit == Unit::None);
        if self.environment.defences.one_code && !open {
            egress::told(code)
        } else {
            code
        }
    }

    /// Counts a refusal for `status`. That it could not be counted changes nothing about it.
    pub(super) fn count_refusal(&self, code: Code) {
        if let Err(error) = self.store.count_refusal(code) {
            tracing::warn!("{error}");
        }
    }

    async fn pause(&mut self, error: &transport::Error) {
        let wait = self.backoff.failed();
        tracing::debug!("{error}; trying again in {wait:?}");
        tokio::time::sleep(wait).await;
    }
}
