//! Several processes of one coordinator on a real PostgreSQL and a real S3 server, with a wire to break between any two
//! of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::binaries::binaries;
use crate::cluster::{Cluster, Engines};
use crate::config::{free_address, set};
use crate::faulty::Faulty;
use crate::postgres::{PASSWORD, Postgres};
use crate::process::{Process, run};
use crate::proxy::Proxy;
use crate::s3::S3;

const DATABASE: &str = "north";

/// The wires of one process.
#[derive(Debug)]
pub struct Wires {
    /// From it to the database.
    pub database: Proxy,
    /// From it to the objects.
    pub objects: Faulty,
    /// From institutions and operators to it.
    pub callers: Proxy,
    /// From the other processes to it.
    pub others: Proxy,
    /// Where it listens for callers, and for the other processes.
    listen: [String; 2],
}

impl Wires {
    fn new(database: &str, objects: &str) -> Result<Self> {
        let listen = [free_address()?, free_address()?];
        Ok(Self {
            database: Proxy::start(database)?,
            objects: Faulty::start(objects)?,
            callers: Proxy::start(&listen[0])?,
            others: Proxy::start(&listen[1])?,
            listen,
        })
    }

    /// What its process needs to know of the engines.
    fn environment(&self) -> Vec<(String, String)> {
        let mut environment = S3::environment(&self.objects.address());
        environment.push(("PGPASSWORD".to_owned(), PASSWORD.to_owned()));
        environment
    }

    /// Everything passes again at once.
    pub fn mend(&self) {
        for wire in [&self.database, &self.callers, &self.others] {
            wire.mend();
            wire.up().slow_down(0);
            wire.down().slow_down(0);
        }
        self.objects.decide(|_, _| None);
    }
}

/// Real servers, and the wires of each process, before the processes are there.
#[derive(Debug)]
pub struct Ground {
    pub server: Postgres,
    pub wires: Vec<Wires>,
    _objects: S3,
    lease: Duration,
}

impl Ground {
    /// `None` where PostgreSQL or moto is not installed; `log` has what the S3 server says.
    pub fn new(count: usize, lease: Duration, log: &Path) -> Result<Option<Self>> {
        let (Some(programs), Some(python)) = (Postgres::programs(), S3::python()) else {
            return Ok(None);
        };
        let server = Postgres::start(&programs)?;
        server.create(DATABASE)?;
        let objects = S3::start(&python, log)?;
        let wires = (0..count).map(|_| Wires::new(&server.address(), objects.address()));
        Ok(Some(Self {
            wires: wires.collect::<Result<_>>()?,
            server,
            _objects: objects,
            lease,
        }))
    }

    /// What [`skipped`](crate::skip::skipped) tells whoever lacks one of them.
    pub fn needed() -> String {
        format!("{}; {}", Postgres::NEEDED, S3::NEEDED)
    }

    /// With which the first process begins.
    pub fn engines(&self) -> Engines {
        let wires = &self.wires[0];
        let several = Engines {
            config: format!(
                "cluster_address = \"{}\"\ncluster_listen = \"{}\"\nlease_s = {}\n",
                wires.others.address(),
                wires.listen[1],
                self.lease.as_secs()
            ),
            ..Engines::default()
        };
        Postgres::engines(&wires.database.address(), DATABASE)
            .and(S3::engines(&wires.objects.address()))
            .and(several)
    }

    /// What the database says behind every process's back.
    pub fn query(&self, sql: &str) -> Result<String> {
        self.server.query(DATABASE, sql)
    }
}

/// The processes. They end with it.
#[derive(Debug)]
pub struct Several {
    pub ground: Ground,
    folder: PathBuf,
    processes: Vec<Option<Process>>,
}

