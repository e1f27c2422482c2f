//! A whole federation on loopback: one coordinator, any number of clients, real processes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::binaries::binaries;
use crate::config::free_port;
use crate::process::{Process, run};

/// How long all members of a plan may take to be there.
const ROSTER: Duration = Duration::from_mins(2);

/// What one institution brings.
#[derive(Debug, Clone)]
pub struct Member {
    pub name: String,
    pub data: PathBuf,
    pub held_out: PathBuf,
    pub policy: Policy,
}

/// The policy an institution of a test or demo has. All of them consent by themselves.
#[derive(Debug, Clone)]
pub struct Policy {
    pub allow_no_privacy: bool,
    pub share_evaluation: bool,
    pub max_epsilon_run: f64,
    pub declared_examples: Option<u32>,
}

/// Where a coordinator keeps state and objects, if not in its directory.
#[derive(Debug, Clone, Default)]
pub struct Engines {
    /// Lines of `coordinator.toml`.
    pub config: String,
    /// Variables of every process of the coordinator's program.
    pub environment: Vec<(String, String)>,
    /// Options of `init`.
    pub init: Vec<String>,
}

impl Engines {
    /// What both of them are.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.config.push_str(&other.config);
        self.environment.extend(other.environment);
        self.init.extend(other.init);
        self
    }
}

/// A running federation. Its processes end with it; its directories stay.
#[derive(Debug)]
pub struct Cluster {
    directory: PathBuf,
    port: u16,
    engines: Engines,
    coordinator: Option<Process>,
    clients: BTreeMap<String, Process>,
    /// Largest memory seen of any client, in bytes.
    client_peak: u64,
}

impl Cluster {
    /// Creates a coordinator in `directory` and starts it.
    pub fn start(directory: &Path) -> Result<Self> {
        Self::start_on(directory, Engines::default())
    }

    /// The same on those engines.
    pub fn start_on(directory: &Path, engines: Engines) -> Result<Self> {
        fs::create_dir_all(directory.join("logs")).context("create the logs' directory")?;
        let port = free_port()?;
        let mut cluster = Self {
            directory: directory.to_owned(),
            port,
            engines,
            coordinator: None,
            clients: BTreeMap::new(),
            client_peak: 0,
        };
        let address = cluster.address();
        let mut init =
            cluster.coordinator_command(&["init", "--name", "demo", "--address", &address])?;
        init.args(&cluster.engines.init);
        run(init)?;
        let config = cluster.coordinator_directory().join("coordinator.toml");
        let text = fs::read_to_string(&config).context("read coordinator.toml")?;
        let text = format!("{}{text}", cluster.engines.config);
        fs::write(&config, text).context("write coordinator.toml")?;
        cluster.start_coordinator()?;
        Ok(cluster)
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn coordinator_directory(&self) -> PathBuf {
        self.directory.join("coordinator")
    }

    pub fn client_directory(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.directory.join("logs").join(format!("{name}.log"))
    }

    pub fn start_coordinator(&mut self) -> Result<()> {
        self.start_coordinator_with(&[])
    }

    /// The same with variables in the program's environment.
    pub fn start_coordinator_with(&mut self, environment: &[(&str, &str)]) -> Result<()> {
        let mut command = self.coordinator_command(&["serve"])?;
        command.envs(environment.iter().copied());
        let log = self.log("coordinator");
        let process = Process::start_ready(
            "the coordinator",
            command,
            &log,
            "listening on ",
            Duration::from_secs(30),
        )?;
        self.coordinator = Some(process);
        Ok(())
    }

    pub fn coordinator_process(&mut self) -> Option<&mut Process> {
        self.coordinator.as_mut()
    }

    pub fn client_process(&mut self, name: &str) -> Option<&mut Process> {
        self.clients.get_mut(name)
    }

    /// `kill -9` of the coordinator.
    pub fn kill_coordinator(&mut self) -> Result<()> {
        self.coordinator
            .take()
            .context("the coordinator is not running")?
            .kill()
    }

    /// `kill -9` of a client.
    pub fn kill_client(&mut self, name: &str) -> Result<()> {
        self.note_memory();
        self.clients
            .remove(name)
            .with_context(|| format!("{name} is not running"))?
            .kill()
    }

    /// A command of the coordinator's program on this federation.
    pub fn coordinator_command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(&binaries()?.coordinator);
        command
            .envs(self.engines.environment.iter().cloned())
            .arg("--dir")
            .arg(self.coordinator_directory())
            .args(arguments);
        Ok(command)
    }

    /// A command of the client's program in an institution's directory.
    pub fn client_command(&self, name: &str, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(&binaries()?.client);
        // A proxy of the machine that runs the tests is not theirs.
        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        command
            .arg("--dir")
            .arg(self.client_directory(name))
            .args(arguments);
        Ok(command)
    }

    /// Runs a command of the coordinator's program; the JSON it writes.
    pub fn coordinate(&self, arguments: &[&str]) -> Result<Value> {
        json(self.coordinator_command(arguments)?)
    }

    /// Runs a command of the coordinator's program that writes no data.
    pub fn coordinate_quietly(&self, arguments: &[&str]) -> Result<()> {
        run(self.coordinator_command(arguments)?)?;
        Ok(())
    }

    /// Runs a command of the client's program; the JSON it writes.
    pub fn consult(&self, name: &str, arguments: &[&str]) -> Result<Value> {
        json(self.client_command(name, arguments)?)
    }

