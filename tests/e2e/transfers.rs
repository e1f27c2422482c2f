//! Transfers over a network that breaks.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fedner_tests::proxy::Proxy;
use fedner_tests::tiny::Size;

use crate::setting::{MINUTES, NO_NOISE, Setting, plan};

/// More than a million weights: updates and versions of many chunks.
const MODEL: Size = Size {
    hidden: 128,
    layers: 4,
    heads: 4,
    inner: 1024,
    words: 6000,
};
/// What one cut of an upload may cost: the chunk that was under way, and what lay in buffers.
const CUT_UP: u64 = 384 << 10;
/// The same of a download, whose buffers are larger.
const CUT_DOWN: u64 = 3 << 19;

/// One institution behind a proxy, one round to do.
fn behind_proxy(size: Size) -> Result<(Setting, Proxy)> {
    let mut setting = Setting::with_model_of(size)?;
    setting.enrol("i0", 0, 1)?;
    let proxy = Proxy::start(&setting.cluster.address())?;
    setting.cluster.redirect("i0", &proxy.address())?;
    setting.cluster.start_client("i0")?;
    Ok((setting, proxy))
}

fn wait_for(what: &str, reached: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + MINUTES;
    while !reached() {
        ensure!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// The length of the one update of round 1.
fn update_bytes(setting: &Setting) -> Result<u64> {
    let receipts = setting.cluster.consult("i0", &["receipts", "list"])?;
    let receipts = receipts.as_array().context("receipts")?;
    let update = receipts.iter().find(|receipt| receipt["kind"] == "update");
    update
        .and_then(|update| update["bytes"].as_u64())
        .context("the update's length")
}

/// Finishes the round, and checks that no more was sent than the update and what the cuts cost.
fn completes_without_sending_twice(
    setting: &Setting,
    proxy: &Proxy,
    run: &str,
    cuts: u64,
) -> Result<()> {
    setting.wait_for_state(run, "completed", 3 * MINUTES)?;
    setting.assert_replays()?;
    let (sent, needed) = (proxy.up().moved(), update_bytes(setting)?);
    ensure!(
        needed > 1_000_000,
        "the update of {needed} bytes is too small to break"
    );
    ensure!(
        sent < needed + cuts * CUT_UP,
        "{sent} bytes were sent for an update of {needed} after {cuts} cuts"
    );
    Ok(())
}

fn plan_of_one() -> String {
    plan(1, 1, 1, "full", "away_after_s = 600", NO_NOISE)
}

#[test]
fn an_outage_in_mid_upload_costs_one_chunk_at_most() -> Result<()> {
    let (setting, proxy) = behind_proxy(MODEL)?;
    proxy.up().slow_down(400_000);
    let run = setting.start_run(&plan_of_one())?;
    proxy.up().cut_after(600_000);
    wait_for("the cut", || proxy.is_cut())?;
    std::thread::sleep(Duration::from_secs(3));
    proxy.mend();
    completes_without_sending_twice(&setting, &proxy, &run, 1)
}

#[test]
fn an_upload_goes_on_after_a_restart_of_either_side() -> Result<()> {
    let (mut setting, proxy) = behind_proxy(MODEL)?;
    proxy.up().slow_down(400_000);
    let run = setting.start_run(&plan_of_one())?;
    wait_for("a part of the upload", || proxy.up().moved() > 500_000)?;
    setting.cluster.kill_coordinator()?;
    setting.cluster.start_coordinator()?;
    let before = proxy.up().moved();
    wait_for("more of the upload", || {
        proxy.up().moved() > before + 100_000
    })?;
    setting.cluster.kill_client("i0")?;
    // What the dead client has left in the system's buffers goes with its machine.
    proxy.cut();
    proxy.mend();
    setting.cluster.start_client("i0")?;
    completes_without_sending_twice(&setting, &proxy, &run, 2)
}

#[test]
fn sigterm_in_mid_upload_ends_both_programs_in_time_and_loses_nothing() -> Result<()> {
    let (mut setting, proxy) = behind_proxy(MODEL)?;
    proxy.up().slow_down(400_000);
    let run = setting.start_run(&plan_of_one())?;
    wait_for("a part of the upload", || proxy.up().moved() > 600_000)?;
    // Longer than the coordinator may take to stop: it cannot wait for the rest.
    proxy.up().slow_down(20_000);
    let within = Duration::from_secs(10);
    let coordinator = setting.cluster.coordinator_process();
    let ended = coordinator.context("coordinator")?.terminate(within)?;
    assert!(ended.success(), "{}", setting.logs());
    let client = setting.cluster.client_process("i0").context("client")?;
    assert!(client.terminate(within)?.success(), "{}", setting.logs());
    proxy.up().slow_down(0);
    setting.cluster.start_coordinator()?;
    setting.cluster.start_client("i0")?;
    completes_without_sending_twice(&setting, &proxy, &run, 1)
}

#[test]
fn a_download_goes_on_where_it_was_cut_and_after_a_restart() -> Result<()> {
    let (mut setting, proxy) = behind_proxy(MODEL)?;
    proxy.down().slow_down(3_000_000);
    let run = setting.start_run(&plan_of_one())?;
    wait_for("a part of the download", || {
        proxy.down().moved() > 1_500_000
    })?;
    proxy.cut();
    proxy.mend();
    let before = proxy.down().moved();
    wait_for("more of the download", || {
        proxy.down().moved() > before + 500_000
    })?;
    setting.cluster.kill_client("i0")?;
    setting.cluster.start_client("i0")?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    let versions = setting.cluster.coordinate(&["model", "list"])?;
    let versions = versions.as_array().context("versions")?.len();
    assert_eq!(
        versions, 3,
        "the base, the base with a head, and the round's"
    );
    // The version trained on and the version evaluated, each once.
    let weights = setting.base_model()?.join("model.safetensors");
    let needed = 2 * std::fs::metadata(weights)?.len();
    let received = proxy.down().moved();
    ensure!(
        received < needed + 2 * CUT_DOWN,
        "{received} bytes were received for two versions of {needed} bytes together"
    );
    Ok(())
}
