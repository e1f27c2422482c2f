//! What an earlier coordinator answered, answered again to the present client in a directory that the earlier one
//! left.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use fedner_client::agent::{Agent, Environment, Network};
use fedner_client::config::Directory;
use fedner_client::transport::{self, Destination, TlsIdentity};
use fedner_coordinator::config::Paths;
use fedner_proto::v1::check_in_response::Todo;
use fedner_proto::v1::upload_request::Part;
use fedner_proto::{convert, v1};
use fedner_shared::digest::Digest;
use fedner_shared::plan::Plan;
use fedner_shared::sign::{SecretKey, Signed};
use fedner_shared::statement::{Consent, UpdateReceipt};
use fedner_shared::time::Time;
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use tonic::codegen::http::{HeaderMap, HeaderValue, Response};
use tonic::transport::Channel;

use super::recording::{
    CHECK_IN, COORDINATOR, Call, DECLINE, ENROLLED, EVALUATION, FINISHED, Recording, UPLOAD,
    framed, messages, only,
};
use super::wire::{Then, channel, pipe};
use crate::setting::MINUTES;

/// How long a check-in is held for which there is nothing.
const HELD: Duration = Duration::from_millis(100);

/// An update is made and sent as it was then, for the same price.
pub(crate) async fn train(recording: &Recording) -> Result<()> {
    let place = recording.directory(ENROLLED)?;
    let script = recording.calls.clone();
    let end = script.iter().position(|call| call.path == UPLOAD);
    let end = end.context("an upload")?;
    let coordinator = Earlier::new(script[..=end].to_vec());
    run(place.path(), began(recording)?, &coordinator, UPLOAD).await?;
    let then = receipt(&recording.calls[end].request)?;
    let (now, update) = {
        let said = coordinator.said();
        let upload = said.heard.iter().find(|(path, _)| path == UPLOAD);
        let body = &upload.context("an upload")?.1;
        (receipt(body)?, bytes_of(body)?)
    };
    let key = std::fs::read_to_string(place.path().join("identity/signing.key"))?;
    let key = SecretKey::from_pem(&key)?.public();
    let (then, now): (UpdateReceipt, UpdateReceipt) = (then.verify(&key)?, now.verify(&key)?);
    ensure!(now.blob == Digest::of(&update) && now.bytes == update.len() as u64);
    let same = UpdateReceipt {
        blob: then.blob,
        bytes: then.bytes,
        ledger_head: then.ledger_head,
        at: then.at,
        ..now
    };
    ensure!(same == then, "{same:?}: expected {then:?}");
    Ok(())
}

/// Counts that were made, and paid for, by the earlier client are sent again as they were.
pub(crate) async fn evaluate(recording: &Recording) -> Result<()> {
    let place = recording.directory(FINISHED)?;
    let (mut answer, _) = recording.last_todo()?;
    // The directory has heard more of the history since.
    answer.history = None;
    answer.history_proof.clear();
    let sent = recording.calls.iter().find(|call| call.path == EVALUATION);
    let sent = sent.context("an evaluation")?.clone();
    let asks = Call {
        path: CHECK_IN.to_owned(),
        session: None,
        request: Vec::new(),
        answer: framed(&[answer.encode_to_vec().into()]),
    };
    let coordinator = Earlier::new(vec![asks, sent.clone()]);
    run(place.path(), began(recording)?, &coordinator, EVALUATION).await?;
    let said = coordinator.said();
    let again = said.heard.iter().find(|(path, _)| path == EVALUATION);
    let (_, again) = again.context("an evaluation")?;
    ensure!(*again == sent.request, "other counts were sent");
    Ok(())
}

