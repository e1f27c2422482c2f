//! The way to the coordinator: mutual TLS 1.3, and transfers that resume where they were cut.
//!
//! Nothing here decides what may leave. Uploads, evaluation counts and reports of audits are taken only
//! as the types that [`egress`](crate::egress) makes; the other calls carry nothing that depends on data.

mod calls;
mod connect;
mod download;
mod error;
mod pinned;
mod receipts;
mod session;
mod shown;
mod tls;
mod upload;

use std::time::Duration;

use fedner_host::address::Addresses;
use fedner_proto::MESSAGE_BYTES;
use fedner_proto::v1::enrolment_client::EnrolmentClient;
use fedner_proto::v1::federation_client::FederationClient;
use fedner_proto::v1::{EnrolRequest, EnrolResponse};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

pub use calls::{Answer, POLL, Says, Todo, Told};
pub use connect::{Destination, endpoint};
pub use error::Error;
pub use receipts::KeptReceipt;
pub use session::Session;
pub use tls::TlsIdentity;

/// How long a call that is answered at once may take.
const CALL: Duration = Duration::from_secs(30);

/// The same for one at which the coordinator may have to put a whole model together.
const LONG_CALL: Duration = Duration::from_mins(5);

/// The coordinator, as one enrolled institution reaches it. Cheap to clone; it connects when
/// something is called, and again after a connection broke.
#[derive(Debug, Clone)]
pub struct Coordinator {
    /// As messages call it.
    address: String,
    channel: Channel,
    session: Session,
}

impl Coordinator {
    /// `tls` is the institution's identity.
    pub fn new(to: &Destination, tls: &TlsIdentity) -> Result<Self, Error> {
        Ok(Self::from_channel(&to.addresses, secured(to, tls)?))
    }

    /// The coordinator at the other end of `channel`, named by its addresses in messages.
    pub fn from_channel(addresses: &Addresses, channel: Channel) -> Self {
        Self {
            address: addresses.to_string(),
            channel,
            session: Session::default(),
        }
    }

    /// The same, called by that program.
    #[must_use]
    pub fn with_session(self, session: Session) -> Self {
        Self { session, ..self }
    }

    fn federation(&self) -> FederationClient<InterceptedService<Channel, Session>> {
        FederationClient::with_interceptor(self.channel.clone(), self.session.clone())
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES)
    }

    fn enrolment(&self) -> EnrolmentClient<Channel> {
        EnrolmentClient::new(self.channel.clone())
    }

    fn fault(&self, status: &tonic::Status) -> Error {
        Error::of_status(&self.address, status)
    }

    /// Waits for `call` for at most `limit`.
    async fn within<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.fault(&status)),
            Err(_) => Err(Error::Unreachable {
                address: self.address.clone(),
                reason: format!("no answer within {} s", limit.as_secs()),
            }),
        }
    }
}

/// A channel over mutual TLS that connects on first use.
pub fn secured(to: &Destination, tls: &TlsIdentity) -> Result<Channel, Error> {
    connect::channel(to, tls::mutual(tls)?)
}

/// Uses an invite. The server is trusted if its authority's certificate has the SHA-256 that the
/// invite names.
pub async fn enrol(
    to: &Destination,
    authority_sha256: [u8; 32],
    request: EnrolRequest,
) -> Result<EnrolResponse, Error> {
    let channel = connect::channel(to, tls::pinned(authority_sha256)?)?;
    let coordinator = Coordinator::from_channel(&to.addresses, channel);
    let mut client = coordinator.enrolment();
    coordinator.within(CALL, client.enrol(request)).await
}
