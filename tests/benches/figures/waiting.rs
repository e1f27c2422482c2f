//! Institutions that wait in a long poll.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use fedner_tests::tiny;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::federation::Federation;

/// Handshakes beside each other.
const AT_ONCE: usize = 50;

pub(crate) async fn waiting(count: usize) -> Result<()> {
    let mut federation = Federation::start(tiny::TEST)?;
    let institutions = federation.enrol(count).await?;
    let before = resident(&mut federation)?;
    let gate = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for mut institution in institutions {
        let gate = Arc::clone(&gate);
        tasks.spawn(async move {
            let turn = gate.acquire().await?;
            institution.client().await?;
            drop(turn);
            institution.check_in().await?;
            anyhow::Ok(institution)
        });
    }
    // All are connected, and none has anything to do; polls last 20 seconds at most.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let during = resident(&mut federation)?;
    println!(
        "waiting: {} institutions in long poll: coordinator holds {} MiB, {} MiB before",
        tasks.len(),
        during >> 20,
        before >> 20
    );
    let mut answered = 0;
    while let Some(institution) = tasks.join_next().await {
        institution??;
        answered += 1;
    }
    println!("waiting: {answered} of {count} polls were answered");
    Ok(())
}

fn resident(federation: &mut Federation) -> Result<u64> {
    let process = federation.cluster.coordinator_process();
    process
        .and_then(|process| process.memory())
        .context("the coordinator's memory")
}
