//! Rounds without training.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use fedner_shared::event::{Entry, Event};
use fedner_tests::tiny::Size;
use tokio::task::JoinSet;

use crate::federation::{Federation, plan, round_seconds, spread, with_cohort};
use crate::hollow::{Hollow, Lost};
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
    let end = |event: &Event| matches!(event, Event::RunCompleted { .. });
    take_part(federation, institutions, plan, end).await
}

/// The same of institutions that are enrolled, up to the event that is the `last`.
async fn take_part(
    federation: &mut Federation,
    institutions: Vec<Hollow>,
    plan: &str,
    last: impl Fn(&Event) -> bool,
) -> Result<(Vec<Entry>, Vec<Hollow>)> {
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
        entries = federation.watch_until(&run, LONGEST, &last) => entries?,
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
    assert!(entries.last().is_some_and(|entry| last(&entry.event)));
    Ok((entries, institutions))
}

/// A plan of equal weights, whose updates are masked if `quorum` says how many of them are summed at least.
fn equal(text: &str, quorum: Option<usize>) -> String {
    let text = text.replace("\"examples\"", "\"equal\"");
    let Some(quorum) = quorum else {
        return text;
    };
    let mut lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("quorum"))
        .collect();
    let quorum = format!("quorum = {quorum}");
    let place = lines.iter().position(|line| *line == "[cohort]");
    lines.insert(place.unwrap_or_default() + 1, &quorum);
    lines.join("\n") + "\n[secure_aggregation]\n"
}

/// Rounds of the same noised updates, open and under masks.
pub(crate) async fn masked(count: usize, rounds: u32) -> Result<()> {
    let noise = "unit = \"institution\"\nnoise_multiplier = 1.0\nmax_epsilon = 1000.0";
    let text = plan(count, rounds, "full", 1).replace("unit = \"none\"", noise);
    for quorum in [None, Some(count), None, Some(count)] {
        let mut federation = Federation::start(LARGE)?;
        let text = equal(&text, quorum);
        let (entries, institutions) = run(&mut federation, count, &text).await?;
        let how = if quorum.is_some() { "masked" } else { "open" };
        let (_, peak) = federation.memory()?;
        let sent: u64 = institutions.iter().map(|one| one.uploaded).sum();
        println!(
            "masked: {how}: {} weights, {count} institutions: {} a round; coordinator's peak memory {} MiB; {} bytes up a round and institution",
            dimension(&federation)?,
            spread(round_seconds(&entries), "s"),
            peak >> 20,
            sent / (u64::from(rounds) * count as u64)
        );
    }
    Ok(())
}

/// Steps that all institutions take together, without training.
pub(crate) async fn steps(count: usize, rounds: u32) -> Result<()> {
    let mut federation = Federation::start(WIDE)?;
    let units = 100 * count;
    let text = equal(&plan(count, rounds, "head", 4), Some(count));
    let text = text.replace(
        "unit = \"none\"",
        &format!(
            "unit = \"sentence\"\nnoise_multiplier = 4.0\nmax_epsilon = 1000.0\nnoise_shares = {count}\n\
             cohort_units = {units}\n[training]\nbatch_size = 100"
        ),
    );
    let text = with_cohort(&text, &format!("evaluate_every = {rounds}"));
    let (entries, _) = run(&mut federation, count, &text).await?;
    println!(
        "steps: {} weights, {count} institutions: {} a step",
        dimension(&federation)?,
        spread(round_seconds(&entries), "s")
    );
    Ok(())
}

/// How long a masked round goes on after one of its institutions is gone for good.
pub(crate) async fn lost(count: usize) -> Result<()> {
    const ROUND: u32 = 2;
    for when in [Lost::AfterUpdate, Lost::BeforeUpdate] {
        let mut federation = Federation::start(SMALL)?;
        let text = equal(&plan(count, ROUND, "head", 6), Some(count - 1));
        let text = with_cohort(&text, "away_after_s = 30");
        let mut institutions = federation.enrol(count).await?;
        let last = institutions.last_mut().context("institutions")?;
        last.lost = Some((ROUND, when));
        let published = |event: &Event| matches!(event, Event::VersionPublished { round, .. } if *round == ROUND);
        let (entries, _) = take_part(&mut federation, institutions, &text, published).await?;
        let end = entries.last().context("events")?.time;
        let time_of = |wanted: &dyn Fn(&Event) -> bool| {
            let found = entries.iter().rev().find(|entry| wanted(&entry.event));
            found.map(|entry| end.since(entry.time).as_secs_f64())
        };
        let since = match when {
            Lost::AfterUpdate => time_of(&|event| matches!(event, Event::UpdateAccepted { .. })),
            Lost::BeforeUpdate => time_of(&|event| matches!(event, Event::WentAway { .. })),
        };
        let from = match when {
            Lost::AfterUpdate => "the last update, its own among them",
            Lost::BeforeUpdate => "it was found to be away",
        };
        println!(
            "lost: {when:?}: the round of {count} institutions is published {:.3} s after {from}",
            since.context("the event")?
        );
    }
    Ok(())
}
