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

/// Where a process is reached and what it reaches, by wires or straight.
#[derive(Debug)]
pub struct Ends {
    database: String,
    objects: String,
    callers: String,
    others: String,
    /// Where it listens for callers, and for the other processes.
    listen: [String; 2],
}

impl Ends {
    /// Nothing lies in between.
    fn straight(database: &str, objects: &str) -> Result<Self> {
        let listen = [free_address()?, free_address()?];
        let [callers, others] = listen.clone();
        Ok(Self {
            database: database.to_owned(),
            objects: objects.to_owned(),
            callers,
            others,
            listen,
        })
    }

    /// What its process needs to know of the engines.
    fn environment(&self) -> Vec<(String, String)> {
        let mut environment = S3::environment(&self.objects);
        environment.push(("PGPASSWORD".to_owned(), PASSWORD.to_owned()));
        environment
    }
}

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
}

impl Wires {
    /// Puts a wire at each end.
    fn at(ends: &mut Ends) -> Result<Self> {
        let wires = Self {
            database: Proxy::start(&ends.database)?,
            objects: Faulty::start(&ends.objects)?,
            callers: Proxy::start(&ends.callers)?,
            others: Proxy::start(&ends.others)?,
        };
        ends.database = wires.database.address();
        ends.objects = wires.objects.address();
        ends.callers = wires.callers.address();
        ends.others = wires.others.address();
        Ok(wires)
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

/// Real servers, and the ends of each process, before the processes are there.
#[derive(Debug)]
pub struct Ground {
    pub server: Postgres,
    /// One set a process; none of a straight ground.
    pub wires: Vec<Wires>,
    ends: Vec<Ends>,
    _objects: S3,
    lease: Duration,
}

impl Ground {
    /// `None` where PostgreSQL or moto is not installed; `log` has what the S3 server says.
    pub fn new(count: usize, lease: Duration, log: &Path) -> Result<Option<Self>> {
        let Some(mut ground) = Self::straight(count, lease, log)? else {
            return Ok(None);
        };
        let wires = ground.ends.iter_mut().map(Wires::at);
        ground.wires = wires.collect::<Result<_>>()?;
        Ok(Some(ground))
    }

    /// The same without wires.
    pub fn straight(count: usize, lease: Duration, log: &Path) -> Result<Option<Self>> {
        let (Some(programs), Some(python)) = (Postgres::programs(), S3::python()) else {
            return Ok(None);
        };
        let server = Postgres::start(&programs)?;
        server.create(DATABASE)?;
        let objects = S3::start(&python, log)?;
        let ends = (0..count).map(|_| Ends::straight(&server.address(), objects.address()));
        Ok(Some(Self {
            ends: ends.collect::<Result<_>>()?,
            wires: Vec::new(),
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
        let ends = &self.ends[0];
        let several = Engines {
            config: format!(
                "cluster_address = \"{}\"\ncluster_listen = \"{}\"\nlease_s = {}\n",
                ends.others,
                ends.listen[1],
                self.lease.as_secs()
            ),
            ..Engines::default()
        };
        Postgres::engines(&ends.database, DATABASE)
            .and(S3::engines(&ends.objects))
            .and(several)
    }

    /// Where callers dial each of the processes.
    pub fn callers(&self) -> Vec<String> {
        self.ends.iter().map(|ends| ends.callers.clone()).collect()
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
            processes: ground.ends.iter().map(|_| None).collect(),
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
            .envs(self.ground.ends[number].environment())
            .arg("--dir")
            .arg(self.directory(number))
            .args(words);
        Ok(command)
    }

    /// Institutions dial all processes.
    fn settle_first(&self) -> Result<()> {
        let config = self.directory(0).join("coordinator.toml");
        let listen = format!("{:?}", self.ground.ends[0].listen[0]);
        let address = format!("{:?}", self.ground.callers());
        set(&config, &[("address", &address), ("listen", &listen)])
    }

    fn add(&self, number: usize) -> Result<()> {
        let (first, ends) = (self.directory(0), &self.ground.ends[number]);
        let mut command = self.command(number, &["join", "--cluster-address", &ends.others])?;
        command.args(["--cluster-listen", &ends.listen[1]]);
        command.args(["--listen", &ends.listen[0], "--from"]);
        command.arg(&first);
        run(command)?;
        if self.ground.wires.is_empty() {
            return Ok(());
        }
        let url = Postgres::url(&ends.database, DATABASE);
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

    /// All of them; `None` where one does not run.
    pub fn processes(&self) -> Option<Vec<&Process>> {
        self.processes.iter().map(Option::as_ref).collect()
    }

    /// `kill -9`.
    pub fn kill(&mut self, number: usize) -> Result<()> {
        self.processes[number].take().context("it runs")?.kill()
    }

    /// Who holds the lease; nobody in the middle of a change.
    pub fn leader(&self) -> Result<Option<usize>> {
        let sql = "SELECT address FROM writer WHERE until > clock_timestamp()";
        let address = self.ground.query(sql)?;
        let mut ends = self.ground.ends.iter();
        Ok(ends.position(|ends| ends.others == address))
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
