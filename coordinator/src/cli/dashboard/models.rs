//! Versions: the graph of their lineage, and one of them.

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use fedner_page::guard::Base;
use fedner_page::layout::{self, Tone, badge, card, figure, live, text};
use fedner_page::words;
use fedner_shared::audit::Outcome;
use fedner_shared::event::Judgement;
use fedner_shared::time::Time;
use maud::{Markup, html};
use serde::Deserialize;

use super::lineage;
use super::site::Site;
use super::world::{Version, World};

/// Versions on one page.
const ROWS: usize = 60;

#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    /// The first one shown.
    #[serde(default)]
    from: usize,
}

pub(super) async fn list(
    State(site): State<Site>,
    Extension(base): Extension<Base>,
    Query(asked): Query<Asked>,
) -> Response {
    site.page(&base, ("models", "Models"), |world, now| {
        let versions = world.newest_versions();
        let graph = lineage::rows(&versions);
        let from = asked.from;
        html! {
            (live("title", html! { div.title { h1 { "Models" } } }))
            (card("lineage", "Versions and where they come from", html! { (versions.len()) }, html! {
                @if versions.is_empty() {
                    (layout::empty("There is no model yet.", "Import one in the form that Hugging Face writes:",
                        Some("fedner-coordinator model import --from DIR --name NAME")))
                } @else {
                    div.scroll { table.graph {
                        thead { tr { th { span.muted { "Lineage" } } th { "Version" } th { "Made by" } th.n { "F1" } th.n { "ε" } th { "Gate" } th { "Audits" } th { "Made" } } }
                        tbody { @for (version, lines) in versions.iter().zip(&graph).skip(from).take(ROWS) { tr {
                            td.lines { (lines.draw()) }
                            td { a href=(format!("models/{}", version.digest)) { (version.name) } " "
                                @for alias in &version.aliases { span.chip.alias { (alias) } } }
                            td { (made_by(version)) }
                            td.n { (version.f1.map_or("–".to_owned(), words::f1)) }
                            td.n { (version.epsilon.map_or("–".to_owned(), words::epsilon)) }
                            td { (verdict(world, version)) }
                            td { (audits(version)) }
                            td { (words::when(version.created, now)) }
                        } } }
                    } }
                    @if versions.len() > ROWS { p.small.muted {
                        (from + 1) " to " (versions.len().min(from + ROWS)) " of " (versions.len()) ". "
                        @if from > 0 { a href=(format!("models?from={}", from.saturating_sub(ROWS))) { "Newer" } " " }
                        @if from + ROWS < versions.len() { a href=(format!("models?from={}", from + ROWS)) { "Older" } }
                    } }
                }
            }))
        }
    })
}

fn made_by(version: &Version) -> Markup {
    html! { @match &version.run {
        Some((run, round)) => { a href=(format!("runs/{run}?round={round}")) { (run) } span.muted { ", round " (round) } },
        None => span.muted { (version.origin) },
    } }
}

fn verdict(world: &World, version: &Version) -> Markup {
    html! { @match world.verdict(version) {
        Some((Judgement::Passed, _)) => (badge(Tone::Good, "passed")),
        Some((Judgement::Regressed, _)) => (badge(Tone::Bad, "held back")),
        Some((Judgement::Unjudged, _)) => (badge(Tone::Warn, "unjudged")),
        None => span.muted { "–" },
    } }
}

fn audits(version: &Version) -> Markup {
    let count = |outcome: Outcome| {
        version
            .audits
            .iter()
            .filter(|(_, said)| *said == outcome)
            .count()
    };
    html! {
        @if version.audits.is_empty() { span.muted { "–" } }
        @for (outcome, tone) in [(Outcome::Fail, Tone::Bad), (Outcome::Pass, Tone::Good), (Outcome::None, Tone::Plain)] {
            @if count(outcome) > 0 { (badge(tone, &format!("{} {}", count(outcome), outcome.as_str()))) " " }
        }
    }
}

