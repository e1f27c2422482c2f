//! `audit submit`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use fedner_host::machine::{Machine as _, ThisMachine};
use fedner_shared::audit::{AuditReport, Outcome};
use fedner_shared::digest::Digest;
use fedner_shared::id::{InstitutionId, VersionName};
use serde::Serialize;

use super::super::{Context, runtime};
use super::own_identity;
use crate::audit::report::SignedReport;
use crate::blobs::Blobs;
use crate::egress::{Gate, ReleasedAudit};
use crate::rules;
use crate::state::Store;
use crate::transport::{Coordinator, Error as TransportError};

/// Send a signed report to the coordinator, which keeps it with the version of the model
///
/// The report leaves as it is: the figures of its attacks, and the digests of the files that it
/// read with how many sentences they have. The policy must have `share_audits = true`. A receipt is
/// kept, and the same report may be sent again.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// As `audit run --model` has kept it
    report: PathBuf,
    /// The version that the model was exported from. To be named the first time where the
    /// coordinator keeps it in several files: every trained one but those of `full` with nothing
    /// frozen
    #[arg(long, value_name = "NAME@NUMBER")]
    model_version: Option<VersionName>,
}

#[derive(Debug, Serialize)]
struct Submitted {
    /// Its digest, which is that of its receipt too.
    report: Digest,
    institution: InstitutionId,
    weights: Option<Digest>,
    verdict: Outcome,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let directory = context.directory()?;
    let settings = directory.settings()?;
    let identity = Arc::new(own_identity(context)?);
    let signed = SignedReport::read(&arguments.report)?.signed;
    let store = Store::open(&directory.database())?;
    let in_force = rules::in_force(&store, &directory, ThisMachine.now());
    let policy = runtime()?.block_on(in_force)?.policy;
    let blobs = Blobs::open(directory.blobs())?;
    let gate = Gate::new(store.clone(), blobs, Arc::clone(&identity));
    let released =
        gate.release_audit(&signed, arguments.model_version, &policy, ThisMachine.now())?;
    let sent: Result<(), TransportError> = runtime()?.block_on(async {
        let coordinator = Coordinator::new(&(&settings).into(), &identity.tls)?;
        coordinator.submit_audit(&released).await
    });
    sent?;
    store.mark_taken(&signed.digest(), ThisMachine.now())?;
    context
        .output
        .data(&Submitted::of(&released)?, |submitted| {
            let weights = submitted.weights.map(|weights| weights.short());
            format!(
                "the report {} is with the coordinator, kept with the version of the weights {}",
                submitted.report.short(),
                weights.unwrap_or_default()
            )
        })?;
    Ok(ExitCode::SUCCESS)
}

impl Submitted {
    fn of(released: &ReleasedAudit) -> anyhow::Result<Self> {
        let report: AuditReport = released.report().peek()?;
        Ok(Self {
            report: released.report().digest(),
            institution: report.institution,
            weights: report.model.map(|model| model.weights),
            verdict: report.verdict,
        })
    }
}
