//! One whole run, with everything that was said in it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fedner_tests::cluster::{Member, Policy};
use fedner_tests::notes::Split;
use fedner_tests::tiny;
use rusqlite::Connection;

use super::recording::{
    COORDINATOR, Call, DECLINE, ENROLLED, EVALUATION, FINISHED, NAME, Recording,
};
use crate::leaving::frames::{Request, answers, decode};
use crate::leaving::tap::Tap;
use crate::old_copy::copy;
use crate::setting::{MINUTES, NO_NOISE, Setting, plan};

/// As small as a model is: what is recorded is kept for good.
const SIZE: tiny::Size = tiny::Size {
    hidden: 4,
    layers: 1,
    heads: 1,
    inner: 4,
    words: 40,
};
const PRIVACY: &str = "unit = \"institution\"\nclip = 1.0\nnoise_multiplier = 1.0\ndelta = 1e-5\nmax_epsilon = 50.0\n\
     evaluation_noise = 5.0";

/// Enrolment, a plan that is agreed to and one that the policy forbids, training, and evaluation.
pub(crate) fn record(folder: &Path) -> Result<()> {
    let mut setting = Setting::with_model_of(SIZE)?;
    let run = setting.start_run(&plan(1, 1, 1, "head", "", PRIVACY))?;
    let open = plan(1, 1, 1, "head", "", NO_NOISE).replace("\"notes\"", "\"open\"");
    setting.start_run(&open)?;
    let invite = setting.cluster.invite(NAME)?;
    let coordinator = setting.cluster.coordinator_process().context("running")?;
    coordinator.terminate(Duration::from_secs(20))?;
    keep(
        &setting.cluster.coordinator_directory(),
        folder,
        COORDINATOR,
    )?;
    setting.cluster.start_coordinator()?;

    let tap = Tap::start(&setting.cluster, NAME)?;
    let text = fs::read_to_string(&invite)?;
    fs::write(
        &invite,
        text.replace(&setting.cluster.address(), &tap.address()),
    )?;
    let (data, held_out) = (
        setting.text(0, Split::Train, 3)?,
        setting.text(0, Split::Devel, 2)?,
    );
    let member = Member {
        name: NAME.to_owned(),
        data: data.clone(),
        held_out: held_out.clone(),
        policy: Policy {
            allow_no_privacy: false,
            share_evaluation: true,
            max_epsilon_run: 1000.0,
            declared_examples: Some(77),
        },
    };
    setting.cluster.enrol_with(&member, &invite)?;
    let directory = setting.cluster.client_directory(NAME);
    move_in(&directory, &data, "train.conll")?;
    move_in(&directory, &held_out, "held.conll")?;
    keep(&directory, folder, ENROLLED)?;

    setting.cluster.start_client(NAME)?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    let deadline = Instant::now() + MINUTES;
    while !(said(&tap, DECLINE) && said(&tap, EVALUATION)) {
        ensure!(Instant::now() < deadline, "something was not said");
        std::thread::sleep(Duration::from_millis(50));
    }
    let client = setting.cluster.client_process(NAME).context("running")?;
    ensure!(client.terminate(Duration::from_secs(20))?.success());
    keep(&directory, folder, FINISHED)?;
    Recording::write(folder, &calls(&tap)?)
}

/// Text lies in the institution's directory, wherever that is.
fn move_in(directory: &Path, file: &Path, name: &str) -> Result<()> {
    fs::rename(file, directory.join(name))?;
    let settings = directory.join("client.toml");
    let text = fs::read_to_string(&settings)?;
    let path = file.to_str().context("path")?;
    ensure!(text.contains(path), "client.toml does not name {path}");
    Ok(fs::write(settings, text.replace(path, name))?)
}

/// A copy of a directory that no program has open.
fn keep(directory: &Path, folder: &Path, name: &str) -> Result<()> {
    let kept = folder.join(name);
    copy(directory, &kept)?;
    let store = kept.join("state.sqlite");
    if store.exists() {
        let store = Connection::open(store)?;
        store.execute_batch(
            "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE; VACUUM;",
        )?;
    }
    Ok(())
}

/// Whether it was called and answered.
fn said(tap: &Tap, path: &str) -> bool {
    let calls = calls(tap).unwrap_or_default();
    let answered = |call: &Call| call.path == path && !call.answer.is_empty();
    calls.iter().any(answered)
}

/// Those of all connections, in the order in which they were begun.
fn calls(tap: &Tap) -> Result<Vec<Call>> {
    let mut calls = Vec::new();
    for carried in tap.kept() {
        let mut answers = answers(&carried.answered)?;
        let requests = decode(&carried.sent)?.requests.into_iter();
        for request in requests.filter(|request| !request.unsaid) {
            let answer = answers.remove(&request.stream).unwrap_or_default();
            calls.push(call(request, answer));
        }
    }
    Ok(calls)
}

fn call(request: Request, answer: Vec<u8>) -> Call {
    let session = request
        .headers
        .iter()
        .find(|(name, _)| name == fedner_proto::SESSION);
    Call {
        path: request.header(":path"),
        session: session.map(|(_, value)| value.clone()),
        request: request.body,
        answer,
    }
}
