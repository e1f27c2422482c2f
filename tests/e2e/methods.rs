//! Every method of every service, called by every role and by nobody: the doors of the coordinator.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use fedner_proto::{FILE_DESCRIPTOR_SET, convert};
use fedner_shared::refusal::Code;
use fedner_tests::grpc::channel;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::roles::Files;
use crate::setting::Setting;

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// Without a certificate.
    Stranger,
    Viewer,
    Operator,
    Institution,
}

use Caller::{Institution, Operator, Stranger, Viewer};

const CALLERS: [Caller; 4] = [Stranger, Viewer, Operator, Institution];

/// Who may call a method, as `proto/README.md` has it.
fn allowed(service: &str, method: &str) -> Result<&'static [Caller]> {
    Ok(match (service, method) {
        ("fedner.v1.Enrolment", "Enrol") => &CALLERS,
        ("fedner.v1.Enrolment", "Renew") | ("fedner.v1.Federation", _) => &[Institution],
        ("fedner.v1.Operations", _) => &[Operator],
        ("fedner.v1.Monitoring", _) => &[Operator, Viewer],
        (
            "grpc.health.v1.Health"
            | "grpc.reflection.v1.ServerReflection"
            | "grpc.reflection.v1alpha.ServerReflection",
            _,
        ) => &[Viewer, Operator, Institution],
        _ => bail!("say in this test who may call {method} of {service}"),
    })
}

/// Services and methods of a set of descriptors.
fn methods(descriptors: &[u8]) -> Result<Vec<(String, String)>> {
    let set = FileDescriptorSet::decode(descriptors)?;
    let mut found = Vec::new();
    for file in &set.file {
        for service in &file.service {
            let name = format!("{}.{}", file.package(), service.name());
            let methods = service.method.iter();
            found.extend(methods.map(|method| (name.clone(), method.name().to_owned())));
        }
    }
    Ok(found)
}

/// Calls a method with one empty message, whatever the method takes.
async fn call(channel: &Channel, service: &str, method: &str) -> Result<Option<Status>> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.context("the connection")?;
    let request = Request::new(tokio_stream::once(()));
    let path: PathAndQuery = format!("/{service}/{method}").parse()?;
    let answer = grpc.streaming(request, path, ProstCodec::<(), ()>::default());
    let answer = tokio::time::timeout(Duration::from_secs(20), answer).await;
    Ok(answer.context("no answer in time")?.err())
}

/// Whether the door was opened: whatever lies behind it may still refuse an empty message.
fn entered(status: Option<&Status>) -> bool {
    let code = status
        .and_then(convert::refusal_of)
        .map(|refusal| refusal.code);
    let shut = [
        Code::CertificateMissing,
        Code::CertificateUntrusted,
        Code::RoleForbidden,
    ];
    !code.is_some_and(|code| shut.contains(&code))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_is_open_to_its_roles_and_shut_to_all_others() -> Result<()> {
    let setting = Setting::new()?;
    setting.enrol("anna", 0, 2)?;
    let viewer = Files::of_coordinator(&setting, "viewer");
    let address = setting.cluster.address();
    let mut channels = Vec::new();
    for caller in CALLERS {
        let channel = match caller {
            Stranger => channel(&address, &viewer.authority, None).await?,
            Viewer => viewer.dial(&setting).await?,
            Operator => {
                Files::of_coordinator(&setting, "operator")
                    .dial(&setting)
                    .await?
            }
            Institution => {
                Files::of_institution(&setting, "anna")
                    .dial(&setting)
                    .await?
            }
        };
        channels.push((caller, channel));
    }
    let mut all = methods(FILE_DESCRIPTOR_SET)?;
    assert!(all.len() > 25, "only {} methods were found", all.len());
    all.extend(methods(tonic_health::pb::FILE_DESCRIPTOR_SET)?);
    all.extend(methods(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)?);
    all.extend(methods(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)?);
    for (service, method) in all {
        let may = allowed(&service, &method)?;
        for (caller, channel) in &channels {
            let status = call(channel, &service, &method).await?;
            let code = status.as_ref().map(Status::code);
            assert_ne!(code, Some(tonic::Code::Unimplemented), "{service}/{method}");
            assert_ne!(
                code,
                Some(tonic::Code::Internal),
                "{service}/{method}: {status:?}"
            );
            let opened = entered(status.as_ref());
            assert_eq!(
                opened,
                may.contains(caller),
                "{caller:?} calls {method} of {service}: {status:?}"
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_that_leads_nowhere_is_no_open_door() -> Result<()> {
    let setting = Setting::new()?;
    let operator = Files::of_coordinator(&setting, "operator")
        .dial(&setting)
        .await?;
    let status = call(&operator, "fedner.v1.Operations", "NoSuchMethod").await?;
    let code = status.as_ref().map(Status::code);
    assert_eq!(code, Some(tonic::Code::Unimplemented));
    Ok(())
}
