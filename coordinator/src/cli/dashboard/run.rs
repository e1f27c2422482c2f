//! One run: what it waits for, its rounds, curves and members.

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use fedner_page::guard::Base;
use fedner_page::layout::{Tone, badge, card, figure, live, text};
use fedner_page::words;
use fedner_shared::state::{MemberState, RunState};
use fedner_shared::time::Time;
use fedner_shared::view::{MemberView, RunView};
use maud::{Markup, html};
use serde::Deserialize;

use super::deed::Deed;
use super::overview::{tone, waits_for};
use super::site::Site;
use super::world::World;
use super::{curves, timeline};

/// Members on one page.
const MEMBERS: usize = 50;

#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    /// Whose timeline is shown; the newest unless given.
    round: Option<u32>,
    /// The first member shown.
    #[serde(default)]
    from: usize,
    /// Every lane of the timeline.
    #[serde(default)]
    all: bool,
}

pub(super) async fn show(
    State(site): State<Site>,
    Extension(base): Extension<Base>,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Response {
    let act = site.may_act();
    if site.look(|world| world.run(&name).is_none()) {
        let content =
            html! { h1 { "There is no run " (text(&name)) } p { a href="" { "Overview" } } };
        let mut response = site.page(&base, ("", "No such run"), |_, _| content);
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    }
    site.page(&base, ("", &name), |world, now| {
        if let Some(run) = world.run(&name) {
            page(world, run, &asked, act, now)
        } else {
            html! {}
        }
    })
}

fn page(world: &World, run: &RunView, asked: &Asked, act: bool, now: Time) -> Markup {
    html! {
        (live("title", title(world, run, act, now)))
        (live("figures", figures(world, run, now)))
        (timeline::cards(world, run, asked.round, asked.all, now))
        (curves::cards(world, run))
        (members(run, asked.from, now))
        (plan(world, run))
    }
}

fn title(world: &World, run: &RunView, act: bool, now: Time) -> Markup {
    let explained = world.explained.get(&run.run);
    html! {
        p.crumb { a href="" { "Overview" } " / runs" }
        div.title {
            h1 { (run.run) }
            (badge(tone(run.state), run.state.as_str()))
            @if act { div.actions {
                @for deed in deeds(run) { (deed.button()) }
            } }
        }
        @if let Some(view) = explained {
            p.lead { (waits_for(view, now)) " Then " (text(&view.then)) "." }
            @for absence in &view.absent {
                p.muted { "Without " (absence.institution) ": " (text(&absence.why)) }
            }
        }
        @if let Some(reason) = &run.failure { p.problem { "It failed: " (text(reason)) "." } }
        @if let Some(gate) = &run.gate { p.muted { "Gate: " (text(gate)) } }
    }
}

/// What the state allows.
fn deeds(run: &RunView) -> Vec<Deed> {
    let all = ["start", "pause", "resume", "retry", "cancel"];
    let fits = |word: &str| match word {
        "start" => run.state == RunState::Created,
        "resume" => run.state == RunState::Paused,
        "retry" => run.state == RunState::Failed,
        "pause" => {
            !run.state.is_end() && !matches!(run.state, RunState::Paused | RunState::Created)
        }
        _ => !run.state.is_end(),
    };
    let deeds = all.into_iter().filter(|word| fits(word));
    deeds
        .map(|word| Deed::of_run(word, run.run.as_str()))
        .collect()
}

fn figures(world: &World, run: &RunView, now: Time) -> Markup {
    let taking_part = |member: &&MemberView| member.state != MemberState::Left;
    let members = run.members.iter().filter(taking_part).count();
    let largest = run.members.iter().filter_map(|member| member.epsilon);
    let largest = largest.reduce(f64::max);
    let noised = world.plans.get(&run.run).map(|plan| &plan.privacy);
    let noised = noised.filter(|privacy| privacy.sigma() > 0.0);
    let limit = noised.map(|privacy| privacy.max_epsilon);
    let finish = world.explained.get(&run.run).and_then(|view| view.finish);
    html! {
        dl.figures {
            (figure("Round", html! { (run.round) small { " of " (run.rounds) } }, html! { "attempt " (run.attempt) }))
            (figure("Members", html! { (members) small { " of " (run.members.len()) } }, html! { "institutions" }))
            (figure("F1", html! { (run.f1.map_or("–".to_owned(), words::f1)) }, html! {
                @match run.median_f1 { Some(median) => { "median " (words::f1(median)) }, None => "not scored yet" } }))
            (figure("Largest ε", html! { (largest.map_or("–".to_owned(), words::epsilon)) }, html! {
                @match limit { Some(limit) => { "of " (limit) " in the plan" }, None => "without noise" } }))
            @if let Some(finish) = finish {
                (figure("Expected end", html! { (words::relative(finish, now)) }, html! { (words::clock(finish)) }))
            }
            (figure("Weights", html! { (words::grouped(run.dimension)) }, html! { "leave each institution a round" }))
        }
    }
}

const fn member_tone(state: MemberState) -> Tone {
    match state {
        MemberState::Invited | MemberState::Left => Tone::Plain,
        MemberState::Ready | MemberState::Answered => Tone::Good,
        MemberState::Assigned | MemberState::Working => Tone::Active,
        MemberState::Late | MemberState::Declined | MemberState::PutOff => Tone::Warn,
        MemberState::Away | MemberState::Aside => Tone::Bad,
    }
}

/// Who needs somebody comes first.
fn ordered(run: &RunView) -> Vec<&MemberView> {
    let rank = |member: &&MemberView| match member.state {
        MemberState::Aside => 0,
        MemberState::Away => 1,
        MemberState::Late => 2,
        MemberState::Declined | MemberState::PutOff => 3,
        MemberState::Working | MemberState::Assigned => 4,
        MemberState::Invited => 5,
        MemberState::Answered | MemberState::Ready => 6,
        MemberState::Left => 7,
    };
    let mut members: Vec<&MemberView> = run.members.iter().collect();
    members.sort_by_key(|member| (rank(member), member.institution.clone()));
    members
}

fn members(run: &RunView, from: usize, now: Time) -> Markup {
    let members = ordered(run);
    let number = |value: Option<f64>| value.map_or("–".to_owned(), words::f1);
    let count = words::count(members.len(), "institution", "institutions");
    card(
        "members",
        "Members",
        html! { (count) },
        html! {
            div.scroll { table {
                thead { tr { th { "Institution" } th { "State" } th.n { "Examples" } th.n { "ε" } th.n { "F1" } th.n { "Norm" } th.n { "Cosine to others" } th { "Last seen" } th { "Remark" } } }
                tbody { @for member in members.iter().skip(from).take(MEMBERS) { tr {
                    td { (member.institution) }
                    td { (badge(member_tone(member.state), &member.state.as_str().replace('_', " "))) }
                    td.n { @match member.examples { Some(count) => (words::grouped(u64::from(count))), None => "–" } }
                    td.n { (member.epsilon.map_or("–".to_owned(), words::epsilon)) }
                    td.n { (number(member.f1)) }
                    td.n { (number(member.figures.map(|figures| figures.norm))) }
                    td.n { (number(member.figures.and_then(|figures| figures.to_others))) }
                    td { @match member.last_seen { Some(seen) => (words::when(seen, now)), None => span.muted { "never" } } }
                    td.wrap { (remark(member)) }
                } } }
            } }
            (pager(&format!("runs/{}", run.run), from, members.len()))
        },
    )
}

fn remark(member: &MemberView) -> String {
    let mut said = Vec::new();
    if let Some(aside) = &member.aside {
        said.push(format!("set aside: {aside}"));
    }
    if let Some(code) = &member.refused {
        said.push(format!("said {code}"));
    }
    if let Some(annotation) = &member.annotation {
        said.push(format!("annotates {annotation}"));
    }
    text(&said.join("; "))
}

fn pager(address: &str, from: usize, all: usize) -> Markup {
    html! {
        @if all > MEMBERS { p.small.muted {
            (from + 1) " to " (all.min(from + MEMBERS)) " of " (all) ". "
            @if from > 0 { a href=(format!("{address}?from={}", from.saturating_sub(MEMBERS))) { "Earlier" } " " }
            @if from + MEMBERS < all { a href=(format!("{address}?from={}", from + MEMBERS)) { "Further" } }
        } }
    }
}

fn plan(world: &World, run: &RunView) -> Markup {
    let Some(plan) = world.plans.get(&run.run) else {
        return html! {};
    };
    let text_of = serde_json::to_string_pretty(plan).unwrap_or_default();
    card(
        "plan",
        "Plan",
        html! { code { (run.plan.short()) } },
        html! {
            dl.pairs {
                dt { "Begins with" } dd { (plan.base) }
                dt { "Entity types" } dd { @for label in &plan.labels { span.chip { (text(label)) } } }
                dt { "Trains" } dd { (plan.method) }
                dt { "Protects" } dd { @if plan.privacy.sigma() > 0.0 {
                    "each " (plan.privacy.unit) ", up to ε = " (plan.privacy.max_epsilon) " at δ = " (format!("{:e}", plan.privacy.delta))
                } @else { "nobody: no noise is added" } }
                dt { "Quorum" } dd { (plan.cohort.quorum) " of " (plan.cohort.institutions.len()) }
            }
            details #plan-text { summary { "The whole plan" } pre.tall { code { (layout_text(&text_of)) } } }
        },
    )
}

/// Several lines, with what is hidden in them made visible.
fn layout_text(text: &str) -> String {
    fedner_shared::text::lines(text).into_owned()
}
