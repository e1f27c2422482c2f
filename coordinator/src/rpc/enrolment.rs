//! How an institution gets and renews its certificate.

use fedner_proto::{convert, v1};
use tonic::{Request, Response, Status};

use super::Services;
use super::gate::status;

#[derive(Debug)]
pub(super) struct Enrolment(pub(super) Services);

#[tonic::async_trait]
impl v1::enrolment_server::Enrolment for Enrolment {
    async fn enrol(
        &self,
        request: Request<v1::EnrolRequest>,
    ) -> Result<Response<v1::EnrolResponse>, Status> {
        let v1::EnrolRequest {
            secret,
            certificate_request,
            signing_key,
        } = request.into_inner();
        let signing_key = convert::public_key("signing_key", &signing_key).map_err(status)?;
        let authority = self.0.authority.clone();
        let (name, issued) = self
            .0
            .engine
            .call(move |engine| {
                engine.enrol(&authority, &secret, &certificate_request, signing_key)
            })
            .await
            .map_err(status)?;
        Ok(Response::new(v1::EnrolResponse {
            institution: name.to_string(),
            certificate: issued.pem,
            authority: self.0.authority.certificate_pem().to_owned(),
            operator_key: self.0.operator_key.as_bytes().to_vec(),
        }))
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewResponse>, Status> {
        let institution = self.0.institution(&request).await?;
        let certificate_request = request.into_inner().certificate_request;
        let authority = self.0.authority.clone();
        let issued = self
            .0
            .engine
            .call(move |engine| engine.renew(&authority, &institution, &certificate_request))
            .await
            .map_err(status)?;
        Ok(Response::new(v1::RenewResponse {
            certificate: issued.pem,
        }))
    }
}
