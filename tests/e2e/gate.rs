//! Versions judged by what institutions count, and the end of a coordinator whose engine has ended.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::roles::Files;
use crate::setting::{MINUTES, NO_NOISE, Setting, plan};

#[test]
fn a_gate_moves_the_alias_goes_back_and_says_why() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(3, 4)?;
    // No version gains so much: the first passes, all others fail.
    let gate = "\n[gate]\nmin_gain = 0.99\nmin_institutions = 3\non_regression = \"roll-back\"";
    let run = setting.start_run(&plan(3, 3, 3, "head", "", &format!("{NO_NOISE}{gate}")))?;
    let view = setting.wait_for_state(&run, "completed", MINUTES)?;

    let show = |name: &str| setting.cluster.coordinate(&["model", "show", name]);
    let champion = show("notes.champion")?;
    // notes@1 is the base with its new head.
    let first = show("notes@2")?;
    assert_eq!(champion["digest"], first["digest"]);
    assert_eq!(show("notes.challenger")?["version"]["name"], "notes@4");
    for later in ["notes@3", "notes@4"] {
        assert_eq!(
            show(later)?["version"]["parent"],
            first["digest"],
            "{later}"
        );
    }
    assert_eq!(view["champion"], first["digest"], "{view}");
    assert_eq!(view["version"], first["digest"], "{view}");
    let said = view["gate"].as_str().context("words")?;
    assert!(
        said.contains("round 3 failed") && said.contains("min_gain"),
        "{said}"
    );
    let explained = setting.cluster.coordinate(&["run", "explain", &run])?;
    assert_eq!(explained["gate"], said);

    // Each institution's counts, and both figures.
    assert_eq!(first["scores"].as_array().map(Vec::len), Some(3), "{first}");
    assert!(
        first["f1"].is_f64() && first["median_f1"].is_f64(),
        "{first}"
    );
    let members = view["members"].as_array().context("members")?;
    assert!(
        members.iter().all(|member: &Value| member["f1"].is_f64()),
        "{view}"
    );
    setting.assert_replays()?;
    setting.assert_no_errors_logged();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_engine_a_coordinator_says_so_and_ends_with_a_failure() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.enrol("i0", 0, 2)?;
    setting.cluster.kill_coordinator()?;
    let fault = [("FEDNER_PANIC_AT", "before commit create run:1")];
    setting.cluster.start_coordinator_with(&fault)?;
    let viewer = Files::of_coordinator(&setting, "viewer");
    let mut health = HealthClient::new(viewer.dial(&setting).await?);
    let mut status = async |service: &str| {
        let service = service.to_owned();
        let answer = health.check(HealthCheckRequest { service }).await?;
        Ok::<_, tonic::Status>(answer.into_inner().status())
    };
    assert_eq!(status("").await?, ServingStatus::Serving);
    let refused = setting.start_run(&plan(1, 1, 1, "head", "", NO_NOISE));
    assert!(refused.is_err(), "the engine did not end: {refused:?}");
    let deadline = Instant::now() + Duration::from_secs(2);
    for service in ["", "fedner.v1.Federation"] {
        while status(service).await? != ServingStatus::NotServing {
            assert!(
                Instant::now() < deadline,
                "health of `{service}` says it serves"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let process = setting.cluster.coordinator_process();
    let status = process
        .context("a process")?
        .ended(Duration::from_secs(20))?;
    assert_eq!(status.code(), Some(3), "{}", setting.logs());
    // A supervisor starts it again, and nothing is left of what was not made durable.
    setting.cluster.start_coordinator()?;
    setting.start_run(&plan(1, 1, 1, "head", "", NO_NOISE))?;
    Ok(())
}
