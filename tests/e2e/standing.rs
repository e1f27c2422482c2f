//! Who may come back, and what ends when somebody may not stay.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use fedner_proto::v1;
use fedner_proto::v1::monitoring_client::MonitoringClient;
use fedner_tests::binaries::binaries;
use fedner_tests::grpc::{Credentials, channel};
use rcgen::{CertificateParams, DistinguishedName, DnType, Issuer, KeyPair};
use tokio_stream::StreamExt;

use crate::setting::{Setting, refused, run};

fn enroll(setting: &Setting, folder: &str, invite: &Path) -> Result<std::process::Command> {
    let mut command = setting.cluster.client_command(folder, &["enroll"])?;
    command.arg(invite);
    Ok(command)
}

/// An invite in a file of its own.
fn invite(setting: &Setting, arguments: &[&str], file: &str) -> Result<PathBuf> {
    let arguments = [&["invite"], arguments].concat();
    let text = run(setting.cluster.coordinator_command(&arguments)?)?;
    let path = setting.path(file);
    std::fs::write(&path, text)?;
    Ok(path)
}

#[test]
fn an_older_invite_lets_nobody_back_who_was_kept_out() -> Result<()> {
    let setting = Setting::new()?;
    let set = |state: &str, name: &str| {
        run(setting
            .cluster
            .coordinator_command(&["institution", state, name])?)
    };
    let state = |name: &str| -> Result<String> {
        let view = setting.cluster.coordinate(&["institution", "show", name])?;
        Ok(view["state"].as_str().context("state")?.to_owned())
    };
    for (name, action, after) in [
        ("anna", "revoke", "revoked"),
        ("mercy", "suspend", "suspended"),
    ] {
        let first = invite(&setting, &[name], "first.toml")?;
        let second = invite(&setting, &[name], "second.toml")?;
        run(enroll(&setting, name, &first)?)?;
        // While the name is active, a second invite of the same kind does not replace its keys.
        let said = refused(enroll(&setting, "thief", &second)?)?;
        assert!(said.contains("invite-void"), "{said}");
        set(action, name)?;
        let said = refused(enroll(&setting, "thief", &second)?)?;
        assert!(said.contains("invite-void"), "{said}");
        assert_eq!(state(name)?, after);
        // A new one must say what it is for; then it works, once.
        let command = setting.cluster.coordinator_command(&["invite", name])?;
        assert!(refused(command)?.contains("invite-reenrol"));
        let back = invite(&setting, &[name, "--reenrol"], "back.toml")?;
        let other = invite(&setting, &[name, "--reenrol"], "other.toml")?;
        run(enroll(&setting, &format!("{name}-again"), &back)?)?;
        assert_eq!(state(name)?, "active");
        let said = refused(enroll(&setting, "thief", &other)?)?;
        assert!(said.contains("invite-void"), "{said}");
        // The keys from before are worth nothing.
        let check = setting.cluster.client_command(name, &["check"])?.output()?;
        assert!(!check.status.success());
        let said = String::from_utf8_lossy(&check.stdout).into_owned();
        assert!(said.contains("has been replaced"), "{said}");
    }
    let command = setting
        .cluster
        .coordinator_command(&["invite", "nobody", "--reenrol"])?;
    assert!(refused(command)?.contains("institution-unknown"));
    Ok(())
}

/// A certificate of the real authority, for a role, that holds from a time on until another one.
fn certificate(setting: &Setting, role: &str, life: Range<SystemTime>) -> Result<(String, String)> {
    let authority = setting.cluster.coordinator_directory().join("authority");
    let read = |name: &str| std::fs::read_to_string(authority.join(name));
    let issuer = Issuer::from_ca_cert_pem(
        &read("authority.pem")?,
        KeyPair::from_pem(&read("authority.key")?)?,
    )?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, role);
    params
        .distinguished_name
        .push(DnType::OrganizationalUnitName, role);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = life.start.into();
    params.not_after = life.end.into();
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// A viewer's that holds for so long.
fn short_lived(setting: &Setting, life: Duration) -> Result<(PathBuf, PathBuf)> {
    let now = SystemTime::now();
    let life = now - Duration::from_mins(1)..now + life;
    let (certificate, key) = certificate(setting, "viewer", life)?;
    let (pem, secret) = (setting.path("short.pem"), setting.path("short.key"));
    std::fs::write(&pem, certificate)?;
    std::fs::write(&secret, key)?;
    Ok((pem, secret))
}

