//! An institution: the real agent in a directory of its own.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fedner_client::agent::{Agent, Defences, Environment, Network, Trainer};
use fedner_client::config::Directory;
use fedner_client::state::Store;
use fedner_client::transport::TlsIdentity;
use fedner_client::transport::{self, Destination};
use fedner_privacy::ledger::{Ledger, Stage};
use fedner_shared::sign::SecretKey;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::base::{Base, operator_key};
use crate::rogue::{Manner, Rogue};
use crate::text;
use crate::transcript::Transcript;

/// Everything ends in this time, however busy the machine is.
const LONGEST: Duration = Duration::from_secs(150);

/// An experiment: what the institution holds and how it is set up.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) base: Arc<Base>,
    pub(crate) manner: Manner,
    pub(crate) data: Vec<u8>,
    pub(crate) held_out: Vec<u8>,
    /// Lines of `policy.toml` beside those that all have.
    pub(crate) policy: &'static str,
    pub(crate) defences: Defences,
    /// In the place of the real one.
    pub(crate) trainer: Option<Arc<dyn Trainer>>,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) transcript: Transcript,
    pub(crate) ledger: Ledger,
    /// Everything that the directory's database holds about what left.
    pub(crate) receipts: usize,
}

impl Outcome {
    pub(crate) fn debits(&self) -> usize {
        let entries = self.ledger.entries().iter();
        entries
            .filter(|entry| entry.stage == Stage::Debited)
            .count()
    }
}

/// Plain HTTP/2 on loopback: TLS hides nothing from its own end.
#[derive(Debug)]
struct Plain;

impl Network for Plain {
    fn dial(&self, to: &Destination, _: &TlsIdentity) -> Result<Channel, transport::Error> {
        let address = &to.addresses.to_string();
        let endpoint = Endpoint::from_shared(format!("http://{address}"));
        let endpoint = endpoint.map_err(|error| transport::Error::Unreachable {
            address: address.clone(),
            reason: error.to_string(),
        })?;
        Ok(endpoint.connect_lazy())
    }
}

impl Site {
    pub(crate) fn new(base: &Arc<Base>, own: &[u8]) -> Self {
        Self {
            base: base.clone(),
            manner: Manner {
                evaluates: true,
                ..Manner::default()
            },
            data: text::corpus(own),
            held_out: text::corpus(own),
            policy: "",
            defences: Defences::default(),
            trainer: None,
        }
    }

    /// Runs it until all that is asked is answered.
    pub(crate) fn run(&self) -> Result<Outcome> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let outcome = runtime.block_on(self.live());
        runtime.shutdown_timeout(Duration::from_secs(5));
        outcome
    }

    async fn live(&self) -> Result<Outcome> {
        let rogue = Rogue::new(self.base.clone(), self.manner);
        let port = rogue.serve().await?;
        let folder = self.write(port)?;
        let directory = Directory::new(Some(folder.path().to_owned()))?;
        let here = Environment::here();
        let outside = Environment {
            network: Arc::new(Plain),
            defences: self.defences,
            trainer: self.trainer.clone().unwrap_or_else(|| here.trainer.clone()),
            ..here
        };
        let stop = CancellationToken::new();
        let agent = Agent::open(directory.clone(), outside)?;
        let running = tokio::spawn(agent.run(stop.clone()));
        let deadline = Instant::now() + LONGEST;
        let transcript = loop {
            if let Some(transcript) = rogue.heard() {
                break transcript;
            }
            ensure!(
                Instant::now() < deadline && !running.is_finished(),
                "no end was heard: {:?}",
                rogue.so_far()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        stop.cancel();
        running.await.context("the agent")??;
        let store = Store::open(&directory.database())?;
        Ok(Outcome {
            transcript,
            ledger: store.ledger()?,
            receipts: store.receipts()?.len(),
        })
    }

    fn write(&self, port: u16) -> Result<TempDir> {
        let folder = tempfile::tempdir()?;
        let identity = folder.path().join("identity");
        fs::create_dir_all(&identity)?;
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec!["anna".to_owned()])?.self_signed(&key)?;
        fs::write(identity.join("tls.pem"), certificate.pem())?;
        fs::write(identity.join("authority.pem"), certificate.pem())?;
        let secret = |name: &str, contents: &str| {
            let mut options = OpenOptions::new();
            let file = options.create_new(true).write(true).mode(0o600);
            file.open(identity.join(name))?
                .write_all(contents.as_bytes())
        };
        secret("tls.key", &key.serialize_pem())?;
        secret("signing.key", &SecretKey::from_seed([100; 32]).to_pem()?)?;
        let operator = operator_key().public().to_string();
        fs::write(identity.join("operator.pub"), operator)?;
        fs::write(folder.path().join("train.txt"), &self.data)?;
        fs::write(folder.path().join("held.txt"), &self.held_out)?;
        let persons = text::PERSONS;
        let settings = format!(
            "institution = \"anna\"\ncoordinator = \"127.0.0.1:{port}\"\ndata = [\"train.txt\"]\n\
             held_out = [\"held.txt\"]\ndeclared_examples = {persons}\ndeclared_held_out = {persons}\n\
             [reading]\ninvalid_tags = \"repair\"\n"
        );
        fs::write(folder.path().join("client.toml"), settings)?;
        let policy = format!(
            "consent = \"auto\"\nshare_evaluation = true\nallow_no_privacy = true\n\
             max_epsilon_run = 1000.0\nmax_epsilon_total = 1000.0\n{}",
            self.policy
        );
        fs::write(folder.path().join("policy.toml"), policy)?;
        Ok(folder)
    }
}

/// Runs all of them, some at a time.
pub(crate) fn run_all(sites: Vec<Site>) -> Result<Vec<Outcome>> {
    const TOGETHER: usize = 6;
    let mut outcomes = Vec::new();
    for sites in sites.chunks(TOGETHER) {
        let part = std::thread::scope(|scope| {
            let running: Vec<_> = sites
                .iter()
                .map(|site| scope.spawn(|| site.run()))
                .collect();
            running
                .into_iter()
                .map(|thread| {
                    thread
                        .join()
                        .map_err(|_| anyhow::anyhow!("a site panicked"))?
                })
                .collect::<Result<Vec<_>>>()
        })?;
        outcomes.extend(part);
    }
    Ok(outcomes)
}