    /// Writes an invite to a file and returns its path.
    pub fn invite(&self, name: &str) -> Result<PathBuf> {
        let output = run(self.coordinator_command(&["invite", name])?)?;
        let path = self.directory.join(format!("{name}.invite.toml"));
        fs::write(&path, output.stdout).context("write the invite")?;
        Ok(path)
    }

    /// Invites and enrols an institution and writes its policy.
    pub fn enrol(&self, member: &Member) -> Result<()> {
        self.enrol_with(member, &self.invite(&member.name)?)
    }

    /// Enrols an institution with the invite in that file and writes its policy.
    pub fn enrol_with(&self, member: &Member, invite: &Path) -> Result<()> {
        let mut command = self.client_command(&member.name, &["enroll"])?;
        command
            .arg(invite)
            .arg("--data")
            .arg(&member.data)
            .arg("--held-out")
            .arg(&member.held_out);
        run(command)?;
        fs::remove_file(invite).context("remove the used invite")?;
        let Policy {
            allow_no_privacy,
            share_evaluation,
            max_epsilon_run,
            declared_examples,
        } = &member.policy;
        let policy = format!(
            "consent = \"auto\"\nallow_no_privacy = {allow_no_privacy}\nshare_evaluation = {share_evaluation}\n\
             exact_evaluation = {share_evaluation}\n\
             max_epsilon_run = {max_epsilon_run:?}\nmax_epsilon_total = {:?}\n",
            // A person is charged for an institution as for two.
            5.0 * max_epsilon_run
        );
        let directory = self.client_directory(&member.name);
        fs::write(directory.join("policy.toml"), policy).context("write the policy")?;
        if let Some(examples) = declared_examples {
            let path = directory.join("client.toml");
            let text = fs::read_to_string(&path).context("read client.toml")?;
            fs::write(&path, format!("declared_examples = {examples}\n{text}"))
                .context("write client.toml")?;
        }
        Ok(())
    }

    /// Makes an enrolled institution dial `address` from its next start on.
    pub fn redirect(&self, name: &str, address: &str) -> Result<()> {
        let path = self.client_directory(name).join("client.toml");
        let text = fs::read_to_string(&path).context("read client.toml")?;
        let direct = format!("coordinator = \"{}\"", self.address());
        anyhow::ensure!(
            text.contains(&direct),
            "client.toml has no {direct}: {text}"
        );
        let through = format!("coordinator = \"{address}\"");
        fs::write(&path, text.replace(&direct, &through)).context("write client.toml")
    }

    pub fn start_client(&mut self, name: &str) -> Result<()> {
        self.start_client_with(name, &[])
    }

    /// The same with variables in the program's environment.
    pub fn start_client_with(&mut self, name: &str, environment: &[(&str, &str)]) -> Result<()> {
        let mut command = self.client_command(name, &["start"])?;
        command.envs(environment.iter().copied());
        let process = Process::start(name, command, &self.log(name))?;
        self.clients.insert(name.to_owned(), process);
        Ok(())
    }

    /// The first plan that `name` is asked about, once so many members are in its roster.
    pub fn asked_with_roster(&self, name: &str, members: usize) -> Result<Value> {
        let deadline = Instant::now() + ROSTER;
        loop {
            let plans = self.consult(name, &["consent", "list"])?;
            let roster = plans[0]["roster"].as_array();
            if roster.is_some_and(|all| all.len() == members) {
                return Ok(plans[0].clone());
            }
            anyhow::ensure!(Instant::now() < deadline, "not all are there: {plans}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Writes the fingerprints of the plan's roster into everybody's policy, as people do who have read them to each other.
    pub fn introduce(&self, names: &[&str], asked: &Value) -> Result<()> {
        let mut known = String::from("[known_institutions]\n");
        for fellow in asked["roster"].as_array().context("a roster")? {
            let (name, print) = (&fellow["institution"], &fellow["fingerprint"]);
            writeln!(known, "{} = {print}", name.as_str().context("a name")?)?;
        }
        for name in names {
            let file = self.client_directory(name).join("policy.toml");
            let policy = fs::read_to_string(&file).context("read the policy")?;
            fs::write(&file, policy + &known).context("write the policy")?;
            self.consult(name, &["policy", "apply"])?;
        }
        Ok(())
    }

    fn note_memory(&mut self) {
        let peaks = self.clients.values().filter_map(Process::peak_memory);
        self.client_peak = peaks.fold(self.client_peak, u64::max);
    }

    /// Largest memory so far of any client and of the coordinator, in bytes.
    pub fn peak_memory(&mut self) -> (u64, u64) {
        self.note_memory();
        let coordinator = self
            .coordinator
            .as_ref()
            .and_then(Process::peak_memory)
            .unwrap_or(0);
        (self.client_peak, coordinator)
    }

    /// Lets the coordinator's peak begin anew.
    pub fn forget_peak_memory(&self) -> Result<()> {
        let coordinator = self.coordinator.as_ref().context("a coordinator")?;
        Ok(coordinator.forget_peak_memory()?)
    }
}

/// Runs a command with `--output json` and reads the value it writes.
pub fn json(mut command: Command) -> Result<Value> {
    command.args(["--output", "json"]);
    let output = run(command)?;
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.trim()).with_context(|| format!("read JSON: {text}"))
}
