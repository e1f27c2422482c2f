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
use fedner_tests::tiny::{self, Size};
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::hollow::Hollow;

pub(crate) struct Federation {
    pub(crate) cluster: Cluster,
    pub(crate) folder: TempDir,
}

impl Federation {
    /// A coordinator with a model of that size as `base@1`.
    pub(crate) fn start(size: Size) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let cluster = Cluster::start(folder.path())?;
        let text = notes::to_conll(&notes::generate(Style::StAnna, Split::Train, 60, 1));
        let model = folder.path().join("base");
        tiny::write(&model, size, &text, 1)?;
        let from = model.to_str().context("path")?;
        cluster.coordinate(&["model", "import", "--from", from, "--name", "base"])?;
        Ok(Self { cluster, folder })
    }

    async fn operator(&self) -> Result<Channel> {
        let directory = self.cluster.coordinator_directory();
        let operator = directory.join("operator");
        let credentials = Credentials {
            certificate: &operator.join("operator.pem"),
            key: &operator.join("operator.key"),
        };
        let authority = directory.join("authority/authority.pem");
        channel(&self.cluster.address(), &authority, Some(credentials)).await
    }

    /// Enrols institutions `i0`, `i1`, … that are tasks of this program.
    pub(crate) async fn enrol(&self, count: usize) -> Result<Vec<Hollow>> {
        let mut operations = OperationsClient::new(self.operator().await?);
        let mut all = Vec::new();
        for number in 0..count {
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
            all.push(Hollow::new(&name, &root, &self.cluster.address())?);
        }
        Ok(all)
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
                if matches!(event, Event::RunCompleted { .. }) {
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
[privacy]
unit = "none"
"#,
        labels.join(", "),
        names.join(", ")
    )
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
