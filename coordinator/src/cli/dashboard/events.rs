//! The log of events, with filters.

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use fedner_page::guard::Base;
use fedner_page::layout::{card, live, part, text};
use fedner_page::words;
use fedner_shared::event::Entry;
use fedner_shared::time::Time;
use maud::{Markup, html};
use serde::Deserialize;

use super::site::Site;
use crate::cli::sentence;

/// Events on one page.
const ROWS: usize = 150;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    run: String,
    #[serde(default)]
    kind: String,
    /// Words that the sentence must have, an institution's name for example.
    #[serde(default)]
    words: String,
    /// Only events before that one; 0 for all.
    #[serde(default)]
    before: u64,
}

impl Asked {
    fn fits(&self, entry: &Entry) -> bool {
        let of_run = entry
            .run
            .as_ref()
            .is_some_and(|run| run.as_str() == self.run);
        (self.run.is_empty() || of_run)
            && (self.kind.is_empty() || entry.event.kind() == self.kind)
            && (self.before == 0 || entry.sequence < self.before)
            && (self.words.is_empty() || {
                let said = sentence::of(entry).to_lowercase();
                let mut words = self.words.split_whitespace();
                words.all(|word| said.contains(&word.to_lowercase()))
            })
    }
}

pub(super) async fn show(
    State(site): State<Site>,
    Extension(base): Extension<Base>,
    Query(asked): Query<Asked>,
) -> Response {
    site.page(&base, ("events", "Events"), |world, now| {
        let mut kinds: Vec<String> = world.history.newest.iter().map(|entry| entry.event.kind()).collect();
        kinds.sort();
        kinds.dedup();
        let newest = world.history.newest.iter().rev();
        let found: Vec<&Entry> = newest.filter(|entry| asked.fits(entry)).take(ROWS).collect();
        let oldest = world.history.newest.front().map_or(1, |entry| entry.sequence);
        html! {
            (live("title", html! { div.title { h1 { "Events" } } p.lead { "What happened, in the order in which it was made durable." } }))
            section.card #filters {
                form.row action="events" method="get" {
                    label { "Run" select name="run" {
                        option value="" { "all" }
                        @for run in &world.runs { option value=(run.run) selected[run.run.as_str() == asked.run] { (run.run) } }
                    } }
                    label { "Kind" select name="kind" {
                        option value="" { "all" }
                        @for kind in &kinds { option value=(kind) selected[*kind == asked.kind] { (kind.replace('_', " ")) } }
                    } }
                    label { "Words" input name="words" value=(text(&asked.words)) maxlength="100" placeholder="an institution"; }
                    button type="submit" { "Filter" }
                    a.button href="events" { "All" }
                }
            }
            (card("log", "Log", html! { (world.history.next.saturating_sub(1)) " in all" }, html! {
                (list(found.iter().copied(), now))
                @if let Some(last) = found.last().filter(|last| found.len() == ROWS && last.sequence > oldest) {
                    p.small { a href=(asked.older(last.sequence)) { "Older" } }
                }
                @if oldest > 1 { p.small.muted { "Events before " (oldest) " are not kept here. See them with " code { "fedner-coordinator run watch RUN --all" } "." } }
            }))
        }
    })
}

impl Asked {
    fn older(&self, before: u64) -> String {
        format!(
            "events?run={}&kind={}&words={}&before={before}",
            part(&self.run),
            part(&self.kind),
            part(&self.words)
        )
    }
}

/// Events as a list, in the order given.
pub(super) fn list<'a>(entries: impl Iterator<Item = &'a Entry>, now: Time) -> Markup {
    let mut entries = entries.peekable();
    html! {
        @if entries.peek().is_none() { p.muted { "No event." } } @else {
            ol.events { @for entry in entries { li {
                span.at { (words::when(entry.time, now)) span.muted { " · " (entry.sequence) } }
                span.what { (entry.event.kind().replace('_', " ")) }
                span.rest {
                    (text(&sentence::of(entry)))
                    @if let Some(run) = &entry.run { " " a.small href=(format!("runs/{run}")) { (run) } }
                }
            } } }
        }
    }
}
