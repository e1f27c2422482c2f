//! A dashboard that runs, and how it is spoken to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result};

/// How long it may take to print an address.
const STARTS: Duration = Duration::from_mins(3);

/// A `dashboard` command; it ends with this value.
pub(crate) struct Dashboard {
    child: Child,
    addresses: Receiver<String>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Dashboard {
    /// Starts `command`; what it says goes to `log`.
    pub(crate) fn start(mut command: Command, log: &std::path::Path) -> Result<Self> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut child = command.spawn().context("start a dashboard")?;
        let stdout = child.stdout.take().context("its stdout")?;
        let (sender, addresses) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Nobody may want the later ones.
                let _ = sender.send(line);
            }
        });
        Ok(Self { child, addresses })
    }

    /// The newest address that is good once.
    pub(crate) fn address(&self) -> Result<String> {
        let line = self.addresses.recv_timeout(STARTS);
        line.context("the dashboard prints no address")
    }

    /// Memory in use, in bytes (Linux).
    pub(crate) fn memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kibibytes * 1024)
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `HOST:PORT` and the path of an address.
pub(crate) fn parts(address: &str) -> Result<(&str, &str)> {
    let rest = address.strip_prefix("http://").context("plain HTTP")?;
    let at = rest.find('/').context("a path")?;
    Ok(rest.split_at(at))
}

/// Sends a request as it stands and reads the answer to its end.
pub(crate) fn raw(host: &str, request: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(Duration::from_mins(1)))?;
    // A server that refuses early may not read the rest.
    let _ = stream.write_all(request.as_bytes());
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").context("an answer")?;
    let status = head
        .split_whitespace()
        .nth(1)
        .context("a status")?
        .parse()?;
    Ok(Answer {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}

/// A request with further lines in its head.
pub(crate) fn ask(method: &str, host: &str, path: &str, more: &str, body: &str) -> Result<Answer> {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n{more}\r\n{body}"
    );
    raw(host, &request)
}

pub(crate) fn get(host: &str, path: &str) -> Result<Answer> {
    ask("GET", host, path, "", "")
}

/// Opens an address; the path at which the pages begin.
pub(crate) fn enter(address: &str) -> Result<(String, String)> {
    let (host, path) = parts(address)?;
    let answer = get(host, path)?;
    let place = answer.head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("location").then_some(value)
    });
    let place = place.with_context(|| format!("no way in: {answer:?}"))?;
    Ok((host.to_owned(), place.to_owned()))
}
