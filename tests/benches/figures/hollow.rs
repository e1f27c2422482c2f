//! An institution that takes part in every way but training.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use fedner_proto::v1::check_in_response::Todo;
use fedner_proto::v1::decline_request::Task;
use fedner_proto::v1::federation_client::FederationClient;
use fedner_proto::v1::upload_request::Part;
use fedner_proto::{CHUNK_BYTES, MESSAGE_BYTES, convert, v1};
use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use fedner_shared::plan::Plan;
use fedner_shared::refusal::Code;
use fedner_shared::sign::{SecretKey, Signed};
use fedner_shared::statement::{Consent, UpdateReceipt};
use fedner_shared::time::Time;
use fedner_shared::update::encode;
use fedner_tests::grpc::{Credentials, channel};
use futures::stream;
use tonic::Status;
use tonic::transport::Channel;

use crate::masks::{self, Attempt};

/// How long a check-in may wait.
const POLL_MS: u32 = 20_000;

/// What each institution declares.
const EXAMPLES: u32 = 100;

/// How many check-ins may fail, and after how long each is tried again.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(250);

/// An update made before.
#[derive(Debug)]
pub(crate) struct Encoded {
    values: Vec<i32>,
    pub(crate) bytes: Bytes,
    pub(crate) digest: Digest,
}

impl Encoded {
    /// Small integers, such as a few training steps make on the grid of a plan without noise.
    pub(crate) fn new(seed: u64, dimension: usize) -> Result<Self> {
        Self::within(255, seed, dimension)
    }

    /// Integers up to this magnitude.
    fn within(largest: u64, seed: u64, dimension: usize) -> Result<Self> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let values: Vec<i32> = (0..dimension)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state % (2 * largest + 1)) as i32 - largest as i32
            })
            .collect();
        let mut bytes = Vec::new();
        encode(&values, &mut bytes)?;
        Ok(Self {
            digest: Digest::of(&bytes),
            values,
            bytes: bytes.into(),
        })
    }
}

/// When an institution is gone for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    BeforeUpdate,
    AfterUpdate,
}

fn is_late(status: &Status) -> bool {
    convert::refusal_of(status).is_some_and(|refusal| refusal.code == Code::RoundStale)
}

pub(crate) struct Hollow {
    name: InstitutionId,
    identity: PathBuf,
    /// The first is dialled.
    addresses: Vec<String>,
    key: SecretKey,
    client: Option<FederationClient<Channel>>,
    consents: Vec<v1::Signed>,
    plans: Vec<Vec<u8>>,
    update: Option<Arc<Encoded>>,
    dimension: usize,
    /// Files that are here already.
    have: BTreeSet<Digest>,
    /// In the round of this number it is gone.
    pub(crate) lost: Option<(u32, Lost)>,
    /// Bytes of versions and updates that went over the wire.
    pub(crate) downloaded: u64,
    pub(crate) uploaded: u64,
}

impl Hollow {
    pub(crate) fn new(name: &str, directory: &Path, addresses: Vec<String>) -> Result<Self> {
        let identity = directory.join("identity");
        let key = std::fs::read_to_string(identity.join("signing.key"))?;
        Ok(Self {
            name: name.parse()?,
            key: SecretKey::from_pem(&key)?,
            identity,
            addresses,
            client: None,
            consents: Vec::new(),
            plans: Vec::new(),
            update: None,
            dimension: 0,
            have: BTreeSet::new(),
            lost: None,
            downloaded: 0,
            uploaded: 0,
        })
    }

    pub(crate) async fn client(&mut self) -> Result<&mut FederationClient<Channel>> {
        if self.client.is_none() {
            let credentials = Credentials {
                certificate: &self.identity.join("tls.pem"),
                key: &self.identity.join("tls.key"),
            };
            let authority = self.identity.join("authority.pem");
            let address = self.addresses.first().context("an address")?;
            let channel = channel(address, &authority, Some(credentials)).await?;
            let client = FederationClient::new(channel).max_decoding_message_size(MESSAGE_BYTES);
            self.client = Some(client);
        }
        self.client.as_mut().context("a client")
    }

    /// Dials the next address from now on.
    pub(crate) fn turn(&mut self) {
        self.client = None;
        self.addresses.rotate_left(1);
    }

    /// Waits for something to do.
    pub(crate) async fn check_in(&mut self) -> Result<Option<Todo>> {
        let request = v1::CheckInRequest {
            wait_ms: POLL_MS,
            known_plans: self.plans.clone(),
            consents: self.consents.clone(),
            software: "hollow".to_owned(),
            ..v1::CheckInRequest::default()
        };
        let response = self.client().await?.check_in(request).await?;
        Ok(response.into_inner().todo)
    }

