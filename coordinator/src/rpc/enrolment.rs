//! How an institution gets and renews its certificate.

use std::net::IpAddr;

use fedner_proto::{convert, v1};
use fedner_shared::refusal::{Code, Refusal};
use tonic::{Request, Response, Status};

use super::Services;
use super::gate::{guest, status};
use crate::door::Ration;
use crate::engine::Failure;
use crate::tls::Peer;

#[derive(Debug)]
pub(super) struct Enrolment(pub(super) Services);

#[tonic::async_trait]
impl v1::enrolment_server::Enrolment for Enrolment {
    async fn enrol(
        &self,
        request: Request<v1::EnrolRequest>,
    ) -> Result<Response<v1::EnrolResponse>, Status> {
        let (address, guest) = (caller_address(&request)?, guest(&request)?);
        let v1::EnrolRequest {
            secret,
            certificate_request,
            signing_key,
        } = request.into_inner();
        let signing_key = convert::public_key("signing_key", &signing_key).map_err(status)?;
        if !self.0.door.may_guess(address) {
            let message = "too many invites from this address were wrong";
            return Err(status(Refusal::new(Code::RateLimited, message)));
        }
        let authority = self.0.keys.serving();
        let engine = self.0.engine.sharing(guest.share());
        let enrolled = engine
            .call(move |engine| {
                engine.enrol(&authority, &secret, &certificate_request, signing_key)
            })
            .await;
        if enrolled.as_ref().is_err_and(is_wrong_invite) {
            self.0.door.guessed(address);
        }
        let (name, issued) = enrolled.map_err(status)?;
        Ok(Response::new(v1::EnrolResponse {
            institution: name.to_string(),
            certificate: issued.pem,
            authority: self.0.keys.serving().certificate_pem().to_owned(),
            operator_key: self.0.keys.plans().as_bytes().to_vec(),
        }))
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewResponse>, Status> {
        let member = self.0.institution(&request).await?;
        member.guest.take(Ration::Renewal).map_err(status)?;
        let certificate_request = request.into_inner().certificate_request;
        let (authority, name) = (self.0.keys.issuing(), member.name.clone());
        let issued = member
            .engine
            .call(move |engine| engine.renew(&authority, &name, &certificate_request))
            .await
            .map_err(status)?;
        Ok(Response::new(v1::RenewResponse {
            certificate: issued.pem,
        }))
    }
}

fn caller_address<T>(request: &Request<T>) -> Result<IpAddr, Status> {
    let peer = request.extensions().get::<Peer>();
    let address = peer.map(|peer| peer.address.ip());
    address.ok_or_else(|| Status::internal("nothing is known of the caller"))
}

fn is_wrong_invite(failure: &Failure) -> bool {
    let Failure::Refused(refusal) = failure else {
        return false;
    };
    [
        Code::InviteUnknown,
        Code::InviteUsed,
        Code::InviteExpired,
        Code::InviteVoid,
    ]
    .contains(&refusal.code)
}
