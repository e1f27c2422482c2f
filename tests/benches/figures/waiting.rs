//! Institutions that wait in a long poll, and are woken.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use fedner_shared::event::Event;
use fedner_tests::tiny;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::federation::{Federation, plan, spread};
use crate::place::Place;
use crate::processes::now_ms;

/// Handshakes beside each other.
const AT_ONCE: usize = 50;
/// Each is in a poll again by then, as one lasts 20 seconds at most.
const SETTLED: Duration = Duration::from_secs(10);

pub(crate) async fn waiting(place: Place, count: usize) -> Result<()> {
    let mut federation = Federation::start_at(place, tiny::TEST)?;
    let institutions = federation.enrol(count).await?;
    let (before, _) = federation.memory()?;
    let gate = Arc::new(Semaphore::new(AT_ONCE));
    let connected = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for mut institution in institutions {
        let (gate, connected) = (Arc::clone(&gate), Arc::clone(&connected));
        tasks.spawn(async move {
            let turn = gate.acquire().await?;
            institution.client().await?;
            drop(turn);
            connected.fetch_add(1, Ordering::SeqCst);
            while institution.check_in().await?.is_none() {}
            anyhow::Ok(now_ms()?)
        });
    }
    while connected.load(Ordering::SeqCst) < count {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(SETTLED).await;
    let (during, _) = federation.memory()?;
    println!(
        "waiting: {place}: {count} institutions in long poll: coordinator holds {} MiB, {} MiB before",
        during >> 20,
        before >> 20
    );
    let run = federation.start_run(&plan(count, 1, "head", 1))?;
    let mut woken = Vec::new();
    while let Some(at) = tasks.join_next().await {
        woken.push(at??);
    }
    let is_start = |event: &Event| matches!(event, Event::RunStarted);
    let entries = federation
        .watch_until(&run, Duration::from_mins(1), is_start)
        .await?;
    let started = entries.last().context("the start of the run")?;
    let started = started.time.as_millis();
    let waits = woken.iter().map(|at| (at - started) as f64 / 1000.0);
    println!(
        "waiting: {place}: all {count} are woken by one event: {} after it",
        spread(waits.collect(), "s")
    );
    Ok(())
}
