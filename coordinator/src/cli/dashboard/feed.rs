//! Follows the coordinator: each event by `Watch`, and the views after a change or now and then.

use std::time::Duration;

use fedner_proto::v1::monitoring_client::MonitoringClient;
use fedner_proto::{convert, v1};
use fedner_shared::refusal::Refusal;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::site::Site;
use super::world::Version;
use crate::cli::failed::Failed;
use crate::cli::{connect, lists};

type Monitoring = MonitoringClient<Channel>;

/// Events that come together are looked at together.
const GATHER: Duration = Duration::from_millis(60);
/// Who was seen when is in no event.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// Versions that are read at a time: each names its participants.
const PAGE: u32 = 20;
/// With more that have changed, all are read.
const SINGLY: usize = 40;

/// Until `stop`.
pub(super) async fn follow(site: Site, stop: CancellationToken) {
    loop {
        let failed = tokio::select! {
            failed = once(&site) => failed,
            () = stop.cancelled() => return,
        };
        site.change(|world| world.problem = Some(format!("what is shown may be old: {failed}")));
        tokio::select! {
            () = tokio::time::sleep(TRY_AGAIN) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Over one connection, until it ends.
async fn once(site: &Site) -> Failed {
    let Err(failed) = attempt(site).await;
    failed
}

async fn attempt(site: &Site) -> Result<std::convert::Infallible, Failed> {
    let monitoring = connect::monitoring_as(site.paths(), site.who()).await?;
    let from = site.look(|world| world.history.next).max(1);
    let request = v1::WatchRequest {
        run: String::new(),
        from,
    };
    let mut stream = monitoring.clone().watch(request).await?.into_inner();
    read_versions(site, &monitoring).await?;
    look(site, &monitoring).await?;
    site.change(|world| world.problem = None);
    // When the views are read next.
    let mut due = Instant::now() + LOOK_AGAIN;
    loop {
        let message = tokio::select! {
            biased;
            message = stream.message() => Some(message?),
            () = tokio::time::sleep_until(due) => None,
        };
        match message {
            Some(Some(message)) => {
                let entry = convert::entry_from_wire(&message)?;
                site.note(|world| world.history.take(entry));
                due = due.min(Instant::now() + GATHER);
            }
            Some(None) => {
                return Err(Failed::refuse(
                    fedner_shared::refusal::Code::Unreachable,
                    "the coordinator has ended the stream of events",
                ));
            }
            None => {
                look(site, &monitoring).await?;
                due = Instant::now() + LOOK_AGAIN;
            }
        }
    }
}

/// Reads the views of runs and institutions, and the versions that have changed.
async fn look(site: &Site, monitoring: &Monitoring) -> Result<(), Failed> {
    let runs = lists::runs(monitoring.clone()).await?.into_iter();
    let runs = runs.map(convert::run_from_wire);
    let runs = runs.collect::<Result<Vec<_>, Refusal>>()?;
    let institutions = lists::institutions(monitoring.clone()).await?.into_iter();
    let institutions = institutions.map(convert::institution_from_wire);
    let institutions = institutions.collect::<Result<Vec<_>, Refusal>>()?;
    let (mut plans, mut explained) = (Vec::new(), Vec::new());
    for run in &runs {
        let name = run.run.to_string();
        if !site.look(|world| world.plans.contains_key(&run.run)) {
            let request = v1::GetRunRequest { run: name.clone() };
            let found = monitoring.clone().get_run(request).await?.into_inner();
            // A plan of a newer coordinator is shown without what it adds up to.
            if let Ok(plan) = serde_json::from_str(&found.plan_text) {
                plans.push((run.run.clone(), plan));
            }
        }
        if !run.state.is_end() {
            let request = v1::ExplainRequest { run: name };
            let found = monitoring.clone().explain(request).await?.into_inner();
            explained.push((run.run.clone(), convert::explanation_from_wire(found)?));
        }
    }
    refresh_versions(site, monitoring).await?;
    site.change(|world| {
        world.runs = runs;
        world.institutions = institutions;
        world.plans.extend(plans);
        world.explained = explained.into_iter().collect();
    });
    Ok(())
}

async fn refresh_versions(site: &Site, monitoring: &Monitoring) -> Result<(), Failed> {
    let stale: Vec<String> = site.note(|world| {
        let digests = std::mem::take(&mut world.history.stale);
        let names = std::mem::take(&mut world.history.stale_names);
        let digests = digests.iter().map(ToString::to_string);
        digests
            .chain(names.iter().map(ToString::to_string))
            .collect()
    });
    if stale.len() > SINGLY {
        return read_versions(site, monitoring).await;
    }
    for version in stale {
        let request = v1::GetModelRequest {
            version,
            ..v1::GetModelRequest::default()
        };
        let found = monitoring.clone().get_model(request).await?.into_inner();
        keep(site, Version::of(convert::version_from_wire(found)?));
    }
    Ok(())
}

/// All versions, a few at a time.
async fn read_versions(site: &Site, monitoring: &Monitoring) -> Result<(), Failed> {
    let mut request = v1::ListModelsRequest {
        page_size: PAGE,
        ..v1::ListModelsRequest::default()
    };
    loop {
        let page = monitoring.clone().list_models(request.clone()).await?;
        let page = page.into_inner();
        for model in page.models {
            let mut version = Version::of(convert::version_from_wire(model)?);
            // Lists leave the audits out.
            if let Some(known) = site.look(|world| world.versions.get(&version.digest).cloned()) {
                version.audits = known.audits;
            }
            keep(site, version);
        }
        if page.next_page_token.is_empty() {
            return Ok(());
        }
        request.page_token = page.next_page_token;
    }
}

fn keep(site: &Site, version: Version) {
    site.note(|world| {
        // An alias names one version.
        for other in world.versions.values_mut() {
            other
                .aliases
                .retain(|alias| !version.aliases.contains(alias));
        }
        world.versions.insert(version.digest, version);
    });
}
