//! Which running program calls: two copies of one directory have one certificate.

use fedner_proto::{LOOKS, SESSION};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// Names the program in each call.
#[derive(Debug, Clone, Default)]
pub struct Session(Option<MetadataValue<Ascii>>);

impl Session {
    /// Of a daemon; `seed` differs from start to start.
    pub fn from_seed(seed: u64) -> Self {
        Self(format!("{seed:016x}").parse().ok())
    }

    /// Of a command that looks beside the daemon, and takes no work.
    pub fn looks() -> Self {
        Self(Some(MetadataValue::from_static(LOOKS)))
    }
}

impl Interceptor for Session {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(session) = &self.0 {
            request.metadata_mut().insert(SESSION, session.clone());
        }
        Ok(request)
    }
}
