//! What waits for a person, what is left of the budget, and what has left lately.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use fedner_page::guard::Base;
use fedner_page::layout::{self, Tone, badge, card, figure, live, meter, text};
use fedner_page::words;
use maud::{Markup, html};

use super::look::Look;
use super::site::Site;
use super::{left, plans, scores};
use crate::cli::release::Waiting;
use crate::state::Decision;

/// Receipts on this page.
const NEWEST: usize = 8;

pub(super) async fn show(State(site): State<Site>, Extension(base): Extension<Base>) -> Response {
    let content = |look: &Look| {
        html! {
            (live("title", title(look)))
            (live("figures", figures(look)))
            (live("asked", html! { @for (row, plan) in look.asked() { (plans::question(row, plan)) } }))
            (live("held", html! { @if let Some(waiting) = &look.waiting { (held(look, waiting)) } }))
            (live("quiet", html! { @if look.open() == 0 { div.card { p { "Nothing waits for you." }
                p.muted { "A plan that an operator proposes appears here, and so does an update that your policy holds back." } } } }))
            div.grid {
                (card("budget", "Privacy budget", html! { "each " (look.account.unit) }, budget(look)))
                (card("scores", "Scores on your own text", html! { "F1 by round" }, scores::chart(look)))
            }
            (card("latest", "Left lately", html! { a href="left" { "Everything that left" } }, left::table(look, NEWEST)))
        }
    };
    site.page(base, "", "Overview".to_owned(), content).await
}

fn title(look: &Look) -> Markup {
    let (state, work) = &look.work;
    let doing = match work {
        Some((run, round)) => format!("{state}, round {round} of {run}"),
        None => "waiting for work".to_owned(),
    };
    html! {
        div.title {
            h1 { (look.settings.institution) }
            @if look.running { (badge(Tone::Good, "running")) } @else { (badge(Tone::Bad, "not running")) }
        }
        p.lead {
            @if look.running { "The client is " (doing) ". " } @else { "The client does not run: nothing is trained and nothing leaves. Start it with " code { "fedner-client start" } ". " }
            @if let Some(at) = look.contact.succeeded { "The coordinator answered " (words::when(at, look.now)) ". " }
            @if let Some(failure) = &look.contact.failure { "Now: " (text(failure)) "." }
        }
    }
}

fn figures(look: &Look) -> Markup {
    let taken = look
        .receipts
        .iter()
        .filter(|receipt| receipt.taken.is_some())
        .count();
    html! { dl.figures {
        (figure("Waits for you", html! { (look.open()) }, html! { "plans and updates" }))
        (figure("ε spent", html! { (look.account.epsilon.map_or("∞".to_owned(), words::epsilon)) }, html! { "of " (look.account.max_epsilon_total) " in your policy" }))
        (figure("ε left", html! { (format!("{:.2}", look.account.epsilon_left)) }, html! { "for everything to come" }))
        (figure("Left so far", html! { (look.receipts.len()) }, html! { (taken) " taken by the coordinator" }))
        (figure("Certificate ends", html! { (words::relative(look.certificate, look.now)) }, html! { (words::clock(look.certificate)) }))
    } }
}

/// An update that waits for a person.
fn held(look: &Look, waiting: &Waiting) -> Markup {
    let open = waiting.word == Decision::None;
    let statement = serde_json::to_string_pretty(&waiting.statement).unwrap_or_default();
    let receipt = &waiting.receipt;
    html! { div.card {
        div.head { h2 { @if open { "An update waits to leave" } @else { "You have decided on this update" } }
            div.aside { @if let Some(since) = waiting.since { "since " (words::when(since, look.now)) } } }
        p { "Round " (waiting.round) " of " (waiting.run) ": " b { (words::bytes(waiting.bytes)) } " of clipped and noised weights, and the statement below. "
            "Nothing else leaves. It is paid for in the ledger, whatever you decide." }
        @if waiting.word == Decision::Granted { p { (badge(Tone::Good, "released")) " It leaves when the coordinator takes it." } }
        @if waiting.word == Decision::Refused { p { (badge(Tone::Warn, "refused")) " It stays here for good." } }
        @if open { div.actions {
            a.button.main #release href=(format!("act?what=release&name={receipt}")) { "Release" }
            a.button.bad href=(format!("act?what=refuse&name={receipt}")) { "Refuse" }
        } }
        details #statement { summary { "What would leave, to the byte" } pre.tall { code { (fedner_shared::text::lines(&statement)) } }
            p.small.muted { "Signed " code { (&waiting.signature[..16.min(waiting.signature.len())]) } "…. The bytes: " code { "fedner-client release bytes " (&receipt[..12.min(receipt.len())]) " --to FILE" } } }
    } }
}

fn budget(look: &Look) -> Markup {
    let account = &look.account;
    let part = account
        .epsilon
        .map_or(1.0, |epsilon| epsilon / account.max_epsilon_total);
    let tone = if part > 0.9 {
        Tone::Bad
    } else if part > 0.7 {
        Tone::Warn
    } else {
        Tone::Plain
    };
    let spent = account.epsilon.map_or("∞".to_owned(), words::epsilon);
    html! {
        p { b { "ε " (spent) } " of " (account.max_epsilon_total) " at δ = " (format!("{:e}", account.delta)) ", all releases together." }
        (meter(part, tone, &format!("ε {spent} of {}", account.max_epsilon_total)))
        @if let Some(epsilon) = account.epsilon { @if epsilon > 0.0 { p.muted { (words::meaning(epsilon)) } } } @else { p.muted { (words::meaning(f64::INFINITY)) } }
        @for line in account.text().lines().skip(1) { p.small.muted { (text(line)) } }
        @if look.ledger.entries().is_empty() { p.muted { "Nothing was spent: no update has left." } }
        p.small { "Every entry: " code { "fedner-client privacy show" } }
        @if !look.policy.hold { (layout::badge(Tone::Plain, "updates leave without a person's word")) }
    }
}
