//! Everybody who is enrolled.

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use fedner_page::guard::Base;
use fedner_page::layout::{self, Tone, badge, card, live, text};
use fedner_page::words;
use fedner_shared::state::{InstitutionState, MemberState};
use fedner_shared::time::Time;
use fedner_shared::view::InstitutionView;
use maud::{Markup, html};
use serde::Deserialize;

use super::deed::Deed;
use super::overview::is_connected;
use super::site::Site;
use super::world::World;

/// Institutions on one page.
const ROWS: usize = 100;

#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    /// The first one shown.
    #[serde(default)]
    from: usize,
}

pub(super) async fn show(
    State(site): State<Site>,
    Extension(base): Extension<Base>,
    Query(asked): Query<Asked>,
) -> Response {
    let act = site.may_act();
    site.page(&base, ("institutions", "Institutions"), |world, now| {
        html! {
            (live("title", html! { div.title { h1 { "Institutions" } } }))
            (table(world, asked.from, act, now))
            @if act { (invite()) }
        }
    })
}

fn table(world: &World, from: usize, act: bool, now: Time) -> Markup {
    let mut views: Vec<&InstitutionView> = world.institutions.iter().collect();
    views.sort_by_key(|view| {
        (
            view.state,
            is_connected(view, now),
            view.institution.clone(),
        )
    });
    let all = views.len();
    card(
        "table",
        "Enrolled",
        html! { (all) },
        html! {
            @if views.is_empty() {
                (layout::empty("Nobody is enrolled yet.", "Invite an institution, and hand the invite over in private:",
                    Some("fedner-coordinator invite NAME > NAME.toml")))
            } @else {
                div.scroll { table {
                    thead { tr { th { "Institution" } th { "State" } th { "Last seen" } th { "At work on" } th.n { "Largest ε" } th { "Certificate" } th { "Software" } @if act { th { span.muted { "Actions" } } } } }
                    tbody { @for view in views.iter().skip(from).take(ROWS) { (row(world, view, act, now)) } }
                } }
                @if all > ROWS { p.small.muted {
                    (from + 1) " to " (all.min(from + ROWS)) " of " (all) ". "
                    @if from > 0 { a href=(format!("institutions?from={}", from.saturating_sub(ROWS))) { "Earlier" } " " }
                    @if from + ROWS < all { a href=(format!("institutions?from={}", from + ROWS)) { "Further" } }
                } }
            }
        },
    )
}

fn row(world: &World, view: &InstitutionView, act: bool, now: Time) -> Markup {
    let name = view.institution.as_str();
    let (tone, word) = match view.state {
        InstitutionState::Active if is_connected(view, now) => (Tone::Good, "connected"),
        InstitutionState::Active => (Tone::Plain, "away"),
        InstitutionState::Suspended => (Tone::Warn, "suspended"),
        InstitutionState::Revoked => (Tone::Bad, "revoked"),
    };
    let deed = match view.state {
        InstitutionState::Active => Some("suspend"),
        InstitutionState::Suspended => Some("reinstate"),
        InstitutionState::Revoked => None,
    };
    let days = view.certificate_expires.since(now).as_secs() / 86_400;
    html! {
        tr {
            td { (name) @if let Some(remark) = remark(view, now) { span.sub { (remark) } } }
            td { (badge(tone, word)) }
            td { @match view.last_seen { Some(seen) => (words::when(seen, now)), None => span.muted { "never" } } }
            td.wrap { (work(world, view)) }
            td.n { (epsilon(world, view).map_or("–".to_owned(), words::epsilon)) }
            td title=(view.certificate_expires) { (words::count(days as usize, "day", "days")) }
            td { @match &view.software { Some(software) => (text(software)), None => span.muted { "–" } } }
            @if act { td { @if let Some(word) = deed { (Deed::of_institution(word, name).button()) } } }
        }
    }
}

fn remark(view: &InstitutionView, now: Time) -> Option<String> {
    if view.twice {
        return Some("in use in two places: a second running copy was refused".to_owned());
    }
    let (from, code) = (view.not_before?, view.not_before_code.as_deref()?);
    Some(format!(
        "takes no work before {} ({})",
        words::relative(from, now),
        text(code)
    ))
}

/// What it does in the runs under way.
fn work(world: &World, view: &InstitutionView) -> Markup {
    let parts = world
        .runs
        .iter()
        .filter(|run| !run.state.is_end())
        .filter_map(|run| {
            let member = run
                .members
                .iter()
                .find(|member| member.institution == view.institution)?;
            (member.state != MemberState::Left).then_some((run, member))
        });
    let parts: Vec<_> = parts.take(3).collect();
    html! {
        @if parts.is_empty() { span.muted { "–" } }
        @for (run, member) in parts {
            a href=(format!("runs/{}", run.run)) { (run.run) } " " span.muted { (member.state.as_str().replace('_', " ")) } " "
        }
    }
}

/// The largest that it told of any run.
fn epsilon(world: &World, view: &InstitutionView) -> Option<f64> {
    let members = world.runs.iter().flat_map(|run| &run.members);
    let own = members.filter(|member| member.institution == view.institution);
    own.filter_map(|member| member.epsilon).reduce(f64::max)
}

fn invite() -> Markup {
    html! {
        section.card #invite {
            div.head { h2 { "Invite an institution" } }
            p.muted { "An invite is good once and for a time. Whoever holds it can enrol under that name." }
            form.row action="act" method="get" {
                input type="hidden" name="what" value="invite";
                label { "Name" input name="name" required maxlength="64" autocomplete="off" pattern="[A-Za-z0-9][A-Za-z0-9._\\-]*"; }
                label { "Good for" select name="to" { option value="86400" { "a day" } option value="604800" { "a week" } option value="3600" { "an hour" } } }
                button type="submit" { "Go on" }
            }
        }
    }
}
