//! A process that does not lead serves everything, and nobody but a process is believed about its callers.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fedner_coordinator::authority::Authority;
use fedner_host::machine::{Machine as _, ThisMachine};
use fedner_proto::v1::operations_client::OperationsClient;
use fedner_proto::{convert, v1};
use fedner_shared::refusal::Code;
use fedner_tests::config;
use fedner_tests::grpc::{Credentials, channel};
use fedner_tests::postgres::Postgres;
use fedner_tests::skip::skipped;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};
use tower::Service as _;

use crate::lease::Pair;
use crate::setting::{MINUTES, NO_NOISE, plan, run};

const PROCESS: &str = "process.fedner.internal";

/// What `coordinator.toml` says there.
fn value(directory: &Path, key: &str) -> Result<String> {
    config::value(&directory.join("coordinator.toml"), key)
}

#[test]
fn a_federation_works_by_a_process_that_does_not_lead() -> Result<()> {
    let Some(mut pair) = Pair::start(5)? else {
        return skipped("a front end", Postgres::NEEDED);
    };
    let (first, second) = (pair.first(), pair.second.clone());
    let soon = Duration::from_secs(20);
    Pair::answers(&second, soon)?;
    ensure!(!pair.second_leads()?, "it does not lead");
    for (number, name) in ["i0", "i1"].into_iter().enumerate() {
        pair.setting.enrol(name, number, 8)?;
        pair.setting
            .cluster
            .redirect(name, &value(&second, "address")?)?;
        pair.setting.cluster.start_client(name)?;
    }
    // Enrolment by a front end, which has no certificate of the caller to show.
    let invite = pair.setting.path("late.toml");
    let text = run(Pair::command(&second, &["invite", "late"])?)?;
    ensure!(
        text.contains(&value(&first, "address")?),
        "the leader says where to dial: {text}"
    );
    fs::write(
        &invite,
        text.replace(&value(&first, "address")?, &value(&second, "address")?),
    )?;
    let mut enrol = pair.setting.cluster.client_command("late", &["enroll"])?;
    enrol.arg(&invite);
    run(enrol)?;

    let run_id = pair
        .setting
        .start_run(&plan(2, 2, 2, "full", "away_after_s = 600", NO_NOISE))?;
    pair.setting
        .wait_for_state(&run_id, "completed", 2 * MINUTES)?;
    ensure!(pair.setting.published()?.len() == 2);
    pair.setting.assert_replays()?;

    // A second copy of a directory is refused by whichever way it comes.
    let copy = pair.setting.path("i0-copy");
    copy_tree(&pair.setting.cluster.client_directory("i0"), &copy)?;
    pair.setting
        .cluster
        .redirect("i0-copy", &value(&second, "address")?)
        .ok();
    pair.setting.cluster.start_client("i0-copy")?;
    pair.wait_for("identity-in-use", "i0-copy", soon)?;
    pair.setting.cluster.kill_client("i0-copy")?;

    // Who is revoked at the leader is cut off at the front end too.
    run(Pair::command(&first, &["institution", "revoke", "i0"])?)?;
    pair.wait_for("institution-revoked", "i0", soon)?;

    // The front end goes on where the leader dies.
    pair.setting.cluster.kill_coordinator()?;
    Pair::answers(&second, soon)?;
    ensure!(pair.second_leads()?);
    pair.setting.cluster.start_coordinator()?;
    Pair::answers(&first, soon)?;
    ensure!(
        pair.second_leads()?,
        "and now the other one is the front end"
    );
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().context("a name")?);
        if path.is_dir() {
            copy_tree(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// The leader's inner socket, as whoever holds that certificate.
async fn inner(address: &str, authority: &str, certificate: &str, key: &str) -> Result<Channel> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes())?],
            PrivateKeyDer::from_pem_slice(key.as_bytes())?,
        )?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let address = address.to_owned();
    let dial = tower::service_fn(move |_: Uri| {
        let (connector, address) = (connector.clone(), address.clone());
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from(PROCESS).map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, stream).await?))
        }
    });
    let endpoint = Endpoint::from_static("https://process.fedner.internal");
    Ok(endpoint.connect_with_connector(dial).await?)
}

