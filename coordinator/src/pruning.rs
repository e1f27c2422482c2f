//! Letting go of older versions by a standing rule.

use std::time::Duration;

use fedner_shared::version::Pruned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::engine::Handle;
use crate::engine::prune::Rule;
use crate::retention::Retention;

const EVERY: Duration = Duration::from_hours(1);

/// Lets go of what the rule in force names: at the start, each hour, and when the rule changes, until `stop`.
pub async fn regularly(
    engine: Handle,
    mut rule: watch::Receiver<Option<Retention>>,
    stop: CancellationToken,
) {
    loop {
        let standing = rule.borrow_and_update().as_ref().map(rule_of);
        if let Some(rule) = standing {
            match engine
                .call(move |engine| engine.prune_models(rule, false))
                .await
            {
                Ok(let_go) if let_go.versions.is_empty() => {}
                Ok(let_go) => {
                    let names: Vec<String> =
                        let_go.versions.iter().map(ToString::to_string).collect();
                    tracing::info!(
                        objects = let_go.objects.len(),
                        "let go by [retention]: {}",
                        names.join(", ")
                    );
                }
                Err(failure) => failure.log("cannot let go of older versions"),
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
            changed = rule.changed() => if changed.is_err() { return },
        }
    }
}

fn rule_of(retention: &Retention) -> Rule {
    let what = if retention.updates_only {
        Pruned::Updates
    } else {
        Pruned::Files
    };
    Rule {
        keep: retention.keep,
        older_than: retention.older_than(),
        what,
    }
}
