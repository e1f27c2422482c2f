//! `dashboard`: the federation as a page on loopback.
//!
//! | file | what it does |
//! |---|---|
//! | `feed` | follows the coordinator over gRPC and keeps the [`world::World`] current |
//! | `world`, `history` | what pages are made of: views, and what the events add up to |
//! | `routes`, `site` | the paths, and what every page has around it |
//! | `attention` | what a person should look at |
//! | `overview`, `run`, `timeline`, `curves`, `institutions`, `models`, `lineage`, `events` | pages and their parts |
//! | `top`, `screen` | the same on a terminal |
//! | `deed`, `act` | what an operator can do, and that it is confirmed once |

mod act;
mod attention;
mod curves;
mod deed;
mod events;
mod feed;
mod history;
mod institutions;
mod lineage;
mod models;
mod overview;
mod routes;
mod run;
mod screen;
mod site;
#[cfg(test)]
mod tests;
mod timeline;
pub(super) mod top;
mod world;

use clap::Args;
use fedner_host::output::{self, Output};
use fedner_host::signal::Terminate;
use fedner_page::guard::Guard;
use fedner_page::server;
use tokio_util::sync::CancellationToken;

use super::connect::{self, Who};
use super::failed::Failed;
use crate::config::{Config, Paths};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The port on loopback; 0 for any that is free
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Look with the viewer's certificate, which can change nothing
    #[arg(long)]
    viewer: bool,
}

pub(super) async fn run(
    arguments: Arguments,
    paths: &Paths,
    output: &Output,
) -> Result<(), Failed> {
    let config = Config::read(paths)?;
    let who = if arguments.viewer {
        Who::Viewer
    } else {
        Who::present(paths)
    };
    // Whoever cannot connect hears it before a page opens.
    connect::monitoring_as(paths, who).await?;
    let (listener, address) = server::bind(arguments.port)
        .await
        .map_err(|error| Failed::fault(format!("no port of loopback can be used: {error}")))?;
    let guard = Guard::new(address, |address| {
        // Its reader may be gone; the page goes on.
        let _ = output::raw(format!("{address}\n").as_bytes());
    })
    .map_err(|error| Failed::fault(format!("the machine gives no random numbers: {error}")))?;
    output.say(
        "open the address above in a browser; it is good once, and a new one is printed when it was used",
    );
    let stop = CancellationToken::new();
    let mut terminate = Terminate::new()
        .map_err(|error| Failed::fault(format!("signals cannot be waited for: {error}")))?;
    let site = site::Site::new(config, paths.clone(), who);
    let feed = tokio::spawn(feed::follow(site.clone(), stop.clone()));
    let serving = tokio::spawn(server::serve(
        listener,
        guard,
        routes::pages(site),
        stop.clone(),
    ));
    terminate.received().await;
    stop.cancel();
    // Both end by the same word; that one of them panicked was said by the runtime.
    let _ = tokio::join!(feed, serving);
    Ok(())
}
