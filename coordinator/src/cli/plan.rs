//! `plan`: plans made ready and signed, elsewhere than where the coordinator serves if need be.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use fedner_host::files::check_secret;
use fedner_host::output::Output;
use fedner_proto::v1;
use fedner_proto::v1::operations_client::OperationsClient;
use fedner_shared::digest::canonical_text;
use fedner_shared::plan::{Inputs, Plan};
use fedner_shared::refusal::Code;
use fedner_shared::sign::{SecretKey, Signed};
use tonic::transport::Channel;
use zeroize::Zeroizing;

use super::connect;
use super::failed::Failed;
use crate::config::Paths;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write a plan with what it begins with to stdout, to be signed elsewhere
    Prepare { plan: PathBuf },
    /// Sign a prepared plan, without a coordinator, and write it to stdout for `run create`
    Sign {
        prepared: PathBuf,
        /// The key that signs plans
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
}

pub(super) async fn run(command: Command, paths: &Paths, output: &Output) -> Result<(), Failed> {
    match command {
        Command::Prepare { plan } => {
            let mut plan = parse(&plan)?;
            prepare(&mut plan, &mut connect::operations(paths).await?).await?;
            output.data(&plan, canonical_text)?;
            Ok(())
        }
        Command::Sign { prepared, key } => {
            let text = read(&prepared)?;
            let plan: Plan = serde_json::from_str(&text).map_err(|error| {
                let message = format!("{}: {error}", prepared.display());
                Failed::refuse(Code::PlanInvalid, message)
            })?;
            plan.check()
                .map_err(|error| Failed::refuse(Code::PlanInvalid, error.to_string()))?;
            if plan.inputs.is_none() {
                let message = "the plan does not name what it begins with: `plan prepare` does";
                return Err(Failed::refuse(Code::PlanInvalid, message));
            }
            let signed = Signed::new(&plan, &signing_key(&key)?);
            output.data(&signed, |signed| {
                serde_json::to_string(signed).unwrap_or_default()
            })?;
            output.say(format!(
                "signed the plan {} ({}): base {}, {}, unit {}",
                plan.name,
                signed.digest(),
                plan.base,
                plan.work(),
                plan.privacy.unit
            ));
            Ok(())
        }
    }
}

/// The plan in that file, signed: by `plan sign`, or now with the key in the directory.
pub(super) async fn signed(
    path: &Path,
    paths: &Paths,
    operations: &mut OperationsClient<Channel>,
) -> Result<(Plan, Signed), Failed> {
    let invalid = |error: &dyn std::fmt::Display| {
        Failed::refuse(Code::PlanInvalid, format!("{}: {error}", path.display()))
    };
    if let Ok(signed) = serde_json::from_str::<Signed>(&read(path)?) {
        let plan = signed.peek::<Plan>().map_err(|error| invalid(&error))?;
        return Ok((plan, signed));
    }
    sign_now(parse(path)?, paths, operations).await
}

/// The plan made ready, and signed with the key in the directory.
pub(super) async fn sign_now(
    mut plan: Plan,
    paths: &Paths,
    operations: &mut OperationsClient<Channel>,
) -> Result<(Plan, Signed), Failed> {
    let key = signing_key(&paths.signing_key())?;
    prepare(&mut plan, operations).await?;
    let signed = Signed::new(&plan, &key);
    Ok((plan, signed))
}

/// Adds what a run of the plan would begin with.
async fn prepare(
    plan: &mut Plan,
    operations: &mut OperationsClient<Channel>,
) -> Result<(), Failed> {
    let request = v1::PreparePlanRequest {
        plan: canonical_text(plan),
    };
    let prepared = operations.prepare_plan(request).await?.into_inner();
    let inputs: Inputs = serde_json::from_str(&prepared.inputs)
        .map_err(|error| Failed::refuse(Code::RequestInvalid, format!("inputs: {error}")))?;
    plan.inputs = Some(inputs);
    Ok(())
}

fn parse(path: &Path) -> Result<Plan, Failed> {
    Plan::parse(&read(path)?)
        .map_err(|error| Failed::refuse(Code::PlanInvalid, format!("{}: {error}", path.display())))
}

fn read(path: &Path) -> Result<String, Failed> {
    fs::read_to_string(path).map_err(|error| {
        let message = format!("cannot read {}: {error}", path.display());
        Failed::refuse(Code::PlanInvalid, message)
    })
}

/// A signing key that nobody else can read.
pub(super) fn signing_key(path: &Path) -> Result<SecretKey, Failed> {
    check_secret(path)?;
    let pem = fs::read_to_string(path).map_err(|error| {
        let message = format!("cannot read {}: {error}", path.display());
        Failed::refuse(Code::StateInvalid, message)
    })?;
    let pem = Zeroizing::new(pem);
    SecretKey::from_pem(&pem)
        .map_err(|error| Failed::refuse(Code::StateInvalid, format!("{}: {error}", path.display())))
}
