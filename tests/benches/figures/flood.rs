//! What a stranger costs who sends as much as it can, without a certificate.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use fedner_proto::v1;
use fedner_proto::v1::federation_client::FederationClient;
use fedner_tests::grpc::{Credentials, channel};
use fedner_tests::tiny;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::federation::Federation;

/// About what a handshake sends.
const HANDSHAKE: u64 = 1_200;
/// Of each open request: announced are more, which never come.
const BODY: usize = 10_000;
/// How long each connection's requests stay open before it begins again.
const OPEN: Duration = Duration::from_secs(2);
/// Connections that each silent task holds.
const HELD: usize = 100;

/// Half of the stranger's tasks open connections and say nothing, half open requests and never end them.
pub(crate) async fn flood(megabytes: u64) -> Result<()> {
    let mut federation = Federation::start(tiny::TEST)?;
    federation.enrol(1).await?;
    let stranger = Stranger {
        address: federation.cluster.address(),
        authority: federation
            .cluster
            .coordinator_directory()
            .join("authority/authority.pem"),
        sent: AtomicU64::new(0),
        limit: megabytes * 1_000_000,
    };
    let stranger = Arc::new(stranger);
    let identity = federation.cluster.client_directory("i0").join("identity");
    federation.cluster.forget_peak_memory()?;
    let (_, before) = federation.cluster.peak_memory();
    let disk = size(&federation.cluster.coordinator_directory())?;
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..8 {
        let stranger = Arc::clone(&stranger);
        tasks.spawn(async move {
            if number % 2 == 0 {
                stranger.be_silent().await;
            } else {
                stranger.leave_open().await;
            }
        });
    }
    let mut waited = Vec::new();
    while !stranger.is_done() || waited.len() < 20 {
        let asked = Instant::now();
        let credentials = Credentials {
            certificate: &identity.join("tls.pem"),
            key: &identity.join("tls.key"),
        };
        let member = channel(&stranger.address, &stranger.authority, Some(credentials)).await?;
        FederationClient::new(member)
            .check_in(v1::CheckInRequest::default())
            .await
            .context("the member is kept out")?;
        waited.push(asked.elapsed());
    }
    let took = began.elapsed();
    while tasks.join_next().await.is_some() {}
    let (_, peak) = federation.cluster.peak_memory();
    waited.sort();
    println!(
        "flood: {} MB in {took:.1?}: peak memory {} MiB, {} MiB before; a member's new connection and check-in \
         {:.0?} in the median, {:.0?} at most, of {}; disk +{} KB",
        stranger.sent.load(Ordering::Relaxed) / 1_000_000,
        peak >> 20,
        before >> 20,
        waited[waited.len() / 2],
        waited.last().context("a check-in")?,
        waited.len(),
        size(&federation.cluster.coordinator_directory())?.saturating_sub(disk) / 1_000,
    );
    Ok(())
}

struct Stranger {
    address: String,
    authority: PathBuf,
    sent: AtomicU64,
    limit: u64,
}

impl Stranger {
    fn is_done(&self) -> bool {
        self.sent.load(Ordering::Relaxed) >= self.limit
    }

    fn send(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&std::fs::read(
            &self.authority,
        )?)?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(&self.address).await?;
        self.send(HANDSHAKE);
        let name = ServerName::try_from("127.0.0.1")?;
        Ok(TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await?)
    }

    async fn be_silent(&self) {
        let mut held = std::collections::VecDeque::new();
        while !self.is_done() {
            // The coordinator closes what it has no room for; that is its right.
            if let Ok(stream) = self.connect().await {
                held.push_back(stream);
            }
            if held.len() > HELD {
                held.pop_front();
            }
        }
    }

    async fn leave_open(&self) {
        while !self.is_done() {
            // Cut off in the midst of it, it begins again.
            let _ = tokio::time::timeout(Duration::from_secs(5), self.open_requests()).await;
        }
    }

    async fn open_requests(&self) -> Result<()> {
        let (mut sender, connection) = h2::client::handshake(self.connect().await?).await?;
        let connection = tokio::spawn(connection);
        let mut open = Vec::new();
        for _ in 0..100 {
            sender = sender.ready().await?;
            let request =
                tonic::codegen::http::Request::post("https://x/fedner.v1.Enrolment/Enrol")
                    .header("content-type", "application/grpc")
                    .header("te", "trailers")
                    .body(())?;
            let (answer, mut body) = sender.send_request(request, false)?;
            let mut bytes = vec![0, 0, 0, 0x3f, 0xff];
            bytes.resize(BODY, b'x');
            body.send_data(Bytes::from(bytes), false)?;
            self.send(BODY as u64);
            open.push((answer, body));
        }
        tokio::time::sleep(OPEN).await;
        connection.abort();
        Ok(())
    }
}

/// Of all files in a folder.
fn size(folder: &std::path::Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() {
            size(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(sum)
}
