//! Child processes that are ended when they are no longer wanted.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A running program. It is killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts `command`; what it says goes to the file `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(log)
            .context("open a log file")?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self {
            child,
            name: name.to_owned(),
        })
    }

    /// Starts `command` and waits for a line on its stdout that begins with `ready`.
    pub fn start_ready(
        name: &str,
        command: Command,
        log: &Path,
        ready: &str,
        within: Duration,
    ) -> Result<Self> {
        Ok(Self::start_saying(name, command, log, ready, within)?.0)
    }

    /// The same, with that line.
    pub fn start_saying(
        name: &str,
        mut command: Command,
        log: &Path,
        ready: &str,
        within: Duration,
    ) -> Result<(Self, String)> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .context("open a log file")?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file);
        let mut child = command.spawn().with_context(|| format!("start {name}"))?;
        let stdout = child.stdout.take().context("read the program's stdout")?;
        let process = Self {
            child,
            name: name.to_owned(),
        };
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // The reader stays, so that the program's writes never fail.
                let _ = sender.send(line);
            }
        });
        let deadline = Instant::now() + within;
        while let Ok(line) =
            receiver.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            if line.starts_with(ready) {
                return Ok((process, line));
            }
        }
        let said = std::fs::read_to_string(log).unwrap_or_default();
        bail!("{name} did not say `{ready}` within {within:?}; it said:\n{said}");
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL: no chance to tidy up.
    pub fn kill(&mut self) -> Result<()> {
        self.child
            .kill()
            .with_context(|| format!("kill {}", self.name))?;
        self.child
            .wait()
            .with_context(|| format!("wait for {}", self.name))?;
        Ok(())
    }

    /// Sends a signal, such as `-STOP`.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let mut kill = Command::new("kill");
        kill.args([signal, &self.child.id().to_string()]);
        run(kill).map(drop)
    }

    /// SIGTERM, then waits.
    pub fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        self.signal("-TERM")?;
        self.ended(within)
    }

    /// Waits until it has ended by itself.
    pub fn ended(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("{} did not stop within {within:?}", self.name);
    }

    /// The largest resident memory so far, in bytes; `None` where the platform does not say.
    pub fn peak_memory(&self) -> Option<u64> {
        self.status("VmHWM:")
    }

    /// Lets the peak begin anew (Linux).
    pub fn forget_peak_memory(&self) -> std::io::Result<()> {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")
    }

    /// The resident memory at present, in bytes; `None` where the platform does not say.
    pub fn memory(&self) -> Option<u64> {
        self.status("VmRSS:")
    }

    fn status(&self, key: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with(key))?;
        let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kibibytes * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `command` to its end; an exit status other than 0 is an error that tells what it said.
pub fn run(mut command: Command) -> Result<Output> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}:\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output)
}
