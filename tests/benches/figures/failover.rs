//! A leader that is killed: how long it takes until the next one gives an assignment.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fedner_proto::v1::check_in_response::Todo;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use crate::federation::{Federation, plan, spread};
use crate::hollow::Hollow;
use crate::place::Place;
use crate::rounds::SMALL;

/// Rounds enough for all deaths.
const ROUNDS: u32 = 10_000;
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two attempts at a coordinator that does not answer.
const PAUSE: Duration = Duration::from_millis(20);

/// When the check-in began that an assignment is the answer to, and when that came.
type Assigned = (Instant, Instant);

pub(crate) async fn failover(lease_s: u64, repeats: usize) -> Result<()> {
    let mut federation = Federation::start_at(Place::Three { lease_s }, SMALL)?;
    let (sender, mut assigned) = unbounded_channel();
    let mut tasks = JoinSet::new();
    for institution in federation.enrol(4).await? {
        tasks.spawn(go_on(institution, sender.clone()));
    }
    federation.start_run(&plan(4, ROUNDS, "head", 6))?;
    let mut waits = Vec::new();
    let mut killed = Instant::now();
    for _ in 0..repeats {
        // Rounds go on, and whoever was started anew stands by.
        next_after(&mut assigned, killed).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let several = federation.several.as_mut().context("three processes")?;
        let leader = several.wait_for_leader(PATIENCE)?;
        killed = Instant::now();
        several.kill(leader)?;
        let given = next_after(&mut assigned, killed).await?;
        waits.push(given.duration_since(killed).as_secs_f64());
        several.start(leader)?;
    }
    println!(
        "failover: lease of {lease_s} s: from kill -9 of the leader until the next one gives an assignment: {}",
        spread(waits, "s")
    );
    let verdict = federation.cluster.coordinate(&["verify"])?;
    anyhow::ensure!(verdict["problems"] == serde_json::json!([]), "{verdict}");
    Ok(())
}

/// When an assignment came that was asked for after that moment.
async fn next_after(
    assigned: &mut UnboundedReceiver<Assigned>,
    moment: Instant,
) -> Result<Instant> {
    let wait = async {
        while let Some((asked, came)) = assigned.recv().await {
            if asked > moment {
                return Ok(came);
            }
        }
        anyhow::bail!("nobody takes part any more")
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .context("no assignment comes")?
}

/// Takes part, and tries again at another process where one does not answer.
async fn go_on(mut institution: Hollow, assigned: UnboundedSender<Assigned>) {
    loop {
        if work_once(&mut institution, &assigned).await.is_err() {
            institution.turn();
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn work_once(institution: &mut Hollow, assigned: &UnboundedSender<Assigned>) -> Result<()> {
    let asked = Instant::now();
    let Some(todo) = institution.check_in().await? else {
        return Ok(());
    };
    if matches!(todo, Todo::Train(_)) {
        assigned.send((asked, Instant::now())).ok();
    }
    institution.work(todo).await
}
