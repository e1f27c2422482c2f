//! An HTTP server to break: a proxy on loopback that hands requests on, unless somebody decides otherwise.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// What happens to a request in place of its answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It is not handed on, and answered with this status and body.
    Answer(u16, String),
    /// It is handed on, and its answer is lost.
    LostAnswer,
    /// It is handed on, and only half of its answer comes.
    HalfAnswer,
    /// It is neither handed on nor answered for so long; then the connection ends.
    Silence(Duration),
    /// It is handed on after so long.
    Delay(Duration),
}

/// Asked about each request: its first line, and how many came before it.
type Decide = dyn FnMut(&str, u64) -> Option<Fault> + Send;

/// Forwards requests to one address, each in a connection of its own. It stops with the program.
#[derive(Debug)]
pub struct Faulty {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    decide: Box<Decide>,
    requests: u64,
    faults: u64,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} requests, {} faults", self.requests, self.faults)
    }
}

impl Faulty {
    pub fn start(target: &str) -> Result<Self> {
        let target: SocketAddr = target.parse().context("read the target's address")?;
        let listener = TcpListener::bind("127.0.0.1:0").context("bind the proxy")?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State {
            decide: Box::new(|_, _| None),
            requests: 0,
            faults: 0,
        }));
        let deciding = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = deciding.clone();
                // A connection that breaks is one more fault.
                thread::spawn(move || forward(stream, target, &state));
            }
        });
        Ok(Self { address, state })
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on `decide` says what happens to each request.
    pub fn decide(&self, decide: impl FnMut(&str, u64) -> Option<Fault> + Send + 'static) {
        self.locked().decide = Box::new(decide);
    }

    /// How many requests have come, and how many of them had a fault.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.locked();
        (state.requests, state.faults)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forward(near: TcpStream, target: SocketAddr, state: &Mutex<State>) -> io::Result<()> {
    near.set_nodelay(true)?;
    let mut reader = BufReader::new(near.try_clone()?);
    let (head, length) = read_head(&mut reader)?;
    if head.is_empty() {
        return Ok(());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let line = head.lines().next().unwrap_or_default();
    let fault = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.requests;
        state.requests += 1;
        let fault = (state.decide)(line, before);
        state.faults += u64::from(fault.is_some());
        fault
    };
    let mut near = near;
    match &fault {
        Some(Fault::Answer(status, body)) => {
            return write!(
                near,
                "HTTP/1.1 {status} Fault\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
        }
        Some(Fault::Silence(time)) => {
            thread::sleep(*time);
            return Ok(());
        }
        Some(Fault::Delay(time)) => thread::sleep(*time),
        Some(Fault::LostAnswer | Fault::HalfAnswer) | None => {}
    }
    let mut far = TcpStream::connect(target)?;
    far.write_all(closing(&head).as_bytes())?;
    far.write_all(&body)?;
    let mut far = BufReader::new(far);
    let (head, _) = read_head(&mut far)?;
    let mut answer = Vec::new();
    far.read_to_end(&mut answer)?;
    match fault {
        Some(Fault::LostAnswer) => return Ok(()),
        Some(Fault::HalfAnswer) => answer.truncate(answer.len() / 2),
        _ => {}
    }
    near.write_all(closing(&head).as_bytes())?;
    near.write_all(&answer)
}

/// The first line and the headers, and how long the body is.
fn read_head(reader: &mut impl BufRead) -> io::Result<(String, usize)> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let start = head.len();
        if reader.read_line(&mut head)? == 0 || head[start..].trim().is_empty() {
            return Ok((head, length));
        }
        let line = head[start..].to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
}

/// The head of a message after which the connection ends.
fn closing(head: &str) -> String {
    let mut text = String::new();
    for line in head.lines().filter(|line| !line.is_empty()) {
        if !line.to_ascii_lowercase().starts_with("connection:") {
            let _ = write!(text, "{line}\r\n");
        }
    }
    text + "connection: close\r\n\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(address: &str) -> String {
        let mut stream = TcpStream::connect(address).expect("connected");
        write!(stream, "POST /a HTTP/1.1\r\ncontent-length: 2\r\n\r\nab").expect("asked");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    #[test]
    fn requests_are_handed_on_unless_it_is_decided_otherwise() -> Result<()> {
        let server = TcpListener::bind("127.0.0.1:0")?;
        let target = server.local_addr()?.to_string();
        thread::spawn(move || {
            for stream in server.incoming().flatten() {
                let mut reader = BufReader::new(stream);
                let (head, length) = read_head(&mut reader).expect("a head");
                assert!(head.contains("connection: close"), "{head}");
                let mut body = vec![0; length];
                reader.read_exact(&mut body).expect("a body");
                let stream = reader.get_mut();
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd");
            }
        });
        let faulty = Faulty::start(&target)?;
        assert!(ask(&faulty.address()).ends_with("\r\n\r\nabcd"));
        faulty.decide(|line, before| match (line, before) {
            ("POST /a HTTP/1.1", 1) => Some(Fault::Answer(500, "no".to_owned())),
            (_, 2) => Some(Fault::LostAnswer),
            (_, 3) => Some(Fault::HalfAnswer),
            (_, 4) => Some(Fault::Silence(Duration::from_millis(1))),
            _ => None,
        });
        assert!(ask(&faulty.address()).starts_with("HTTP/1.1 500 "));
        assert_eq!(ask(&faulty.address()), "");
        assert!(ask(&faulty.address()).ends_with("\r\n\r\nab"));
        assert_eq!(ask(&faulty.address()), "");
        assert!(ask(&faulty.address()).ends_with("abcd"));
        assert_eq!(faulty.counts(), (6, 4));
        Ok(())
    }
}
