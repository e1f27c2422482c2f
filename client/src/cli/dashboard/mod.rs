//! `dashboard`: the institution's own page on loopback, for those who decide.
//!
//! | file | what it does |
//! |---|---|
//! | `look` | reads what is shown from the directory, anew for each page |
//! | `routes`, `site` | the paths, and what every page has around it |
//! | `home`, `plans`, `left`, `scores` | pages and their parts |
//! | `deed`, `act` | what a person decides, asked once |

mod act;
mod deed;
mod home;
mod left;
mod look;
mod plans;
mod routes;
mod scores;
mod site;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use fedner_host::output;
use fedner_host::signal::Terminate;
use fedner_page::guard::Guard;
use fedner_page::live::Live;
use fedner_page::server;
use tokio_util::sync::CancellationToken;

use super::{Context, runtime};
use crate::config::Directory;
use crate::state::Store;

/// How often open pages are told of changes.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Look at what is asked of this institution and what has left it, in a browser of this machine
///
/// The page decides what the commands `consent` and `release` decide. It needs no connection: it shows what
/// is in the directory, and sends nothing.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The port on loopback; 0 for any that is free
    #[arg(long, default_value_t = 0)]
    port: u16,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let directory = context.directory()?;
    // Whoever has no institution here hears it before a page opens.
    look::Look::at(&directory)?;
    runtime()?.block_on(serve(context, directory, arguments.port))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(context: &Context, directory: Directory, port: u16) -> anyhow::Result<()> {
    let (listener, address) = server::bind(port)
        .await
        .context("take a port of loopback")?;
    let guard = Guard::new(address, |address| {
        // Its reader may be gone; the page goes on.
        let _ = output::raw(format!("{address}\n").as_bytes());
    })?;
    context.output.say(
        "open the address above in a browser; it is good once, and a new one is printed when it was used",
    );
    let stop = CancellationToken::new();
    let mut terminate = Terminate::new().context("wait for signals")?;
    let live = Live::default();
    tokio::spawn(tell_of_changes(
        directory.clone(),
        live.clone(),
        stop.clone(),
    ));
    let pages = routes::pages(site::Site::new(directory, live));
    let serving = tokio::spawn(server::serve(listener, guard, pages, stop.clone()));
    terminate.received().await;
    stop.cancel();
    // It ends by that word.
    let _ = serving.await;
    Ok(())
}

/// Open pages look again when the daemon or a command has changed the database.
async fn tell_of_changes(directory: Directory, live: Live, stop: CancellationToken) {
    let mut known = None;
    let mut store = None;
    while !stop.is_cancelled() {
        tokio::time::sleep(LOOK_EVERY).await;
        if !live.is_watched() {
            continue;
        }
        if store.is_none() {
            store = Store::open(&directory.database()).ok();
        }
        let version = store.as_ref().map(Store::outside_changes);
        let state = if let Some(Ok(version)) = version {
            Some((version, directory.is_running()))
        } else {
            store = None;
            None
        };
        if known.replace(state) != Some(state) {
            live.touch();
        }
    }
}
