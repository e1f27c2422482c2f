//! How long a revoked institution can go on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fedner_proto::v1;
use fedner_proto::v1::federation_client::FederationClient;
use fedner_tests::grpc::{Credentials, channel};
use fedner_tests::tiny;

use crate::federation::Federation;

/// Longer than any of this takes.
const HELD: Duration = Duration::from_secs(25);

/// Revokes each of `count` institutions while it holds a poll on an open connection.
///
/// Said are: from the start of the command until the held poll ends, until the next call on the same
/// connection is refused, and how long the command itself takes.
pub(crate) async fn revoked(count: usize) -> Result<()> {
    let federation = Federation::start(tiny::TEST)?;
    federation.enrol(count).await?;
    let cluster = &federation.cluster;
    let authority = cluster
        .coordinator_directory()
        .join("authority/authority.pem");
    let (mut ends, mut refused, mut commands) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..count {
        let name = format!("i{number}");
        let identity = cluster.client_directory(&name).join("identity");
        let credentials = Credentials {
            certificate: &identity.join("tls.pem"),
            key: &identity.join("tls.key"),
        };
        let member = channel(&cluster.address(), &authority, Some(credentials)).await?;
        let mut client = FederationClient::new(member);
        client
            .check_in(v1::CheckInRequest::default())
            .await
            .context("enrolled")?;
        let mut polling = client.clone();
        let poll = tokio::spawn(async move {
            let request = v1::CheckInRequest {
                wait_ms: HELD.as_millis() as u32,
                ..v1::CheckInRequest::default()
            };
            (polling.check_in(request).await.is_err(), Instant::now())
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
        anyhow::ensure!(!poll.is_finished(), "the poll was not held");
        let began = Instant::now();
        let mut command = cluster.coordinator_command(&["institution", "revoke", &name])?;
        let status = tokio::task::spawn_blocking(move || command.status()).await??;
        anyhow::ensure!(status.success(), "not revoked");
        commands.push(began.elapsed());
        let (failed, ended) = tokio::time::timeout(HELD, poll).await??;
        anyhow::ensure!(failed, "the poll was answered");
        ends.push(ended.duration_since(began));
        let answer = client.check_in(v1::CheckInRequest::default()).await;
        anyhow::ensure!(answer.is_err(), "the revoked institution checks in");
        refused.push(began.elapsed());
    }
    for (what, mut times) in [
        ("the held poll ended", ends),
        ("the next call was refused", refused),
        ("the command itself", commands),
    ] {
        times.sort();
        println!(
            "revoked: {what} after {:.0?} in the median, {:.0?} to {:.0?}, of {count}",
            times[count / 2],
            times[0],
            times[count - 1],
        );
    }
    Ok(())
}
