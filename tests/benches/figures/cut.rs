//! A front end that dies in mid-upload: what is sent twice.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fedner_tests::config::set;
use fedner_tests::proxy::Proxy;

use crate::federation::{Federation, spread};
use crate::place::Place;
use crate::processes::{enrol, noised_plan, times_of, wait_within};
use crate::rounds::LARGE;

/// Bytes a second of the way up.
const SPEED: u64 = 10_000_000;
/// Bytes after which the front end is killed.
const UNDER_WAY: u64 = 12_000_000;
const PATIENCE: Duration = Duration::from_mins(5);

/// An undisturbed round, and then rounds in each of which the front end dies in mid-upload.
pub(crate) fn cut(repeats: u32) -> Result<()> {
    let mut federation = Federation::start_at(Place::Three { lease_s: 5 }, LARGE)?;
    enrol(&federation, 1, 1)?;
    let several = federation.several.as_ref().context("three processes")?;
    let leader = several.leader()?.context("a leader")?;
    let fronts: Vec<usize> = (0..several.count()).filter(|at| *at != leader).collect();
    let addresses = several.ground.callers();
    let proxies: Vec<Proxy> = fronts
        .iter()
        .map(|front| Proxy::start(&addresses[*front]))
        .collect::<Result<_>>()?;
    for proxy in &proxies {
        proxy.up().slow_down(SPEED);
    }
    let through: Vec<String> = proxies.iter().map(Proxy::address).collect();
    let file = federation
        .cluster
        .client_directory("i0")
        .join("client.toml");
    set(&file, &[("coordinator", &format!("{through:?}"))])?;
    federation.cluster.start_client("i0")?;

    let run = federation.start_run(&noised_plan(repeats + 1, 600))?;
    let moved = || -> Vec<u64> { proxies.iter().map(|proxy| proxy.up().moved()).collect() };
    let mut rounds = Vec::new();
    for round in 1..=u64::from(repeats) + 1 {
        let before = moved();
        let since = || -> Vec<u64> {
            let pairs = moved().into_iter().zip(&before);
            pairs.map(|(now, before)| now - before).collect()
        };
        let began = Instant::now();
        if round > 1 {
            let under_way = |moved: &u64| *moved > UNDER_WAY;
            wait_within(PATIENCE, began, || Ok(since().iter().any(under_way)))?;
            // Whichever of the two has the connection.
            let busy = since().iter().position(under_way);
            let front = fronts[busy.context("one of them")?];
            let several = federation.several.as_mut().context("three processes")?;
            several.kill(front)?;
            several.start(front)?;
        }
        wait_within(PATIENCE, began, || {
            let view = federation.cluster.coordinate(&["run", "show", &run])?;
            Ok(view["round"].as_u64() > Some(round) || view["state"] == "completed")
        })?;
        rounds.push(since().iter().sum::<u64>() as f64);
    }
    let accepted = times_of(&federation, &run, "update_accepted")?;
    ensure!(accepted.len() == repeats as usize + 1, "{accepted:?}");
    let twice = rounds[1..].iter().map(|round| (round - rounds[0]) / 1e6);
    println!(
        "cut: undisturbed {:.2} MB go up in a round; where the front end dies in mid-upload, more by {}",
        rounds[0] / 1e6,
        spread(twice.collect(), "MB")
    );
    Ok(())
}