/// It says no once, and takes on what it knows.
pub(crate) async fn meet_a_later_plan(recording: &Recording) -> Result<()> {
    let (place, keys) = (
        recording.directory(ENROLLED)?,
        recording.directory(COORDINATOR)?,
    );
    let key = std::fs::read_to_string(Paths::new(keys.path()).signing_key())?;
    let key = SecretKey::from_pem(&key)?;
    let mut later = None;
    let mut script = recording.calls.clone();
    let end = script.iter().position(|call| call.path == UPLOAD);
    script.truncate(end.context("an upload")? + 1);
    for call in script.iter().filter(|call| call.path == CHECK_IN) {
        let answer: v1::CheckInResponse = only(&call.answer)?;
        if let Some(Todo::Proposal(proposal)) = &answer.todo {
            later = Some(proposal.clone());
            break;
        }
    }
    let mut later = later.context("a proposal")?;
    let plan = later.plan.as_mut().context("a plan")?;
    let body = plan.body.replacen('{', "{\"of_a_later_release\":true,", 1);
    *plan = convert::signed_to_wire(&signed_as::<Plan>(&body, &key));
    let digest = Digest::of(body.as_bytes());
    let coordinator = Earlier::new(script).proposing(later);
    run(place.path(), began(recording)?, &coordinator, UPLOAD).await?;

    let said = coordinator.said();
    let mut declined = Vec::new();
    for (_, body) in said.heard.iter().filter(|(path, _)| path == DECLINE) {
        let request: v1::DeclineRequest = only(body)?;
        declined.push(request.code);
    }
    let codes = declined.iter().filter(|code| *code == "plan-too-new");
    ensure!(codes.count() == 1, "{declined:?}");
    ensure!(said.known.contains(digest.as_bytes().as_slice()));
    ensure!(said.shown_later == 1, "shown {} times", said.shown_later);
    Ok(())
}

/// When the client began.
fn began(recording: &Recording) -> Result<Time> {
    let (_, assignment) = recording.last_todo()?;
    let (_, version) = convert::version_from_record(&assignment.version)?;
    Ok(version.created)
}

/// The present daemon in `directory`, until it has called `last`.
async fn run(directory: &Path, at: Time, coordinator: &Earlier, last: &str) -> Result<()> {
    let environment = Environment {
        machine: Arc::new(Then::passing(at)),
        network: Arc::new(coordinator.clone()),
        ..Environment::here()
    };
    let agent = Agent::open(Directory::new(Some(directory.to_owned()))?, environment)?;
    let stop = CancellationToken::new();
    let running = tokio::spawn(agent.run(stop.clone()));
    let begun = Instant::now();
    let heard = |path: &str| coordinator.said().heard.iter().any(|(p, _)| p == path);
    while !heard(last) {
        ensure!(!running.is_finished(), "the client ended");
        ensure!(
            begun.elapsed() < MINUTES,
            "{last} was not called; these were: {:?}",
            coordinator
                .said()
                .heard
                .iter()
                .map(|(path, _)| path)
                .collect::<Vec<_>>()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    running.await??;
    Ok(())
}

/// A coordinator that says what another one said.
#[derive(Debug, Clone)]
struct Earlier(Arc<Mutex<Said>>);

#[derive(Debug)]
struct Said {
    /// What is still to be said, in its order.
    script: Vec<Call>,
    /// What was called, and with what body.
    heard: Vec<(String, Vec<u8>)>,
    /// Plans that the client says it knows, and agrees to.
    known: BTreeSet<Vec<u8>>,
    agreed: BTreeSet<Digest>,
    /// A plan of its own, shown before anything else to whoever does not know it.
    later: Option<v1::Proposal>,
    shown_later: u32,
}

impl Network for Earlier {
    fn dial(&self, _: &Destination, _: &TlsIdentity) -> Result<Channel, transport::Error> {
        let (near, far) = pipe();
        let coordinator = self.clone();
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(far).await?;
            while let Some(stream) = connection.accept().await {
                let (request, respond) = stream?;
                let coordinator = coordinator.clone();
                tokio::spawn(async move { coordinator.answer(request, respond).await });
            }
            anyhow::Ok(())
        });
        Ok(channel(near))
    }
}

impl Earlier {
    fn new(script: Vec<Call>) -> Self {
        Self(Arc::new(Mutex::new(Said {
            script,
            heard: Vec::new(),
            known: BTreeSet::new(),
            agreed: BTreeSet::new(),
            later: None,
            shown_later: 0,
        })))
    }

