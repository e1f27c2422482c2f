//! `replay`: the proof that a version is what its updates make of its parent.

use clap::Args;
use fedner_host::output::Output;
use fedner_shared::digest::Digest;
use fedner_shared::id::VersionName;
use fedner_shared::keys::verify_by_any;
use fedner_shared::plan::Plan;
use fedner_shared::refusal::Code;
use fedner_shared::version::{Origin, Pruned, Version};
use fedner_shared::view::VersionRef;
use serde::Serialize;

use super::failed::Failed;
use super::serve::plan_keys;
use crate::blobs::Blobs;
use crate::config::{Config, Paths};
use crate::registry::{Coordinates, Summation};
use crate::store::{Place, Store};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// NAME@NUMBER, an alias, or a digest
    version: String,
}

#[derive(Serialize)]
struct Replayed {
    version: VersionName,
    recorded: Digest,
    computed: Digest,
    same: bool,
}

pub(super) async fn run(
    arguments: Arguments,
    paths: &Paths,
    output: &Output,
) -> Result<(), Failed> {
    let config = Config::read(paths)?;
    let fault = Failed::from;
    let mut store = Store::look_at(&Place::from_config(paths, &config)?)?;
    let operators = plan_keys(paths, &mut store)?;
    let blobs = Blobs::from_config(paths, &config).await?;
    let reference: VersionRef =
        arguments
            .version
            .parse()
            .map_err(|error: fedner_shared::id::NotAVersion| {
                Failed::refuse(Code::RequestInvalid, error.to_string())
            })?;
    let unknown = || {
        Failed::refuse(
            Code::ModelUnknown,
            format!("there is no model version `{}`", arguments.version),
        )
    };
    let digest = store
        .read(|tx| tx.resolve(&reference))
        .map_err(fault)?
        .ok_or_else(unknown)?;
    let version = store
        .read(|tx| tx.version(digest))
        .map_err(fault)?
        .ok_or_else(unknown)?;
    let Origin::Round(round) = &version.origin else {
        let message = format!(
            "{} was not published by a round; there is nothing to compute again",
            version.name
        );
        return Err(Failed::refuse(Code::RunState, message));
    };
    let inconsistent = |what: &str| {
        Failed::refuse(
            Code::StateInvalid,
            format!("{what} of {} is missing", version.name),
        )
    };
    let plan = store
        .read(|tx| tx.plan(round.plan))
        .map_err(fault)?
        .ok_or_else(|| inconsistent("the plan"))?;
    let plan: Plan = verify_by_any(&plan, &operators)
        .map_err(|error| Failed::refuse(Code::PlanSignature, error.to_string()))?;
    let parent: Option<Version> = match version.parent {
        Some(parent) => store.read(|tx| tx.version(parent)).map_err(fault)?,
        None => None,
    };
    let parent = parent.ok_or_else(|| inconsistent("the parent"))?;
    let pruned = store.read(|tx| tx.pruned()).map_err(fault)?;
    let gone = |digest: &Digest, most: Pruned| pruned.get(digest).is_some_and(|p| *p >= most);
    let what = if gone(&digest, Pruned::Updates) {
        Some(format!("the updates that {} is the sum of", version.name))
    } else if gone(&parent.digest(), Pruned::Files) {
        Some(format!("the files of {}, its parent,", parent.name))
    } else {
        None
    };
    if let Some(what) = what {
        let message = format!("{what} were pruned on purpose: it cannot be computed again");
        return Err(Failed::refuse(Code::ModelPruned, message));
    }
    let sum = Summation {
        plan: &plan,
        parent: &parent,
        rule: round.rule,
        run: &round.run,
        contributions: &round.participants,
        unmasking: round.unmasking,
        coordinates: &Coordinates::default(),
    };
    let sum = sum.compute(&blobs, false).await?;
    let computed = sum.weights;
    let same = computed == version.weights && sum.moments == round.moments;
    let replayed = Replayed {
        version: version.name.clone(),
        recorded: version.weights,
        computed,
        same,
    };
    output.data(&replayed, |r| {
        let verdict = if r.same {
            "the digest is the same"
        } else {
            "THE DIGEST DIFFERS"
        };
        format!(
            "{}: {verdict}\nrecorded {}\ncomputed {}",
            r.version, r.recorded, r.computed
        )
    })?;
    if same {
        return Ok(());
    }
    Err(Failed::refuse(
        Code::StateInvalid,
        format!("{} is not what its stored updates come to", version.name),
    ))
}
