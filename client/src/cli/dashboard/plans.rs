//! Plans in plain words.

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use fedner_page::guard::Base;
use fedner_page::layout::{self, Tone, badge, card, live, text};
use fedner_page::words;
use fedner_shared::plan::{Plan, Unit};
use maud::{Markup, html};

use super::look::Look;
use super::site::Site;
use crate::cli::consent::Row;
use crate::state::Standing;

pub(super) const fn tone(standing: Standing) -> Tone {
    match standing {
        Standing::Pending => Tone::Active,
        Standing::Granted => Tone::Good,
        Standing::Expired | Standing::Revoked => Tone::Warn,
    }
}

/// A plan that waits for a word.
pub(super) fn question(row: &Row, plan: &Plan) -> Markup {
    html! { div.card {
        div.head { h2 { "Take part in " a href=(format!("plans/{}", row.plan)) { (row.name) } "?" } div.aside { "proposed " (words::clock(row.proposed)) } }
        (in_words(row, plan))
        (decide(row))
    } }
}

/// What taking part means.
fn in_words(row: &Row, plan: &Plan) -> Markup {
    let others = plan.cohort.institutions.len().saturating_sub(1);
    html! {
        p { "The operator asks you to train a model that finds " (labels(&row.labels)) " in text, in "
            (words::count(row.rounds as usize, "round", "rounds")) " with " (words::count(others, "other institution", "other institutions"))
            ". Your text stays here. Each round one update of weights leaves." }
        div.ask {
            p { b { "What it costs. " } "It " (text(&row.cost)) "." }
            @if plan.privacy.unit == Unit::None { p.problem { (words::meaning(f64::INFINITY)) } }
            @else if let Some(epsilon) = row.max_epsilon { p { b { "What that means. " } "No more than ε = " (epsilon) " is ever spent on this plan. " (words::meaning(epsilon)) } }
            p.muted { "It " (text(&row.base)) "." }
        }
        @if let Some(annotation) = &row.annotation { p { "Your text is declared to annotate " (text(&annotation.to_string())) "." } }
        @if let Some(reason) = &row.forbidden { p.problem { "Your policy does not allow it: " (text(reason)) "." } }
    }
}

fn labels(labels: &[String]) -> String {
    match labels {
        [] => "nothing".to_owned(),
        [one] => text(one),
        [first @ .., last] => text(&format!("{} and {last}", first.join(", "))),
    }
}

fn decide(row: &Row) -> Markup {
    html! {
        @if row.forbidden.is_none() { div.actions {
            @if row.consent == Standing::Granted {
                a.button.bad href=(format!("act?what=revoke&name={}", row.plan)) { "Withdraw" }
            } @else {
                form.row action="act" method="get" {
                    input type="hidden" name="what" value="grant";
                    input type="hidden" name="name" value=(row.plan);
                    label { "Examples to declare" input name="examples" inputmode="numeric" pattern="[0-9]*" maxlength="9" placeholder="as in client.toml" autocomplete="off"; }
                    button.main type="submit" { "Take part" }
                }
            }
        } }
        @if row.consent == Standing::Pending { p.small.muted { "Until you agree nothing is trained for this plan. To stay out, leave it as it is." } }
    }
}

pub(super) async fn list(State(site): State<Site>, Extension(base): Extension<Base>) -> Response {
    let content = |look: &Look| {
        html! {
            (live("title", html! { div.title { h1 { "Plans" } } }))
            (card("plans", "What was proposed", html! { (look.plans.len()) }, html! {
                @if look.plans.is_empty() { (layout::empty("No plan was proposed yet.", "An operator's plan appears here once the client runs.", None)) } @else {
                    div.scroll { table {
                        thead { tr { th { "Plan" } th { "Your word" } th.n { "Rounds" } th { "Protects" } th.n { "Largest ε" } th { "Run" } th { "Holds until" } } }
                        tbody { @for (row, _) in &look.plans { tr {
                            td { a href=(format!("plans/{}", row.plan)) { (row.name) } }
                            td { (badge(tone(row.consent), row.consent.as_str())) @if row.forbidden.is_some() { " " (badge(Tone::Bad, "not allowed")) } }
                            td.n { (row.rounds) }
                            td { @if row.unit == "none" { "nobody" } @else { "each " (row.unit) } }
                            td.n { @match row.max_epsilon { Some(epsilon) => (epsilon), None => "∞" } }
                            td { (row.run) }
                            td { @match row.expires { Some(at) => (words::when(at, look.now)), None => span.muted { "–" } } }
                        } } }
                    } }
                }
            }))
        }
    };
    site.page(base, "plans", "Plans".to_owned(), content).await
}

pub(super) async fn show(
    State(site): State<Site>,
    Extension(base): Extension<Base>,
    Path(digest): Path<String>,
) -> Response {
    let content = move |look: &Look| {
        let Some((row, plan)) = look.plans.iter().find(|(row, _)| row.plan == digest) else {
            return html! { h1 { "No such plan was proposed" } p { a href="plans" { "Plans" } } };
        };
        let whole = serde_json::to_string_pretty(plan).unwrap_or_default();
        html! {
            (live("title", html! { p.crumb { a href="plans" { "Plans" } } div.title { h1 { (row.name) } (badge(tone(row.consent), row.consent.as_str())) } }))
            (card("words", "What it means to take part", html! { code { (&row.plan[..12.min(row.plan.len())]) } }, html! { (in_words(row, plan)) (decide(row)) }))
            div.grid {
                (card("terms", "Terms", html! {}, html! { dl.pairs {
                    dt { "Run" } dd { (row.run) }
                    dt { "Trains" } dd { (row.method) }
                    dt { "Rounds" } dd { (row.rounds) }
                    dt { "Quorum" } dd { (plan.cohort.quorum) " of " (plan.cohort.institutions.len()) }
                    dt { "δ" } dd { (format!("{:e}", plan.privacy.delta)) }
                    @if let Some(examples) = row.examples { dt { "Declared examples" } dd { (words::grouped(u64::from(examples))) } }
                    @if let Some(at) = row.expires { dt { "Your word holds until" } dd { (words::clock(at)) } }
                } }))
                (card("roster", "Who else takes part", html! { (plan.cohort.institutions.len()) }, html! {
                    p { @for name in &plan.cohort.institutions { span.chip { (name) } } } }))
            }
            (card("whole", "The plan as it was signed", html! {}, html! { details #plan { summary { "Every key" } pre.tall { code { (fedner_shared::text::lines(&whole)) } } } }))
        }
    };
    site.page(base, "plans", "Plan".to_owned(), content).await
}
