//! What every call passes before it reaches its service: who calls, how much is under way, and how its
//! messages come.
//!
//! gRPC itself reads a message as long as its sender likes, waits for the rest of it as long as its sender
//! likes, and answers what it cannot read without a code of ours. Here each has a bound, a code and a count.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use fedner_host::machine::Machine;
use fedner_shared::refusal::{Code, Refusal};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tower::Layer;

use super::gate::status;
use super::message::{Held, Measured, Pace, Ticket};
use crate::door::Door;
use crate::identity::Caller;
use crate::tls::Peer;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// A stream that brings nothing for so long is cut off; it may go on where it stopped.
pub(super) const STALLED: Duration = Duration::from_mins(1);

/// Puts [`Rationed`] around the services.
#[derive(Debug, Clone)]
pub struct Rations {
    door: Arc<Door>,
    machine: Arc<dyn Machine>,
}

/// Services whose callers take no more than their share.
#[derive(Debug, Clone)]
pub struct Rationed<S> {
    inner: S,
    rations: Rations,
}

impl Rations {
    pub fn new(door: Arc<Door>, machine: Arc<dyn Machine>) -> Self {
        Self { door, machine }
    }

    /// The largest message of a method.
    fn largest(path: &str) -> usize {
        match path {
            "/fedner.v1.Federation/CheckIn" => 512 * KIB,
            "/fedner.v1.Federation/Upload" => MIB,
            "/fedner.v1.Federation/SubmitEvaluation" | "/fedner.v1.Federation/TakeSecureStep" => {
                128 * KIB
            }
            "/fedner.v1.Federation/SubmitAudit" => 260 * KIB,
            "/fedner.v1.Operations/PutObject"
            | "/fedner.v1.Operations/PreparePlan"
            | "/fedner.v1.Operations/ReplacePlanKey"
            | "/fedner.v1.Operations/CreateRun" => 4 * MIB,
            _ => 16 * KIB,
        }
    }

    /// How long a method waits for what it is sent.
    fn pace(&self, path: &str) -> Pace {
        match path {
            "/fedner.v1.Federation/Upload" => Pace {
                patience: STALLED,
                least: self.door.limits().upload_bytes_per_s * STALLED.as_secs(),
            },
            "/fedner.v1.Operations/PutObject"
            | "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo" => Pace {
                patience: STALLED,
                least: 1,
            },
            _ => Pace {
                patience: Duration::from_secs(self.door.limits().request_body_s),
                least: u64::MAX,
            },
        }
    }

    fn admit<B>(&self, request: &http::Request<B>) -> Result<Ticket, Refusal> {
        let Some(peer) = request.extensions().get::<Peer>() else {
            let message = "nothing is known of the caller";
            return Err(Refusal::new(Code::CertificateMissing, message));
        };
        if let Some(certificate) = &peer.certificate {
            Caller::of_certificate(certificate)?.check_expiry(self.machine.now())?;
        }
        let encoding = request.headers().get("grpc-encoding");
        if encoding.is_some_and(|encoding| encoding != "identity") {
            let message = "the request is compressed: expected plain messages";
            return Err(Refusal::new(Code::MessageCompressed, message));
        }
        Ok(Ticket::new(peer.guest.call()?, peer.activity.begin()))
    }
}

impl<S> Layer<S> for Rations {
    type Service = Rationed<S>;

    fn layer(&self, inner: S) -> Rationed<S> {
        Rationed {
            inner,
            rations: self.clone(),
        }
    }
}

impl<S> Service<http::Request<Body>> for Rationed<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let ticket = match self.rations.admit(&request) {
            Ok(ticket) => ticket,
            Err(refusal) => {
                let answer = status(refusal).into_http();
                return Box::pin(std::future::ready(Ok(answer)));
            }
        };
        let path = request.uri().path();
        let (largest, pace) = (Rations::largest(path), self.rations.pace(path));
        let request = request.map(|body| Body::new(Measured::new(body, largest, pace)));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            Ok(answer.map(|body| Body::new(Held::new(body, ticket))))
        })
    }
}
