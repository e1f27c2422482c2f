//! A coordinator with a model, and what happens in it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use fedner_client::config::{Directory, Invite};
use fedner_client::identity;
use fedner_proto::v1::monitoring_client::MonitoringClient;
use fedner_proto::v1::operations_client::OperationsClient;
use fedner_proto::{convert, v1};
use fedner_shared::event::{Entry, Event};
use fedner_shared::time::Time;
use fedner_tests::cluster::Cluster;
use fedner_tests::grpc::{Credentials, channel};
use fedner_tests::notes::{self, Split, Style};
use fedner_tests::process::Process;
use fedner_tests::several::Several;
use fedner_tests::tiny::{self, Size};
use futures::{StreamExt, TryStreamExt, stream};
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::hollow::Hollow;
use crate::place::{self, Place};

/// They write keys to the disk, which each waits for.
const ENROLLED_TOGETHER: usize = 16;

pub(crate) struct Federation {
    pub(crate) cluster: Cluster,
    pub(crate) folder: TempDir,
    pub(crate) several: Option<Several>,
}

impl Federation {
    /// A coordinator with a model of that size as `base@1`.
    pub(crate) fn start(size: Size) -> Result<Self> {
        Self::start_at(Place::One, size)
    }

    pub(crate) fn start_at(place: Place, size: Size) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir_all(folder.path().join("logs"))?;
        let (cluster, several) = place::start(folder.path(), place)?;
        let text = notes::to_conll(&notes::generate(Style::StAnna, Split::Train, 60, 1));
        let model = folder.path().join("base");
        tiny::write(&model, size, &text, 1)?;
        let from = model.to_str().context("path")?;
        cluster.coordinate(&["model", "import", "--from", from, "--name", "base"])?;
        Ok(Self {
            cluster,
            folder,
            several,
        })
    }

    /// Where institutions dial; one address a process.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let several = self.several.as_ref();
        let several = several.map(|several| several.ground.callers());
        several.unwrap_or_else(|| vec![self.cluster.address()])
    }

    /// Every process of the coordinator.
    fn processes(&mut self) -> Result<Vec<&Process>> {
        let Some(several) = &mut self.several else {
            let one = self.cluster.coordinator_process().context("it runs")?;
            return Ok(vec![one]);
        };
        several.processes().context("all of them run")
    }

    /// What all processes of the coordinator hold now, and held at most, in bytes.
    pub(crate) fn memory(&mut self) -> Result<(u64, u64)> {
        let mut sum = (0, 0);
        for process in self.processes()? {
            sum.0 += process.memory().context("a process's memory")?;
            sum.1 += process.peak_memory().context("a process's memory")?;
        }
        Ok(sum)
    }

    /// Lets the most that they held begin anew.
    pub(crate) fn forget_peak_memory(&mut self) -> Result<()> {
        for process in self.processes()? {
            process.forget_peak_memory()?;
        }
        Ok(())
    }

    async fn operator(&self) -> Result<Channel> {
        let directory = self.cluster.coordinator_directory();
        let operator = directory.join("operator");
        let credentials = Credentials {
            certificate: &operator.join("operator.pem"),
            key: &operator.join("operator.key"),
        };
        let authority = directory.join("authority/authority.pem");
        let addresses = self.addresses();
        let address = addresses.first().context("an address")?;
        channel(address, &authority, Some(credentials)).await
    }

    /// Enrols institutions `i0`, `i1`, … that are tasks of this program, and dial the processes in turn.
    pub(crate) async fn enrol(&self, count: usize) -> Result<Vec<Hollow>> {
        let operations = OperationsClient::new(self.operator().await?);
        let enrol = |number| self.enrol_one(number, operations.clone());
        let all = stream::iter((0..count).map(enrol)).buffered(ENROLLED_TOGETHER);
        all.try_collect().await
    }

    async fn enrol_one(
        &self,
        number: usize,
        mut operations: OperationsClient<Channel>,
    ) -> Result<Hollow> {
        let name = format!("i{number}");
        let request = v1::CreateInviteRequest {
            institution: name.clone(),
            ttl_s: 3600,
            reenrol: false,
        };
        let invite = operations.create_invite(request).await?.into_inner();
        let invite = Invite {
            institution: name.parse()?,
            address: invite.address.parse()?,
            authority: invite.authority_sha256.as_slice().try_into()?,
            secret: invite.secret,
            expires: Time::from_millis(invite.expires_ms),
        };
        let root = self.cluster.client_directory(&name);
        let directory = Directory::new(Some(root.clone()))?;
        identity::enrol(
            &directory,
            &invite,
            vec![],
            vec![],
            identity::Way::default(),
        )
        .await?;
        let mut own = self.addresses();
        let processes = own.len();
        own.rotate_left(number % processes);
        Hollow::new(&name, &root, own)
    }

    /// Signs the plan and starts its run; the run's name.
    pub(crate) fn start_run(&self, plan: &str) -> Result<String> {
        let path = self.folder.path().join("plan.toml");
        std::fs::write(&path, plan)?;
        let path = path.to_str().context("path")?;
        let created = self
            .cluster
            .coordinate(&["run", "create", path, "--start", "--force"])?;
        Ok(created["run"].as_str().context("run")?.to_owned())
    }

    /// All events of the run, once it has come to its end.
    pub(crate) async fn watch(&self, run: &str, within: Duration) -> Result<Vec<Entry>> {
        let end = |event: &Event| matches!(event, Event::RunCompleted { .. });
        self.watch_until(run, within, end).await
    }

    /// The events of the run, up to the first that is the `last`.
    pub(crate) async fn watch_until(
        &self,
        run: &str,
        within: Duration,
        last: impl Fn(&Event) -> bool,
    ) -> Result<Vec<Entry>> {
        let mut monitoring = MonitoringClient::new(self.operator().await?);
        let request = v1::WatchRequest {
            run: run.to_owned(),
            from: 1,
        };
        let mut stream = monitoring.watch(request).await?.into_inner();
        let mut entries = Vec::new();
        let follow = async {
            while let Some(message) = stream.message().await? {
                let entry = convert::entry_from_wire(&message)?;
                let event = entry.event.clone();
                entries.push(entry);
                if let Event::RunFailed { reason } = &event {
                    bail!("the run failed: {reason}");
                }
                if last(&event) {
                    return Ok(());
                }
            }
            bail!("the coordinator stopped")
        };
        tokio::time::timeout(within, follow)
            .await
            .context("the run takes too long")??;
        Ok(entries)
    }
}

