//! Objects in a folder and in a bucket: the same conduct on both, and on a bucket whose server fails.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use fedner_coordinator::blobs::{Blobs, Environment, Reading};
use fedner_coordinator::config::Paths;
use fedner_shared::digest::Digest;
use fedner_tests::faulty::{Fault, Faulty};
use fedner_tests::s3::{BUCKET, S3};
use fedner_tests::skip::skipped;

use crate::crash::{Federation, undisturbed};
use crate::setting::{MINUTES, PROTECTED, Setting, plan, refused};

/// The length of a part, and so the longest object that is put in one request.
const PART: usize = 8 << 20;

async fn all(mut reading: Reading) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(piece) = reading.next(100_000).await? {
        ensure!(piece.len() <= 100_000, "a piece of {} bytes", piece.len());
        bytes.extend(piece);
    }
    Ok(bytes)
}

/// Bytes that repeat nowhere.
fn bytes(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let byte = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as u8
    };
    (0..count).map(byte).collect()
}

/// What a store of objects does, wherever it lies; `folder` is for files of the test's own.
async fn behaves(blobs: &Blobs, other: &Blobs, folder: &Path) -> Result<()> {
    let small = blobs.put(b"weights".to_vec()).await?;
    ensure!(blobs.put(b"weights".to_vec()).await? == small, "put twice");
    ensure!(blobs.read(small).await? == b"weights", "read");
    ensure!(
        blobs.contains(small).await? && blobs.length(small).await? == 7,
        "head"
    );
    let absent = Digest::of(b"absent");
    ensure!(!blobs.contains(absent).await?, "absent");
    for missing in [
        blobs.read(absent).await.map(drop),
        blobs.open_file(absent).await.map(drop),
        blobs.read_from(absent, 0).await.map(drop),
        blobs.read_from(absent, 9).await.map(drop),
        blobs.length(absent).await.map(drop),
    ] {
        let error = missing.expect_err("it is absent");
        ensure!(error.is_missing() && error.code().is_none(), "{error}");
    }

    let mut known = BTreeSet::from([small]);
    for (number, length) in [0, 5, PART, PART + 1, 2 * PART + 12_345]
        .into_iter()
        .enumerate()
    {
        let content = bytes(length, number as u64);
        let (digest, path) = (Digest::of(&content), folder.join(number.to_string()));
        fs::write(&path, &content)?;
        ensure!(blobs.put_file(digest, &path).await?, "it is new");
        ensure!(!blobs.put_file(digest, &path).await?, "it is there");
        ensure!(blobs.length(digest).await? == length as u64, "its length");
        let file = blobs.open_file(digest).await?;
        ensure!(Digest::of_reader(file)? == digest, "its content");
        let last = length.saturating_sub(1);
        for offset in [0, 1, length / 2, last, length, length + 1] {
            let (found, reading) = blobs.read_from(digest, offset as u64).await?;
            ensure!(found == length as u64, "the whole length");
            let rest = content.get(offset..).unwrap_or_default();
            ensure!(all(reading).await? == rest, "{length} bytes from {offset}");
        }
        other.copy_from(blobs, digest).await?;
        ensure!(
            Digest::of_reader(other.open_verified(digest).await?)? == digest,
            "its copy"
        );
        known.insert(digest);
    }

    let removed = blobs.put(b"of no use".to_vec()).await?;
    for _ in 0..2 {
        blobs.remove(removed).await?;
    }
    ensure!(!blobs.contains(removed).await?, "removed");
    let idle = blobs.put(b"nobody needs it".to_vec()).await?;
    let hour = Duration::from_hours(1);
    let (past, future) = (SystemTime::now() - hour, SystemTime::now() + hour);
    ensure!(blobs.sweep(&known, past).await? == 0, "all are young");
    ensure!(blobs.sweep(&known, future).await? == 1, "one is not needed");
    ensure!(!blobs.contains(idle).await?, "collected");
    for digest in known {
        ensure!(blobs.contains(digest).await?, "needed");
    }
    Ok(())
}

