//! Rounds whose updates are masked: the coordinator sees their sum alone, whoever is lost or killed.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fedner_proto::v1;
use fedner_proto::v1::upload_request::Part;
use fedner_shared::secure::{OfAttempt, SecureKeys, SecureSet, SecureShares, SecureUnmasking};
use prost::Message as _;
use serde_json::Value;

use crate::leaving::frames::decode;
use crate::leaving::tap::Tap;
use crate::setting::{MINUTES, NO_NOISE, Setting, plan};

const MASKED: &str = "[secure_aggregation]\nstep_timeout_s = 30\n";
/// Everybody is waited for, unless it is away for two seconds.
const COHORT: &str = "away_after_s = 2\nmax_attempts = 3";

fn text(institutions: usize, quorum: usize, masked: bool) -> String {
    let open = plan(institutions, quorum, 2, "head", COHORT, NO_NOISE);
    let open = open.replace("weighting = \"examples\"", "weighting = \"equal\"");
    if masked {
        format!("{open}{MASKED}")
    } else {
        open
    }
}

/// The weights of all rounds, and who had a part in each.
fn published(setting: &Setting) -> Result<Vec<(Value, usize)>> {
    let models = setting.published()?;
    let of = |model: &Value| {
        let participants = &model["version"]["origin"]["participants"];
        let count = participants.as_array().context("participants")?.len();
        Ok((model["version"]["weights"].clone(), count))
    };
    models.iter().map(of).collect()
}

/// Runs the plan to its end with the last institution dying at that point of the first round, and not coming back.
fn with_a_loss(institutions: usize, masked: bool, point: &str) -> Result<Vec<(Value, usize)>> {
    let mut setting = Setting::with_model()?;
    for number in 0..institutions {
        setting.enrol(&format!("i{number}"), number, 4)?;
    }
    for number in 0..institutions - 1 {
        setting.cluster.start_client(&format!("i{number}"))?;
    }
    let last = format!("i{}", institutions - 1);
    let fuse = [("FEDNER_CRASH_AT", point)];
    setting.cluster.start_client_with(&last, &fuse)?;
    let run = setting.start_run(&text(institutions, 3, masked))?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    let lives = setting.cluster.client_process(&last);
    ensure!(lives.is_some_and(|last| !last.is_running()), "nobody died");
    setting.assert_replays()?;
    published(&setting)
}

#[test]
fn a_masked_round_publishes_what_the_open_one_does() -> Result<()> {
    let run = |masked| -> Result<_> {
        let mut setting = Setting::with_model()?;
        setting.start_institutions(3, 4)?;
        let run = setting.start_run(&text(3, 3, masked))?;
        setting.wait_for_state(&run, "completed", MINUTES)?;
        setting.assert_replays()?;
        setting.assert_no_errors_logged();
        let models = setting.published()?;
        let unmasking = models
            .iter()
            .all(|model| model["version"]["origin"]["unmasking"].is_string());
        assert_eq!(unmasking, masked, "{models:?}");
        published(&setting)
    };
    let (open, masked) = (run(false)?, run(true)?);
    assert_eq!(open, masked);
    assert_eq!(masked.len(), 2);
    Ok(())
}

#[test]
fn one_that_is_lost_before_its_update_is_not_in_the_sum() -> Result<()> {
    let point = "before commit charge attempt:1";
    let open = with_a_loss(4, false, point)?;
    let masked = with_a_loss(4, true, point)?;
    assert_eq!(open, masked);
    assert_eq!(masked[0].1, 3);
    Ok(())
}

#[test]
fn one_that_is_lost_after_its_update_is_in_the_sum() -> Result<()> {
    let point = "before commit mark taken:1";
    let open = with_a_loss(4, false, point)?;
    let masked = with_a_loss(4, true, point)?;
    assert_eq!(open, masked);
    assert_eq!(masked[0].1, 4);
    Ok(())
}

