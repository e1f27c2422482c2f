//! A tap on the wire: it ends the client's TLS with a certificate of the federation's authority, dials
//! the coordinator with the client's own, and keeps every byte of both.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use fedner_coordinator::authority::Authority;
use fedner_coordinator::config::Paths;
use fedner_coordinator::tls::server_config;
use fedner_shared::time::Time;
use fedner_tests::cluster::Cluster;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// What one connection carried.
#[derive(Debug, Clone, Default)]
pub(crate) struct Carried {
    pub(crate) sent: Vec<u8>,
    pub(crate) answered: Vec<u8>,
}

/// By connection, in the order in which they were made.
type Kept = Arc<Mutex<Vec<Carried>>>;

pub(crate) struct Tap {
    address: SocketAddr,
    kept: Kept,
    /// The tap is shut with it.
    _runtime: Runtime,
}

impl Tap {
    /// Between `client`, enrolled or not yet, and the coordinator.
    pub(crate) fn start(cluster: &Cluster, client: &str) -> Result<Self> {
        let paths = Paths::new(cluster.coordinator_directory());
        let authority = Authority::read(
            &std::fs::read_to_string(paths.authority_certificate())?,
            &std::fs::read_to_string(paths.authority_key())?,
        )?;
        let since_1970 = std::time::UNIX_EPOCH.elapsed()?;
        let now = Time::from_millis(i64::try_from(since_1970.as_millis())?);
        let server = authority.server(&["127.0.0.1".to_owned()], now)?;
        let acceptor = TlsAcceptor::from(Arc::new(server_config(&[&authority], &server)?));
        let far = Far {
            address: cluster.address(),
            authority: paths.authority_certificate(),
            identity: cluster.client_directory(client).join("identity"),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let kept = Kept::default();
        let keeps = kept.clone();
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, far, kept) = (acceptor.clone(), far.clone(), keeps.clone());
                // A connection that breaks ends its own relay.
                tokio::spawn(async move { far.relay(tcp, &acceptor, &kept).await });
            }
        });
        Ok(Self {
            address,
            kept,
            _runtime: runtime,
        })
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// What the client sent.
    pub(crate) fn sent(&self) -> Vec<Vec<u8>> {
        self.kept().into_iter().map(|kept| kept.sent).collect()
    }

    pub(crate) fn kept(&self) -> Vec<Carried> {
        let kept = self.kept.lock();
        kept.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How the coordinator is reached in the client's name.
#[derive(Clone)]
struct Far {
    address: String,
    authority: PathBuf,
    identity: PathBuf,
}

impl Far {
    async fn relay(&self, tcp: TcpStream, acceptor: &TlsAcceptor, kept: &Kept) -> Result<()> {
        let near = acceptor.accept(tcp).await?;
        let known = near.get_ref().1.peer_certificates().is_some();
        let connector = TlsConnector::from(Arc::new(self.config(known)?));
        let far = TcpStream::connect(&self.address).await?;
        let far = connector
            .connect(ServerName::try_from("127.0.0.1")?, far)
            .await?;
        let connection = {
            let mut all = kept.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(Carried::default());
            all.len() - 1
        };
        let keep = |which: fn(&mut Carried) -> &mut Vec<u8>, piece: &[u8]| {
            let mut all = kept.lock().unwrap_or_else(PoisonError::into_inner);
            which(&mut all[connection]).extend_from_slice(piece);
        };
        let (mut near_read, mut near_write) = tokio::io::split(near);
        let (mut far_read, mut far_write) = tokio::io::split(far);
        let up = async {
            let mut buffer = vec![0; 1 << 16];
            loop {
                let count = near_read.read(&mut buffer).await?;
                if count == 0 {
                    return far_write.shutdown().await;
                }
                let piece = &buffer[..count];
                keep(|carried| &mut carried.sent, piece);
                far_write.write_all(piece).await?;
            }
        };
        let down = async {
            let mut buffer = vec![0; 1 << 16];
            loop {
                let count = far_read.read(&mut buffer).await?;
                if count == 0 {
                    return near_write.shutdown().await;
                }
                let piece = &buffer[..count];
                keep(|carried| &mut carried.answered, piece);
                near_write.write_all(piece).await?;
            }
        };
        tokio::try_join!(up, down)?;
        Ok(())
    }

    /// With the client's certificate if it showed one.
    fn config(&self, known: bool) -> Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&read(&self.authority)?)?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots);
        let mut config = if known {
            let certificate = read(&self.identity.join("tls.pem"))?;
            let key = read(&self.identity.join("tls.key"))?;
            builder.with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(&certificate)?],
                PrivateKeyDer::from_pem_slice(&key)?,
            )?
        } else {
            builder.with_no_client_auth()
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("read {}", path.display()))
}
