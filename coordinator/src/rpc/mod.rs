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

use std::sync::Arc;
use std::time::Duration;

use fedner_proto::v1::enrolment_server::EnrolmentServer;
use fedner_proto::v1::federation_server::FederationServer;
use fedner_proto::v1::monitoring_server::MonitoringServer;
use fedner_proto::v1::operations_server::OperationsServer;
use fedner_proto::{FILE_DESCRIPTOR_SET, FRAME_BYTES, MESSAGE_BYTES};
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::{Router, Server};
use tower::layer::util::{Identity, Stack};

use ration::Rations;

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
    /// HOST:PORT that institutions dial.
    pub address: String,
    pub door: Arc<Door>,
    /// Clients that are older are refused.
    pub min_client: MinClient,
    /// Ends long polls and streams when the coordinator stops.
    pub stop: CancellationToken,
}

/// All services, the standard health and reflection services included. Each stands behind the door
/// of the roles that may call it, so that no handler can forget them. Only enrolment may be called
/// without a certificate.
pub async fn router(
    services: Services,
) -> Result<(Router<Layers>, Health), tonic_reflection::server::Error> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health
        .set_serving::<FederationServer<federation::Federation>>()
        .await;
    health
        .set_serving::<OperationsServer<operations::Operations>>()
        .await;
    health
        .set_serving::<MonitoringServer<monitoring::Monitoring>>()
        .await;
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // Tools speak either version.
    let (reflection, older) = (described().build_v1()?, described().build_v1alpha()?);
    let limits = services.door.limits();
    let rations = Rations::new(services.door.clone(), services.engine.machine().clone());
    let streams = u32::try_from(limits.streams_per_connection).unwrap_or(u32::MAX);
    let router = Server::builder()
        .layer(rations)
        .max_concurrent_streams(streams)
        .http2_max_local_error_reset_streams(Some(RESETS))
        .http2_max_pending_accept_reset_streams(Some(RESETS))
        .max_connection_age(Duration::from_secs(limits.connection_age_s))
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_frame_size(FRAME_BYTES)
        .add_service(InterceptedService::new(
            health_service,
            gate::anyone_certified(services.keys.clone()),
        ))
        .add_service(InterceptedService::new(
            reflection,
            gate::anyone_certified(services.keys.clone()),
        ))
        .add_service(InterceptedService::new(
            older,
            gate::anyone_certified(services.keys.clone()),
        ))
        .add_service(EnrolmentServer::new(enrolment::Enrolment(services.clone())))
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
        ));
    Ok((router, Health(health)))
}

/// What the standard health service says.
#[derive(Debug, Clone)]
pub struct Health(tonic_health::server::HealthReporter);

impl Health {
    /// Says of every service, and of the server as a whole, that it does not serve.
    pub async fn not_serving(&self) {
        let Self(health) = self;
        health
            .set_service_status("", tonic_health::ServingStatus::NotServing)
            .await;
        health
            .set_not_serving::<FederationServer<federation::Federation>>()
            .await;
        health
            .set_not_serving::<OperationsServer<operations::Operations>>()
            .await;
        health
            .set_not_serving::<MonitoringServer<monitoring::Monitoring>>()
            .await;
    }
}
