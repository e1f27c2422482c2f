//! `init`: everything a coordinator needs before it can serve.

use std::fs;
use std::path::Path;

use clap::Args;
use fedner_host::address::{Address, Addresses};
use fedner_host::files::write_secret;
use fedner_host::machine::Machine as _;
use fedner_host::machine::ThisMachine;
use fedner_host::output::Output;
use fedner_shared::event::Event;
use fedner_shared::refusal::Code;
use fedner_shared::sign::SecretKey;
use serde::Serialize;

use super::failed::Failed;
use crate::authority::{Authority, Role};
use crate::config::{Config, Paths};
use crate::limits::Limits;
use crate::store::{Place, Store};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The federation's name
    #[arg(long)]
    name: String,
    /// Where institutions will dial; several are tried in turn
    #[arg(long, value_name = "HOST:PORT", required = true, value_delimiter = ',')]
    address: Vec<Address>,
    /// The socket to listen on [default: the first address if it is a loopback one, else every interface]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<String>,
    /// Where the state lives: sqlite:FILE or postgres://USER@HOST/DATABASE [default: a file in the directory]
    #[arg(long, value_name = "URL")]
    store_url: Option<String>,
    /// Where models and updates live: file:FOLDER or s3://BUCKET/PREFIX [default: a folder in the directory]
    #[arg(long, value_name = "URL")]
    blobs_url: Option<String>,
}

#[derive(Serialize)]
struct Created {
    directory: String,
    address: Addresses,
    authority_sha256: String,
}

pub(super) fn run(arguments: Arguments, paths: &Paths, output: &Output) -> Result<(), Failed> {
    let addresses = Addresses::new(arguments.address);
    let addresses =
        addresses.map_err(|e| Failed::refuse(Code::ConfigInvalid, format!("--address: {e}")))?;
    if paths.config().exists() {
        let message = format!(
            "{} holds a coordinator already",
            paths.directory().display()
        );
        return Err(Failed::refuse(Code::AlreadyExists, message));
    }
    let place = Place::of(paths, arguments.store_url.as_deref())?;
    let fault = |error: &dyn std::fmt::Display| Failed::fault(error.to_string());
    let (authority, authority_key) =
        Authority::create(&arguments.name, ThisMachine.now()).map_err(|e| fault(&e))?;
    let operator = authority
        .person("operator", Role::Operator, ThisMachine.now())
        .map_err(|e| fault(&e))?;
    let viewer = authority
        .person("viewer", Role::Viewer, ThisMachine.now())
        .map_err(|e| fault(&e))?;
    let signing = SecretKey::generate().map_err(|e| fault(&e))?;

    write(&paths.authority_key(), &authority_key)?;
    write(&paths.authority_certificate(), authority.certificate_pem())?;
    write(&paths.operator_key(), &operator.key)?;
    write(&paths.operator_certificate(), &operator.certificate)?;
    write(&paths.viewer_key(), &viewer.key)?;
    write(&paths.viewer_certificate(), &viewer.certificate)?;
    write(
        &paths.signing_key(),
        &signing.to_pem().map_err(|e| fault(&e))?,
    )?;
    write(&paths.signing_public_key(), &signing.public().to_string())?;

    let name = arguments.name.clone();
    let mut store = Store::make_at(&place)?;
    store
        .transact("create store", |tx| {
            tx.append_event(ThisMachine.now(), None, Event::CoordinatorCreated { name })
        })
        .map_err(Failed::from)?;

    let listen = listen_on(addresses.first(), arguments.listen);
    let config = Config {
        name: arguments.name,
        address: addresses.clone(),
        listen,
        metrics_listen: None,
        traces_to: None,
        store_url: arguments.store_url,
        blobs_url: arguments.blobs_url,
        blobs_cache_mib: None,
        cluster_address: None,
        cluster_listen: None,
        lease_s: None,
        names: Vec::new(),
        min_client: None,
        retention: None,
        proxy_protocol_from: Vec::new(),
        limits: Limits::default(),
    };
    let text = toml::to_string(&config).map_err(|e| fault(&e))?;
    // Last: a directory with this file is a whole one.
    write(&paths.config(), &text)?;

    let created = Created {
        directory: paths.directory().display().to_string(),
        address: addresses,
        authority_sha256: hex::encode(authority.fingerprint()),
    };
    output.data(&created, |created| {
        format!(
            "Created a coordinator in {}\nauthority {}\nNext: fedner-coordinator --dir {} serve",
            created.directory, created.authority_sha256, created.directory
        )
    })?;
    Ok(())
}

/// The socket that goes with an address, where nobody says another.
pub(super) fn listen_on(address: &Address, listen: Option<String>) -> String {
    let Address { host, port } = address;
    let ip = host.parse::<std::net::IpAddr>();
    let loopback = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    listen.unwrap_or_else(|| match (loopback, host.as_str()) {
        (true, "localhost") => format!("127.0.0.1:{port}"),
        (true, _) => address.to_string(),
        // Of IPv6 and IPv4 alike.
        (false, _) => format!("[::]:{port}"),
    })
}

/// Writes a file for its owner alone.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Failed> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Failed::io("create", folder))?;
    }
    write_secret(path, text.as_bytes()).map_err(Failed::io("write", path))
}