/// A plan over institutions `i0`, `i1`, …, all of them needed.
pub(crate) fn plan(institutions: usize, rounds: u32, method: &str, labels: usize) -> String {
    let names: Vec<String> = (0..institutions)
        .map(|number| format!("\"i{number}\""))
        .collect();
    let labels: Vec<String> = (0..labels).map(|number| format!("\"L{number}\"")).collect();
    format!(
        r#"
name = "figures"
base = "base@1"
labels = [{}]
method = "{method}"
rounds = {rounds}
[cohort]
institutions = [{}]
quorum = {institutions}
weighting = "examples"
[privacy]
unit = "none"
"#,
        labels.join(", "),
        names.join(", ")
    )
}

/// The same plan with another line in `[cohort]`.
pub(crate) fn with_cohort(plan: &str, line: &str) -> String {
    plan.replace("[privacy]", &format!("{line}\n[privacy]"))
}

/// Seconds from the start of each round to the start of the next, the first round left out.
pub(crate) fn round_seconds(entries: &[Entry]) -> Vec<f64> {
    let mut starts: Vec<Time> = Vec::new();
    for entry in entries {
        if matches!(
            entry.event,
            Event::RoundStarted { .. } | Event::RunCompleted { .. }
        ) {
            starts.push(entry.time);
        }
    }
    let pairs = starts.windows(2).skip(1);
    pairs
        .map(|pair| pair[1].since(pair[0]).as_secs_f64())
        .collect()
}

/// Median, least and most, for people.
pub(crate) fn spread(mut values: Vec<f64>, unit: &str) -> String {
    values.sort_by(f64::total_cmp);
    match (values.first(), values.last()) {
        (Some(least), Some(most)) => format!(
            "median {:.3} {unit} (least {least:.3}, most {most:.3}, of {})",
            values[values.len() / 2],
            values.len()
        ),
        _ => "nothing was measured".to_owned(),
    }
}
