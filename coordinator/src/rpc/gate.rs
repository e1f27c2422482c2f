//! Who may call what, and what a failure looks like from outside.

use std::sync::Arc;

use fedner_proto::{SESSION, convert};
use fedner_shared::id::InstitutionId;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::text;
use tokio_util::sync::CancellationToken;
use tonic::service::Interceptor;
use tonic::{Request, Status};

use super::Services;
use crate::authority::Role;
use crate::door::{Guest, Program};
use crate::engine::{Failure, Handle};
use crate::identity::Caller;
use crate::keys::Keys;
use crate::observe;
use crate::tls::Peer;

/// Characters of a message that is logged and told.
const LONGEST: usize = 1000;
/// Said while a store is away. Clients try again.
const AWAY: &str = "the coordinator's stores do not answer at present";

/// The status for a failure: a refusal is told and counted, a fault is logged, here and only here.
pub(super) fn status(failure: impl Into<Failure>) -> Status {
    match failure.into() {
        Failure::Refused(refusal) => refuse(&refusal),
        Failure::Fault(fault) if fault.is_full() => {
            tracing::error!(%fault, "no room left");
            refuse(&Refusal::new(
                Code::StorageFull,
                "the coordinator has no room left",
            ))
        }
        Failure::Fault(crate::engine::Fault::Stopped) => {
            Status::unavailable("the coordinator is stopping")
        }
        Failure::Fault(crate::engine::Fault::Away) => Status::unavailable(AWAY),
        Failure::Fault(fault) if fault.passes() => {
            tracing::error!(%fault, "a request must be made again");
            Status::unavailable(AWAY)
        }
        Failure::Fault(fault) => {
            tracing::error!(%fault, "a request failed");
            Status::internal("a fault of the coordinator; its log says more")
        }
    }
}

fn refuse(refusal: &Refusal) -> Status {
    observe::count_refusal(refusal.code);
    let message = text::cut(&refusal.message, LONGEST);
    if observe::may_log_refusal() {
        tracing::info!(code = %refusal.code, %message, "refused");
    }
    convert::status_of(&Refusal::new(refusal.code, message))
}

pub(super) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let peer = request.extensions().get::<Peer>();
    let certificate = peer.and_then(|peer| peer.certificate.as_deref());
    Caller::of_connection(certificate).map_err(status)
}

/// The door of `Federation`. Whether the institution is in good standing is the handlers' question,
/// as only the engine knows.
#[allow(
    clippy::result_large_err,
    reason = "tonic's interceptors return a Status"
)]
pub(super) fn institutions(request: Request<()>) -> Result<Request<()>, Status> {
    admit(request, &[Role::Institution])
}

/// The door of `Operations`.
pub(super) fn operators(keys: Arc<Keys>) -> impl Interceptor + Clone {
    move |request: Request<()>| admit_person(request, &keys, &[Role::Operator])
}

/// The door of `Monitoring`.
pub(super) fn viewers(keys: Arc<Keys>) -> impl Interceptor + Clone {
    move |request: Request<()>| admit_person(request, &keys, &[Role::Operator, Role::Viewer])
}

/// For health and reflection: any certificate of this coordinator's authority.
pub(super) fn anyone_certified(keys: Arc<Keys>) -> impl Interceptor + Clone {
    let all = [Role::Operator, Role::Viewer, Role::Institution];
    move |request: Request<()>| admit_person(request, &keys, &all)
}

#[allow(
    clippy::result_large_err,
    reason = "tonic's interceptors return a Status"
)]
fn admit_person(request: Request<()>, keys: &Keys, roles: &[Role]) -> Result<Request<()>, Status> {
    let caller = caller(&request)?;
    caller.require(roles).map_err(status)?;
    keys.check_person(&caller).map_err(status)?;
    Ok(request)
}

#[allow(
    clippy::result_large_err,
    reason = "tonic's interceptors return a Status"
)]
fn admit(request: Request<()>, roles: &[Role]) -> Result<Request<()>, Status> {
    caller(&request)?.require(roles).map_err(status)?;
    Ok(request)
}