/// With three institutions all three must answer: without one of them the sum stays masked.
#[test]
fn with_fewer_than_the_threshold_nothing_is_published() -> Result<()> {
    let mut setting = Setting::with_model()?;
    for number in 0..3 {
        setting.enrol(&format!("i{number}"), number, 4)?;
    }
    setting.cluster.start_client("i0")?;
    setting.cluster.start_client("i1")?;
    let fuse = [("FEDNER_CRASH_AT", "before commit mark taken:1")];
    setting.cluster.start_client_with("i2", &fuse)?;
    let text = text(3, 3, true)
        .replace("step_timeout_s = 30", "step_timeout_s = 3")
        .replace("max_attempts = 3", "max_attempts = 1");
    let run = setting.start_run(&text)?;
    let failed = |view: &Value| view["state"] == "failed";
    let deadline = Instant::now() + MINUTES;
    loop {
        let view = setting.cluster.coordinate(&["run", "show", &run])?;
        if failed(&view) {
            let said = view["failure"].as_str().unwrap_or_default();
            ensure!(said.contains("expected at least 3"), "{said}");
            break;
        }
        ensure!(Instant::now() < deadline, "{view}: {}", setting.logs());
        std::thread::sleep(Duration::from_millis(100));
    }
    ensure!(setting.published()?.is_empty(), "a sum was opened");
    Ok(())
}

