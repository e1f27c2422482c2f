//! Where calls go: to the services of this process while it leads, else to the process that does.

use std::convert::Infallible;
use std::task::{Context, Poll};

use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};

use super::Seat;

/// What is said while nobody leads. Clients try again.
pub(super) const NOBODY: &str =
    "no process leads the federation at present: try again in a few seconds";

/// All services, wherever they are. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Front(watch::Receiver<Seat>);

impl Front {
    pub fn new(seat: watch::Receiver<Seat>) -> Self {
        Self(seat)
    }
}

impl Service<http::Request<Body>> for Front {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let seat = self.0.borrow().clone();
        Box::pin(async move {
            match seat {
                Seat::Leading(mut leading) => leading.routes.call(request).await,
                Seat::Following(link) => {
                    let answered = link.forward(request).await;
                    Ok(answered.unwrap_or_else(Status::into_http))
                }
                Seat::Nobody => Ok(Status::unavailable(NOBODY).into_http()),
            }
        })
    }
}
