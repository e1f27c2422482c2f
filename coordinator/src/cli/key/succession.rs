//! How the key that signs plans gives way to a new one, on one machine or on two.

use std::fs;
use std::path::Path;

use fedner_host::machine::Machine as _;
use fedner_host::machine::ThisMachine;
use fedner_host::output::Output;
use fedner_proto::{convert, v1};
use fedner_shared::keys::{Signs, Succession};
use fedner_shared::plan::Plan;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::sign::{SecretKey, Signed};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::super::certificate::write;
use super::super::connect;
use super::super::failed::Failed;
use super::super::plan::signing_key;
use crate::config::Paths;

/// What the old key's holder hands over.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Handover {
    succession: Signed,
    /// The open plans, signed with the new key.
    plans: Vec<Signed>,
}

/// All in one, with the keys in the directory.
pub(super) async fn rotate(paths: &Paths, output: &Output) -> Result<(), Failed> {
    let (path, next) = (paths.signing_key(), paths.next_signing_key());
    let old = signing_key(&path)?;
    if next.exists() {
        // A rotation was cut short: either the coordinator knows of it, or it is begun again.
        let waiting = signing_key(&next)?;
        if present(paths).await? == waiting.public().to_string() {
            fs::rename(&next, &path).map_err(Failed::io("write", &path))?;
            output.say("the new key was recorded before, and is in its place now");
            return Ok(());
        }
    }
    let new = SecretKey::generate().map_err(|error| Failed::fault(error.to_string()))?;
    write(&next, &pem(&new)?)?;
    let handover = hand_over(&old, &new, &fetch(paths).await?)?;
    send(&handover, paths).await?;
    fs::rename(&next, &path).map_err(Failed::io("write", &path))?;
    told(&new, output);
    Ok(())
}

pub(super) async fn open_plans(paths: &Paths, output: &Output) -> Result<(), Failed> {
    let plans = fetch(paths).await?;
    output.data(&plans, |plans| {
        serde_json::to_string(plans).unwrap_or_default()
    })?;
    Ok(())
}

pub(super) fn succeed(plans: &Path, old: &Path, to: &Path, output: &Output) -> Result<(), Failed> {
    if to.exists() {
        let message = format!("{} exists", to.display());
        return Err(Failed::refuse(Code::AlreadyExists, message));
    }
    let plans: Vec<Signed> = json(plans)?;
    let old = signing_key(old)?;
    let new = SecretKey::generate().map_err(|error| Failed::fault(error.to_string()))?;
    let handover = hand_over(&old, &new, &plans)?;
    write(to, &pem(&new)?)?;
    output.data(&handover, |handover| {
        serde_json::to_string(handover).unwrap_or_default()
    })?;
    told(&new, output);
    Ok(())
}

pub(super) async fn install(path: &Path, paths: &Paths, output: &Output) -> Result<(), Failed> {
    let handover: Handover = json(path)?;
    send(&handover, paths).await?;
    output.say("plans are signed with the new key from now on");
    Ok(())
}

/// Signs the succession with the old key, and each of the plans, which bear its signature, with the new one.
fn hand_over(old: &SecretKey, new: &SecretKey, plans: &[Signed]) -> Result<Handover, Failed> {
    let plans = plans.iter().map(|plan| {
        let verified = plan.verify::<Plan>(&old.public());
        let verified = verified.map_err(|error| {
            let message = format!("the plan {}: {error}", plan.digest().short());
            Failed::refuse(Code::PlanSignature, message)
        })?;
        let anew = Signed::new(&verified, new);
        if anew.digest() != plan.digest() {
            let message = format!("the plan {} is not canonical", plan.digest().short());
            return Err(Failed::refuse(Code::PlanInvalid, message));
        }
        Ok(anew)
    });
    let succession = Succession {
        signs: Signs::Plans,
        old: old.public(),
        new: new.public(),
        at: ThisMachine.now(),
    };
    Ok(Handover {
        succession: Signed::new(&succession, old),
        plans: plans.collect::<Result<_, _>>()?,
    })
}

async fn fetch(paths: &Paths) -> Result<Vec<Signed>, Failed> {
    let answer = connect::operations(paths)
        .await?
        .list_open_plans(v1::ListOpenPlansRequest {})
        .await?;
    let plans = answer.into_inner().plans.into_iter();
    let plans: Result<_, Refusal> = plans
        .map(|plan| convert::signed("plans", Some(plan)))
        .collect();
    Ok(plans?)
}

/// The key by which plans are signed at present, in hexadecimal digits.
async fn present(paths: &Paths) -> Result<String, Failed> {
    let answer = connect::operations(paths)
        .await?
        .list_keys(v1::ListKeysRequest {})
        .await?;
    let keys = answer.into_inner().keys;
    let plans = keys.into_iter().find(|key| key.what == "plans");
    Ok(plans.map(|key| key.fingerprint).unwrap_or_default())
}

async fn send(handover: &Handover, paths: &Paths) -> Result<(), Failed> {
    let request = v1::ReplacePlanKeyRequest {
        succession: Some(convert::signed_to_wire(&handover.succession)),
        plans: handover.plans.iter().map(convert::signed_to_wire).collect(),
    };
    connect::operations(paths)
        .await?
        .replace_plan_key(request)
        .await?;
    Ok(())
}

fn told(new: &SecretKey, output: &Output) {
    output.say(format!("the new key that signs plans is {}", new.public()));
    output.say(
        "an institution whose policy lists `operators` adds it there; others learn it by themselves",
    );
}

fn pem(key: &SecretKey) -> Result<Zeroizing<String>, Failed> {
    key.to_pem()
        .map_err(|error| Failed::fault(error.to_string()))
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Failed> {
    let wrong = |error: &dyn std::fmt::Display| {
        Failed::refuse(Code::RequestInvalid, format!("{}: {error}", path.display()))
    };
    let text = fs::read_to_string(path).map_err(|error| wrong(&error))?;
    serde_json::from_str(&text).map_err(|error| wrong(&error))
}
