//! Every key gives way to a new one while a run goes on, and nobody enrols anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fedner_proto::v1;
use fedner_proto::v1::monitoring_client::MonitoringClient;
use fedner_tests::grpc::{Credentials, channel};
use serde_json::Value;
use tokio_stream::StreamExt;
use tonic::transport::Channel;

use crate::setting::{MINUTES, NO_NOISE, Setting, plan, refused, run};

fn wait_for(what: &str, reached: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + MINUTES;
    while !reached()? {
        anyhow::ensure!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// A run under way, whose keys are replaced.
struct Federation {
    setting: Setting,
    run: String,
}

impl Federation {
    fn start() -> Result<Self> {
        let mut setting = Setting::with_model()?;
        setting.start_institutions(2, 4)?;
        // More rounds than the test has time for: it goes on all the while.
        let run = setting.start_run(&plan(2, 2, 5000, "head", "", NO_NOISE))?;
        Ok(Self { setting, run })
    }

    fn directory(&self) -> PathBuf {
        self.setting.cluster.coordinator_directory()
    }

    fn coordinator(&self, arguments: &[&str]) -> Result<String> {
        run(self.setting.cluster.coordinator_command(arguments)?)
    }

    fn refused(&self, arguments: &[&str]) -> Result<String> {
        refused(self.setting.cluster.coordinator_command(arguments)?)
    }

    fn client(&self, name: &str, arguments: &[&str]) -> Result<String> {
        run(self.setting.cluster.client_command(name, arguments)?)
    }

    /// Two more rounds are done with whatever was replaced before: at least one was begun after it.
    fn goes_on(&self, after: &str) -> Result<()> {
        let round = |view: &Value| view["round"].as_u64().unwrap_or_default();
        let view = self
            .setting
            .cluster
            .coordinate(&["run", "show", &self.run])?;
        let before = round(&view);
        self.setting
            .wait_until(&self.run, MINUTES, |view| round(view) >= before + 3)
            .with_context(|| format!("after {after}"))?;
        Ok(())
    }

    /// The fingerprint in a line of `key list`.
    fn key(&self, what: &str) -> Result<String> {
        let keys = self.setting.cluster.coordinate(&["key", "list"])?;
        let keys = keys.as_array().context("a list")?;
        let key = keys.iter().find(|key| key["what"] == what);
        let key = key.with_context(|| format!("no {what} in {keys:?}"))?;
        assert_eq!(key["state"], "in-force", "{key}");
        Ok(key["fingerprint"]
            .as_str()
            .context("fingerprint")?
            .to_owned())
    }

    fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.setting.path(name);
        fs::write(&path, text)?;
        Ok(path.to_str().context("path")?.to_owned())
    }

    async fn dial(&self, certificate: &Path, key: &Path) -> Result<Channel> {
        let authority = self.directory().join("authority/authority.pem");
        let credentials = Credentials { certificate, key };
        channel(
            &self.setting.cluster.address(),
            &authority,
            Some(credentials),
        )
        .await
    }

    /// What the certificate's holder is told; nothing where it may look.
    async fn told(&self, certificate: &Path, key: &Path) -> Option<String> {
        let channel = match self.dial(certificate, key).await {
            Ok(channel) => channel,
            Err(error) => return Some(format!("{error:#}")),
        };
        let listed = MonitoringClient::new(channel)
            .list_runs(v1::ListRunsRequest::default())
            .await;
        listed.err().map(|status| status.to_string())
    }
}

/// Copies a certificate and its key aside, as a thief would have them.
fn steal(from: (PathBuf, PathBuf), to: &Path) -> Result<(PathBuf, PathBuf)> {
    fs::create_dir_all(to)?;
    let stolen = (to.join("stolen.pem"), to.join("stolen.key"));
    fs::copy(from.0, &stolen.0)?;
    fs::copy(from.1, &stolen.1)?;
    Ok(stolen)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_is_replaced_while_a_run_goes_on_and_nobody_enrols_anew() -> Result<()> {
    let mut federation = Federation::start()?;
    federation.goes_on("the start")?;
    for (name, what) in [
        ("server", "server"),
        ("history", "history"),
        ("plans", "plans"),
    ] {
        let before = federation.key(what)?;
        federation.coordinator(&["key", "rotate", name])?;
        assert_ne!(federation.key(what)?, before);
        federation.goes_on(name)?;
    }
    plans_are_signed_elsewhere(&federation)?;
    institutions_sign_with_other_keys(&federation)?;
    the_authority_is_replaced(&federation).await?;
    people_are_replaced_and_revoked(&federation).await?;

    // All of it is on disk.
    federation.setting.cluster.kill_coordinator()?;
    federation.setting.cluster.start_coordinator()?;
    federation.goes_on("a restart")?;
    for name in ["i0", "i1"] {
        federation.client(name, &["privacy", "verify"])?;
        federation.client(name, &["receipts", "verify"])?;
    }

    // The institution's work ends with its next sign of life, every two seconds.
    federation.coordinator(&["institution", "revoke", "i1"])?;
    let log = federation.setting.cluster.log("i1");
    wait_for("the revocation", || {
        Ok(fs::read_to_string(&log)?.contains("institution-revoked"))
    })?;
    let setting = &federation.setting;
    let view = setting
        .cluster
        .coordinate(&["run", "show", &federation.run])?;
    assert_eq!(view["members"][1]["state"], "left", "{view}");
    let verdict = setting.cluster.coordinate(&["verify"])?;
    assert_eq!(verdict["problems"], serde_json::json!([]), "{verdict}");
    let published = setting.published()?;
    let newest = published.last().context("a version")?;
    let name = newest["version"]["name"].as_str().context("name")?;
    assert_eq!(setting.cluster.coordinate(&["replay", name])?["same"], true);
    setting.assert_no_errors_logged();
    Ok(())
}

/// The key for plans moves to another machine, and a plan that an older key signs is refused.
fn plans_are_signed_elsewhere(federation: &Federation) -> Result<()> {
    let here = federation.directory().join("operator/signing.key");
    let elsewhere = federation.setting.path("elsewhere.key");
    fs::rename(&here, &elsewhere)?;
    let elsewhere = elsewhere.to_str().context("path")?;
    let open = federation.coordinator(&["key", "open-plans"])?;
    let open = federation.file("open.json", &open)?;
    let newer = federation.setting.path("newer.key");
    let newer = newer.to_str().context("path")?;
    let succeed = [
        "key", "succeed", "--plans", &open, "--old", elsewhere, "--to", newer,
    ];
    let handover = federation.coordinator(&succeed)?;

    // One that the old key did not sign is taken by nobody.
    let mut forged: Value = serde_json::from_str(&handover)?;
    forged["succession"]["signature"] = forged["plans"][0]["signature"].clone();
    let forged = federation.file("forged.json", &forged.to_string())?;
    let said = federation.refused(&["key", "install", &forged])?;
    assert!(said.contains("key-succession-invalid"), "{said}");

    let handover = federation.file("handover.json", &handover)?;
    federation.coordinator(&["key", "install", &handover])?;
    federation.goes_on("plans signed elsewhere")?;

    let text = plan(2, 2, 1, "head", "", NO_NOISE).replace("seed = 7", "seed = 8");
    let plan = federation.file("another.toml", &text)?;
    let prepared = federation.coordinator(&["plan", "prepare", &plan])?;
    let prepared = federation.file("prepared.json", &prepared)?;
    let sign = |key: &str| federation.coordinator(&["plan", "sign", &prepared, "--key", key]);
    let older = federation.file("older.json", &sign(elsewhere)?)?;
    let said = federation.refused(&["run", "create", &older])?;
    assert!(said.contains("plan-signature-invalid"), "{said}");
    let signed = federation.file("signed.json", &sign(newer)?)?;
    federation.coordinator(&["run", "create", &signed])?;
    let said = federation.refused(&["run", "create", &signed])?;
    assert!(said.contains("run-exists"), "{said}");
    Ok(())
}

fn institutions_sign_with_other_keys(federation: &Federation) -> Result<()> {
    for name in ["i0", "i1"] {
        let shown = || federation.setting.cluster.consult(name, &["key", "show"]);
        let before = shown()?["signing"].clone();
        federation.client(name, &["key", "rotate"])?;
        wait_for("the new key", || Ok(shown()?["waiting"].is_null()))?;
        let after = shown()?;
        assert_eq!(after["earlier"], serde_json::json!([before]), "{after}");
        assert_ne!(after["signing"], before);
        federation.goes_on("an institution's key")?;
    }
    Ok(())
}

async fn the_authority_is_replaced(federation: &Federation) -> Result<()> {
    let said = federation.refused(&["key", "withdraw"])?;
    assert!(said.contains("authority-state"), "{said}");
    let (viewer, older) = (
        federation.directory().join("viewer"),
        federation.key("authority")?,
    );
    let at = (viewer.join("viewer.pem"), viewer.join("viewer.key"));
    let stolen = steal(at, &federation.setting.path("old-authority"))?;
    federation.coordinator(&["key", "rotate", "authority"])?;
    assert_ne!(federation.key("next-authority")?, older);
    federation.goes_on("a second authority")?;
    assert_eq!(
        federation.told(&stolen.0, &stolen.1).await,
        None,
        "side by side"
    );

    // It is withdrawn once every institution has a certificate of the new one.
    let withdrawn = || {
        let mut command = federation
            .setting
            .cluster
            .coordinator_command(&["key", "withdraw"])?;
        Ok(command.output()?.status.success())
    };
    wait_for("the withdrawal", withdrawn)?;
    assert_ne!(federation.key("authority")?, older);
    federation.goes_on("the withdrawal of the older authority")?;
    let said = federation.told(&stolen.0, &stolen.1).await;
    assert!(
        said.is_some(),
        "a certificate of the withdrawn authority is worth nothing"
    );
    for name in ["i0", "i1"] {
        let trusted = federation.setting.cluster.client_directory(name);
        let trusted = fs::read_to_string(trusted.join("identity/authority.pem"))?;
        assert_eq!(trusted.matches("BEGIN CERTIFICATE").count(), 1, "{name}");
    }
    Ok(())
}

async fn people_are_replaced_and_revoked(federation: &Federation) -> Result<()> {
    let operator = federation.directory().join("operator");
    let at = (operator.join("operator.pem"), operator.join("operator.key"));
    let stolen = steal(at, &federation.setting.path("operator"))?;
    federation.coordinator(&["key", "rotate", "operator"])?;
    let said = federation
        .told(&stolen.0, &stolen.1)
        .await
        .context("revoked")?;
    assert!(said.contains("revoked"), "{said}");
    federation.goes_on("the operator's certificate")?;
    let said = federation.refused(&["key", "revoke", "operator", "--role", "operator"])?;
    assert!(said.contains("role-forbidden"), "{said}");

    let issue = |folder: &str| -> Result<(PathBuf, PathBuf)> {
        let to = federation.setting.path(folder);
        let text = to.to_str().context("path")?;
        federation.coordinator(&["key", "issue", "dash", "--to", text])?;
        Ok((to.join("viewer/viewer.pem"), to.join("viewer/viewer.key")))
    };
    let first = issue("dash")?;
    let mut client = MonitoringClient::new(federation.dial(&first.0, &first.1).await?);
    let request = v1::WatchRequest {
        run: String::new(),
        from: u64::MAX,
    };
    let mut events = client.watch(request).await?.into_inner();
    federation.coordinator(&["key", "revoke", "dash"])?;
    let ended = async { while let Some(Ok(_)) = events.next().await {} };
    tokio::time::timeout(MINUTES, ended)
        .await
        .context("the stream of events ends")?;
    let said = federation
        .told(&first.0, &first.1)
        .await
        .context("revoked")?;
    assert!(said.contains("revoked"), "{said}");
    let second = issue("dash-again")?;
    assert_eq!(
        federation.told(&second.0, &second.1).await,
        None,
        "issued anew"
    );
    assert!(federation.told(&first.0, &first.1).await.is_some());

    // Another operator, from a directory of its own.
    let to = federation.setting.path("alice");
    let to = to.to_str().context("path")?;
    federation.coordinator(&["key", "issue", "alice", "--role", "operator", "--to", to])?;
    let alice = |arguments: &[&str]| -> Result<Command> {
        let mut command = federation.setting.cluster.coordinator_command(&[])?;
        let program = command.get_program().to_owned();
        command = Command::new(program);
        command.args(["--dir", to]).args(arguments);
        Ok(command)
    };
    run(alice(&["run", "list"])?)?;
    run(alice(&["key", "rotate", "operator"])?)?;
    run(alice(&["key", "list"])?)?;
    let trusted = fs::read_to_string(Path::new(to).join("authority/authority.pem"))?;
    assert_eq!(trusted.matches("BEGIN CERTIFICATE").count(), 1);
    federation.coordinator(&["key", "revoke", "alice", "--role", "operator"])?;
    assert!(refused(alice(&["run", "list"])?)?.contains("certificate-revoked"));
    Ok(())
}