/// What the caller has taken.
pub(super) fn guest<T>(request: &Request<T>) -> Result<Arc<Guest>, Status> {
    let peer = request.extensions().get::<Peer>();
    let guest = peer.map(|peer| peer.guest.clone());
    guest.ok_or_else(|| Status::internal("nothing is known of the caller"))
}

/// An institution that calls, in good standing when it did.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: InstitutionId,
    /// The engine, with the institution's share of its queue.
    pub(super) engine: Handle,
    pub(super) guest: Arc<Guest>,
    pub(super) program: Program,
    caller: Caller,
    standing: CancellationToken,
}

impl Member {
    /// Resolves when the institution has lost its standing; with what it is told then.
    pub(super) async fn expelled(&self) -> Status {
        self.standing.cancelled().await;
        let caller = self.caller.clone();
        match self
            .engine
            .call(move |engine| engine.recognise(&caller))
            .await
        {
            Err(failure) => status(failure),
            Ok(_) => Status::aborted("the institution enrolled anew; call again"),
        }
    }
}

impl Services {
    /// The institution that calls, if it is in good standing.
    pub(super) async fn institution<T>(&self, request: &Request<T>) -> Result<Member, Status> {
        let (caller, guest) = (caller(request)?, guest(request)?);
        self.engine.arrived(&caller);
        let engine = self.engine.sharing(guest.share());
        let calls = caller.clone();
        let recognised = engine.call(move |engine| engine.recognise(&calls)).await;
        let (name, standing) = recognised.map_err(status)?;
        let program = self.program(request, &name, &engine).await?;
        Ok(Member {
            name,
            engine,
            guest,
            program,
            caller,
            standing,
        })
    }

    /// The program that calls, unless another one speaks for the institution.
    async fn program<T>(
        &self,
        request: &Request<T>,
        name: &InstitutionId,
        engine: &Handle,
    ) -> Result<Program, Status> {
        let Some(peer) = request.extensions().get::<Peer>() else {
            return Ok(Program::Works);
        };
        let session = request.metadata().get(SESSION);
        let session = session.map(|value| value.to_str().unwrap_or_default());
        match self.door.programs().admit(name, session, peer.connection()) {
            Ok(program) => Ok(program),
            Err(second) => {
                if second.first {
                    tracing::warn!(
                        institution = %name,
                        address = %peer.address,
                        "a second running copy of its directory was refused"
                    );
                    let name = name.clone();
                    let noted = engine.call(move |engine| engine.note_twice(name)).await;
                    noted.map_err(status)?;
                }
                Err(status(second.refusal))
            }
        }
    }

    /// The way to the engine for the operator.
    pub(super) fn operator<T>(&self, request: &Request<T>) -> Result<Handle, Status> {
        self.of_role(request, &[Role::Operator])
    }

    /// The way to the engine for who may look.
    pub(super) fn viewer<T>(&self, request: &Request<T>) -> Result<Handle, Status> {
        self.of_role(request, &[Role::Operator, Role::Viewer])
    }

    fn of_role<T>(&self, request: &Request<T>, roles: &[Role]) -> Result<Handle, Status> {
        let caller = caller(request)?;
        caller.require(roles).map_err(status)?;
        Ok(self.engine.sharing(guest(request)?.share()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Fault;

    #[test]
    fn a_full_disk_is_told_and_counted_and_another_fault_is_not() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let counted = recorder.handle();
        let of = |kind: std::io::ErrorKind| {
            let fault = Fault::Aggregate(crate::aggregate::Error::Io(kind.into()));
            metrics::with_local_recorder(&recorder, || status(Failure::Fault(fault)))
        };
        let other = of(std::io::ErrorKind::PermissionDenied);
        assert_eq!(other.code(), tonic::Code::Internal);
        assert!(!counted.render().contains("fedner_refusals_total"));
        let full = of(std::io::ErrorKind::StorageFull);
        let refusal = convert::refusal_of(&full).expect("a refusal");
        assert_eq!(refusal.code, Code::StorageFull);
        assert!(counted.render().contains("code=\"storage-full\"} 1"));
    }
}