/// Objects at `url` as the coordinator of `folder` has them.
async fn objects(folder: &Path, url: Option<&str>, endpoint: &str) -> Result<Blobs> {
    fs::create_dir_all(folder)?;
    let environment: Environment = S3::environment(endpoint).into_iter().collect();
    Ok(Blobs::at(url, &Paths::new(folder), &environment).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_behave_the_same_in_a_folder_and_in_a_bucket() -> Result<()> {
    let Some(python) = S3::python() else {
        return skipped("the object store on S3", S3::NEEDED);
    };
    let folder = tempfile::tempdir()?;
    let place = |name: &str| folder.path().join(name);
    let server = S3::start(&python, &place("log"))?;
    let at = server.address();
    let local = objects(&place("a"), Some("file:objects"), at).await?;
    let bucket = objects(&place("b"), Some("s3://models/north/objects"), at).await?;
    for name in ["one", "two"] {
        fs::create_dir_all(place(name))?;
    }
    behaves(
        &local,
        &objects(&place("c"), None, at).await?,
        &place("one"),
    )
    .await?;
    let whole = objects(&place("d"), Some("s3://models"), at).await?;
    behaves(
        &bucket,
        &objects(&place("e"), None, at).await?,
        &place("two"),
    )
    .await?;
    let cached = objects(&place("f"), Some("s3://models/cached"), at).await?;
    fs::create_dir_all(place("three"))?;
    behaves(
        &cached.with_cache(64 << 20)?,
        &objects(&place("g"), None, at).await?,
        &place("three"),
    )
    .await?;
    // What lies beside a prefix is somebody else's; a foreign name is not touched.
    server.request("PUT", &format!("/{BUCKET}/README"), b"a note")?;
    let future = SystemTime::now() + Duration::from_hours(1);
    ensure!(
        whole.sweep(&BTreeSet::new(), future).await? == 0,
        "others' objects"
    );
    // What was changed behind the program's back is not taken for what it was.
    let digest = bucket.put(b"as it was signed".to_vec()).await?;
    let text = digest.to_string();
    let path = format!("/{BUCKET}/north/objects/{}/{}", &text[..2], &text[2..]);
    server.request("PUT", &path, b"as it was forged")?;
    ensure!(bucket.read(digest).await.is_err(), "forged");
    let local_copy = local.copy_from(&bucket, digest).await;
    ensure!(
        local_copy.is_err() && !local.contains(digest).await?,
        "not copied"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_tried_again_and_what_was_put_is_put_once() -> Result<()> {
    let Some(python) = S3::python() else {
        return skipped("an S3 server that fails", S3::NEEDED);
    };
    let folder = tempfile::tempdir()?;
    let server = S3::start(&python, &folder.path().join("log"))?;
    let faulty = Faulty::start(server.address())?;
    let mut environment: Environment = S3::environment(&faulty.address()).into_iter().collect();
    environment.insert("AWS_TIMEOUT".to_owned(), "500ms".to_owned());
    environment.insert("AWS_READ_TIMEOUT".to_owned(), "500ms".to_owned());
    let paths = Paths::new(folder.path());
    let blobs = Blobs::at(Some("s3://models"), &paths, &environment).await?;
    let content = bytes(PART + 5, 3);
    let (digest, path) = (Digest::of(&content), folder.path().join("large"));
    fs::write(&path, &content)?;
    // Each request of a method fails once in each way.
    let ways = [
        Fault::Answer(500, String::new()),
        Fault::Answer(503, "<Error><Code>SlowDown</Code></Error>".to_owned()),
        Fault::LostAnswer,
        Fault::Silence(Duration::from_millis(800)),
        Fault::Delay(Duration::from_millis(50)),
    ];
    let reading = [Fault::HalfAnswer];
    for (number, fault) in ways.iter().chain(&reading).cloned().enumerate() {
        for method in ["PUT", "POST", "GET", "HEAD", "DELETE"] {
            let mut left = 1;
            let (fault, wanted) = (fault.clone(), format!("{method} "));
            let only_reads = matches!(fault, Fault::HalfAnswer) && method != "GET";
            faulty.decide(move |line, _| {
                let now = left > 0 && line.starts_with(&wanted) && !only_reads;
                left -= i32::from(now);
                now.then(|| fault.clone())
            });
            let what = format!("way {number} of {method}");
            let small = what.clone().into_bytes();
            let put = blobs.put(small.clone()).await.context(what.clone())?;
            ensure!(
                blobs.read(put).await.context(what.clone())? == small,
                "{what}"
            );
            blobs.put_file(digest, &path).await.context(what.clone())?;
            let file = blobs.open_file(digest).await.context(what.clone())?;
            ensure!(Digest::of_reader(file)? == digest, "{what}");
            blobs.remove(put).await.context(what.clone())?;
            blobs.remove(digest).await.context(what.clone())?;
            ensure!(!blobs.contains(digest).await?, "{what}: removed");
        }
    }
    // With no end to it, it is an error within bounds, and has a code.
    faulty.decide(|_, _| Some(Fault::Answer(500, String::new())));
    let error = blobs.put(b"never".to_vec()).await.expect_err("no answer");
    let code = error.code().context("a code")?;
    ensure!(code.as_str() == "bucket-unreachable", "{error}");
    ensure!(!error.is_missing(), "{error}");
    Ok(())
}

#[test]
fn a_federation_with_a_bucket_trains_verifies_replays_and_moves_to_a_folder_and_back() -> Result<()>
{
    let Some(python) = S3::python() else {
        return skipped("a federation with its objects on S3", S3::NEEDED);
    };
    let folder = tempfile::tempdir()?;
    let server = S3::start(&python, &folder.path().join("log"))?;
    let mut setting = Setting::with_model_on(S3::engines(server.address()))?;
    setting.start_institutions(2, 8)?;
    let cohort = "away_after_s = 600\nrelease_after_s = 2";
    let run = setting.start_run(&plan(2, 2, 3, "full", cohort, PROTECTED))?;
    setting.wait_until(&run, MINUTES, |view| view["round"] == 2)?;
    setting.cluster.kill_coordinator()?;
    setting.cluster.start_coordinator()?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    setting.assert_replays()?;
    let directory = setting.cluster.coordinator_directory();
    assert!(
        !directory.join("blobs").exists(),
        "nothing lies in the directory"
    );

    // From the bucket to a folder, and from there to a bucket again, by a backup each.
    let published = setting.published()?;
    let places = ["", "blobs_url = \"s3://models/south\"\n"];
    for (number, place) in places.into_iter().enumerate() {
        let backup = setting.path(&format!("backup-{number}"));
        let to = backup.to_str().context("path")?;
        setting.cluster.coordinate(&["backup", "--to", to])?;
        let config = backup.join("coordinator.toml");
        let text = fs::read_to_string(&config)?;
        let others = text.lines().filter(|line| !line.starts_with("blobs_url"));
        let others: Vec<&str> = others.collect();
        fs::write(&config, format!("{place}{}\n", others.join("\n")))?;
        setting.cluster.kill_coordinator()?;
        fs::remove_dir_all(&directory)?;
        setting.cluster.coordinate(&["restore", "--from", to])?;
        setting.cluster.start_coordinator()?;
        assert_eq!(setting.published()?, published);
        setting.assert_replays()?;
        assert_eq!(directory.join("blobs").exists(), place.is_empty());
    }
    let run = setting
        .cluster
        .coordinate(&["run", "extend", &run, "--rounds", "1"])?;
    let run = run["run"].as_str().context("run")?;
    setting.cluster.coordinate_quietly(&["run", "start", run])?;
    setting.wait_for_state(run, "completed", MINUTES)?;
    setting.assert_replays()
}

#[test]
fn a_bucket_that_fails_now_and_then_loses_and_doubles_no_update() -> Result<()> {
    let Some(python) = S3::python() else {
        return skipped("a federation on an S3 server that fails", S3::NEEDED);
    };
    let folder = tempfile::tempdir()?;
    let server = S3::start(&python, &folder.path().join("log"))?;
    let faulty = Arc::new(Faulty::start(server.address())?);
    let mut engines = S3::engines(&faulty.address());
    let quick = ("AWS_TIMEOUT".to_owned(), "1s".to_owned());
    engines.environment.push(quick);
    let mut federation = Federation::start_in(Setting::with_model_on(engines)?, &[], &[])?;
    let run = federation.create_run()?;
    // Every other request fails, each in another way; now and then everything fails for a while. There are few: what
    // was put or read is read from local copies.
    faulty.decide(|_, before| match before % 20 {
        14..=19 => Some(Fault::Answer(500, String::new())),
        1 | 7 => Some(Fault::Answer(503, String::new())),
        3 | 9 => Some(Fault::LostAnswer),
        5 | 13 => Some(Fault::HalfAnswer),
        11 => Some(Fault::Silence(Duration::from_secs(2))),
        _ => None,
    });
    let state = |federation: &mut Federation| -> Result<bool> {
        let view = federation
            .setting
            .cluster
            .coordinate(&["run", "show", &run]);
        Ok(view.is_ok_and(|view| view["state"] == "completed"))
    };
    let deadline = std::time::Instant::now() + 3 * MINUTES;
    while !state(&mut federation)? {
        ensure!(
            std::time::Instant::now() < deadline,
            "{}",
            federation.setting.logs()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    let (requests, faults) = faulty.counts();
    ensure!(faults > 8, "{faults} faults in {requests} requests");
    faulty.decide(|_, _| None);
    let weights = federation.finish(&run, |_| Ok(()))?;
    ensure!(federation.deaths == 0, "nobody died");
    ensure!(weights == undisturbed()?.weights, "the weights differ");
    Ok(())
}

#[test]
fn a_bucket_that_cannot_be_used_is_told_apart_by_its_code() -> Result<()> {
    let Some(python) = S3::python() else {
        return skipped("a bucket that cannot be used", S3::NEEDED);
    };
    let folder = tempfile::tempdir()?;
    let server = S3::start(&python, &folder.path().join("log"))?;
    let setting = Setting::with_model_on(S3::engines(server.address()))?;
    let verify = |variables: &[(&str, &str)]| -> Result<String> {
        let mut command: Command = setting.cluster.coordinator_command(&["verify"])?;
        command.envs(variables.iter().copied());
        refused(command)
    };
    let contains = |said: String, code: &str| {
        ensure!(said.contains(code), "{said}");
        // A secret is in no message.
        ensure!(!said.contains("a word"), "{said}");
        Ok(())
    };
    contains(
        verify(&[("AWS_ENDPOINT_URL", "http://127.0.0.1:1")])?,
        "bucket-unreachable",
    )?;
    contains(verify(&[("AWS_ALLOW_HTTP", "false")])?, "AWS_ALLOW_HTTP")?;
    let faulty = Faulty::start(server.address())?;
    let skewed =
        "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference</Message></Error>";
    faulty.decide(|_, _| Some(Fault::Answer(403, skewed.to_owned())));
    let endpoint = format!("http://{}", faulty.address());
    contains(verify(&[("AWS_ENDPOINT_URL", &endpoint)])?, "bucket-clock")?;
    faulty.decide(|_, _| Some(Fault::Silence(Duration::from_secs(3))));
    let silent = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_TIMEOUT", "500ms"),
    ];
    contains(verify(&silent)?, "bucket-unreachable")?;

    // A server that asks who is there.
    let asking = S3::start_asking_who(&python, &folder.path().join("asking"))?;
    let endpoint = format!("http://{}", asking.address());
    contains(
        verify(&[("AWS_ENDPOINT_URL", &endpoint)])?,
        "bucket-forbidden",
    )?;

    let config = setting
        .cluster
        .coordinator_directory()
        .join("coordinator.toml");
    let text = fs::read_to_string(&config)?;
    fs::write(
        &config,
        text.replace(&format!("s3://{BUCKET}/"), "s3://elsewhere/"),
    )?;
    contains(verify(&[])?, "bucket-unknown")?;
    fs::write(&config, text.replace("s3://", "gs://"))?;
    contains(verify(&[])?, "config-invalid")
}
