//! Two operators do the same at the same moment.

use std::future::Future;

use anyhow::{Context, Result};
use fedner_proto::v1::operations_client::OperationsClient;
use fedner_proto::v1::rotate_key_request::Which;
use fedner_proto::{convert, v1};
use fedner_shared::refusal::Code;
use fedner_shared::sign::Signed;
use serde_json::Value;
use tonic::Status;
use tonic::transport::Channel;

use crate::roles::Files;
use crate::setting::{NO_NOISE, Setting, plan, run};

/// How many do it at once.
const OPERATORS: u32 = 8;

async fn operations(setting: &Setting) -> Result<OperationsClient<Channel>> {
    let operator = Files::of_coordinator(setting, "operator");
    Ok(OperationsClient::new(operator.dial(setting).await?))
}

/// The answers to requests that are all under way together, in the order of the requests.
async fn together<T: Send + 'static>(
    requests: impl Iterator<Item = impl Future<Output = Result<T, Status>> + Send + 'static>,
) -> Result<Vec<Result<T, Status>>> {
    let asked: Vec<_> = requests.map(tokio::spawn).collect();
    let mut answers = Vec::new();
    for answer in asked {
        answers.push(answer.await?);
    }
    Ok(answers)
}

fn signed(setting: &Setting, seed: u32) -> Result<Signed> {
    let text = plan(2, 2, 1, "head", "", NO_NOISE).replace("seed = 7", &format!("seed = {seed}"));
    let file = setting.path("plan.toml");
    let prepared = setting.path("prepared.json");
    std::fs::write(&file, text)?;
    let at = |path: &std::path::Path| path.to_str().map(str::to_owned).context("a path");
    let coordinator = |arguments: &[&str]| run(setting.cluster.coordinator_command(arguments)?);
    std::fs::write(&prepared, coordinator(&["plan", "prepare", &at(&file)?])?)?;
    let key = setting.cluster.coordinator_directory();
    let key = key.join("operator/signing.key");
    let signed = coordinator(&["plan", "sign", &at(&prepared)?, "--key", &at(&key)?])?;
    Ok(serde_json::from_str(&signed)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_run_has_a_base_of_its_own_and_a_plan_becomes_a_run_once() -> Result<()> {
    let setting = Setting::with_model()?;
    let operations = operations(&setting).await?;
    let create = |plan: &Signed| {
        let mut operations = operations.clone();
        let request = v1::CreateRunRequest {
            plan: Some(convert::signed_to_wire(plan)),
            force: true,
        };
        async move { operations.create_run(request).await }
    };

    let plans: Vec<Signed> = (0..OPERATORS)
        .map(|seed| signed(&setting, seed))
        .collect::<Result<_>>()?;
    for answer in together(plans.iter().map(create)).await? {
        answer?;
    }
    // Each begins with a head of its own seed, under a number of its own.
    let listed = setting.cluster.coordinate(&["model", "list"])?;
    let listed = listed.as_array().context("a list")?;
    let names = listed
        .iter()
        .filter_map(|view| view["version"]["name"].as_str());
    let mut names: Vec<&str> = names.filter(|name| name.starts_with("notes@")).collect();
    names.sort_unstable();
    let numbers: Vec<String> = (1..=OPERATORS)
        .map(|number| format!("notes@{number}"))
        .collect();
    assert_eq!(names, numbers);

    let again = signed(&setting, OPERATORS)?;
    let answers = together((0..OPERATORS).map(|_| create(&again))).await?;
    let (created, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(created.len(), 1, "{refused:?}");
    for status in refused.into_iter().filter_map(Result::err) {
        let code = convert::refusal_of(&status).map(|refusal| refusal.code);
        assert_eq!(code, Some(Code::RunExists), "{status}");
    }
    setting.assert_no_errors_logged();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_key_of_the_history_gives_way_to_the_next() -> Result<()> {
    let mut setting = Setting::with_model()?;
    let operations = operations(&setting).await?;
    let rotate = |_| {
        let mut operations = operations.clone();
        let request = v1::RotateKeyRequest {
            which: Which::History.into(),
        };
        async move { operations.rotate_key(request).await }
    };
    let mut keys = Vec::new();
    for answer in together((0..OPERATORS).map(rotate)).await? {
        keys.push(answer?.into_inner().fingerprint);
    }
    let in_force = |setting: &Setting| -> Result<Value> {
        let keys = setting.cluster.coordinate(&["key", "list"])?;
        let keys = keys.as_array().context("a list")?;
        let key = keys.iter().find(|key| key["what"] == "history");
        Ok(key.context("a key of the history")?["fingerprint"].clone())
    };
    let last = in_force(&setting)?;
    assert!(keys.iter().any(|key| last == key.as_str()), "{last}");

    // What is on disk is what is in force: it signs after a restart, and all it signed holds.
    setting.cluster.kill_coordinator()?;
    setting.cluster.start_coordinator()?;
    assert_eq!(in_force(&setting)?, last);
    let verdict = setting.cluster.coordinate(&["verify"])?;
    assert_eq!(verdict["problems"], serde_json::json!([]), "{verdict}");
    setting.assert_no_errors_logged();
    Ok(())
}
