//! Metrics that are looked up instead of counted: who was seen, what is about to end, how much room is left.

use std::time::Duration;

use fedner_host::disk;
use tokio_util::sync::CancellationToken;

use crate::config::Paths;
use crate::engine::Handle;
use crate::observe;

const EVERY: Duration = Duration::from_secs(2);

/// Looks every so often, until `stop`.
pub async fn regularly(engine: Handle, paths: Paths, stop: CancellationToken) {
    loop {
        let looked = engine.call(|engine| Ok((engine.institution_views()?, engine.run_views())));
        match looked.await {
            Ok((institutions, runs)) => observe::show(&institutions, &runs),
            Err(failure) => tracing::debug!(%failure, "no metrics of institutions and runs"),
        }
        observe::show_queue(engine.queue());
        if let Ok(Some(free)) = disk::free_space(paths.directory()) {
            observe::show_disk(free);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
