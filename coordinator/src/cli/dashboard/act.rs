//! Actions: asked once, carried out once.

use axum::Extension;
use axum::extract::{Form, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use fedner_page::confirm::answered_before;
use fedner_page::guard::Base;
use fedner_page::layout::text;
use maud::{Markup, html};
use serde::Deserialize;

use super::deed::Deed;
use super::site::Site;
use crate::cli::failed::Failed;

#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    once: String,
}

fn say(site: &Site, base: &Base, status: StatusCode, title: &str, content: Markup) -> Response {
    let content = html! { section.card.narrow data-still { (content) } };
    let mut response = site.page(base, ("", title), |_, _| content);
    *response.status_mut() = status;
    response
}

fn viewer(site: &Site, base: &Base) -> Option<Response> {
    if site.may_act() {
        return None;
    }
    let content = html! {
        h1 { "A viewer may only look" }
        p { "Actions need the operator's certificate (" code { "role-forbidden" } ")." }
        p { a href="" { "Overview" } }
    };
    Some(say(
        site,
        base,
        StatusCode::FORBIDDEN,
        "Not allowed",
        content,
    ))
}

pub(super) async fn ask(
    State(site): State<Site>,
    Extension(base): Extension<Base>,
    Query(deed): Query<Deed>,
) -> Response {
    if let Some(refused) = viewer(&site, &base) {
        return refused;
    }
    let Some((question, consequence, button, harsh)) = deed.question() else {
        let content = html! { h1 { "There is no such action" } p { a href="" { "Overview" } } };
        return say(
            &site,
            &base,
            StatusCode::NOT_FOUND,
            "No such action",
            content,
        );
    };
    let place = deed.place();
    let once = match site.confirmations().ask(deed) {
        Ok(once) => once,
        Err(error) => {
            return failed(&site, &base, &Failed::fault(error.to_string()));
        }
    };
    let content = html! {
        h1 { (text(&question)) }
        p { (consequence) }
        p.muted { "It is recorded in the chain of events, as the command would be." }
        form action="act" method="post" {
            input type="hidden" name="once" value=(once);
            div.actions {
                button.main.bad[harsh] #confirm type="submit" { (button) }
                a.button href=(place) { "Leave it" }
            }
        }
    };
    say(&site, &base, StatusCode::OK, button, content)
}

pub(super) async fn carry_out(
    State(site): State<Site>,
    Extension(base): Extension<Base>,
    Form(answer): Form<Answer>,
) -> Response {
    if let Some(refused) = viewer(&site, &base) {
        return refused;
    }
    let Some(deed) = site.confirmations().answer(&answer.once) else {
        let content = answered_before();
        return say(
            &site,
            &base,
            StatusCode::CONFLICT,
            "Answered before",
            content,
        );
    };
    tracing::info!(what = deed.what(), name = %text(&deed.name), to = %text(deed.to()), "an action was confirmed on the page");
    match deed.carry_out(site.paths()).await {
        Ok(None) => Redirect::to(&format!("{}{}", base.address, deed.place())).into_response(),
        Ok(Some(handed)) => {
            let content = html! {
                h1 { "The invite of " (text(&deed.name)) }
                p { "It is shown once. Save it as a file and hand it over in private; the institution runs " code { "fedner-client enroll FILE" } "." }
                pre #handed { code { (handed) } }
                p { a.button href="institutions" { "Done" } }
            };
            say(&site, &base, StatusCode::OK, "Invite", content)
        }
        Err(error) => failed(&site, &base, &error),
    }
}

fn failed(site: &Site, base: &Base, error: &Failed) -> Response {
    let (status, message, hint) = match error {
        Failed::Refused(refusal) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            refusal.to_string(),
            refusal.code.hint(),
        ),
        Failed::Fault(message) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            message.clone(),
            "this is a fault of fedner or of its machine",
        ),
    };
    let content = html! {
        h1 { "It was not done" }
        p.problem { (text(&message)) }
        p { "Hint: " (text(hint)) "." }
        p { a href="" { "Overview" } }
    };
    say(site, base, status, "Not done", content)
}
