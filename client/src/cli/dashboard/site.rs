//! What handlers share, and what every page has around it.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use fedner_page::confirm::Confirmations;
use fedner_page::guard::Base;
use fedner_page::layout::{self, Frame, text};
use fedner_page::live::Live;
use maud::{Markup, html};

use super::deed::Deed;
use super::look::Look;
use crate::config::Directory;

/// What handlers share.
#[derive(Debug, Clone)]
pub(super) struct Site(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: Directory,
    live: Live,
    confirmations: Confirmations<Deed>,
}

impl Site {
    pub(super) fn new(directory: Directory, live: Live) -> Self {
        Self(Arc::new(Inner {
            directory,
            live,
            confirmations: Confirmations::default(),
        }))
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.0.directory
    }

    pub(super) fn confirmations(&self) -> &Confirmations<Deed> {
        &self.0.confirmations
    }

    /// The answer to a page that listens for changes.
    pub(super) fn stream(&self) -> Response {
        self.0.live.response()
    }

    pub(super) fn touch(&self) {
        self.0.live.touch();
    }

    /// A page of what the directory holds now.
    pub(super) async fn page(
        &self,
        base: Base,
        here: &'static str,
        title: String,
        content: impl FnOnce(&Look) -> Markup + Send + 'static,
    ) -> Response {
        let site = self.clone();
        let work = move || match Look::at(site.directory()) {
            Ok(look) => frame(&base, (here, &title), &look, content(&look)),
            Err(error) => broken(&base, &error),
        };
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|error| {
                tracing::error!("a page could not be made: {error}");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            })
    }
}

fn frame(base: &Base, (here, title): (&str, &str), look: &Look, content: Markup) -> Response {
    let home = text(look.settings.institution.as_str());
    let places = [
        ("", "Overview", look.open()),
        ("plans", "Plans", 0),
        ("left", "What has left", 0),
    ];
    let frame = Frame {
        base,
        home: &home,
        title,
        places: &places,
        here,
        who: if look.running {
            "running"
        } else {
            "not running"
        },
        problem: look.fault.as_deref(),
    };
    layout::page(&frame, content)
}

/// What is shown when the directory cannot be read.
fn broken(base: &Base, error: &anyhow::Error) -> Response {
    let message = format!("{error:#}");
    let frame = Frame {
        base,
        home: "fedner",
        title: "Not readable",
        places: &[("", "Overview", 0)],
        here: "",
        who: "",
        problem: Some(&message),
    };
    let content = html! { h1 { "The directory cannot be read" } p { "Run " code { "fedner-client check" } "." } };
    let mut response = layout::page(&frame, content);
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
