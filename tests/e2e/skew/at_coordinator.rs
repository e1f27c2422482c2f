//! What an earlier client said, said again to the present coordinator over the directory that the earlier one
//! left.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use fedner_coordinator::blobs::Blobs;
use fedner_coordinator::config::{Config, Paths};
use fedner_coordinator::door::Door;
use fedner_coordinator::engine;
use fedner_coordinator::intake::Intake;
use fedner_coordinator::keys::{Keys, Recorded};
use fedner_coordinator::limits::Limits;
use fedner_coordinator::registry::Registry;
use fedner_coordinator::reload;
use fedner_coordinator::rpc::{self, Services};
use fedner_coordinator::store::Store;
use fedner_coordinator::tls::Peer;
use fedner_proto::v1::check_in_response::Todo;
use fedner_proto::{SESSION, convert, v1};
use fedner_shared::time::Time;
use futures::StreamExt as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;

use super::recording::{CHECK_IN, COORDINATOR, Call, ENROL, Recording, messages, only};
use super::wire::{Raw, Then, Wire, channel, nobody, pipe};

/// What is published takes a moment.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whoever may call, and what they say they are.
struct Coordinator {
    door: Arc<Door>,
    wires: mpsc::UnboundedSender<std::io::Result<Wire>>,
    stop: CancellationToken,
}

/// Each call is answered as it was: plans, work, models and permissions are the same bytes.
pub(crate) async fn replay(recording: &Recording) -> Result<()> {
    let directory = recording.directory(COORDINATOR)?;
    // When the earlier coordinator published: then the version's record is the same to the byte.
    let (_, assignment) = recording.last_todo()?;
    let (_, version) = convert::version_from_record(&assignment.version)?;
    let coordinator = serve(directory.path(), version.created).await?;
    let mut caller = coordinator.caller(None);
    for (number, call) in recording.calls.iter().enumerate() {
        let place = || format!("call {number}, {}", call.path);
        let answer = if call.path == CHECK_IN {
            check_in(&mut caller, call).await
        } else {
            say(&mut caller, call).await
        };
        let answer = answer.with_context(place)?;
        match call.path.as_str() {
            CHECK_IN => {}
            ENROL => {
                let (then, now): (v1::EnrolResponse, _) = (only(&call.answer)?, answer);
                let now: v1::EnrolResponse = only(&now)?;
                ensure!(now.institution == then.institution && now.authority == then.authority);
                ensure!(now.operator_key == then.operator_key);
                let certificate = CertificateDer::from_pem_slice(now.certificate.as_bytes())?;
                caller = coordinator.caller(Some(certificate.to_vec()));
            }
            _ => ensure!(
                answer == call.answer,
                "{} is answered otherwise: {answer:02x?}, then {:02x?}",
                place(),
                call.answer
            ),
        }
    }
    coordinator.stop.cancel();
    Ok(())
}

/// The present coordinator in `directory`, at that time.
async fn serve(directory: &Path, now: Time) -> Result<Coordinator> {
    let paths = Paths::new(directory);
    let config = Config::read(&paths)?;
    let mut store = Store::open(&paths.store())?;
    store.check_pages()?;
    let operator = std::fs::read_to_string(paths.signing_public_key())?;
    let operator = operator.trim().parse()?;
    let recorded = Recorded::read(&mut store)?;
    let machine = Arc::new(Then::still(now));
    let names = reload::names(&config);
    let keys = Keys::open(paths.clone(), names, operator, recorded, machine.clone())?;
    let blobs = Blobs::from_config(&paths, &config).await?;
    let (engine, effects, serving) = engine::load(store, operator, machine)?.serve();
    tokio::spawn(serving);
    let registry = Registry::new(engine.clone(), blobs.clone());
    tokio::spawn(registry.clone().carry_out(effects));
    let door = Door::new(Limits::default());
    let stop = CancellationToken::new();
    let services = Services {
        intake: Intake::new(engine.clone(), blobs.clone()),
        engine,
        blobs,
        registry,
        keys,
        federation: config.name,
        address: config.address,
        door: door.clone(),
        min_client: tokio::sync::watch::channel(None).1,
        stop: stop.clone(),
    };
    let (router, _) = rpc::router(services).await?;
    let (wires, incoming) = mpsc::unbounded_channel();
    let incoming = UnboundedReceiverStream::new(incoming);
    let stopped = stop.clone().cancelled_owned();
    tokio::spawn(router.serve_with_incoming_shutdown(incoming, stopped));
    Ok(Coordinator { door, wires, stop })
}

type Caller = Grpc<tonic::transport::Channel>;

impl Coordinator {
    /// Somebody who shows that certificate.
    fn caller(&self, certificate: Option<Vec<u8>>) -> Caller {
        let (near, far) = pipe();
        let guest = self.door.guest(certificate.as_deref().unwrap_or_default());
        let peer = Peer::new(nobody(), certificate, guest);
        // The server ends with the test.
        let _ = self.wires.send(Ok(Wire::new(far, peer)));
        Grpc::new(channel(near))
    }
}

/// Asks until the answer has what the earlier one had.
async fn check_in(caller: &mut Caller, call: &Call) -> Result<Vec<u8>> {
    let then: v1::CheckInResponse = only(&call.answer)?;
    let begun = Instant::now();
    loop {
        let answer = say(caller, call).await?;
        let now: v1::CheckInResponse = only(&answer)?;
        if then.todo.is_none() || as_heard(now.todo.as_ref(), then.todo.as_ref()) == then.todo {
            return Ok(answer);
        }
        ensure!(
            begun.elapsed() < PATIENCE,
            "it is asked for {:?}: expected {:?}",
            now.todo,
            then.todo
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What an earlier client hears of it: it passes over fields that came later.
fn as_heard(now: Option<&Todo>, then: Option<&Todo>) -> Option<Todo> {
    let mut heard = now.cloned();
    if let (Some(Todo::Proposal(now)), Some(Todo::Proposal(then))) = (&mut heard, then)
        && then.memory == 0
    {
        now.memory = 0;
    }
    heard
}

/// The body of the answer.
async fn say(caller: &mut Caller, call: &Call) -> Result<Vec<u8>> {
    let parts = messages(&call.request)?;
    let mut request = Request::new(futures::stream::iter(parts));
    if let Some(session) = &call.session {
        request.metadata_mut().insert(SESSION, session.parse()?);
    }
    let path: PathAndQuery = call.path.parse()?;
    caller.ready().await?;
    let mut answer = caller.streaming(request, path, Raw).await?.into_inner();
    let mut body: Vec<Bytes> = Vec::new();
    while let Some(message) = answer.next().await {
        body.push(message?);
    }
    Ok(super::recording::framed(&body))
}
