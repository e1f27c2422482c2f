//! The federation that every simulation begins with: made once, copied for each.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use fedner_coordinator::authority::{Authority, Role};
use fedner_coordinator::blobs::Blobs;
use fedner_coordinator::engine;
use fedner_coordinator::registry::{Registry, Uploaded};
use fedner_coordinator::store::Store;
use fedner_host::machine::ThisMachine;
use fedner_shared::checkpoint::{Checkpoint, config_with_labels};
use fedner_shared::digest::Digest;
use fedner_shared::plan::{Inputs, Plan};
use fedner_shared::sign::SecretKey;
use fedner_shared::time::Time;
use fedner_tests::tiny;
use object_store::memory::InMemory;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;

use crate::machine::{EPOCH, SimMachine};
use crate::network;
use crate::plans::{BARE, KNOWING, LABEL, SITES, declared_examples, plans, site_key};

const SIZE: tiny::Size = tiny::Size {
    hidden: 4,
    layers: 1,
    heads: 1,
    inner: 4,
    words: 20,
};

const TEXT: &str = "the O\nflu B-Disease\ncame O\n\nno O\ncough B-Disease\nor O\nflu B-Disease\n\n";

/// What is the same in all simulations.
#[derive(Debug)]
pub(crate) struct Prepared {
    directory: TempDir,
    objects: InMemory,
    /// Certificates in DER, by their holders' names.
    pub(crate) certificates: BTreeMap<String, Vec<u8>>,
    authority: (String, String),
    /// What plans here begin with, by base and known types.
    inputs: BTreeMap<Begins, Inputs>,
}

pub(crate) fn operator_key() -> SecretKey {
    SecretKey::from_seed([7; 32])
}

/// Made by the first caller.
pub(crate) fn prepared() -> &'static Prepared {
    static PREPARED: OnceLock<Prepared> = OnceLock::new();
    PREPARED.get_or_init(|| Prepared::make().expect("a federation to simulate"))
}

/// A folder in memory where the system has one: every commit is synced.
pub(crate) fn folder() -> Result<TempDir> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        return Ok(tempfile::tempdir_in(memory)?);
    }
    Ok(tempfile::tempdir()?)
}

impl Prepared {
    fn make() -> Result<Self> {
        let directory = folder()?;
        let coordinator = directory.path().join("coordinator");
        fs::create_dir_all(&coordinator)?;
        let (authority, key) = Authority::create("simulated", EPOCH)?;
        let authority_pem = authority.certificate_pem().to_owned();
        let objects = Arc::new(InMemory::new());
        let mut certificates = BTreeMap::new();
        for (name, role) in [("operator", Role::Operator), ("viewer", Role::Viewer)] {
            let identity = authority.person(name, role, EPOCH)?;
            certificates.insert(name.to_owned(), der(&identity.certificate)?);
        }
        let model = directory.path().join("model");
        tiny::write(&model, SIZE, TEXT, 1)?;
        let knowing = directory.path().join("knowing");
        write_knowing(&model, &knowing)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let (issued, inputs) = runtime.block_on(Box::pin(async {
            let store = Store::open(&coordinator.join("state.sqlite"))?;
            let machine = Arc::new(SimMachine::new(0));
            let loaded = engine::load(store, operator_key().public(), machine)?;
            let (handle, _effects, engine) = loaded.serve();
            let serving = tokio::spawn(engine);
            let blobs = Blobs::new(objects.clone(), &coordinator.join("staging"))?;
            let registry = Registry::new(handle.clone(), blobs.clone());
            for (name, model) in [(BARE, &model), (KNOWING, &knowing)] {
                let put = async |file: &str| {
                    let bytes = fs::read(model.join(file))?;
                    anyhow::Ok(blobs.put(bytes).await?)
                };
                let files = Uploaded {
                    config: put("config.json").await?,
                    tokenizer: put("tokenizer.json").await?,
                    weights: put("model.safetensors").await?,
                };
                registry.import(name.parse()?, files).await?;
            }
            let mut inputs = BTreeMap::new();
            for plan in plans()? {
                let own = registry.inputs(plan.clone()).await?;
                inputs.insert(begins(&plan), own);
            }
            let mut issued = Vec::new();
            let authority = Arc::new(authority);
            for (site, name) in SITES.iter().enumerate() {
                let request = CertificateParams::new(Vec::new())?
                    .serialize_request(&KeyPair::generate()?)?
                    .pem()?;
                let (authority, name) = (authority.clone(), name.parse()?);
                let enrolled = handle.call(move |engine| {
                    let secret = format!("secret {site}");
                    let hash = Digest::of(secret.as_bytes());
                    engine.invite(
                        name,
                        hash,
                        EPOCH + std::time::Duration::from_hours(1),
                        false,
                    )?;
                    engine.enrol(&authority, &secret, &request, site_key(site).public())
                });
                issued.push(enrolled.await?.1.pem);
            }
            drop((registry, handle));
            serving.await?;
            anyhow::Ok((issued, inputs))
        }))?;
        for (site, (name, certificate)) in SITES.iter().zip(&issued).enumerate() {
            certificates.insert((*name).to_owned(), der(certificate)?);
            write_site(
                &directory.path().join(name),
                site,
                certificate,
                &authority_pem,
            )?;
        }
        Ok(Self {
            directory,
            objects: objects.fork(),
            certificates,
            authority: (authority_pem, key.to_string()),
            inputs,
        })
    }