/// Says that connection 7 is of the operator.
async fn introduce(channel: &mut Channel, operator: &[u8]) -> Result<http::Response<Body>> {
    let request = http::Request::post("https://process.fedner.internal/fedner.inner/Connection")
        .header("fedner-connection", "7")
        .header("fedner-address", "192.0.2.1:5")
        .header("fedner-certificate", hex::encode(operator))
        .body(Body::empty())?;
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await?;
    Ok(channel.call(request).await?)
}

/// What only an operator may ask, with what a process would add.
async fn invite(channel: Channel, operator: &[u8]) -> Result<(), Status> {
    let mut request = Request::new(v1::CreateInviteRequest {
        institution: "mallory".to_owned(),
        ttl_s: 60,
        ..v1::CreateInviteRequest::default()
    });
    let forged = hex::encode(operator);
    let metadata = request.metadata_mut();
    metadata.insert("fedner-connection", "7".parse().expect("a value"));
    metadata.insert("fedner-address", "192.0.2.1:5".parse().expect("a value"));
    metadata.insert("fedner-certificate", forged.parse().expect("a value"));
    let answer = OperationsClient::new(channel).create_invite(request).await;
    answer.map(drop)
}

#[test]
fn nobody_but_a_process_is_believed_about_who_calls() -> Result<()> {
    let Some(pair) = Pair::start(5)? else {
        return skipped("forged callers", Postgres::NEEDED);
    };
    let (first, second) = (pair.first(), pair.second.clone());
    Pair::answers(&second, Duration::from_secs(20))?;
    let read = |path: &str| fs::read_to_string(first.join(path));
    let (authority, authority_key) = (
        read("authority/authority.pem")?,
        read("authority/authority.key")?,
    );
    let operator_pem = read("operator/operator.pem")?;
    let operator = CertificateDer::from_pem_slice(operator_pem.as_bytes())?.to_vec();
    let process = Authority::read(&authority, &authority_key)?.process(ThisMachine.now())?;
    let folder = pair.setting.path("process");
    fs::create_dir(&folder)?;
    fs::write(folder.join("process.pem"), &process.certificate)?;
    fs::write(folder.join("process.key"), process.key.as_bytes())?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let root = first.join("authority/authority.pem");
        let shown = [
            (first.join("viewer"), "viewer"),
            // A process is nobody to the services, and the public socket takes its word for nothing.
            (folder.clone(), "process"),
        ];
        for at in [&first, &second] {
            for (directory, name) in &shown {
                let (certificate, key) = (
                    directory.join(format!("{name}.pem")),
                    directory.join(format!("{name}.key")),
                );
                let credentials = Credentials {
                    certificate: &certificate,
                    key: &key,
                };
                let address = value(at, "address")?;
                let mut called = channel(&address, &root, Some(credentials)).await?;
                let introduced = introduce(&mut called, &operator).await?;
                let said = introduced.headers().get("grpc-status");
                ensure!(
                    said.is_some_and(|said| said != "0"),
                    "{name}: {introduced:?}"
                );
                let refused = invite(called, &operator).await.expect_err("refused");
                let code = convert::refusal_of(&refused).map(|refusal| refusal.code);
                ensure!(code == Some(Code::RoleForbidden), "{name}: {refused:?}");
            }
        }
        // The inner socket lets no other certificate of the authority in.
        let leader = value(&first, "cluster_address")?;
        let key = read("operator/operator.key")?;
        let held = match inner(&leader, &authority, &operator_pem, &key).await {
            Ok(mut channel) => introduce(&mut channel, &operator).await.map(drop),
            Err(error) => Err(error),
        };
        ensure!(held.is_err(), "an operator is no process");

        // Control: a process is believed, for as long as the call lasts that says whose a connection is.
        let mut channel = inner(&leader, &authority, &process.certificate, &process.key).await?;
        let unknown = invite(channel.clone(), &operator).await;
        ensure!(unknown.expect_err("nobody yet").code() == tonic::Code::Unavailable);
        let introduced = introduce(&mut channel, &operator).await?;
        ensure!(introduced.status() == 200, "{introduced:?}");
        invite(channel.clone(), &operator).await?;
        drop(introduced);
        let began = std::time::Instant::now();
        while invite(channel.clone(), &operator).await.is_ok() {
            ensure!(
                began.elapsed() < Duration::from_secs(5),
                "it is believed for good"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    })
}
