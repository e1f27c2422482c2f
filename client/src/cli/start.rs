//! `start`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use fedner_host::log;
use fedner_host::service::{self, Word};
use fedner_host::signal::{Terminate, hangups};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{Context, runtime};
use crate::agent::{Agent, Environment};
use crate::observe;

/// How long a training step may take to notice that it is to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Run the daemon: check in, train, and let updates out through the gate
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

pub(super) fn run(context: &Context, _: Arguments) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let directory = context.directory()?;
    let settings = directory.settings()?;
    let (metrics, institution) = (settings.metrics_listen, settings.institution);
    let agent = {
        // The connection belongs to the runtime, though it is only dialled when first used.
        let _inside = runtime.enter();
        Agent::open(context.directory()?, Environment::here())?
    };
    let outcome = runtime.block_on(async {
        let stop = CancellationToken::new();
        let signalled = stop.clone();
        let mut terminate = Terminate::new().context("wait for signals")?;
        // Configuration is read whenever it is needed, so that nothing is to be done, and the work goes on.
        tokio::spawn(hangups(|| {
            tracing::info!(
                "asked to reload: client.toml and policy.toml are looked at before each use"
            );
        }));
        if let Some(address) = metrics {
            observe::serve(address, directory, stop.clone()).await?;
        }
        tokio::spawn(alive());
        service::notify(Word::Ready);
        tokio::spawn(async move {
            terminate.received().await;
            service::notify(Word::Stopping);
            tracing::info!("stopping");
            signalled.cancel();
        });
        let institution = log::institution(&institution);
        anyhow::Ok(agent.run(stop).instrument(institution).await?)
    });
    runtime.shutdown_timeout(GRACE);
    outcome?;
    Ok(ExitCode::SUCCESS)
}

/// Tells a service manager that asks for it that the daemon is alive.
async fn alive() {
    let Some(every) = service::watchdog() else {
        return;
    };
    loop {
        service::notify(Word::Alive);
        tokio::time::sleep(every).await;
    }
}
