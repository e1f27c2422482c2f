//! The federation at a glance.

use std::fmt::Write as _;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use fedner_page::guard::Base;
use fedner_page::layout::{self, Tone, badge, card, figure, live, meter, text};
use fedner_page::words;
use fedner_shared::state::RunState;
use fedner_shared::time::Time;
use fedner_shared::view::{Explanation, InstitutionView, RunView};
use maud::{Markup, html};

use super::attention::{self, active};
use super::events;
use super::site::Site;
use super::world::World;
use crate::cli::sentence;

/// Who was heard of since counts as connected: a check-in is asked for at least so often.
const CONNECTED: Duration = Duration::from_mins(3);
/// Newest events and runs on this page.
const EVENTS: usize = 10;
const RUNS: usize = 40;

pub(super) async fn show(State(site): State<Site>, Extension(base): Extension<Base>) -> Response {
    let home = site.home();
    let act = site.may_act();
    site.page(&base, ("", "Overview"), |world, now| {
        let runs = newest_runs(world);
        html! {
            (live("title", html! {
                div.title {
                    h1 { (home) }
                    @if act { div.actions { a.button href="institutions#invite" { "Invite an institution" } } }
                }
                p.lead { (summary(world, now)) }
            }))
            (live("figures", figures(world, now)))
            (attention::card(&attention::attention(world, now)))
            (card("runs", "Runs", html! { (words::count(world.runs.len(), "run", "runs")) }, html! {
                @if runs.is_empty() {
                    (layout::empty("There is no run yet.", "Write a plan, and create a run of it:",
                        Some("fedner-coordinator run create plan.toml --start")))
                } @else {
                    div.scroll { table {
                        thead { tr { th { "Run" } th { "State" } th { "Round" } th.n { "F1" } th { "What it waits for" } th { "Expected end" } } }
                        tbody { @for run in runs.iter().take(RUNS) { (row(world, run, now)) } }
                    } }
                }
            }))
            (card("news", "Latest events", html! { a href="events" { "All events" } }, events::list(
                world.history.newest.iter().rev().take(EVENTS), now)))
        }
    })
}

/// What goes on comes first, then the newest.
pub(super) fn newest_runs(world: &World) -> Vec<&RunView> {
    let mut runs: Vec<&RunView> = world.runs.iter().rev().collect();
    runs.sort_by_key(|run| run.state.is_end());
    runs
}

pub(super) fn is_connected(view: &InstitutionView, now: Time) -> bool {
    view.last_seen
        .is_some_and(|seen| now.since(seen) < CONNECTED)
}

pub(super) fn summary(world: &World, now: Time) -> String {
    let connected = active(world).filter(|view| is_connected(view, now)).count();
    let under_way = world.runs.iter().filter(|run| !run.state.is_end()).count();
    let institutions = active(world).count();
    format!(
        "{connected} of {} connected, {} under way.",
        words::count(institutions, "institution", "institutions"),
        words::count(under_way, "run", "runs"),
    )
}

fn figures(world: &World, now: Time) -> Markup {
    let connected = active(world).filter(|view| is_connected(view, now)).count();
    let under_way = world.runs.iter().filter(|run| !run.state.is_end()).count();
    let versions = world.versions.values();
    let rounds = versions.filter(|version| version.run.is_some()).count();
    let best = world
        .newest_versions()
        .into_iter()
        .find(|version| version.f1.is_some());
    let first = active(world).min_by_key(|view| view.certificate_expires);
    html! {
        dl.figures {
            (figure("Connected", html! { (connected) small { " of " (active(world).count()) } }, html! { "institutions" }))
            (figure("Runs under way", html! { (under_way) small { " of " (world.runs.len()) } }, html! { "runs" }))
            (figure("Versions", html! { (world.versions.len()) }, html! { (rounds) " by rounds" }))
            @if let Some((version, f1)) = best.and_then(|version| Some((version, version.f1?))) {
                (figure("Newest F1", html! { (words::f1(f1)) }, html! {
                    a href=(format!("models/{}", version.digest)) { (version.name) } }))
            }
            @if let Some(view) = first {
                (figure("First certificate to end", html! { (words::relative(view.certificate_expires, now)) },
                    html! { (view.institution) }))
            }
        }
    }
}

pub(super) const fn tone(state: RunState) -> Tone {
    match state {
        RunState::Created | RunState::Scheduled | RunState::Cancelled => Tone::Plain,
        RunState::Recruiting
        | RunState::Collecting
        | RunState::Aggregating
        | RunState::Evaluating => Tone::Active,
        RunState::Paused => Tone::Warn,
        RunState::Completed => Tone::Good,
        RunState::Failed => Tone::Bad,
    }
}

/// The sentence of `run explain`, without what happens then.
pub(super) fn waits_for(view: &Explanation, now: Time) -> String {
    let mut said = format!("Waits for {}", text(&view.awaits));
    if !view.from.is_empty() {
        said.push_str(": ");
        said.push_str(&sentence::names(&view.from, 3));
    }
    if let Some(until) = view.until {
        // Writing to a string does not fail.
        let _ = write!(said, ", until {} at most", words::relative(until, now));
    }
    said.push('.');
    said
}

fn row(world: &World, run: &RunView, now: Time) -> Markup {
    let part = f64::from(run.round) / f64::from(run.rounds.max(1));
    let done = if run.state == RunState::Completed {
        1.0
    } else {
        part
    };
    let explained = world.explained.get(&run.run);
    html! {
        tr {
            td { a href=(format!("runs/{}", run.run)) { (run.run) } span.sub { (run.method) " · " (run.unit) } }
            td { (badge(tone(run.state), run.state.as_str())) }
            td { (run.round) " of " (run.rounds) (meter(done, Tone::Plain, &format!("round {} of {}", run.round, run.rounds))) }
            td.n { (run.f1.map_or("–".to_owned(), words::f1)) }
            td.wrap { @match (explained, &run.failure) {
                (Some(view), _) => (waits_for(view, now)),
                (None, Some(reason)) => (text(reason)),
                (None, None) => "",
            } }
            td { @match explained.and_then(|view| view.finish.or(view.expected)) {
                Some(at) => (words::when(at, now)),
                None => span.muted { "–" },
            } }
        }
    }
}
