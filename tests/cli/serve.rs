//! `serve`: what `predict` finds, over HTTP.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fedner_tests::dictionary::Dictionary;
use serde_json::{Value, json};

use crate::desk::Desk;

const MINUTES: Duration = Duration::from_mins(5);

const TEXTS: [&str; 4] = [
    "The patient has chronic asthma. Aspirin was given in Ghent.",
    "",
    "No fever; Anna Roe\nlives in New York – with asthma.",
    "ÉTAT: Zöliakie 😀 (type-2).",
];

/// The service, ended when dropped.
struct Service {
    child: Child,
    address: String,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("{self:?}"))
    }

    fn refused(&self, status: u16, code: &str) -> Result<String> {
        let said = self.json()?;
        assert_eq!(
            (self.status, said["error"]["code"].as_str()),
            (status, Some(code)),
            "{said}"
        );
        assert!(
            !said["error"]["hint"]
                .as_str()
                .unwrap_or_default()
                .is_empty()
        );
        Ok(said["error"]["message"]
            .as_str()
            .context("message")?
            .to_owned())
    }
}

impl Service {
    fn start(desk: &Desk) -> Result<Self> {
        desk.model("model", &dictionary())?;
        let arguments = ["serve", "--model", "model", "--listen", "127.0.0.1:0"];
        let mut child = desk.command(&arguments)?.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().strip_prefix("http://").context("an address")?;
        let address = address.to_owned();
        Ok(Self { child, address })
    }

    fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(MINUTES))?;
        Ok(stream)
    }

    /// Of the version that answers in one piece.
    fn head(&self, what: &str, kind: &str, length: usize) -> String {
        format!(
            "{what} HTTP/1.0\r\nHost: {}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n",
            self.address
        )
    }

    fn ask(&self, what: &str, kind: &str, body: &[u8]) -> Result<Answer> {
        let mut stream = self.connect()?;
        stream.write_all(self.head(what, kind, body.len()).as_bytes())?;
        stream.write_all(body)?;
        answer(stream)
    }

    fn predict(&self, body: &Value) -> Result<Answer> {
        self.ask(
            "POST /v1/predict",
            "application/json",
            body.to_string().as_bytes(),
        )
    }

    fn get(&self, path: &str) -> Result<Answer> {
        self.ask(&format!("GET {path}"), "text/plain", b"")
    }

    fn figure(&self, name: &str) -> Result<usize> {
        let text = self.get("/metrics")?.body;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        Ok(line.context("a figure")?.trim().parse()?)
    }

    /// Until so many bytes of text wait.
    fn wait_for(&self, bytes: usize) -> Result<()> {
        let deadline = Instant::now() + MINUTES;
        while self.figure("fedner_serve_waiting_bytes ")? < bytes {
            ensure!(Instant::now() < deadline, "{bytes} bytes never wait");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answer(mut stream: TcpStream) -> Result<Answer> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    let all = String::from_utf8(all)?;
    let (head, body) = all.split_once("\r\n\r\n").with_context(|| all.clone())?;
    let status = head.split(' ').nth(1).context("status")?.parse()?;
    let (head, body) = (head.to_owned(), body.to_owned());
    Ok(Answer { status, head, body })
}

fn dictionary() -> Dictionary {
    let words = [
        ("chronic", "B-Disease"),
        ("asthma", "I-Disease"),
        ("aspirin", "B-Drug"),
        ("ghent", "B-Place"),
        ("new", "B-Place"),
        ("york", "I-Place"),
    ];
    let tags = "O B-Disease I-Disease B-Drug I-Drug B-Place I-Place";
    Dictionary::new(tags, &words).with_pieces("the patient has was given in lives and no")
}

/// What `predict` finds in each text.
fn predicted(desk: &Desk, texts: &[&str]) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        let file = format!("{number}.txt");
        desk.write(&file, text)?;
        let arguments = ["predict", "--model", "model", "--as", "jsonl", "--file"];
        let found = desk.stdout(&[&arguments[..], &[&file]].concat())?;
        let record: Value = serde_json::from_str(&found)?;
        all.push(record["entities"].clone());
    }
    Ok(all)
}

fn sentences(bytes: usize) -> String {
    let mut text = String::new();
    for number in 0.. {
        if text.len() >= bytes {
            break;
        }
        let _ = write!(
            text,
            "Patient {number} has chronic asthma and was given aspirin. "
        );
    }
    text
}