    /// Takes part until the future that calls this is dropped.
    pub(crate) async fn take_part(&mut self) -> Result<()> {
        let mut failed = 0;
        loop {
            match self.check_in().await {
                Ok(Some(todo)) => self.work(todo).await?,
                Ok(None) => {}
                // A thousand callers of one address are let in a few at a time. A client tries again.
                Err(_) if failed < TRIES => {
                    failed += 1;
                    self.client = None;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) async fn work(&mut self, todo: Todo) -> Result<()> {
        match todo {
            Todo::Proposal(proposal) => self.agree(proposal),
            Todo::Train(assignment) => self.pretend(assignment).await,
            Todo::Evaluate(assignment) => self.decline(assignment).await,
            Todo::SecureStep(asked) => self.take_step(asked).await,
        }
    }

    async fn take_step(&mut self, asked: v1::SecureStepAssignment) -> Result<()> {
        let said = masks::answer(&asked, &self.name, &self.key)?;
        match self.client().await?.take_secure_step(said).await {
            Ok(_) => Ok(()),
            // Enough others have taken it.
            Err(status) if is_late(&status) => Ok(()),
            Err(status) => Err(status.into()),
        }
    }

    /// It hangs up, and says nothing more.
    async fn is_lost(&mut self, round: u32, when: Lost) {
        if self.lost == Some((round, when)) {
            self.client = None;
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn agree(&mut self, proposal: v1::Proposal) -> Result<()> {
        let plan = convert::signed("plan", proposal.plan)?.digest();
        let consent = Consent {
            plan,
            institution: self.name.clone(),
            examples: EXAMPLES,
            held_out: None,
            annotation: None,
            policy: Digest::of(b"policy"),
            at: Time::from_millis(0),
            expires: Time::from_millis(i64::MAX / 2),
        };
        self.dimension = proposal.dimension as usize;
        self.plans.push(plan.as_bytes().to_vec());
        let signed = Signed::new(&consent, &self.key);
        self.consents.push(convert::signed_to_wire(&signed));
        Ok(())
    }

    /// Fetches the version and sends an update as if it had been trained.
    async fn pretend(&mut self, assignment: v1::Assignment) -> Result<()> {
        self.is_lost(assignment.round, Lost::BeforeUpdate).await;
        let (base, version) = convert::version_from_record(&assignment.version)?;
        for object in version.objects() {
            if self.have.insert(object) {
                self.download(object).await?;
            }
        }
        let update = if let Some(update) = &self.update {
            Arc::clone(update)
        } else {
            let seed = u64::from_le_bytes(self.key.public().as_bytes()[..8].try_into()?);
            let plan: Plan = convert::signed("plan", assignment.plan.clone())?.peek()?;
            // As long as its noise, which is what a protected update is made of.
            let noise = 3.0_f64.sqrt() * plan.privacy.sigma() / plan.privacy.grid().gamma();
            let update = Encoded::within((noise as u64).max(255), seed, self.dimension)?;
            Arc::clone(self.update.insert(Arc::new(update)))
        };
        let mut receipt = self.receipt(&assignment, base, &update)?;
        if assignment.secure.is_none() {
            return self.upload(&receipt, &update.bytes).await;
        }
        let attempt = Attempt::new(&assignment, &self.key)?;
        let (bytes, masked) = attempt.mask(&update.values, &self.name)?;
        receipt.masked = Some(masked);
        (receipt.blob, receipt.bytes) = (Digest::of(&bytes), bytes.len() as u64);
        self.upload(&receipt, &Bytes::from(bytes)).await?;
        self.is_lost(assignment.round, Lost::AfterUpdate).await;
        Ok(())
    }

    pub(crate) fn receipt(
        &self,
        assignment: &v1::Assignment,
        base: Digest,
        update: &Encoded,
    ) -> Result<UpdateReceipt> {
        let signed = convert::signed("plan", assignment.plan.clone())?;
        let plan: Plan = signed.peek()?;
        Ok(UpdateReceipt {
            run: assignment.run.parse()?,
            plan: signed.digest(),
            round: assignment.round,
            attempt: assignment.attempt,
            institution: self.name.clone(),
            base,
            manifest: convert::digest("manifest", &assignment.manifest)?,
            weight: plan.weight(&self.name, EXAMPLES),
            blob: update.digest,
            bytes: update.bytes.len() as u64,
            masked: None,
            sigma: plan.privacy.sigma(),
            epsilon_after: None,
            epsilon_alone: None,
            ledger_head: None,
            at: Time::from_millis(0),
        })
    }

    async fn download(&mut self, digest: Digest) -> Result<()> {
        let request = v1::DownloadRequest {
            digest: digest.as_bytes().to_vec(),
            offset: 0,
        };
        let mut stream = self.client().await?.download(request).await?.into_inner();
        let mut hasher = blake3::Hasher::new();
        while let Some(chunk) = stream.message().await? {
            hasher.update(&chunk.data);
            self.downloaded += chunk.data.len() as u64;
        }
        ensure!(hasher.finalize().as_bytes() == digest.as_bytes());
        Ok(())
    }

    pub(crate) async fn upload(&mut self, receipt: &UpdateReceipt, update: &Bytes) -> Result<()> {
        let start = v1::UploadStart {
            receipt: Some(convert::signed_to_wire(&Signed::new(receipt, &self.key))),
            offset: 0,
        };
        let first = v1::UploadRequest {
            part: Some(Part::Start(start)),
        };
        let update = update.clone();
        self.uploaded += update.len() as u64;
        let chunks = (0..update.len()).step_by(CHUNK_BYTES).map(move |at| {
            let end = update.len().min(at + CHUNK_BYTES);
            v1::UploadRequest {
                part: Some(Part::Data(update[at..end].to_vec())),
            }
        });
        let parts = stream::iter(std::iter::once(first).chain(chunks));
        self.client().await?.upload(parts).await?;
        Ok(())
    }

    async fn decline(&mut self, assignment: v1::Assignment) -> Result<()> {
        let request = v1::DeclineRequest {
            run: assignment.run,
            round: assignment.round,
            attempt: assignment.attempt,
            task: Task::Evaluate.into(),
            code: Code::PolicyForbids.to_string(),
            reason: String::new(),
            again_ms: None,
        };
        self.client().await?.decline(request).await?;
        Ok(())
    }
}
