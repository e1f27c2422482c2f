//! A real S3 server on loopback: moto's, of the Python environment that `.ci/tools` makes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cluster::Engines;
use crate::process::Process;

/// The bucket that a server begins with.
pub const BUCKET: &str = "models";

/// The server looks at no signature, unless it asks who is there; without one it gives nothing away.
const SOMEBODY: &str = "AWS4-HMAC-SHA256 Credential=somebody/20260101/us-east-1/s3/aws4_request, \
                        SignedHeaders=host, Signature=00";

/// Says where it listens; a port of its own, so that servers of different tests never meet.
const SERVE: &str = "
import threading
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
print(f'listening on {host}:{port}', flush=True)
threading.Event().wait()
";

/// A server with one bucket. It ends with its owner.
#[derive(Debug)]
pub struct S3 {
    address: String,
    _process: Process,
}

impl S3 {
    /// Python with moto; `None` where it is not installed.
    pub fn python() -> Option<PathBuf> {
        let environment = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python");
        let python = environment.join("bin/python");
        let found = Command::new(&python)
            .args(["-c", "import moto.server"])
            .output();
        found
            .is_ok_and(|output| output.status.success())
            .then_some(python)
    }

    /// What [`skipped`](crate::skip::skipped) tells whoever lacks it.
    pub const NEEDED: &str = "moto in target/python, which .ci/tools makes";

    /// Starts a server of that Python; `log` has what it says.
    pub fn start(python: &Path, log: &Path) -> Result<Self> {
        Self::start_with(python, log, &[])
    }

    /// A server that asks who is there, after its first requests.
    pub fn start_asking_who(python: &Path, log: &Path) -> Result<Self> {
        Self::start_with(python, log, &[("INITIAL_NO_AUTH_ACTION_COUNT", "1")])
    }

    fn start_with(python: &Path, log: &Path, environment: &[(&str, &str)]) -> Result<Self> {
        let mut command = Command::new(python);
        command
            .args(["-c", SERVE])
            .envs(environment.iter().copied());
        let ready = "listening on ";
        let (process, line) =
            Process::start_saying("the S3 server", command, log, ready, Duration::from_mins(1))?;
        let address = line.trim_start_matches(ready).trim().to_owned();
        let server = Self {
            address,
            _process: process,
        };
        server.request("PUT", &format!("/{BUCKET}"), b"")?;
        Ok(server)
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// What a program needs to know to work with a server at `endpoint`.
    pub fn environment(endpoint: &str) -> Vec<(String, String)> {
        let variables = [
            ("AWS_ENDPOINT_URL", format!("http://{endpoint}")),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "somebody".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "a word".to_owned()),
        ];
        let own = |(name, value): (&str, String)| (name.to_owned(), value);
        variables.map(own).into()
    }

    /// A coordinator's objects in the bucket of the server at `endpoint`.
    pub fn engines(endpoint: &str) -> Engines {
        Engines {
            config: format!("blobs_url = \"s3://{BUCKET}/north/objects\"\n"),
            init: Vec::new(),
            environment: Self::environment(endpoint),
        }
    }

    /// A request behind every program's back; its answer's body.
    pub fn request(&self, method: &str, path: &str, body: &[u8]) -> Result<String> {
        let mut stream = TcpStream::connect(&self.address).context("reach the S3 server")?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nauthorization: {SOMEBODY}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            self.address,
            body.len()
        )?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer")?;
        ensure!(head.starts_with("HTTP/1.1 20"), "{method} {path}: {answer}");
        Ok(body.to_owned())
    }
}
