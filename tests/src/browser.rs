//! A real browser: Debian's chromium, asked over WebDriver (W3C, 2018) through chromedriver.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::config::free_port;
use crate::process::Process;

/// How long a page may take to show something.
const PATIENCE: Duration = Duration::from_mins(3);
/// What WebDriver calls an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with an empty profile; it ends with this value.
#[derive(Debug)]
pub struct Browser {
    port: u16,
    session: String,
    _driver: Process,
    _profile: TempDir,
}

/// How a page is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Light {
    Day,
    Night,
}

/// Where Debian's packages `chromium` and `chromium-driver` put the driver, or where the machine says.
pub fn driver() -> Option<PathBuf> {
    let said = std::env::var_os("CHROMEWEBDRIVER");
    let said = said.map(|folder| PathBuf::from(folder).join("chromedriver"));
    let usual = ["/usr/bin/chromedriver", "/usr/lib/chromium/chromedriver"].map(PathBuf::from);
    said.into_iter().chain(usual).find(|path| path.exists())
}

impl Browser {
    /// Starts one with `driver`; what it says goes to a file in `logs`.
    pub fn start(driver: &Path, logs: &Path) -> Result<Self> {
        let port = free_port()?;
        let profile = tempfile::tempdir()?;
        let mut command = Command::new(driver);
        command.arg(format!("--port={port}"));
        let log = logs.join(format!("chromedriver-{port}.log"));
        let ready = "ChromeDriver was started successfully";
        let process = Process::start_ready("chromedriver", command, &log, ready, PATIENCE)?;
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            format!("--user-data-dir={}", profile.path().display()),
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let answer = request(port, "POST", "/session", &wanted)?;
        let session = answer["sessionId"]
            .as_str()
            .context("a session")?
            .to_owned();
        Ok(Self {
            port,
            session,
            _driver: process,
            _profile: profile,
        })
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        request(
            self.port,
            method,
            &format!("/session/{}{path}", self.session),
            body,
        )
    }

    pub fn open(&self, address: &str) -> Result<()> {
        self.call("POST", "/url", &json!({ "url": address }))?;
        Ok(())
    }

    pub fn address(&self) -> Result<String> {
        let answer = self.call("GET", "/url", &Value::Null)?;
        Ok(answer.as_str().context("an address")?.to_owned())
    }

    /// What `script` returns.
    pub fn run(&self, script: &str) -> Result<Value> {
        let body = json!({"script": script, "args": []});
        self.call("POST", "/execute/sync", &body)
    }

    /// What `script` hands to its last argument.
    pub fn run_until_done(&self, script: &str) -> Result<Value> {
        let body = json!({"script": script, "args": []});
        self.call("POST", "/execute/async", &body)
    }

