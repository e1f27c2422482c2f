//! The gRPC services, over mutual TLS.

mod enrolment;
mod federation;
mod gate;
mod keys;
mod message;
mod monitoring;
mod operations;
mod page;
mod ration;
mod stream;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use fedner_host::address::Addresses;
use fedner_host::machine::Machine;
use fedner_proto::v1::enrolment_server::EnrolmentServer;
use fedner_proto::v1::federation_server::FederationServer;
use fedner_proto::v1::monitoring_server::MonitoringServer;
use fedner_proto::v1::operations_server::OperationsServer;
use fedner_proto::{FILE_DESCRIPTOR_SET, FRAME_BYTES, MESSAGE_BYTES};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::{Router, Server};
use tonic_health::ServingStatus;
use tower::ServiceExt as _;
use tower::layer::util::{Identity, Stack};

pub use ration::{Rationed, Rations};

use crate::blobs::Blobs;
use crate::door::Door;
use crate::engine::Handle;
use crate::intake::Intake;
use crate::keys::Keys;
use crate::registry::Registry;
use crate::reload::MinClient;

/// Streams of one connection that may be reset for what is wrong with them before it is closed.
const RESETS: usize = 64;

/// What calls pass on their way to a service.
pub type Layers = Stack<Rations, Identity>;

/// What the services need. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Services {
    pub engine: Handle,
    pub blobs: Blobs,
    pub registry: Registry,
    pub intake: Intake,
    pub keys: Arc<Keys>,
    /// The federation's name.
    pub federation: String,
    /// Where institutions dial.
    pub address: Addresses,
    pub door: Arc<Door>,
    /// Clients that are older are refused.
    pub min_client: MinClient,
    /// Ends long polls and streams when the coordinator stops.
    pub stop: CancellationToken,
}

/// All services of a coordinator that leads, the standard health and reflection services included.
pub async fn router(
    services: Services,
) -> Result<(Router<Layers>, Health), tonic_reflection::server::Error> {
    let (common, health) = common(services.keys.clone())?;
    health.lead(true).await;
    let machine = services.engine.machine().clone();
    let server = server(&services.door, machine);
    let own = self::services(services).into_axum_router();
    // Each of them answers what no service has in the same way.
    let all = common.into_axum_router().fallback_service(own);
    Ok((with(server, all.into()), health))
}

/// What a process serves that leads or not: `others` has the rest.
pub fn front<S>(
    (door, machine): (&Arc<Door>, Arc<dyn Machine>),
    common: Routes,
    others: S,
) -> Router<Layers>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let others =
        others.map_request(|request: http::Request<axum::body::Body>| request.map(Body::new));
    let all = common.into_axum_router().fallback_service(others);
    with(server(door, machine), all.into())
}

fn with(mut server: Server<Layers>, routes: Routes) -> Router<Layers> {
    server.add_routes(routes.prepare())
}

fn server(door: &Arc<Door>, machine: Arc<dyn Machine>) -> Server<Layers> {
    let limits = door.limits();
    let streams = u32::try_from(limits.streams_per_connection).unwrap_or(u32::MAX);
    Server::builder()
        .layer(Rations::new(door.clone(), machine))
        .max_concurrent_streams(streams)
        .http2_max_local_error_reset_streams(Some(RESETS))
        .http2_max_pending_accept_reset_streams(Some(RESETS))
        .max_connection_age(Duration::from_secs(limits.connection_age_s))
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_frame_size(FRAME_BYTES)
}

/// The standard health and reflection services, for anybody with a certificate.
pub fn common(keys: Arc<Keys>) -> Result<(Routes, Health), tonic_reflection::server::Error> {
    let (health, health_service) = tonic_health::server::health_reporter();
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // Tools speak either version.
    let (reflection, older) = (described().build_v1()?, described().build_v1alpha()?);
    let door = gate::anyone_certified(keys);
    let routes = Routes::new(InterceptedService::new(health_service, door.clone()))
        .add_service(InterceptedService::new(reflection, door.clone()))
        .add_service(InterceptedService::new(older, door));
    Ok((routes, Health(health)))
}

/// The services of a coordinator that leads. Each stands behind the door of the roles that may call it, so that no
/// handler can forget them. Only enrolment may be called without a certificate.
pub fn services(services: Services) -> Routes {
    Routes::new(EnrolmentServer::new(enrolment::Enrolment(services.clone())))
        .add_service(InterceptedService::new(
            FederationServer::new(federation::Federation(services.clone()))
                .max_decoding_message_size(MESSAGE_BYTES),
            gate::institutions,
        ))
        .add_service(InterceptedService::new(
            OperationsServer::new(operations::Operations(services.clone()))
                .max_decoding_message_size(MESSAGE_BYTES),
            gate::operators(services.keys.clone()),
        ))
        .add_service(InterceptedService::new(
            MonitoringServer::new(monitoring::Monitoring(services.clone())),
            gate::viewers(services.keys.clone()),
        ))
}

/// What the standard health service says.
#[derive(Debug, Clone)]
pub struct Health(tonic_health::server::HealthReporter);

impl Health {
    /// The name under which it says whether this process leads. It is no service of its own.
    pub const LEADER: &str = "fedner.leader";

    /// Says whether the services can be called here, and whether this process has them.
    pub async fn set(&self, serving: bool, leads: bool) {
        let of = |yes: bool| {
            if yes {
                ServingStatus::Serving
            } else {
                ServingStatus::NotServing
            }
        };
        let services = [
            "",
            FederationServer::<federation::Federation>::NAME,
            OperationsServer::<operations::Operations>::NAME,
            MonitoringServer::<monitoring::Monitoring>::NAME,
        ];
        for service in services {
            self.0.set_service_status(service, of(serving)).await;
        }
        self.0.set_service_status(Self::LEADER, of(leads)).await;
    }

    /// The same of a process whose services are its own.
    pub async fn lead(&self, leads: bool) {
        self.set(leads, leads).await;
    }
}