impl Several {
    /// Lets the others join the first process, which `cluster` has begun on the ground's engines.
    pub fn join(ground: Ground, cluster: &mut Cluster) -> Result<Self> {
        let mut several = Self {
            folder: cluster.directory().to_owned(),
            processes: ground.wires.iter().map(|_| None).collect(),
            ground,
        };
        cluster.kill_coordinator()?;
        several.settle_first()?;
        several.start(0)?;
        for number in 1..several.count() {
            several.add(number)?;
            several.start(number)?;
        }
        Ok(several)
    }

    pub fn count(&self) -> usize {
        self.processes.len()
    }

    pub fn directory(&self, number: usize) -> PathBuf {
        match number {
            0 => self.folder.join("coordinator"),
            _ => self.folder.join(format!("coordinator-{number}")),
        }
    }

    pub fn log(&self, number: usize) -> PathBuf {
        let name = format!("coordinator-{number}.log");
        self.folder.join("logs").join(name)
    }

    /// A command of the coordinator's program in the directory of that process.
    pub fn command(&self, number: usize, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(&binaries()?.coordinator);
        command
            .envs(self.ground.wires[number].environment())
            .arg("--dir")
            .arg(self.directory(number))
            .args(words);
        Ok(command)
    }

    /// Institutions dial the wires, all of them.
    fn settle_first(&self) -> Result<()> {
        let wires = &self.ground.wires;
        let addresses: Vec<String> = wires.iter().map(|wires| wires.callers.address()).collect();
        let config = self.directory(0).join("coordinator.toml");
        let listen = format!("{:?}", wires[0].listen[0]);
        let address = format!("{addresses:?}");
        set(&config, &[("address", &address), ("listen", &listen)])
    }

    fn add(&self, number: usize) -> Result<()> {
        let (first, wires) = (self.directory(0), &self.ground.wires[number]);
        let others = wires.others.address();
        let mut command = self.command(number, &["join", "--cluster-address", &others])?;
        command.args(["--cluster-listen", &wires.listen[1]]);
        command.args(["--listen", &wires.listen[0], "--from"]);
        command.arg(&first);
        run(command)?;
        let url = Postgres::url(&wires.database.address(), DATABASE);
        let config = self.directory(number).join("coordinator.toml");
        set(&config, &[("store_url", &format!("{url:?}"))])
    }

    /// Starts that process, which leads or stands by.
    pub fn start(&mut self, number: usize) -> Result<()> {
        let process = Process::start_ready(
            &format!("coordinator {number}"),
            self.command(number, &["serve"])?,
            &self.log(number),
            "listening on ",
            Duration::from_secs(30),
        )?;
        self.processes[number] = Some(process);
        Ok(())
    }

    pub fn process(&mut self, number: usize) -> Option<&mut Process> {
        self.processes[number].as_mut()
    }

    /// `kill -9`.
    pub fn kill(&mut self, number: usize) -> Result<()> {
        self.processes[number].take().context("it runs")?.kill()
    }

    /// Who holds the lease; nobody in the middle of a change.
    pub fn leader(&self) -> Result<Option<usize>> {
        let sql = "SELECT address FROM writer WHERE until > clock_timestamp()";
        let address = self.ground.query(sql)?;
        let mut wires = self.ground.wires.iter();
        Ok(wires.position(|wires| wires.others.address() == address))
    }

    /// How often the lease was taken, by whoever.
    pub fn leaders(&self) -> Result<u64> {
        Ok(self.ground.query("SELECT epoch FROM writer")?.parse()?)
    }

    /// Waits until somebody holds the lease.
    pub fn wait_for_leader(&self, within: Duration) -> Result<usize> {
        let began = Instant::now();
        loop {
            if let Some(leader) = self.leader()? {
                return Ok(leader);
            }
            ensure!(began.elapsed() < within, "nobody leads after {within:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What all processes have said, line by line, each with its process's number.
    pub fn said(&self) -> Result<Vec<String>> {
        let mut said = Vec::new();
        for number in 0..self.count() {
            let text = fs::read_to_string(self.log(number))?;
            said.extend(text.lines().map(|line| format!("{number}: {line}")));
        }
        Ok(said)
    }
}