    /// What the plan begins with.
    pub(crate) fn inputs(&self, plan: &Plan) -> Result<Inputs> {
        let inputs = self.inputs.get(&begins(plan)).cloned();
        inputs.context("a plan that begins with something else")
    }

    /// The authority of all certificates.
    pub(crate) fn authority(&self) -> Result<Authority> {
        Ok(Authority::read(&self.authority.0, &self.authority.1)?)
    }

    /// A new certificate of the operator's.
    pub(crate) fn operator_at(&self, now: Time) -> Result<Vec<u8>> {
        der(&self
            .authority()?
            .person("operator", Role::Operator, now)?
            .certificate)
    }

    /// The objects that every simulation begins with.
    pub(crate) fn objects(&self) -> InMemory {
        self.objects.fork()
    }

    /// Copies the directories of the coordinator and of the institutions into `to`.
    pub(crate) fn copy(&self, to: &Path, sites: usize) -> Result<()> {
        for name in ["coordinator"].iter().chain(&SITES[..sites]) {
            copy(&self.directory.path().join(name), &to.join(name))?;
        }
        Ok(())
    }
}

/// What decides how a plan begins: its base, whether it trains, and what becomes of known types.
type Begins = (String, bool, String);

fn begins(plan: &Plan) -> Begins {
    let known = format!("{:?}", plan.known_types);
    (plan.base.to_string(), plan.only_evaluates(), known)
}

/// A model with a head that knows one type.
fn write_knowing(encoder: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let config = fs::read_to_string(encoder.join("config.json"))?;
    let weights = fs::read(encoder.join("model.safetensors"))?;
    let tagger = Checkpoint::read(&config, &weights)?.with_new_head(3, 1);
    let config = config_with_labels(&config, &[LABEL.to_owned()])?;
    fs::write(to.join("config.json"), config)?;
    fs::write(to.join("model.safetensors"), tagger.to_safetensors()?)?;
    fs::copy(encoder.join("tokenizer.json"), to.join("tokenizer.json"))?;
    Ok(())
}

fn der(pem: &str) -> Result<Vec<u8>> {
    Ok(CertificateDer::from_pem_slice(pem.as_bytes())?.to_vec())
}

fn write_site(directory: &Path, site: usize, certificate: &str, authority: &str) -> Result<()> {
    let identity = directory.join("identity");
    // Keys that others may read are refused.
    fedner_host::files::keep_to_owner();
    fs::create_dir_all(&identity)?;
    fs::write(identity.join("tls.pem"), certificate)?;
    fs::write(
        identity.join("tls.key"),
        KeyPair::generate()?.serialize_pem(),
    )?;
    fs::write(identity.join("authority.pem"), authority)?;
    fs::write(identity.join("signing.key"), site_key(site).to_pem()?)?;
    fs::write(
        identity.join("operator.pub"),
        operator_key().public().to_string(),
    )?;
    fs::write(directory.join("train.conll"), TEXT)?;
    fs::write(directory.join("held.conll"), TEXT)?;
    let settings = format!(
        "institution = \"{}\"\ncoordinator = \"{}\"\ndata = [\"train.conll\"]\nheld_out = [\"held.conll\"]\ndeclared_examples = {}\n",
        SITES[site],
        network::address(),
        declared_examples(site),
    );
    fs::write(directory.join("client.toml"), settings)?;
    Ok(())
}

/// Copies a directory with everything in it, as `cp -r` or the image of a machine does.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let path: PathBuf = entry?.path();
        let Some(name) = path.file_name() else {
            continue;
        };
        if path.is_dir() {
            copy(&path, &to.join(name))?;
        } else {
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}

/// Checks that `ThisMachine` is what programs get unless told otherwise.
#[test]
fn a_real_machine_lets_every_write_pass() {
    use fedner_host::machine::Machine as _;
    assert!(ThisMachine.before_write("step run").is_ok());
    assert!(ThisMachine.after_write("step run").is_ok());
}