pub(super) async fn show(
    State(site): State<Site>,
    Extension(base): Extension<Base>,
    Path(name): Path<String>,
) -> Response {
    let act = site.may_act();
    let title = site.look(|world| world.version(&name).map(|version| version.name.to_string()));
    let Some(title) = title else {
        let content = html! { h1 { "There is no version " (text(&name)) } p { a href="models" { "Models" } } };
        let mut response = site.page(&base, ("models", "No such version"), |_, _| content);
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    site.page(&base, ("models", &title), |world, now| {
        if let Some(version) = world.version(&name) {
            one(world, version, act, now)
        } else {
            html! {}
        }
    })
}

fn one(world: &World, version: &Version, act: bool, now: Time) -> Markup {
    let parent = version
        .parent
        .and_then(|parent| world.versions.get(&parent));
    html! {
        (live("title", html! {
            p.crumb { a href="models" { "Models" } }
            div.title { h1 { (version.name) } @for alias in &version.aliases { span.chip.alias { (alias) } } }
            @if let Some((_, reason)) = world.verdict(version) { p.lead { "Gate: " (text(reason)) "." } }
        }))
        (live("figures", html! { dl.figures {
            (figure("F1", html! { (version.f1.map_or("–".to_owned(), words::f1)) }, html! { "pooled, by " (words::count(version.scored, "institution", "institutions")) }))
            (figure("Median F1", html! { (version.median_f1.map_or("–".to_owned(), words::f1)) }, html! { "of the institutions" }))
            (figure("Largest ε", html! { (version.epsilon.map_or("–".to_owned(), words::epsilon)) }, html! { "of " (words::count(version.participants, "participant", "participants")) }))
            (figure("Made", html! { (words::relative(version.created, now)) }, html! { (words::clock(version.created)) }))
        } }))
        div.grid {
            (card("types", "Scores by type", html! { "all counts added up" }, html! {
                @if version.by_type.is_empty() { p.muted { "No institution has shared counts of this version." } } @else {
                    div.scroll { table {
                        thead { tr { th { "Type" } th.n { "F1" } th.n { "Precision" } th.n { "Recall" } th.n { "Entities" } } }
                        tbody { @for (label, counts) in &version.by_type { tr {
                            td { (text(label)) }
                            td.n { (words::f1(counts.f1())) } td.n { (words::f1(counts.precision())) } td.n { (words::f1(counts.recall())) }
                            td.n { (words::grouped(counts.support())) }
                        } } }
                    } }
                }
            }))
            (card("about", "Record", html! {}, html! { dl.pairs {
                dt { "Made by" } dd { (made_by(version)) }
                dt { "Comes from" } dd { @match parent { Some(parent) => { a href=(format!("models/{}", parent.digest)) { (parent.name) } }, None => span.muted { "nothing: it begins a line" } } }
                dt { "Entity types" } dd { @if version.labels.is_empty() { span.muted { "none: a bare encoder" } } @for label in &version.labels { span.chip { (text(label)) } } }
                dt { "Gate" } dd { (verdict(world, version)) }
                dt { "Audits" } dd { (audits(version)) }
                @if let Some(pruned) = version.pruned { dt { "Let go of" } dd { (pruned) } }
                dt { "Digest" } dd { code { (version.digest) } }
            } }))
        }
        @if act { (names(world, version)) }
    }
}

/// Forms for aliases: to move one here, and to roll one back to here.
fn names(world: &World, version: &Version) -> Markup {
    let mut aliases: Vec<String> = world
        .versions
        .values()
        .flat_map(|other| {
            other
                .aliases
                .iter()
                .filter(|alias| !version.aliases.contains(alias))
        })
        .map(ToString::to_string)
        .collect();
    aliases.sort();
    html! {
        section.card #names {
            div.head { h2 { "Names" } }
            p.muted { "A name moves to this version. A step back is recorded as one." }
            div.actions {
                form.row action="act" method="get" {
                    input type="hidden" name="what" value="tag";
                    input type="hidden" name="to" value=(version.name);
                    label { "Alias" input name="name" required maxlength="64" autocomplete="off" list="aliases" pattern="[A-Za-z0-9][A-Za-z0-9._\\-]*"; }
                    button type="submit" { "Tag this version" }
                }
                @if !aliases.is_empty() {
                    form.row action="act" method="get" {
                        input type="hidden" name="what" value="rollback";
                        input type="hidden" name="to" value=(version.name);
                        label { "Roll back" select name="name" { @for alias in &aliases { option { (alias) } } } }
                        button type="submit" #rollback { "Roll back to this version" }
                    }
                }
            }
            datalist #aliases { @for alias in &aliases { option value=(alias) {} } }
        }
    }
}