    fn proposing(self, later: v1::Proposal) -> Self {
        self.said().later = Some(later);
        self
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(
        &self,
        request: tonic::codegen::http::Request<h2::RecvStream>,
        mut respond: h2::server::SendResponse<Bytes>,
    ) -> Result<()> {
        let path = request.uri().path().to_owned();
        let mut stream = request.into_body();
        let mut body = Vec::new();
        while let Some(part) = stream.data().await {
            let part = part?;
            stream.flow_control().release_capacity(part.len())?;
            body.extend_from_slice(&part);
        }
        if path == CHECK_IN {
            let request: v1::CheckInRequest = only(&body)?;
            self.said().note(&request);
        }
        let (answer, status) = match self.said().next(&path, &body) {
            Some(answer) => (answer, "0"),
            // Unimplemented, as of a method that it did not have.
            None => (Vec::new(), "12"),
        };
        if path == CHECK_IN && only::<v1::CheckInResponse>(&answer)?.todo.is_none() {
            tokio::time::sleep(HELD).await;
        }
        self.said().heard.push((path, body));
        let head = Response::builder().header("content-type", "application/grpc");
        let mut sending = respond.send_response(head.body(())?, false)?;
        sending.send_data(answer.into(), false)?;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(status));
        Ok(sending.send_trailers(trailers)?)
    }
}

impl Said {
    fn note(&mut self, request: &v1::CheckInRequest) {
        self.known.extend(request.known_plans.iter().cloned());
        for consent in &request.consents {
            let consent = convert::signed("consent", Some(consent.clone()));
            if let Ok(consent) = consent.map(|signed| signed.peek::<Consent>()) {
                self.agreed.extend(consent.ok().map(|consent| consent.plan));
            }
        }
    }

    /// The next answer to that call; of check-ins the next that the client is ready for.
    fn next(&mut self, path: &str, body: &[u8]) -> Option<Vec<u8>> {
        if path != CHECK_IN {
            let same = |call: &Call| call.path == path && call.request == body;
            let any = |call: &Call| call.path == path;
            let place = self.script.iter().position(same);
            let place = place.or_else(|| self.script.iter().position(any))?;
            let answer = self.script[place].answer.clone();
            // What is asked once is no more awaited; objects may be asked for again.
            self.script[place].session = Some(DONE.to_owned());
            return Some(answer);
        }
        if let Some(later) = &self.later {
            let signed = convert::signed("plan", later.plan.clone()).ok()?;
            if !self.known.contains(signed.digest().as_bytes().as_slice()) {
                self.shown_later += 1;
                return Some(asking(Todo::Proposal(later.clone())));
            }
        }
        let place = self.script.iter().position(|call| call.path == CHECK_IN);
        let ready = place.filter(|place| self.is_ready(*place));
        let Some(place) = ready else {
            return Some(framed(&[v1::CheckInResponse::default()
                .encode_to_vec()
                .into()]));
        };
        Some(self.script.remove(place).answer)
    }

    /// Whether all that came before was said, and work is agreed to.
    fn is_ready(&self, place: usize) -> bool {
        let awaited = [DECLINE, UPLOAD, EVALUATION];
        let open = |call: &Call| {
            awaited.contains(&call.path.as_str()) && call.session.as_deref() != Some(DONE)
        };
        if self.script[..place].iter().any(open) {
            return false;
        }
        let Ok(answer) = only::<v1::CheckInResponse>(&self.script[place].answer) else {
            return false;
        };
        let work = match &answer.todo {
            Some(Todo::Train(work) | Todo::Evaluate(work)) => work,
            Some(Todo::Proposal(_) | Todo::SecureStep(_)) | None => return true,
        };
        let plan = convert::signed("plan", work.plan.clone());
        plan.is_ok_and(|plan| self.agreed.contains(&plan.digest()))
    }
}

/// Marks a call that was made.
const DONE: &str = "done";

fn asking(todo: Todo) -> Vec<u8> {
    let answer = v1::CheckInResponse {
        todo: Some(todo),
        ..v1::CheckInResponse::default()
    };
    framed(&[answer.encode_to_vec().into()])
}

/// A signature over that text as a plan, whatever it is.
fn signed_as<T: fedner_shared::sign::Statement>(body: &str, key: &SecretKey) -> Signed {
    let message = [b"fedner/v1/", T::KIND.as_bytes(), b"\0", body.as_bytes()].concat();
    Signed {
        body: body.to_owned(),
        signature: key.sign(&message),
    }
}

fn receipt(upload: &[u8]) -> Result<Signed> {
    for message in messages(upload)? {
        if let Some(Part::Start(start)) = v1::UploadRequest::decode(message)?.part {
            return Ok(convert::signed("receipt", start.receipt)?);
        }
    }
    anyhow::bail!("an upload without its receipt")
}

fn bytes_of(upload: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for message in messages(upload)? {
        if let Some(Part::Data(data)) = v1::UploadRequest::decode(message)?.part {
            bytes.extend(data);
        }
    }
    Ok(bytes)
}
