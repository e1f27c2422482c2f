//! Who may call what, and what a failure looks like from outside.

use fedner_proto::convert;
use fedner_shared::id::InstitutionId;
use fedner_shared::refusal::{Code, Refusal};
use tonic::{Request, Status};

use super::Services;
use crate::authority::Role;
use crate::engine::Failure;
use crate::identity::Caller;
use crate::observe;
use crate::tls::Peer;

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
        Failure::Fault(fault) => {
            tracing::error!(%fault, "a request failed");
            Status::internal("a fault of the coordinator; its log says more")
        }
    }
}

fn refuse(refusal: &Refusal) -> Status {
    observe::count_refusal(refusal.code);
    tracing::info!(code = %refusal.code, message = %refusal.message, "refused");
    convert::status_of(refusal)
}

fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    Caller::of_peer(request.extensions().get::<Peer>()).map_err(status)
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
#[allow(
    clippy::result_large_err,
    reason = "tonic's interceptors return a Status"
)]
pub(super) fn operators(request: Request<()>) -> Result<Request<()>, Status> {
    admit(request, &[Role::Operator])
}

/// The door of `Monitoring`.
#[allow(
    clippy::result_large_err,
    reason = "tonic's interceptors return a Status"
)]
pub(super) fn viewers(request: Request<()>) -> Result<Request<()>, Status> {
    admit(request, &[Role::Operator, Role::Viewer])
}

#[allow(
    clippy::result_large_err,
    reason = "tonic's interceptors return a Status"
)]
fn admit(request: Request<()>, roles: &[Role]) -> Result<Request<()>, Status> {
    caller(&request)?.require(roles).map_err(status)?;
    Ok(request)
}

/// For health and reflection: any certificate of this coordinator's authority.
#[allow(
    clippy::result_large_err,
    reason = "tonic's interceptors return a Status"
)]
pub(super) fn anyone_certified(request: Request<()>) -> Result<Request<()>, Status> {
    caller(&request)?;
    Ok(request)
}

pub(super) fn operator<T>(request: &Request<T>) -> Result<(), Status> {
    caller(request)?.require(&[Role::Operator]).map_err(status)
}

pub(super) fn onlooker<T>(request: &Request<T>) -> Result<(), Status> {
    caller(request)?
        .require(&[Role::Operator, Role::Viewer])
        .map_err(status)
}

impl Services {
    /// The institution that calls, if it is in good standing.
    pub(super) async fn institution<T>(
        &self,
        request: &Request<T>,
    ) -> Result<InstitutionId, Status> {
        let caller = caller(request)?;
        self.engine
            .call(move |engine| engine.recognise(&caller))
            .await
            .map_err(status)
    }
}