/// Kills somebody at a durable step, and starts it again; the weights at the end.
fn killed_at(program: &str, point: &str) -> Result<Vec<(Value, usize)>> {
    let mut setting = Setting::with_model()?;
    for number in 0..3 {
        setting.enrol(&format!("i{number}"), number, 4)?;
    }
    let fuse = [("FEDNER_CRASH_AT", point)];
    let none: &[(&str, &str)] = &[];
    let of = |name: &str| if name == program { &fuse[..] } else { none };
    setting.cluster.kill_coordinator()?;
    setting.cluster.start_coordinator_with(of("coordinator"))?;
    for name in ["i0", "i1", "i2"] {
        setting.cluster.start_client_with(name, of(name))?;
    }
    let text = text(3, 3, true).replace("away_after_s = 2", "away_after_s = 600");
    let run = setting.start_run(&text)?;
    let deadline = Instant::now() + 2 * MINUTES;
    let mut deaths = 0;
    loop {
        let cluster = &mut setting.cluster;
        if !cluster
            .coordinator_process()
            .is_some_and(|one| one.is_running())
        {
            deaths += 1;
            cluster.start_coordinator()?;
        }
        if program != "coordinator"
            && !cluster
                .client_process(program)
                .is_some_and(|one| one.is_running())
        {
            deaths += 1;
            cluster.start_client(program)?;
        }
        match cluster.coordinate(&["run", "show", &run]) {
            Ok(view) if view["state"] == "completed" => break,
            Ok(view) => ensure!(view["state"] != "failed", "{view}: {}", setting.logs()),
            Err(_) => {}
        }
        ensure!(Instant::now() < deadline, "{}", setting.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
    ensure!(deaths > 0, "nobody died at {point}");
    setting.assert_replays()?;
    published(&setting)
}

#[test]
fn a_death_between_steps_changes_nothing_and_reveals_nothing_more() -> Result<()> {
    let mut undisturbed: Option<Vec<(Value, usize)>> = None;
    for (program, point) in [
        // Of an institution: keys, shares, masks, set and unmasking are saved in this order.
        ("i1", "after commit save secure attempt:1"),
        ("i1", "before commit save secure attempt:2"),
        ("i1", "after commit save secure attempt:3"),
        ("i1", "after commit release update:1"),
        ("i1", "after commit save secure attempt:4"),
        ("i1", "after commit save secure attempt:5"),
        // Of the coordinator: three statements of each step.
        ("coordinator", "before commit take secure step:2"),
        ("coordinator", "after commit take secure step:6"),
        ("coordinator", "after commit take secure step:8"),
        ("coordinator", "before commit take secure step:12"),
    ] {
        let found = killed_at(program, point).with_context(|| format!("{program} at {point}"))?;
        let expected = undisturbed.get_or_insert_with(|| found.clone());
        ensure!(found == *expected, "{program} at {point}: other weights");
    }
    Ok(())
}

/// A coordinator could add institutions of its own making: people name those that they know.
#[test]
fn nobody_sends_keys_to_a_roster_with_fewer_known_members_than_it_asks_for() -> Result<()> {
    let mut setting = Setting::with_model()?;
    for number in 0..3 {
        setting.enrol(&format!("i{number}"), number, 4)?;
    }
    setting.add_to_policy("i0", "min_known = 2\n")?;
    for name in ["i0", "i1", "i2"] {
        setting.cluster.start_client(name)?;
    }
    let text = text(3, 3, true).replace("max_attempts = 3", "max_attempts = 1");
    let run = setting.start_run(&text)?;
    let deadline = Instant::now() + MINUTES;
    loop {
        let view = setting.cluster.coordinate(&["run", "show", &run])?;
        if view["state"] == "failed" {
            let said = view["failure"].as_str().unwrap_or_default();
            ensure!(said.contains("roster-refused"), "{said}");
            break;
        }
        ensure!(Instant::now() < deadline, "{view}: {}", setting.logs());
        std::thread::sleep(Duration::from_millis(100));
    }
    let plans = setting.cluster.consult("i0", &["consent", "list"])?;
    let roster = plans[0]["roster"].as_array().context("a roster")?;
    ensure!(roster.len() == 3, "{plans}");
    let mut known = String::from("[known_institutions]\n");
    for fellow in roster {
        assert_eq!(fellow["known"], false);
        let (name, print) = (&fellow["institution"], &fellow["fingerprint"]);
        writeln!(known, "{} = {print}", name.as_str().context("a name")?)?;
    }
    setting.add_to_policy("i0", &known)?;
    setting.cluster.consult("i0", &["policy", "apply"])?;
    setting
        .cluster
        .coordinate_quietly(&["run", "retry", &run])?;
    let deadline = Instant::now() + MINUTES;
    while setting.cluster.coordinate(&["run", "show", &run])?["state"] != "completed" {
        ensure!(Instant::now() < deadline, "{}", setting.logs());
        std::thread::sleep(Duration::from_millis(100));
    }
    let plans = setting.cluster.consult("i0", &["consent", "list"])?;
    assert_eq!(plans[0]["roster"][1]["known"], true, "{plans}");
    setting.assert_replays()
}

/// Each adds a share of the noise, if it knows who the others are.
#[test]
fn noise_is_shared_among_institutions_that_know_each_other() -> Result<()> {
    let names = ["i0", "i1", "i2"];
    let mut setting = Setting::with_model()?;
    for (number, name) in names.iter().enumerate() {
        setting.enrol(name, number, 4)?;
        setting.cluster.start_client(name)?;
    }
    let noise =
        "unit = \"institution\"\nnoise_multiplier = 4.0\nmax_epsilon = 50.0\nnoise_shares = 2";
    let text = text(3, 3, true)
        .replace(NO_NOISE, noise)
        .replace("step_timeout_s", "colluding = 1\nstep_timeout_s");
    let run = setting.start_run(&text)?;
    let asked = setting.cluster.asked_with_roster("i0", names.len())?;
    let forbidden = asked["forbidden"].as_str().context("forbidden")?;
    ensure!(
        forbidden.contains("known_institutions lack i1, i2"),
        "{forbidden}"
    );
    let shared = asked["shared_noise"].as_str().context("both figures")?;
    ensure!(
        shared.contains("the coordinator and up to 1 other institution"),
        "{shared}"
    );
    ensure!(shared.contains("against everybody"), "{shared}");
    setting.cluster.introduce(&names, &asked)?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    setting.assert_replays()?;
    setting.assert_no_errors_logged();
    ensure!(published(&setting)?.len() == 2);
    let receipts = setting.cluster.consult("i0", &["receipts", "list"])?;
    let updates: Vec<&Value> = receipts
        .as_array()
        .context("receipts")?
        .iter()
        .filter(|receipt| receipt["kind"] == "update")
        .collect();
    ensure!(updates.len() == 2, "{receipts}");
    for update in &updates {
        let figure = |key: &str| update[key].as_f64().context("a figure");
        let (claim, alone) = (figure("epsilon_after")?, figure("epsilon_alone")?);
        ensure!(alone > 1.3 * claim, "{update}");
    }
    let digest = updates[0]["receipt"].as_str().context("a digest")?;
    let shown = setting
        .cluster
        .consult("i0", &["receipts", "show", digest])?;
    let sigma = shown["statement"]["sigma"].as_f64().context("σ")?;
    ensure!((sigma - 4.0 / 2f64.sqrt()).abs() < 1e-9, "{shown}");
    let spent = setting.cluster.consult("i0", &["privacy", "show"])?;
    let plan = &spent["plans"][0];
    ensure!(plan["epsilon"] == updates[1]["epsilon_after"], "{plan}");
    ensure!(
        plan["epsilon_alone"] == updates[1]["epsilon_alone"],
        "{plan}"
    );
    let (own, alone) = (
        &spent["account"]["epsilon"],
        &spent["account"]["epsilon_alone"],
    );
    ensure!(alone.as_f64() > own.as_f64(), "{spent}");
    ensure!(
        spent["entries"][0]["mechanism"] == "shared_gaussian",
        "{spent}"
    );
    Ok(())
}

/// The messages of a request.
fn messages(mut body: &[u8]) -> Result<Vec<&[u8]>> {
    let mut all = Vec::new();
    while let Some((head, rest)) = body.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let (message, rest) = rest.split_at_checked(length).context("a whole message")?;
        all.push(message);
        body = rest;
    }
    Ok(all)
}

/// Reads a statement that has nothing but what its type has.
fn strictly<T: OfAttempt>(signed: &v1::Signed) -> Result<()> {
    let said: T = serde_json::from_str(&signed.body)?;
    let text = fedner_shared::digest::canonical_text(&said);
    ensure!(text == signed.body, "not canonical: {}", signed.body);
    ensure!(said.institution().as_str() == "i0", "{}", signed.body);
    Ok(())
}

#[test]
fn what_leaves_an_institution_is_statements_of_keys_and_vectors_that_look_like_noise() -> Result<()>
{
    let mut setting = Setting::with_model()?;
    for number in 0..3 {
        setting.enrol(&format!("i{number}"), number, 4)?;
    }
    let tap = Tap::start(&setting.cluster, "i0")?;
    setting.cluster.redirect("i0", &tap.address())?;
    for name in ["i0", "i1", "i2"] {
        setting.cluster.start_client(name)?;
    }
    let run = setting.start_run(&text(3, 3, true).replace("rounds = 2", "rounds = 6"))?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    let (mut steps, mut vectors) = (Vec::new(), Vec::new());
    for sent in tap.sent() {
        for request in decode(&sent)?.requests {
            let path = request.header(":path");
            let all = messages(&request.body)?;
            match path.rsplit('/').next() {
                Some("TakeSecureStep") => {
                    let taken = v1::TakeSecureStepRequest::decode(*all.first().context("one")?)?;
                    let signed = taken.statement.as_ref().context("a statement")?;
                    match taken.step() {
                        v1::SecureStep::Keys => strictly::<SecureKeys>(signed)?,
                        v1::SecureStep::Shares => strictly::<SecureShares>(signed)?,
                        v1::SecureStep::Consistency => strictly::<SecureSet>(signed)?,
                        v1::SecureStep::Unmasking => strictly::<SecureUnmasking>(signed)?,
                        v1::SecureStep::Unspecified => anyhow::bail!("no step"),
                    }
                    steps.push(taken.step());
                }
                Some("Upload") => {
                    let mut bytes = Vec::new();
                    for message in all {
                        if let Some(Part::Data(data)) = v1::UploadRequest::decode(message)?.part {
                            bytes.extend(data);
                        }
                    }
                    ensure!(bytes.starts_with(b"FNM1"), "the update is not masked");
                    vectors.push(bytes);
                }
                Some("CheckIn" | "Download" | "UploadOffset" | "Progress" | "SubmitEvaluation") => {
                }
                other => anyhow::bail!("{other:?} was called"),
            }
        }
    }
    ensure!(vectors.len() == 6, "{} updates", vectors.len());
    for step in [
        v1::SecureStep::Keys,
        v1::SecureStep::Shares,
        v1::SecureStep::Consistency,
        v1::SecureStep::Unmasking,
    ] {
        let count = steps.iter().filter(|taken| **taken == step).count();
        // Two of three signatures and answers are not enough, so that everybody's are needed.
        ensure!(count >= 6, "{step:?} was taken {count} times");
    }
    let mut counts = [0u64; 256];
    // The last byte is not full.
    let values = vectors
        .iter()
        .flat_map(|vector| &vector[16..vector.len() - 1]);
    values.for_each(|byte| counts[usize::from(*byte)] += 1);
    let expected = counts.iter().sum::<u64>() as f64 / 256.0;
    ensure!(expected > 10.0, "{expected} of each byte");
    let squares = counts
        .iter()
        .map(|count| (*count as f64 - expected).powi(2));
    let found = squares.sum::<f64>() / expected;
    // Ten deviations beyond what uniform bytes have.
    ensure!(found < 255.0 + 10.0 * 22.6, "χ² is {found}");
    Ok(())
}
