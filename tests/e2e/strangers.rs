//! Somebody on the network, without a certificate, takes nothing that others need.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use fedner_proto::v1::enrolment_client::EnrolmentClient;
use fedner_proto::{convert, v1};
use fedner_shared::refusal::Code;
use fedner_tests::grpc::channel;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::bad_input::Hand;
use crate::setting::Setting;

const MIB: u64 = 1 << 20;

/// A handshake as a stranger makes it, and nothing after it.
async fn silent(setting: &Setting) -> Result<TlsStream<TcpStream>> {
    let authority = setting
        .cluster
        .coordinator_directory()
        .join("authority/authority.pem");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&std::fs::read(authority)?)?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(setting.cluster.address()).await?;
    let name = ServerName::try_from("127.0.0.1")?;
    Ok(TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?)
}

fn memory(setting: &mut Setting) -> Result<u64> {
    let process = setting
        .cluster
        .coordinator_process()
        .context("coordinator")?;
    process.memory().context("memory")
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_keep_nobody_out_and_are_closed() -> Result<()> {
    let mut setting = Setting::new()?;
    setting.enrol("i0", 0, 2)?;
    let before = memory(&mut setting)?;
    let mut held = Vec::new();
    for _ in 0..400 {
        // The coordinator closes the oldest meanwhile; that one of ours may fail is no matter.
        if let Ok(stream) = silent(&setting).await {
            held.push(stream);
        }
    }
    let began = Instant::now();
    let mut member = Hand::new(&setting, "i0").await?;
    member.check_in(vec![]).await?;
    let took = began.elapsed();
    assert!(
        took < Duration::from_secs(5),
        "the member waited for {took:?}"
    );
    let grown = memory(&mut setting)?.saturating_sub(before);
    assert!(grown < 64 * MIB, "the memory grew by {} MiB", grown / MIB);
    // Those that were left say nothing, and are closed.
    let last = held.last_mut().context("a connection")?;
    let mut buffer = [0; 100];
    let read = tokio::time::timeout(Duration::from_secs(20), last.read(&mut buffer));
    let mut ended = read.await.context("a silent connection is closed")?;
    while let Ok(1..) = ended {
        ended = last.read(&mut buffer).await;
    }
    // The member's connection is still there: it has been used.
    member.check_in(vec![]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn open_requests_without_a_certificate_are_few_and_end() -> Result<()> {
    let mut setting = Setting::new()?;
    setting.enrol("i0", 0, 2)?;
    let before = memory(&mut setting)?;
    let (mut sender, connection) = h2::client::handshake(silent(&setting).await?).await?;
    tokio::spawn(connection);
    sender = sender.ready().await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let allowed = sender.current_max_send_streams();
    assert!(allowed <= 128, "{allowed} streams at once");
    let mut open = Vec::new();
    for _ in 0..100 {
        sender = sender.ready().await?;
        let request = tonic::codegen::http::Request::post("https://x/fedner.v1.Enrolment/Enrol")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let (answer, mut body) = sender.send_request(request, false)?;
        // One message is announced, and never comes whole.
        body.send_data(Bytes::from_static(&[0, 0, 0, 1, 0]), false)?;
        open.push((answer, body));
    }
    let began = Instant::now();
    let mut codes = Vec::new();
    let mut bodies = Vec::new();
    for (answer, body) in open {
        let answer = tokio::time::timeout(Duration::from_secs(20), answer).await??;
        codes.push(answer.headers()["fedner-code"].to_str()?.to_owned());
        bodies.push(body);
    }
    let count = |code: Code| codes.iter().filter(|found| *found == code.as_str()).count();
    assert_eq!(count(Code::TooManyRequests), 96, "{codes:?}");
    assert_eq!(count(Code::RequestSlow), 4, "{codes:?}");
    assert!(began.elapsed() < Duration::from_secs(15));
    let grown = memory(&mut setting)?.saturating_sub(before);
    assert!(grown < 64 * MIB, "the memory grew by {} MiB", grown / MIB);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn enrolment_takes_short_plain_messages_and_few_wrong_invites() -> Result<()> {
    let setting = Setting::new()?;
    let authority = setting
        .cluster
        .coordinator_directory()
        .join("authority/authority.pem");
    let stranger = channel(&setting.cluster.address(), &authority, None).await?;
    let request = |secret: String| v1::EnrolRequest {
        secret,
        certificate_request: String::new(),
        signing_key: fedner_shared::sign::SecretKey::from_seed([3; 32])
            .public()
            .as_bytes()
            .to_vec(),
    };
    let code = |outcome: Result<tonic::Response<v1::EnrolResponse>, tonic::Status>| {
        let status = outcome.expect_err("this must be refused");
        assert!(
            status.message().len() < 1100,
            "{} bytes",
            status.message().len()
        );
        convert::refusal_of(&status).map(|refusal| refusal.code)
    };
    let mut client = EnrolmentClient::new(stranger.clone());
    let long = client.enrol(request("x".repeat(3_000_000))).await;
    assert_eq!(code(long), Some(Code::MessageTooLarge));
    let mut packed = EnrolmentClient::new(stranger.clone());
    let mut asked = tonic::Request::new(request("x".into()));
    asked
        .metadata_mut()
        .insert("grpc-encoding", "gzip".parse()?);
    assert_eq!(
        code(packed.enrol(asked).await),
        Some(Code::MessageCompressed)
    );
    // A request that cannot be read uses no invite up.
    let invite = std::fs::read_to_string(setting.cluster.invite("i0")?)?;
    let invite: toml::Table = toml::from_str(&invite)?;
    let secret = invite["secret"].as_str().context("secret")?;
    for _ in 0..2 {
        let unreadable = client.enrol(request(secret.to_owned())).await;
        assert_eq!(code(unreadable), Some(Code::CertificateRequest));
    }
    for number in 0..10 {
        let wrong = client.enrol(request(format!("{number:064}"))).await;
        assert_eq!(code(wrong), Some(Code::InviteUnknown), "guess {number}");
    }
    let eleventh = client.enrol(request("0".repeat(64))).await;
    assert_eq!(code(eleventh), Some(Code::RateLimited));
    Ok(())
}
