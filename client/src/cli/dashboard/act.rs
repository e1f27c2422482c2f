//! Decisions on the page: asked once, carried out once.

use axum::Extension;
use axum::extract::{Form, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use fedner_page::confirm::answered_before;
use fedner_page::guard::Base;
use fedner_page::layout::text;
use maud::{Markup, html};
use serde::Deserialize;

use super::deed::{Deed, decide, name_of};
use super::site::Site;
use crate::cli::failure;

#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    once: String,
}

async fn say(
    site: &Site,
    base: Base,
    status: StatusCode,
    title: &'static str,
    content: Markup,
) -> Response {
    let content = html! { section.card.narrow data-still { (content) } };
    let page = site.page(base, "", title.to_owned(), |_| content);
    let mut response = page.await;
    if response.status() == StatusCode::OK {
        *response.status_mut() = status;
    }
    response
}

pub(super) async fn ask(
    State(site): State<Site>,
    Extension(base): Extension<Base>,
    Query(deed): Query<Deed>,
) -> Response {
    let (words, harsh) = (deed.words(), deed.is_harsh());
    let name = match name_of(site.directory(), &deed) {
        Ok(name) => name,
        Err(error) => return failed(&site, base, &error).await,
    };
    let once = match site.confirmations().ask(deed) {
        Ok(once) => once,
        Err(error) => return failed(&site, base, &error.into()).await,
    };
    let (question, consequence, button) = words;
    let content = html! {
        h1 { (question) " " (text(&name)) "?" }
        p { (consequence) }
        form action="act" method="post" {
            input type="hidden" name="once" value=(once);
            div.actions {
                button.main.bad[harsh] #confirm type="submit" { (button) }
                a.button href="" { "Leave it" }
            }
        }
    };
    say(&site, base, StatusCode::OK, button, content).await
}

pub(super) async fn carry_out(
    State(site): State<Site>,
    Extension(base): Extension<Base>,
    Form(answer): Form<Answer>,
) -> Response {
    let Some(deed) = site.confirmations().answer(&answer.once) else {
        let content = answered_before();
        return say(
            &site,
            base,
            StatusCode::CONFLICT,
            "Answered before",
            content,
        )
        .await;
    };
    let directory = site.directory().clone();
    let handle = tokio::runtime::Handle::current();
    let work = move || decide(&directory, &deed, &handle);
    let outcome = match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(error.into()),
    };
    site.touch();
    match outcome {
        Ok(()) => Redirect::to(&base.address).into_response(),
        Err(error) => failed(&site, base, &error).await,
    }
}

async fn failed(site: &Site, base: Base, error: &anyhow::Error) -> Response {
    let (status, message, hint) = if let Some(refusal) = failure::refusal(error) {
        (
            StatusCode::UNPROCESSABLE_ENTITY,
            refusal.to_string(),
            refusal.code.hint(),
        )
    } else {
        tracing::error!("{error:#}");
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("{error:#}"),
            "this is a fault of fedner or of its machine",
        )
    };
    let content = html! {
        h1 { "It was not done" }
        p.problem { (text(&message)) }
        p { "Hint: " (text(hint)) "." }
        p { a href="" { "Overview" } }
    };
    say(site, base, status, "Not done", content).await
}