/// The machine was off, or suspended, for longer than a certificate holds.
#[test]
fn an_operator_whose_certificate_ran_out_is_told_so_and_helped_where_the_coordinator_is()
-> Result<()> {
    let mut setting = Setting::new()?;
    let elsewhere = setting.path("elsewhere");
    let to = elsewhere.to_str().context("path")?;
    let issue = ["key", "issue", "ops", "--role", "operator", "--to", to];
    setting.cluster.coordinate_quietly(&issue)?;
    let day = Duration::from_hours(24);
    let now = SystemTime::now();
    let past = || certificate(&setting, "operator", now - 100 * day..now - 10 * day);
    let put = |directory: &Path, (pem, key): (String, String)| -> Result<()> {
        std::fs::write(directory.join("operator/operator.pem"), pem)?;
        Ok(std::fs::write(
            directory.join("operator/operator.key"),
            key,
        )?)
    };
    put(&elsewhere, past()?)?;
    let mut list = std::process::Command::new(&binaries()?.coordinator);
    list.args(["--dir", to, "run", "list"]);
    let said = refused(list)?;
    assert!(said.contains("certificate-expired"), "{said}");
    assert!(said.contains("key issue"), "{said}");
    // Where the coordinator lies it renews what ran out meanwhile, before it serves.
    put(&setting.cluster.coordinator_directory(), past()?)?;
    setting.cluster.kill_coordinator()?;
    setting.cluster.start_coordinator()?;
    setting.cluster.coordinate(&["run", "list"])?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_runs_out_ends_its_connection_and_its_streams() -> Result<()> {
    let setting = Setting::new()?;
    let life = Duration::from_secs(4);
    let (certificate, key) = short_lived(&setting, life)?;
    let expires = Instant::now() + life;
    let credentials = Credentials {
        certificate: &certificate,
        key: &key,
    };
    let authority = setting
        .cluster
        .coordinator_directory()
        .join("authority/authority.pem");
    let viewer = channel(&setting.cluster.address(), &authority, Some(credentials)).await?;
    let mut client = MonitoringClient::new(viewer);
    client
        .list_runs(v1::ListRunsRequest::default())
        .await
        .context("while it holds")?;
    let request = v1::WatchRequest {
        run: String::new(),
        from: u64::MAX,
    };
    let mut events = client.watch(request).await?.into_inner();
    let ended = tokio::time::timeout(Duration::from_secs(10), events.next());
    let ended = ended
        .await
        .context("the stream ends with the certificate")?;
    assert!(!matches!(ended, Some(Ok(_))), "{ended:?}");
    let late = Instant::now().saturating_duration_since(expires);
    assert!(late < Duration::from_secs(3), "{late:?} after it ran out");
    client
        .list_runs(v1::ListRunsRequest::default())
        .await
        .expect_err("it holds no more");
    let log = std::fs::read_to_string(setting.cluster.log("coordinator"))?;
    assert!(log.contains("certificate-expired"), "{log}");
    Ok(())
}

#[cfg(unix)]
#[test]
fn directories_and_files_are_for_their_owner_alone_from_the_first_moment() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;

    fn open(path: &Path, found: &mut Vec<String>) -> Result<()> {
        let mode = std::fs::symlink_metadata(path)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            found.push(format!("{} {mode:o}", path.display()));
        }
        if path.is_dir() {
            for entry in std::fs::read_dir(path)? {
                open(&entry?.path(), found)?;
            }
        }
        Ok(())
    }

    let mut setting = Setting::with_model()?;
    setting.enrol("i0", 0, 2)?;
    setting.cluster.start_client("i0")?;
    let client = setting.cluster.client_directory("i0");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !client.join("state.sqlite").exists() {
        assert!(Instant::now() < deadline, "{}", setting.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_millis(500));
    let mut found = Vec::new();
    open(&setting.cluster.coordinator_directory(), &mut found)?;
    for entry in std::fs::read_dir(&client)? {
        let path = entry?.path();
        // The test itself wrote these.
        let ours = ["policy.toml", "client.toml"]
            .iter()
            .any(|name| path.ends_with(name));
        if !ours {
            open(&path, &mut found)?;
        }
    }
    assert_eq!(found, Vec::<String>::new());
    assert_eq!(
        std::fs::metadata(&client)?.permissions().mode() & 0o777,
        0o700
    );

    // What an older version left open is closed at the next start; a key that was open is refused.
    setting.cluster.kill_coordinator()?;
    let directory = setting.cluster.coordinator_directory();
    let set = |name: &str, mode: u32| {
        std::fs::set_permissions(directory.join(name), std::fs::Permissions::from_mode(mode))
    };
    set("state.sqlite", 0o644)?;
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755))?;
    setting.cluster.start_coordinator()?;
    let mode =
        |path: &Path| -> Result<u32> { Ok(std::fs::metadata(path)?.permissions().mode() & 0o777) };
    assert_eq!(mode(&directory)?, 0o700);
    assert_eq!(mode(&directory.join("state.sqlite"))?, 0o600);
    setting.cluster.kill_coordinator()?;
    set("authority/authority.key", 0o640)?;
    let said = refused(setting.cluster.coordinator_command(&["serve"])?)?;
    assert!(
        said.contains("secret-readable") && said.contains("0640"),
        "{said}"
    );
    Ok(())
}
