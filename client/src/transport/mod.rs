//! The way to the coordinator: mutual TLS 1.3, and transfers that resume where they were cut.
//!
//! Nothing here decides what may leave. Uploads, evaluation counts and reports of audits are taken only
//! as the types that [`egress`](crate::egress) makes; the other calls carry nothing that depends on data.

mod calls;
mod connect;
mod download;
mod error;
mod pinned;
mod tls;
mod upload;

use std::time::Duration;

use fedner_proto::MESSAGE_BYTES;
use fedner_proto::v1::enrolment_client::EnrolmentClient;
use fedner_proto::v1::federation_client::FederationClient;
use fedner_proto::v1::{EnrolRequest, EnrolResponse};
use tonic::transport::Channel;

use crate::identity::TlsIdentity;

pub use calls::{Answer, Todo, Told};
pub use connect::endpoint;
pub use error::Error;

/// How long a call that is answered at once may take.
const CALL: Duration = Duration::from_secs(30);

/// The same for one at which the coordinator may have to put a whole model together.
const LONG_CALL: Duration = Duration::from_mins(5);

/// The coordinator, as one enrolled institution reaches it. Cheap to clone; it connects when
/// something is called, and again after a connection broke.
#[derive(Debug, Clone)]
pub struct Coordinator {
    address: String,
    channel: Channel,
}

impl Coordinator {
    /// `address` is HOST:PORT, `tls` the institution's identity.
    pub fn new(address: &str, tls: &TlsIdentity) -> Result<Self, Error> {
        Ok(Self::over(address, secured(address, tls)?))
    }

    /// The coordinator at the other end of `channel`, called `address` in messages.
    pub fn over(address: &str, channel: Channel) -> Self {
        Self {
            address: address.to_owned(),
            channel,
        }
    }

    fn federation(&self) -> FederationClient<Channel> {
        FederationClient::new(self.channel.clone())
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

/// A channel over mutual TLS to HOST:PORT that connects on first use.
pub fn secured(address: &str, tls: &TlsIdentity) -> Result<Channel, Error> {
    connect::channel(address, tls::mutual(tls)?)
}

/// Uses an invite. The server is trusted if its authority's certificate has the SHA-256 that the
/// invite names.
pub async fn enrol(
    address: &str,
    authority_sha256: [u8; 32],
    request: EnrolRequest,
) -> Result<EnrolResponse, Error> {
    let coordinator = Coordinator {
        address: address.to_owned(),
        channel: connect::channel(address, tls::pinned(authority_sha256)?)?,
    };
    let mut client = coordinator.enrolment();
    coordinator.within(CALL, client.enrol(request)).await
}