#[test]
fn requests_find_what_predict_finds() -> Result<()> {
    let desk = Desk::new()?;
    let service = Service::start(&desk)?;
    let expected = predicted(&desk, &TEXTS)?;
    let some = expected.iter().filter(|found| **found != json!([])).count();
    assert_eq!(some, 2, "{expected:?}");
    for (text, expected) in TEXTS.iter().zip(&expected) {
        let found = service.predict(&json!({"text": text}))?;
        assert_eq!(found.json()?, json!({"entities": expected}));
    }
    let results: Vec<Value> = expected
        .iter()
        .map(|found| json!({"entities": found}))
        .collect();
    // Many at once are tagged in common groups; nobody gets what is another's.
    let all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|shift| {
                let service = &service;
                scope.spawn(move || {
                    let order = (0..40).map(|place| (place + shift) % TEXTS.len());
                    let order: Vec<usize> = order.collect();
                    let texts: Vec<&str> = order.iter().map(|place| TEXTS[*place]).collect();
                    let found = service.predict(&json!({"texts": texts}))?.json()?;
                    Ok((order, found))
                })
            })
            .collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"));
        joined.collect::<Result<Vec<_>>>()
    })?;
    for (order, found) in all {
        let expected: Vec<&Value> = order.iter().map(|place| &results[*place]).collect();
        assert_eq!(found["results"], json!(expected));
    }
    assert_eq!(
        service.predict(&json!({"texts": []}))?.json()?,
        json!({"results": []})
    );

    let mut lines: Vec<String> = TEXTS
        .iter()
        .enumerate()
        .map(|(id, text)| json!({"id": id, "text": text}).to_string())
        .collect();
    lines.insert(1, "{\"text\": 7}".to_owned());
    lines.insert(2, String::new());
    let body = lines.join("\n");
    let found = service.ask("POST /v1/predict", "application/x-ndjson", body.as_bytes())?;
    assert_eq!(found.status, 200);
    let mut found = found.body.lines().map(serde_json::from_str);
    let mut next = || Ok::<Value, anyhow::Error>(found.next().context("a line")??);
    for (id, expected) in expected.iter().enumerate() {
        assert_eq!(next()?, json!({"id": id, "entities": expected}));
        if id == 0 {
            assert_eq!(next()?["error"]["code"], "request-invalid");
        }
    }
    assert!(found.next().is_none());
    Ok(())
}

