//! The operator's own certificate: made, renewed, replaced.

use std::fs;
use std::path::Path;

use fedner_host::machine::Machine as _;
use fedner_host::machine::ThisMachine;
use fedner_proto::v1;
use fedner_proto::v1::operations_client::OperationsClient;
use fedner_shared::refusal::Code;
use rcgen::{CertificateParams, KeyPair};
use tonic::transport::Channel;
use zeroize::Zeroizing;

use super::failed::Failed;
use crate::authority::Life;
use crate::config::Paths;
use crate::identity::Caller;

/// Renews the certificate in the directory in the last third of its life. Where the coordinator serves it does so by
/// itself; operators elsewhere have their commands.
pub(super) async fn renew_if_due(paths: &Paths, operations: OperationsClient<Channel>) {
    let pem = fs::read_to_string(paths.operator_certificate());
    let due = pem.is_ok_and(|pem| Life::of_pem(&pem).is_ok_and(|l| l.is_due(ThisMachine.now())));
    if !due {
        return;
    }
    match renew(paths, operations, false).await {
        Ok(name) => tracing::info!(name, "renewed the certificate by which commands call"),
        Err(error) => tracing::warn!(%error, "the certificate runs out, and was not renewed"),
    }
}

/// The holder of the certificate in the directory, with a new key and a new certificate.
pub(super) async fn renew(
    paths: &Paths,
    mut operations: OperationsClient<Channel>,
    replace: bool,
) -> Result<String, Failed> {
    let certificate = paths.operator_certificate();
    let pem = fs::read_to_string(&certificate).map_err(Failed::io("read", &certificate))?;
    let caller = crate::authority::der_of(&pem)
        .map_err(|error| Failed::refuse(Code::StateInvalid, error.to_string()))
        .and_then(|der| Ok(Caller::of_certificate(&der)?))?;
    let key = generate()?;
    let request = v1::IssueCertificateRequest {
        name: caller.name.clone(),
        role: v1::Person::Operator.into(),
        certificate_request: certificate_request(&key)?,
        replace,
    };
    let answer = operations.issue_certificate(request).await?.into_inner();
    if !paths.authority_key().exists() {
        // An operator elsewhere learns the authorities with the certificate.
        write(&paths.authority_certificate(), &answer.authorities.concat())?;
    }
    write(&paths.operator_key(), &Zeroizing::new(key.serialize_pem()))?;
    write(&certificate, &answer.certificate)?;
    Ok(caller.name)
}

pub(super) fn generate() -> Result<KeyPair, Failed> {
    KeyPair::generate().map_err(|error| Failed::fault(error.to_string()))
}

pub(super) fn certificate_request(key: &KeyPair) -> Result<String, Failed> {
    let made = CertificateParams::new(Vec::new())
        .and_then(|params| params.serialize_request(key))
        .and_then(|request| request.pem());
    made.map_err(|error| Failed::fault(error.to_string()))
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), Failed> {
    super::init::write(path, text)
}
