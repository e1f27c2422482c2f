//! Who may come in, and who may call what.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fedner_proto::v1::enrolment_client::EnrolmentClient;
use fedner_proto::v1::federation_client::FederationClient;
use fedner_proto::v1::monitoring_client::MonitoringClient;
use fedner_proto::{convert, v1};
use fedner_shared::refusal::Code;
use fedner_tests::grpc::{Credentials, channel};
use tonic::transport::Channel;

use crate::setting::{Setting, refused as must_refuse, run};

fn code(status: &tonic::Status) -> Option<Code> {
    convert::refusal_of(status).map(|refusal| refusal.code)
}

/// What a caller shows at the door.
pub(crate) struct Files {
    pub(crate) authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    pub(crate) fn of_coordinator(setting: &Setting, role: &str) -> Self {
        let directory = setting.cluster.coordinator_directory();
        Self {
            authority: directory.join("authority/authority.pem"),
            certificate: directory.join(role).join(format!("{role}.pem")),
            key: directory.join(role).join(format!("{role}.key")),
        }
    }

    pub(crate) fn of_institution(setting: &Setting, name: &str) -> Self {
        let identity = setting.cluster.client_directory(name).join("identity");
        Self {
            authority: identity.join("authority.pem"),
            certificate: identity.join("tls.pem"),
            key: identity.join("tls.key"),
        }
    }

    pub(crate) async fn dial(&self, setting: &Setting) -> Result<Channel> {
        let credentials = Credentials {
            certificate: &self.certificate,
            key: &self.key,
        };
        channel(
            &setting.cluster.address(),
            &self.authority,
            Some(credentials),
        )
        .await
    }
}

fn check_in() -> v1::CheckInRequest {
    v1::CheckInRequest {
        wait_ms: 0,
        known_plans: vec![],
        consents: vec![],
        software: "test".into(),
        ..v1::CheckInRequest::default()
    }
}

