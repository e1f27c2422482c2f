//! A network that goes away in mid-upload, and comes back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fedner_tests::proxy::Proxy;
use fedner_tests::tiny::Size;

use crate::federation::Federation;
use crate::processes::{enrol, noised_plan, now_ms, times_of, wait_within};

/// 145 million weights, whose noised update has some 400 MB.
const MODEL: Size = Size {
    hidden: 1024,
    layers: 11,
    heads: 16,
    inner: 4096,
    words: 6000,
};
/// Bytes a second of the way up: slow enough for the disk of either side not to matter.
const SPEED: u64 = 20_000_000;
/// Bytes after which an upload is surely under way.
const UNDER_WAY: u64 = 8_000_000;
const PATIENCE: Duration = Duration::from_mins(30);

/// Two rounds of one client, in the second of which the network goes away for `seconds`.
pub(crate) fn outage(seconds: u64) -> Result<()> {
    let mut federation = Federation::start(MODEL)?;
    enrol(&federation, 1, 1)?;
    let proxy = Proxy::start(&federation.cluster.address())?;
    proxy.up().slow_down(SPEED);
    federation.cluster.redirect("i0", &proxy.address())?;
    federation.cluster.start_client("i0")?;
    let run = federation.start_run(&noised_plan(2, seconds + 600))?;

    let first = begin(&federation, &proxy, &run, 1)?;
    let second = begin(&federation, &proxy, &run, 2)?;
    proxy.cut();
    std::thread::sleep(Duration::from_secs(seconds));
    proxy.mend();
    // Follows the run to its end.
    let accepted = times_of(&federation, &run, "update_accepted")?;
    let [one, two] = accepted.as_slice() else {
        bail!("{} updates were accepted: expected 2", accepted.len());
    };
    let undisturbed = (one - first) as f64 / 1000.0;
    let disturbed = (two - second) as f64 / 1000.0;

    let receipts = federation.cluster.consult("i0", &["receipts", "list"])?;
    let receipts = receipts.as_array().context("receipts")?;
    let update = receipts.iter().find(|receipt| receipt["kind"] == "update");
    let bytes = update.and_then(|update| update["bytes"].as_u64());
    println!(
        "outage: {} MB at {} MB/s from the first bytes to accepted: {undisturbed:.1} s; with the \
         network away for {seconds} s in the middle {disturbed:.1} s, {:.1} s more than the outage",
        bytes.context("an update")? / 1_000_000,
        SPEED / 1_000_000,
        disturbed - undisturbed - seconds as f64
    );
    Ok(())
}

/// When the first bytes of a round's upload were sent, in milliseconds.
fn begin(federation: &Federation, proxy: &Proxy, run: &str, round: u32) -> Result<i64> {
    let began = Instant::now();
    wait_within(PATIENCE, began, || {
        let view = federation.cluster.coordinate(&["run", "show", run])?;
        Ok(view["round"].as_u64() == Some(round.into()))
    })?;
    let before = proxy.up().moved();
    wait_within(PATIENCE, began, || {
        Ok(proxy.up().moved() > before + UNDER_WAY)
    })?;
    Ok(now_ms()? - (UNDER_WAY * 1000 / SPEED) as i64)
}
