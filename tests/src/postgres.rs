//! A real PostgreSQL server on loopback, in a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::cluster::Engines;
use crate::config::free_port;
use crate::process::{Process, run};

/// Who owns the databases, and their word.
const USER: &str = "fedner";
pub const PASSWORD: &str = "a word of the database";

/// The user of Debian's package; the server does not run as root.
const SYSTEM_USER: &str = "postgres";

/// A server. It ends with its owner, at once.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
    process: Option<Process>,
}

impl Postgres {
    /// What [`skipped`](crate::skip::skipped) tells whoever lacks it.
    pub const NEEDED: &str = "Debian's package postgresql, which .ci/tools installs";

    /// The folder of the newest version's programs; `None` where it is not installed.
    pub fn programs() -> Option<PathBuf> {
        let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
        let folders = versions.flatten().map(|entry| entry.path().join("bin"));
        let usable = folders.filter(|folder| folder.join("initdb").exists());
        usable.max()
    }

    /// Makes a server in a new folder and starts it.
    pub fn start(programs: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = free_port()?;
        fs::write(folder.path().join("password"), PASSWORD)?;
        let mut server = Self {
            programs: programs.to_owned(),
            folder,
            port,
            process: None,
        };
        if is_root()? {
            let mut give = Command::new("chown");
            give.args(["-R", SYSTEM_USER]).arg(server.folder.path());
            run(give)?;
        }
        let mut make = server.command("initdb")?;
        make.arg("-D")
            .arg(server.folder.path().join("data"))
            .args(["-U", USER, "--auth=scram-sha-256", "--encoding=UTF8"])
            // Of what it makes; the server itself writes as it does anywhere.
            .arg("--no-sync")
            .arg("--pwfile")
            .arg(server.folder.path().join("password"));
        run(make)?;
        server.resume()?;
        Ok(server)
    }

    /// Starts it, after [`kill`](Self::kill) or [`abort`](Self::abort) again.
    pub fn resume(&mut self) -> Result<()> {
        let mut command = self.command("postgres")?;
        let folder = self.folder.path();
        command
            .arg("-D")
            .arg(folder.join("data"))
            .args(["-p", &self.port.to_string()])
            .args(["-c", "listen_addresses=127.0.0.1"])
            .arg("-c")
            .arg(format!("unix_socket_directories={}", folder.display()));
        self.process = Some(Process::start("PostgreSQL", command, &self.log())?);
        let deadline = Instant::now() + Duration::from_mins(1);
        while Instant::now() < deadline {
            let mut ready = Command::new(self.programs.join("pg_isready"));
            ready.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
            if ready.status()?.success() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!(
            "PostgreSQL did not start: {}",
            fs::read_to_string(self.log())?
        );
    }

    /// SIGKILL of the server; its other processes end when they notice.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("it runs")?.kill()
    }

    /// Ends it in the immediate mode, as a machine that loses its power: it recovers when it starts again.
    pub fn abort(&mut self) -> Result<()> {
        let mut process = self.process.take().context("it runs")?;
        process.signal("-QUIT")?;
        process.ended(Duration::from_secs(20)).map(drop)
    }

    fn log(&self) -> PathBuf {
        // Beside the folder of the server, which belongs to another user.
        self.folder.path().with_extension("log")
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Makes a database.
    pub fn create(&self, name: &str) -> Result<()> {
        let sql = format!("CREATE DATABASE {name}");
        self.query("postgres", &sql).map(drop)
    }

    /// What a statement answers with, as `psql` prints it.
    pub fn query(&self, database: &str, sql: &str) -> Result<String> {
        let mut command = Command::new(self.programs.join("psql"));
        command
            .env("PGPASSWORD", PASSWORD)
            .args(["-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-U", USER])
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(["-d", database, "-c", sql]);
        let output = run(command)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// The URL of a database, where the server is reached at `address`.
    pub fn url(address: &str, database: &str) -> String {
        format!("postgres://{USER}@{address}/{database}")
    }

    /// A coordinator's state in a database of the server at `address`.
    pub fn engines(address: &str, database: &str) -> Engines {
        Engines {
            config: String::new(),
            environment: vec![("PGPASSWORD".to_owned(), PASSWORD.to_owned())],
            init: vec!["--store-url".to_owned(), Self::url(address, database)],
        }
    }

    /// One of its programs, run by another user than root.
    fn command(&self, program: &str) -> Result<Command> {
        let program = self.programs.join(program);
        let mut command = if is_root()? {
            let mut command = Command::new("setpriv");
            command
                .arg(format!("--reuid={SYSTEM_USER}"))
                .arg(format!("--regid={SYSTEM_USER}"))
                .args(["--clear-groups", "--"])
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir("/").stdin(Stdio::null());
        Ok(command)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.process.take());
        let _ = fs::remove_file(self.log());
    }
}

fn is_root() -> Result<bool> {
    let mut ask = Command::new("id");
    ask.arg("-u");
    Ok(run(ask)?.stdout.trim_ascii() == b"0")
}
