//! Everything that has left, to the byte.

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use fedner_page::guard::Base;
use fedner_page::layout::{Tone, badge, card, live};
use fedner_page::words;
use fedner_shared::statement::{EvaluationReceipt, UpdateReceipt};
use maud::{Markup, html};

use super::look::Look;
use super::site::Site;
use crate::state::{Receipt, ReceiptKind};

/// Receipts on one page.
const ROWS: usize = 300;

pub(super) async fn list(State(site): State<Site>, Extension(base): Extension<Base>) -> Response {
    let content = |look: &Look| {
        let bytes: u64 = look.receipts.iter().filter_map(size).sum();
        html! {
            (live("title", html! { div.title { h1 { "What has left" } }
                p.lead { "Every thing that left this institution, as it was signed: " (words::count(look.receipts.len(), "receipt", "receipts")) ", " (words::bytes(bytes)) " of updates. Text, tokens and labels are not among them." } }))
            (card("all", "Receipts", html! { (look.receipts.len()) }, table(look, ROWS)))
        }
    };
    site.page(base, "left", "What has left".to_owned(), content)
        .await
}

fn size(receipt: &Receipt) -> Option<u64> {
    if receipt.kind != ReceiptKind::Update {
        return None;
    }
    receipt
        .signed
        .peek::<UpdateReceipt>()
        .ok()
        .map(|update| update.bytes)
}

fn epsilon(receipt: &Receipt) -> Option<f64> {
    match receipt.kind {
        ReceiptKind::Update => receipt.signed.peek::<UpdateReceipt>().ok()?.epsilon_after,
        ReceiptKind::Evaluation => {
            let evaluation = receipt.signed.peek::<EvaluationReceipt>().ok()?;
            evaluation.noise.map(|noise| noise.epsilon_after)
        }
        ReceiptKind::Audit => None,
    }
}

fn what(receipt: &Receipt) -> &'static str {
    match receipt.kind {
        ReceiptKind::Update => "update of weights",
        ReceiptKind::Evaluation => "counts on held-out text",
        ReceiptKind::Audit => "report of an audit",
    }
}

pub(super) fn table(look: &Look, most: usize) -> Markup {
    html! {
        @if look.receipts.is_empty() { p.muted { "Nothing has left." } } @else {
            div.scroll { table {
                thead { tr { th { "Receipt" } th { "What" } th { "For" } th.n { "Size" } th.n { "ε after it" } th { "State" } th { "When" } } }
                tbody { @for receipt in look.receipts.iter().take(most) { tr {
                    td { a.mono href=(format!("left/{}", receipt.digest)) { (receipt.digest.short()) } }
                    td { (what(receipt)) }
                    td { @match &receipt.asked { Some(asked) => { (asked.run) span.muted { ", round " (asked.round) } }, None => span.muted { "–" } } }
                    td.n { (size(receipt).map_or("–".to_owned(), words::bytes)) }
                    td.n { (epsilon(receipt).map_or("–".to_owned(), words::epsilon)) }
                    td { @if receipt.taken.is_some() { (badge(Tone::Good, "taken")) } @else { (badge(Tone::Plain, "not taken yet")) } }
                    td { (words::when(receipt.time, look.now)) }
                } } }
            } }
            @if look.receipts.len() > most { p.small.muted { "The newest " (most) " of " (look.receipts.len()) "." } }
        }
    }
}

pub(super) async fn show(
    State(site): State<Site>,
    Extension(base): Extension<Base>,
    Path(digest): Path<String>,
) -> Response {
    let content = move |look: &Look| {
        let found = look
            .receipts
            .iter()
            .find(|receipt| receipt.digest.to_string() == digest);
        let Some(receipt) = found else {
            return html! { h1 { "There is no such receipt" } p { a href="left" { "What has left" } } };
        };
        let note = serde_json::to_string_pretty(&receipt.note).unwrap_or_default();
        html! {
            (live("title", html! { p.crumb { a href="left" { "What has left" } } div.title { h1.mono { (receipt.digest.short()) } }
                p.lead { "An " (what(receipt)) ", " (words::when(receipt.time, look.now)) "." } }))
            (card("statement", "What was sent", html! { "as it was signed" }, html! { pre.tall { code { (fedner_shared::text::lines(&receipt.signed.body)) } }
                @if let Some(bytes) = size(receipt) { p { "With it " (words::bytes(bytes)) " of the update that it names." } }
                p.small.muted { "Signature " code { (hex::encode(receipt.signed.signature.as_bytes())) } } }))
            (card("local", "What stayed here", html! { "never leaves" }, html! { pre { code { (fedner_shared::text::lines(&note)) } } }))
        }
    };
    site.page(base, "left", "Receipt".to_owned(), content).await
}