#[test]
fn long_texts_are_tagged_and_longer_ones_refused() -> Result<()> {
    let desk = Desk::new()?;
    let service = Service::start(&desk)?;
    let text = sentences(1_000_000);
    let expected = predicted(&desk, &[&text])?;
    let found = service.predict(&json!({"text": text}))?;
    assert_eq!(found.json()?["entities"], expected[0]);
    assert!(expected[0].as_array().context("entities")?.len() > 1000);

    let too_long = service.predict(&json!({"text": "a".repeat((4 << 20) + 1)}))?;
    assert!(
        too_long
            .refused(413, "text-too-long")?
            .contains("4194305 bytes")
    );
    let body = vec![b'a'; 100_000_000];
    for kind in ["application/json", "application/x-ndjson"] {
        let found = service.ask("POST /v1/predict", kind, &body);
        if kind == "application/json" {
            found?.refused(413, "text-too-long")?;
        } else if let Ok(found) = found {
            // The stream ends where the line is too long, with the rest of it unread.
            assert!(found.body.contains("text-too-long"), "{found:?}");
        }
    }
    let many = service.predict(&json!({"texts": vec![""; 4097]}))?;
    many.refused(413, "text-too-long")?;
    let found = service.predict(&json!({"text": TEXTS[0]}))?;
    assert_eq!(found.status, 200, "it goes on");
    #[cfg(target_os = "linux")]
    {
        let status = fs::read_to_string(format!("/proc/{}/status", service.child.id()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak: u64 = peak
            .context("VmHWM")?
            .trim()
            .trim_end_matches(" kB")
            .parse()?;
        assert!(peak < 900 << 10, "{peak} kB at most");
    }
    Ok(())
}

#[test]
fn what_is_no_request_is_refused_with_a_hint() -> Result<()> {
    let desk = Desk::new()?;
    let service = Service::start(&desk)?;
    for body in [
        "",
        "{",
        "[]",
        "{}",
        "{\"text\": 7}",
        "{\"text\": \"a\", \"texts\": []}",
        "{\"text\": \"a\", \"model\": \"b\"}",
        "{\"text\": \"\\ud800\"}",
    ] {
        let found = service.ask("POST /v1/predict", "application/json", body.as_bytes())?;
        found.refused(400, "request-invalid")?;
    }
    let bytes = service.ask(
        "POST /v1/predict",
        "application/json",
        b"{\"text\": \"\xff\"}",
    )?;
    bytes.refused(400, "request-invalid")?;
    // What a page of another origin can send without being asked.
    let plain = service.ask("POST /v1/predict", "text/plain", b"{\"text\": \"a\"}")?;
    plain.refused(415, "request-invalid")?;
    service
        .get("/v1/predict")?
        .refused(405, "request-invalid")?;
    service.get("/v2")?.refused(404, "nothing-found")?;
    let mut stream = service.connect()?;
    write!(stream, "GET /health HTTP/1.0\r\nHost: evil.example\r\n\r\n")?;
    assert_eq!(answer(stream)?.status, 403, "a name bound to loopback");

    let everywhere = ["serve", "--model", "nowhere", "--listen", "0.0.0.0:0"];
    let said = desk.refused(&everywhere)?;
    assert!(said.contains("--allow-others"), "{said}");
    Ok(())
}

#[test]
fn a_reader_that_stops_keeps_nobody_and_no_memory() -> Result<()> {
    let desk = Desk::new()?;
    let service = Service::start(&desk)?;
    let mut stream = service.connect()?;
    let head = service.head("POST /v1/predict", "application/x-ndjson", 1 << 40);
    stream.write_all(head.as_bytes())?;
    stream.set_write_timeout(Some(Duration::from_secs(2)))?;
    // Each costs the service a line, and is answered with a longer one that is never read: at some time no more
    // is taken.
    let lines = "x\n".repeat(1 << 15);
    let mut sent = 0;
    while stream.write_all(lines.as_bytes()).is_ok() {
        sent += lines.len();
        assert!(sent < 256 << 20, "everything is taken");
    }
    let found = service.predict(&json!({"text": TEXTS[0]}))?;
    assert_eq!(found.status, 200);
    Ok(())
}

#[test]
fn more_than_there_is_room_for_is_sent_away() -> Result<()> {
    let desk = Desk::new()?;
    let service = Service::start(&desk)?;
    let text = sentences((4 << 20) - 200);
    let body = json!({"texts": [text, text, text]}).to_string();
    let head = service.head("POST /v1/predict", "application/json", body.len());
    let mut waiting = Vec::new();
    for number in 1..=2 {
        let mut stream = service.connect()?;
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        // Another is sent once this one waits.
        service.wait_for(number * 2 * text.len())?;
        waiting.push(stream);
    }
    service.wait_for(5 * text.len())?;
    let third = service.ask("POST /v1/predict", "application/json", body.as_bytes())?;
    third.refused(429, "too-many-requests")?;
    assert!(
        third.head.to_lowercase().contains("retry-after: 1"),
        "{third:?}"
    );
    Ok(())
}

#[test]
#[cfg(unix)]
fn what_was_asked_is_answered_before_the_end() -> Result<()> {
    let desk = Desk::new()?;
    let mut service = Service::start(&desk)?;
    let text = sentences(100_000);
    let body = json!({"text": text}).to_string();
    let mut stream = service.connect()?;
    stream.write_all(
        service
            .head("POST /v1/predict", "application/json", body.len())
            .as_bytes(),
    )?;
    stream.write_all(body.as_bytes())?;
    service.wait_for(1)?;
    let mut stop = Command::new("kill");
    stop.args(["-TERM", &service.child.id().to_string()]);
    assert!(stop.status()?.success());
    let found = answer(stream)?;
    assert_eq!(found.status, 200);
    assert!(found.json()?["entities"].is_array());
    assert!(service.child.wait()?.success());
    Ok(())
}

#[test]
fn paths_and_figures_are_those_of_the_documents() -> Result<()> {
    let desk = Desk::new()?;
    let service = Service::start(&desk)?;
    service.predict(&json!({"texts": TEXTS}))?;
    assert_eq!(service.figure("fedner_serve_texts_total ")?, 4);
    let text = service.get("/metrics")?.body;
    let shown: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../client/README.md");
    let guide = fs::read_to_string(guide)?;
    let documented: BTreeSet<&str> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("| `fedner_serve_"))
        .filter_map(|rest| rest.split('`').next())
        .collect();
    let shown = shown
        .into_iter()
        .filter_map(|name| name.strip_prefix("fedner_serve_"));
    assert_eq!(shown.collect::<BTreeSet<_>>(), documented);

    let openapi = service.get("/openapi.json")?.json()?;
    let paths = openapi["paths"].as_object().context("paths")?;
    assert_eq!(paths.len(), 4);
    for (path, methods) in paths {
        let found = if methods.get("get").is_some() {
            service.get(path)?
        } else {
            service.predict(&json!({"text": "a"}))?
        };
        assert_eq!(found.status, 200, "{path}");
    }
    assert_eq!(service.get("/health")?.json()?, json!({"status": "ok"}));
    Ok(())
}
