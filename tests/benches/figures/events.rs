//! A long history.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fedner_tests::process::run;
use fedner_tests::tiny::Size;

use crate::federation::{Federation, plan, with_cohort};

/// As small as a BERT can be: every round stores a version of it.
const MODEL: Size = Size {
    hidden: 8,
    layers: 1,
    heads: 2,
    inner: 8,
    words: 20,
};

pub(crate) async fn events(rounds: u32) -> Result<()> {
    let mut federation = Federation::start(MODEL)?;
    let mut institutions = federation.enrol(1).await?;
    // Who declines an evaluation may do so 720 times an hour.
    let text = plan(1, rounds, "head", 1);
    let text = with_cohort(&text, &format!("evaluate_every = {rounds}"));
    let name = federation.start_run(&text)?;
    let mut institution = institutions.pop().context("an institution")?;
    let began = Instant::now();
    let entries = tokio::select! {
        entries = federation.watch(&name, Duration::from_hours(1)) => entries?,
        outcome = institution.take_part() => return outcome,
    };
    println!(
        "events: {rounds} rounds made {} events in {:.0} s",
        entries.len(),
        began.elapsed().as_secs_f64()
    );
    federation.cluster.kill_coordinator()?;
    let began = Instant::now();
    federation.cluster.start_coordinator()?;
    println!("events: start-up {:.3} s", began.elapsed().as_secs_f64());
    for words in [
        &["run", "show", &name][..],
        &["run", "explain", &name],
        &["run", "watch", &name, "--all"],
        &["model", "list"],
    ] {
        let command = federation.cluster.coordinator_command(words)?;
        let began = Instant::now();
        let output = run(command)?;
        ensure!(!output.stdout.is_empty());
        println!(
            "events: `{}` {:.3} s, {} bytes",
            words.join(" "),
            began.elapsed().as_secs_f64(),
            output.stdout.len()
        );
    }
    Ok(())
}
