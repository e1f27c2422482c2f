//! `model prune`: a disk that does not only fill.

use clap::Args;
use fedner_host::output::Output;
use fedner_proto::v1;
use serde::Serialize;

use crate::cli::connect;
use crate::cli::failed::Failed;
use crate::cli::invite::parse_span;
use crate::config::{Config, Paths};
use crate::retention::Retention;

const KEEP: u32 = 10;

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// So many of the newest versions of each model stay as they are; without any option the rule of
    /// `[retention]` holds, else 10 stay
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Only versions that are at least so old, such as 90d
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    older_than: Option<u64>,
    /// Let go of the updates only: such versions can be exported still, and not be computed again
    #[arg(long)]
    updates_only: bool,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct LetGo {
    versions: Vec<String>,
    /// Versions that `replay` could compute before.
    beyond_replay: Vec<String>,
    objects: u64,
    bytes: u64,
}

pub(super) async fn run(
    arguments: Arguments,
    paths: &Paths,
    output: &Output,
) -> Result<(), Failed> {
    let Arguments {
        keep,
        older_than,
        updates_only,
        dry_run,
    } = arguments;
    let said = keep.is_some() || older_than.is_some() || updates_only;
    // An operator elsewhere has no such file.
    let standing = Config::read(paths).ok().and_then(|config| config.retention);
    let rule = standing.filter(|_| !said).unwrap_or(Retention {
        keep: keep.unwrap_or(KEEP),
        older_than_days: 0,
        updates_only,
    });
    let updates_only = rule.updates_only;
    let request = v1::PruneModelsRequest {
        keep: rule.keep,
        older_than_s: older_than.unwrap_or(rule.older_than().as_secs()),
        updates_only,
        dry_run,
    };
    let answer = connect::operations(paths)
        .await?
        .prune_models(request)
        .await?
        .into_inner();
    let let_go = LetGo {
        versions: answer.versions,
        beyond_replay: answer.beyond_replay,
        objects: answer.objects,
        bytes: answer.bytes,
    };
    output.data(&let_go, |let_go| {
        if let_go.versions.is_empty() {
            return "nothing is old enough, or everything old has an alias or is under way"
                .to_owned();
        }
        let what = if updates_only {
            "the updates"
        } else {
            "updates and files"
        };
        let megabytes = let_go.bytes as f64 / 1e6;
        let beyond = if let_go.beyond_replay.is_empty() {
            "none".to_owned()
        } else {
            let_go.beyond_replay.join(", ")
        };
        format!(
            "{what} of: {}\n{} objects, {megabytes:.1} MB\n`replay` can compute no more: {beyond}",
            let_go.versions.join(", "),
            let_go.objects
        )
    })?;
    match (dry_run, let_go.versions.is_empty()) {
        (_, true) => {}
        (true, false) => output.say("nothing was changed"),
        (false, false) => {
            output.say("records and receipts stay; the room is free within some hours");
        }
    }
    Ok(())
}
