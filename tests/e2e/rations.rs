//! What one member takes, the others do not miss.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fedner_proto::v1::check_in_response::Todo;
use fedner_proto::v1::monitoring_client::MonitoringClient;
use fedner_proto::v1::upload_request::Part;
use fedner_proto::{convert, v1};
use fedner_shared::digest::Digest;
use fedner_shared::plan::Plan;
use fedner_shared::refusal::Code;
use fedner_shared::sign::{Signed, Statement};
use fedner_shared::statement::{Consent, UpdateReceipt};
use fedner_shared::time::Time;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::bad_input::{Hand, code, encoded};
use crate::roles::Files;
use crate::setting::{NO_NOISE, Setting, plan, run};

/// Which consents there are, each a little different.
fn consent(hand: &Hand, plan: Digest, number: i64) -> v1::Signed {
    let consent = Consent {
        plan,
        institution: "i0".parse().expect("name"),
        examples: 50,
        held_out: None,
        annotation: None,
        policy: Digest::of(b"policy"),
        at: Time::from_millis(number),
        expires: Time::from_millis(i64::MAX / 2),
    };
    convert::signed_to_wire(&Signed::new(&consent, &hand.key))
}

/// A run that i0 and i1 are asked to take part in, and the digest of its plan.
async fn proposed(setting: &Setting, hand: &mut Hand) -> Result<(String, Digest, usize)> {
    let run = setting.start_run(&plan(2, 2, 1, "head", "", NO_NOISE))?;
    let Some(Todo::Proposal(proposal)) = hand.check_in(vec![]).await? else {
        anyhow::bail!("a proposal")
    };
    let signed = convert::signed("plan", proposal.plan)?;
    let _: Plan = signed.peek()?;
    Ok((run, signed.digest(), proposal.dimension as usize))
}

#[tokio::test(flavor = "multi_thread")]
async fn consents_are_one_for_a_plan_short_and_seldom() -> Result<()> {
    let setting = Setting::with_model()?;
    setting.enrol("i0", 0, 2)?;
    let mut hand = Hand::new(&setting, "i0").await?;
    let (_, digest, _) = proposed(&setting, &mut hand).await?;
    let database = setting
        .cluster
        .coordinator_directory()
        .join("state.sqlite-wal");
    let size = || std::fs::metadata(&database).map_or(0, |metadata| metadata.len());
    let before = size();

    let two = (0..2)
        .map(|number| consent(&hand, digest, number))
        .collect();
    let outcome = hand.check_in(two).await.map(drop);
    assert_eq!(
        code(outcome),
        Some(Code::ConsentInvalid),
        "two for one plan"
    );
    let many = (0..200).map(|number| consent(&hand, Digest::of(&[number]), i64::from(number)));
    let many = many.collect();
    let outcome = hand.check_in(many).await.map(drop);
    assert_eq!(code(outcome), Some(Code::ConsentInvalid), "more than runs");
    let mut flood: Vec<v1::Signed> = Vec::new();
    for number in 0..3000 {
        flood.push(consent(&hand, digest, number));
    }
    let outcome = hand.check_in(flood).await.map(drop);
    assert_eq!(code(outcome), Some(Code::MessageTooLarge));

    // Padded with spaces it would say the same.
    let plain = consent(&hand, digest, 7);
    let padded = plain.body.clone() + &" ".repeat(17_000);
    let message = format!("fedner/v1/{}\0{padded}", Consent::KIND);
    let signature = hand.key.sign(message.as_bytes());
    let padded = v1::Signed {
        body: padded,
        signature: signature.as_bytes().to_vec(),
    };
    let outcome = hand.check_in(vec![padded]).await.map(drop);
    assert_eq!(code(outcome), Some(Code::MessageTooLarge));
    assert!(size() - before < 200_000, "nothing of all that was kept");

    // One after another: so many, and no more; what is known costs nothing.
    let mut taken = 0;
    let refused = loop {
        let new = vec![consent(&hand, digest, 1000 + taken)];
        match quick(&mut hand, new).await {
            Ok(_) => taken += 1,
            Err(status) => break status,
        }
        assert!(taken < 100, "there is no limit");
    };
    assert_eq!(code(Err(refused)), Some(Code::RateLimited));
    assert!(taken >= 20, "only {taken} were taken");
    let known = vec![consent(&hand, digest, 1000 + taken - 1)];
    quick(&mut hand, known)
        .await
        .context("a consent that is known")?;
    Ok(())
}

