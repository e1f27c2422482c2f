//! Rounds without training.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use fedner_shared::event::{Entry, Event};
use fedner_tests::tiny::Size;
use tokio::task::JoinSet;

use crate::federation::{Federation, plan, round_seconds, spread};
use crate::hollow::Hollow;
use crate::place::Place;

/// 1,000 weights: the head of a small encoder, hidden · tags + tags.
pub(crate) const SMALL: Size = Size {
    hidden: 76,
    layers: 1,
    heads: 4,
    inner: 64,
    words: 100,
};
/// 22 million weights, all of them: as many as in MiniLM-L6, more of them in layers.
pub(crate) const LARGE: Size = Size {
    hidden: 384,
    layers: 12,
    heads: 12,
    inner: 1536,
    words: 6000,
};
/// 7,000 weights: the head of BERT-base with nine tags, on one layer to keep the rest small.
const WIDE: Size = Size {
    hidden: 768,
    layers: 1,
    heads: 12,
    inner: 64,
    words: 100,
};
const LONGEST: Duration = Duration::from_mins(20);

pub(crate) async fn noop(place: Place, rounds: u32) -> Result<()> {
    let mut federation = Federation::start_at(place, SMALL)?;
    let (entries, _) = run(&mut federation, 4, &plan(4, rounds, "head", 6)).await?;
    println!(
        "noop: {place}: 1,000 weights, 4 institutions: {} a round",
        spread(round_seconds(&entries), "s")
    );
    Ok(())
}

pub(crate) async fn large(place: Place, rounds: u32) -> Result<()> {
    let mut federation = Federation::start_at(place, LARGE)?;
    let (entries, institutions) = run(&mut federation, 4, &plan(4, rounds, "full", 1)).await?;
    let weights = dimension(&federation)?;
    println!(
        "large: {place}: {weights} weights, 4 institutions, every version stored: {} a round",
        spread(round_seconds(&entries), "s")
    );
    let (_, coordinator) = federation.memory()?;
    println!(
        "large: {place}: coordinator's peak memory in the rounds {} MiB",
        coordinator >> 20
    );
    let moved: u64 = institutions.iter().map(|i| i.downloaded + i.uploaded).sum();
    let rounds = u64::from(rounds) * institutions.len() as u64;
    let floats = 2 * 4 * weights * rounds;
    println!(
        "large: bytes down and up, one institution, one round: {}, {:.3} of 4-byte floats both ways",
        moved / rounds,
        moved as f64 / floats as f64
    );
    Ok(())
}

pub(crate) async fn many(place: Place, count: usize, rounds: u32) -> Result<()> {
    let mut federation = Federation::start_at(place, WIDE)?;
    let (entries, _) = run(&mut federation, count, &plan(count, rounds, "head", 4)).await?;
    println!(
        "many: {place}: {count} institutions of {} weights: {} a round",
        dimension(&federation)?,
        spread(round_seconds(&entries), "s")
    );
    let (_, coordinator) = federation.memory()?;
    println!(
        "many: {place}: coordinator's peak memory in the rounds {} MiB",
        coordinator >> 20
    );
    Ok(())
}

fn dimension(federation: &Federation) -> Result<u64> {
    let runs = federation.cluster.coordinate(&["run", "list"])?;
    runs[0]["dimension"].as_u64().context("the dimension")
}

/// The run's events, and the institutions with what they moved.
async fn run(
    federation: &mut Federation,
    count: usize,
    plan: &str,
) -> Result<(Vec<Entry>, Vec<Hollow>)> {
    let institutions = federation.enrol(count).await?;
    let run = federation.start_run(plan)?;
    let (_, before) = federation.memory()?;
    println!(
        "coordinator's peak memory with the import of the model: {} MiB",
        before >> 20
    );
    federation.forget_peak_memory()?;
    let (stop, _) = tokio::sync::watch::channel(false);
    let mut tasks = JoinSet::new();
    for mut institution in institutions {
        let mut stopped = stop.subscribe();
        tasks.spawn(async move {
            let outcome = tokio::select! {
                outcome = institution.take_part() => outcome,
                _ = stopped.changed() => Ok(()),
            };
            outcome.map(|()| institution)
        });
    }
    let entries = tokio::select! {
        entries = federation.watch(&run, LONGEST) => entries?,
        // None ends before it is stopped.
        failed = tasks.join_next() => {
            failed.context("institutions")???;
            bail!("an institution has left");
        }
    };
    stop.send_replace(true);
    let mut institutions = Vec::new();
    while let Some(institution) = tasks.join_next().await {
        institutions.push(institution??);
    }
    assert!(matches!(
        entries.last().map(|entry| &entry.event),
        Some(Event::RunCompleted { .. })
    ));
    Ok((entries, institutions))
}