    /// The text that a person sees on the page.
    pub fn text(&self) -> Result<String> {
        let text = self.run("return document.body.innerText")?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until the page shows `words`, without loading it again.
    pub fn wait_for(&self, words: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.text()?;
            if text.contains(words) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} does not show `{words}` but:\n{text}", self.address()?);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Clicks on what the CSS selector finds first, as soon as it is there.
    pub fn click(&self, selector: &str) -> Result<()> {
        let find = json!({"using": "css selector", "value": selector});
        let deadline = Instant::now() + PATIENCE;
        loop {
            let clicked = self.call("POST", "/element", &find).and_then(|found| {
                let id = found[ELEMENT].as_str().context("an element")?;
                self.call("POST", &format!("/element/{id}/click"), &json!({}))
            });
            match clicked {
                Ok(_) => return Ok(()),
                // A part of the page may have been replaced in between.
                Err(_) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err(error) => {
                    return Err(error.context(format!("click {selector} on:\n{}", self.text()?)));
                }
            }
        }
    }

    /// Clicks on what leads to another page, and waits until that page is there. A click alone may return before
    /// the browser has left, and what is opened next would then lose against it.
    pub fn follow(&self, selector: &str) -> Result<()> {
        self.run("window.left = false")?;
        self.click(selector)?;
        let deadline = Instant::now() + PATIENCE;
        let arrived = "return window.left === undefined && document.readyState === 'complete'";
        while self.run(arrived).ok() != Some(Value::Bool(true)) {
            if Instant::now() > deadline {
                bail!("{selector} leads nowhere from:\n{}", self.text()?);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Types into what the CSS selector finds first.
    pub fn write(&self, selector: &str, text: &str) -> Result<()> {
        let find = json!({"using": "css selector", "value": selector});
        let found = self.call("POST", "/element", &find)?;
        let id = found[ELEMENT].as_str().context("an element")?;
        self.call(
            "POST",
            &format!("/element/{id}/value"),
            &json!({ "text": text }),
        )?;
        Ok(())
    }

    fn developer(&self, command: &str, parameters: &Value) -> Result<Value> {
        let body = json!({"cmd": command, "params": parameters});
        self.call("POST", "/goog/cdp/execute", &body)
    }

    /// A picture of the whole page as a PNG, so many points wide.
    pub fn picture(&self, file: &Path, width: u32, light: Light) -> Result<()> {
        let scheme = match light {
            Light::Day => "light",
            Light::Night => "dark",
        };
        // Nothing is caught on its way from one colour to another.
        let media = json!({"features": [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]});
        self.developer("Emulation.setEmulatedMedia", &media)?;
        let size = |height: i64| json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.developer("Emulation.setDeviceMetricsOverride", &size(900))?;
        let height = self.run("return Math.min(document.documentElement.scrollHeight, 6000)")?;
        let height = height.as_i64().unwrap_or(900).max(600);
        self.developer("Emulation.setDeviceMetricsOverride", &size(height))?;
        let answer = self.developer("Page.captureScreenshot", &json!({"format": "png"}))?;
        let data = answer["data"].as_str().context("a picture")?;
        fs::write(file, base64(data)?).with_context(|| format!("write {}", file.display()))?;
        Ok(())
    }

    /// By how many points the page is wider than the window.
    pub fn overhang(&self) -> Result<i64> {
        let script =
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        Ok(self.run(script)?.as_i64().unwrap_or_default())
    }

    /// Errors that the browser has reported since the last time, what the page's policy forbade among them.
    pub fn faults(&self) -> Result<Vec<String>> {
        let entries = self.call("POST", "/se/log", &json!({"type": "browser"}))?;
        let entries = entries.as_array().context("a log")?.iter();
        let severe = entries.filter(|entry| entry["level"] == "SEVERE");
        Ok(severe.map(|entry| entry["message"].to_string()).collect())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser's processes, which would outlive it.
        let _ = self.call("DELETE", "", &Value::Null);
    }
}

/// One request to the driver; its `value`.
fn request(port: u16, method: &str, path: &str, body: &Value) -> Result<Value> {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let mut stream = TcpStream::connect(("127.0.0.1", port)).context("reach the driver")?;
    stream.set_read_timeout(Some(PATIENCE * 2))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut reader = BufReader::new(stream);
    let (mut status, mut line, mut length) = (String::new(), String::new(), None);
    reader.read_line(&mut status)?;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let header = line.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = Some(value.trim().parse::<usize>()?);
        }
    }
    let mut answer = vec![0; length.context("a length")?];
    reader.read_exact(&mut answer)?;
    let mut answer: Value = serde_json::from_slice(&answer)?;
    ensure!(
        status.contains(" 200 "),
        "{method} {path}: {}",
        answer["value"]["message"]
    );
    Ok(answer["value"].take())
}

fn base64(text: &str) -> Result<Vec<u8>> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Ok(byte - b'A'),
        b'a'..=b'z' => Ok(byte - b'a' + 26),
        b'0'..=b'9' => Ok(byte - b'0' + 52),
        b'+' => Ok(62),
        b'/' => Ok(63),
        other => bail!("{other} is no base64"),
    };
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        bits = (bits << 6) | u32::from(value(byte)?);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_reads_as_it_was_written() {
        assert_eq!(base64("").expect("nothing"), b"");
        assert_eq!(base64("Zm9vYg==").expect("padded"), b"foob");
        assert_eq!(base64("+/8=").expect("all letters"), [0xfb, 0xff]);
        assert!(base64("a*").is_err());
    }
}