#[test]
fn an_invite_works_once_in_time_and_with_its_secret() -> Result<()> {
    let setting = Setting::new()?;
    let enroll = |name: &str, invite: &PathBuf| {
        let mut command = setting.cluster.client_command(name, &["enroll"])?;
        command.arg(invite);
        Ok::<_, anyhow::Error>(command)
    };
    let invite = setting.cluster.invite("anna")?;
    let text = std::fs::read_to_string(&invite)?;

    // A wrong secret.
    let secret = text
        .lines()
        .find(|line| line.starts_with("secret"))
        .context("secret")?
        .to_owned();
    let wrong = setting.path("wrong.toml");
    std::fs::write(
        &wrong,
        text.replace(&secret, &format!("secret = \"{}\"", "0".repeat(64))),
    )?;
    assert!(must_refuse(enroll("anna", &wrong)?)?.contains("invite-unknown"));

    // Another authority's fingerprint: this is not the coordinator that wrote the invite.
    let pin = text
        .lines()
        .find(|line| line.starts_with("authority_sha256"))
        .context("pin")?
        .to_owned();
    std::fs::write(
        &wrong,
        text.replace(&pin, &format!("authority_sha256 = \"{}\"", "0".repeat(64))),
    )?;
    let said = must_refuse(enroll("anna", &wrong)?)?;
    assert!(said.contains("certificate-untrusted"), "{said}");

    // The right one, and then the same again.
    run(enroll("anna", &invite)?)?;
    assert!(must_refuse(enroll("copy", &invite)?)?.contains("invite-used"));
    assert!(must_refuse(enroll("anna", &invite)?)?.contains("already-exists"));

    // Too late.
    let late = run(setting
        .cluster
        .coordinator_command(&["invite", "late", "--ttl", "1s"])?)?;
    std::fs::write(&wrong, late)?;
    std::thread::sleep(Duration::from_millis(1200));
    assert!(must_refuse(enroll("late", &wrong)?)?.contains("invite-expired"));

    // The secret is nowhere in the coordinator's directory.
    let secret = secret.split('"').nth(1).context("secret")?;
    let store = std::fs::read(setting.cluster.coordinator_directory().join("state.sqlite"))?;
    assert!(
        !store
            .windows(secret.len())
            .any(|window| window == secret.as_bytes())
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_ask_for_health_and_services() -> Result<()> {
    let setting = Setting::new()?;
    let viewer = Files::of_coordinator(&setting, "viewer")
        .dial(&setting)
        .await?;
    let health = tonic_health::pb::HealthCheckRequest {
        service: "fedner.v1.Federation".into(),
    };
    let answer = tonic_health::pb::health_client::HealthClient::new(viewer.clone())
        .check(health)
        .await?;
    assert_eq!(answer.into_inner().status, 1);
    let services = list_services(viewer).await?;
    for service in [
        "fedner.v1.Federation",
        "fedner.v1.Monitoring",
        "grpc.health.v1.Health",
    ] {
        assert!(services.iter().any(|name| name == service), "{services:?}");
    }
    Ok(())
}

async fn list_services(channel: Channel) -> Result<Vec<String>> {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let request = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let stream = tokio_stream::once(request);
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(stream)
        .await?
        .into_inner();
    let answer = answers.message().await?.context("an answer")?;
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        anyhow::bail!("no list of services");
    };
    Ok(list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused() -> Result<()> {
    let setting = Setting::new()?;
    let files = Files::of_coordinator(&setting, "viewer");

    // No certificate at all: only enrolment answers, and it wants an invite.
    let stranger = channel(&setting.cluster.address(), &files.authority, None).await?;
    let refused = FederationClient::new(stranger.clone())
        .check_in(check_in())
        .await
        .expect_err("no certificate");
    assert_eq!(code(&refused), Some(Code::CertificateMissing));
    let refused = MonitoringClient::new(stranger.clone())
        .list_runs(v1::ListRunsRequest::default())
        .await
        .expect_err("no certificate");
    assert_eq!(code(&refused), Some(Code::CertificateMissing));
    let health = tonic_health::pb::HealthCheckRequest {
        service: String::new(),
    };
    let refused = tonic_health::pb::health_client::HealthClient::new(stranger.clone())
        .check(health)
        .await
        .expect_err("no certificate");
    assert_eq!(code(&refused), Some(Code::CertificateMissing));
    let request = v1::EnrolRequest {
        secret: "guess".into(),
        certificate_request: String::new(),
        signing_key: vec![0; 32],
    };
    let refused = EnrolmentClient::new(stranger)
        .enrol(request)
        .await
        .expect_err("no invite");
    assert!(
        matches!(
            code(&refused),
            Some(Code::InviteUnknown | Code::RequestInvalid)
        ),
        "{refused}"
    );

    // The certificate of another coordinator's authority: TLS itself refuses it.
    let other = Setting::new()?;
    let foreign = Files::of_coordinator(&other, "operator");
    let credentials = Credentials {
        certificate: &foreign.certificate,
        key: &foreign.key,
    };
    let outcome = match channel(
        &setting.cluster.address(),
        &files.authority,
        Some(credentials),
    )
    .await
    {
        Ok(channel) => MonitoringClient::new(channel)
            .list_runs(v1::ListRunsRequest::default())
            .await
            .map(drop)
            .map_err(|e| e.to_string()),
        Err(error) => Err(format!("{error:#}")),
    };
    assert!(outcome.is_err());
    // The caller knows of the failed handshake before the coordinator has written of it.
    let log = || std::fs::read_to_string(setting.cluster.log("coordinator"));
    let deadline = Instant::now() + Duration::from_secs(10);
    while !log()?.contains("certificate-untrusted") {
        assert!(Instant::now() < deadline, "{}", log()?);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn suspension_and_revocation_bite_at_once() -> Result<()> {
    let setting = Setting::new()?;
    setting.enrol("anna", 0, 2)?;
    let anna = Files::of_institution(&setting, "anna");
    let mut client = FederationClient::new(anna.dial(&setting).await?);
    client
        .check_in(check_in())
        .await
        .context("in good standing")?;
    run(setting
        .cluster
        .coordinator_command(&["institution", "suspend", "anna"])?)?;
    let refused = client.check_in(check_in()).await.expect_err("suspended");
    assert_eq!(code(&refused), Some(Code::InstitutionSuspended));
    run(setting
        .cluster
        .coordinator_command(&["institution", "reinstate", "anna"])?)?;
    client.check_in(check_in()).await.context("reinstated")?;
    run(setting
        .cluster
        .coordinator_command(&["institution", "revoke", "anna"])?)?;
    let refused = client.check_in(check_in()).await.expect_err("revoked");
    assert_eq!(code(&refused), Some(Code::InstitutionRevoked));
    let again = setting
        .cluster
        .coordinator_command(&["institution", "reinstate", "anna"])?;
    assert!(must_refuse(again)?.contains("institution-revoked"));
    Ok(())
}