/// A check-in that does not wait.
async fn quick(hand: &mut Hand, consents: Vec<v1::Signed>) -> Result<Option<Todo>, tonic::Status> {
    let request = v1::CheckInRequest {
        wait_ms: 0,
        known_plans: vec![],
        consents,
        software: "hand".into(),
        ..v1::CheckInRequest::default()
    };
    Ok(hand.client.check_in(request).await?.into_inner().todo)
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_two_their_parts_two_and_they_end_with_their_round() -> Result<()> {
    let setting = Setting::with_model()?;
    setting.enrol("i0", 0, 2)?;
    setting.enrol("i1", 1, 2)?;
    let (mut hand, mut other) = (
        Hand::new(&setting, "i0").await?,
        Hand::new(&setting, "i1").await?,
    );
    let (run_name, digest, dimension) = proposed(&setting, &mut hand).await?;
    let of_other = other.consent(digest, 50);
    let _ = quick(&mut other, vec![of_other]).await?;
    let Some(Todo::Train(assignment)) = hand.check_in(vec![hand.consent(digest, 50)]).await? else {
        anyhow::bail!("an assignment")
    };
    let (base, version) = convert::version_from_record(&assignment.version)?;
    let receipt = |blob: &[u8], bytes: u64| UpdateReceipt {
        run: run_name.parse().expect("name"),
        plan: digest,
        round: 1,
        attempt: 1,
        institution: "i0".parse().expect("name"),
        base,
        manifest: convert::digest("manifest", &assignment.manifest).expect("digest"),
        weight: 50,
        blob: Digest::of(blob),
        bytes,
        masked: None,
        sigma: 0.0,
        epsilon_after: None,
        epsilon_alone: None,
        ledger_head: None,
        at: Time::from_millis(0),
    };
    let good = encoded(&vec![3; dimension]);
    let staging = setting.cluster.coordinator_directory().join("staging");
    let staged = || {
        let mut files = 0;
        for folder in std::fs::read_dir(&staging).expect("staging").flatten() {
            let folder = std::fs::read_dir(folder.path());
            files += folder.map_or(0, |files| files.count());
        }
        files
    };

    // Parts of updates that never come whole.
    for number in 0..12u8 {
        let partial = receipt(&[number], good.len() as u64);
        let outcome = hand.upload(&partial, &good[..100], 0).await;
        assert_eq!(code(outcome), Some(Code::TransferSize));
    }
    assert_eq!(staged(), 2, "the older ones went");

    // Streams that say little and never end: the third ends the first.
    let mut slow = Vec::new();
    for number in 100..103u8 {
        let (sender, receiver) = mpsc::channel(4);
        let signed = Signed::new(&receipt(&[number], good.len() as u64), &hand.key);
        let start = v1::UploadStart {
            receipt: Some(convert::signed_to_wire(&signed)),
            offset: 0,
        };
        for part in [Part::Start(start), Part::Data(good[..5].to_vec())] {
            sender.send(v1::UploadRequest { part: Some(part) }).await?;
        }
        let mut client = hand.client.clone();
        let answer =
            tokio::spawn(async move { client.upload(ReceiverStream::new(receiver)).await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        slow.push((sender, answer));
    }
    let (_, first) = slow.remove(0);
    let cut = tokio::time::timeout(Duration::from_secs(5), first).await??;
    assert_eq!(cut.expect_err("cut").code(), tonic::Code::Aborted);
    assert!(
        slow.iter().all(|(_, answer)| !answer.is_finished()),
        "the newer ones go on"
    );
    assert!(staged() <= 3, "{} files", staged());

    // An honest update of the other goes through meanwhile, and downloads begin where they may.
    let weights = v1::DownloadRequest {
        digest: version.weights.as_bytes().to_vec(),
        offset: u64::MAX,
    };
    let outcome = hand.client.download(weights).await.map(drop);
    assert_eq!(code(outcome), Some(Code::TransferOffset));
    let log = std::fs::read_to_string(setting.cluster.log("coordinator"))?;
    assert!(
        !log.contains("a request failed"),
        "a peer's fault is not ours:\n{log}"
    );

    // With the run, streams and parts end.
    run(setting
        .cluster
        .coordinator_command(&["run", "cancel", &run_name])?)?;
    for (_sender, answer) in slow {
        let ended = tokio::time::timeout(Duration::from_secs(10), answer).await??;
        let status = ended.expect_err("ended");
        assert!(convert::refusal_of(&status).is_some(), "{status}");
    }
    let deadline = Instant::now() + Duration::from_secs(15);
    while staged() > 0 {
        assert!(
            Instant::now() < deadline,
            "{} unfinished updates stay",
            staged()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn held_polls_of_one_member_are_few_and_long_names_are_cut() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.enrol("i0", 0, 2)?;
    setting.enrol("i1", 1, 2)?;
    let mut hand = Hand::new(&setting, "i0").await?;
    let mut other = Hand::new(&setting, "i1").await?;
    let poll = |wait_ms: u32| v1::CheckInRequest {
        wait_ms,
        known_plans: vec![],
        consents: vec![],
        software: "hand".into(),
        ..v1::CheckInRequest::default()
    };
    let mut polls = Vec::new();
    for _ in 0..60 {
        let mut client = hand.client.clone();
        polls.push(tokio::spawn(
            async move { client.check_in(poll(20_000)).await },
        ));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let held = polls.iter().filter(|poll| !poll.is_finished()).count();
    assert_eq!(held, 4, "the newest are held, the others were answered");
    let began = Instant::now();
    other.client.check_in(poll(0)).await?;
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );

    let names = "x\u{1b}[2J\nINFO forged\u{202e}".repeat(500);
    let asked = v1::ProgressRequest {
        run: names.clone(),
        ..v1::ProgressRequest::default()
    };
    let status = hand.client.progress(asked).await.expect_err("no name");
    assert!(
        status.message().len() < 1100,
        "{} bytes",
        status.message().len()
    );
    assert!(
        !status
            .message()
            .chars()
            .any(|c| c.is_control() || c == '\u{202e}')
    );
    let long = v1::ProgressRequest {
        run: "x".repeat(3_000_000),
        ..v1::ProgressRequest::default()
    };
    let outcome = hand.client.progress(long).await.map(drop);
    assert_eq!(code(outcome), Some(Code::MessageTooLarge));
    let log = std::fs::read_to_string(setting.cluster.log("coordinator"))?;
    assert!(
        log.contains("request-invalid") && log.contains("message-too-large"),
        "{log}"
    );
    assert!(!log.contains("\nINFO forged") && !log.contains('\u{1b}') && !log.contains('\u{202e}'));
    assert!(log.len() < 100_000, "the log has {} bytes", log.len());

    // Revocation ends what is held, at once.
    let mut client = hand.client.clone();
    let held = tokio::spawn(async move { client.check_in(poll(20_000)).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    run(setting
        .cluster
        .coordinator_command(&["institution", "revoke", "i0"])?)?;
    let ended = tokio::time::timeout(Duration::from_secs(1), held).await;
    let status = ended.context("a held check-in ends")??;
    assert_eq!(code(status.map(drop)), Some(Code::InstitutionRevoked));
    assert!(
        setting
            .cluster
            .coordinator_process()
            .context("coordinator")?
            .is_running()
    );
    Ok(())
}

/// Between two check-ins a run may end: what was made for it is removed by the answer that tells of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_run_is_told_to_whoever_believes_it_under_way() -> Result<()> {
    let setting = Setting::with_model()?;
    setting.enrol("i0", 0, 2)?;
    let mut hand = Hand::new(&setting, "i0").await?;
    let believes = |plans: &[Digest]| v1::CheckInRequest {
        wait_ms: 20_000,
        plans_under_way: plans.iter().map(|plan| plan.as_bytes().to_vec()).collect(),
        ..v1::CheckInRequest::default()
    };
    let ended = Digest::of(b"a plan of a run that has ended");
    let soon = Duration::from_secs(10);
    let answer = tokio::time::timeout(soon, hand.client.check_in(believes(&[ended])));
    let answer = answer.await.context("an answer at once")??.into_inner();
    assert!(answer.plans_under_way.is_empty());
    // Who believes nothing is held, as ever.
    let held = tokio::time::timeout(Duration::from_secs(2), hand.client.check_in(believes(&[])));
    assert!(held.await.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_streams_of_events_stay_and_delay_no_check_in() -> Result<()> {
    let setting = Setting::with_model()?;
    setting.enrol("i0", 0, 2)?;
    let mut hand = Hand::new(&setting, "i0").await?;
    let mut streams = Vec::new();
    let viewer = Files::of_coordinator(&setting, "viewer");
    let viewer = viewer.dial(&setting).await?;
    for _ in 0..60 {
        let mut client = MonitoringClient::new(viewer.clone());
        let request = v1::WatchRequest {
            run: String::new(),
            from: 1,
        };
        streams.push(client.watch(request).await?.into_inner());
        let began = Instant::now();
        let _ = quick(&mut hand, vec![]).await?;
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "{:?}",
            began.elapsed()
        );
    }
    // The first was told to make room; what it had before that, it has.
    let mut last = None;
    let first = streams.first_mut().context("a stream")?;
    while let Some(event) = tokio::time::timeout(Duration::from_secs(5), first.next()).await? {
        last = Some(event.map(drop).map_err(|status| status.code()));
    }
    assert_eq!(last, Some(Err(tonic::Code::Aborted)));
    let newest = streams.last_mut().context("a stream")?;
    let event = tokio::time::timeout(Duration::from_secs(5), newest.next()).await?;
    assert!(event.context("an event")?.is_ok());
    Ok(())
}
