//! What a person decides on the page, asked once. Each is a command too.

use axum::Extension;
use axum::extract::{Form, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use fedner_host::machine::{Machine as _, ThisMachine};
use fedner_page::guard::Base;
use fedner_page::layout::text;
use fedner_shared::refusal::{Code, Refusal};
use maud::{Markup, html};
use serde::Deserialize;

use super::site::Site;
use crate::cli::{consent as command, failure};
use crate::config::Directory;
use crate::consent::{self, Terms};
use crate::identity::Identity;
use crate::rules;
use crate::state::{Decision, Store};

/// As it stands in an address.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Deed {
    what: What,
    /// The digest of a plan or a receipt.
    name: String,
    /// The count to declare with a consent; empty for that of the configuration.
    #[serde(default)]
    examples: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum What {
    Grant,
    Revoke,
    Release,
    Refuse,
}

impl What {
    /// What is asked, what follows, and the word on the button.
    const fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Grant => (
                "Take part in",
                "Your text is read and checked now. A consent is signed and sent, and rounds may be trained until it expires.",
                "Take part",
            ),
            Self::Revoke => (
                "Withdraw from",
                "Nothing more is trained for the plan, and nothing more leaves. What has left cannot come back.",
                "Withdraw",
            ),
            Self::Release => (
                "Release the update",
                "It leaves as it was shown. Your word cannot be taken back.",
                "Release",
            ),
            Self::Refuse => (
                "Refuse the update",
                "It stays here for good, and the coordinator is told. It stays paid for.",
                "Refuse",
            ),
        }
    }

    const fn is_harsh(self) -> bool {
        matches!(self, Self::Revoke | Self::Refuse)
    }
}

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

/// What the deed is about, in words.
fn name_of(directory: &Directory, deed: &Deed) -> anyhow::Result<String> {
    let store = Store::open(&directory.database())?;
    Ok(match deed.what {
        What::Grant | What::Revoke => command::find(&store, &deed.name)?.plan.name.to_string(),
        What::Release | What::Refuse => {
            let digest = deed.name.parse()?;
            let receipt = store
                .receipt(&digest)?
                .ok_or_else(|| Refusal::new(Code::NothingFound, "no such update waits"))?;
            receipt.digest.short()
        }
    })
}

pub(super) async fn ask(
    State(site): State<Site>,
    Extension(base): Extension<Base>,
    Query(deed): Query<Deed>,
) -> Response {
    let what = deed.what;
    let name = match name_of(site.directory(), &deed) {
        Ok(name) => name,
        Err(error) => return failed(&site, base, &error).await,
    };
    let once = match site.confirmations().ask(deed) {
        Ok(once) => once,
        Err(error) => return failed(&site, base, &error.into()).await,
    };
    let (question, consequence, button) = what.words();
    let content = html! {
        h1 { (question) " " (text(&name)) "?" }
        p { (consequence) }
        form action="act" method="post" {
            input type="hidden" name="once" value=(once);
            div.actions {
                button.main.bad[what.is_harsh()] #confirm type="submit" { (button) }
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
        let content = html! {
            h1 { "This was answered before" }
            p { "Each question counts once. Look at what came of it before you ask again." }
            p { a href="" { "Overview" } }
        };
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

fn decide(
    directory: &Directory,
    deed: &Deed,
    handle: &tokio::runtime::Handle,
) -> anyhow::Result<()> {
    let store = Store::open(&directory.database())?;
    match deed.what {
        What::Grant => grant(directory, &store, deed, handle),
        What::Revoke => {
            let record = command::find(&store, &deed.name)?;
            if !store.revoke_consents(&record.digest, ThisMachine.now())? {
                let message = format!("no consent to {} is in force", record.plan.name);
                return Err(Refusal::new(Code::ConsentMissing, message).into());
            }
            Ok(())
        }
        What::Release => said(&store, deed, Decision::Granted),
        What::Refuse => said(&store, deed, Decision::Refused),
    }
}

/// As `consent grant` does it.
fn grant(
    directory: &Directory,
    store: &Store,
    deed: &Deed,
    handle: &tokio::runtime::Handle,
) -> anyhow::Result<()> {
    let settings = directory.settings()?;
    let identity = Identity::load(&directory.identity(), settings.institution.clone())?;
    let now = ThisMachine.now();
    // What is granted is granted by the policy in force.
    let policy = handle
        .block_on(rules::in_force(store, directory, now))?
        .policy;
    let terms = Terms {
        directory,
        settings: &settings,
        policy: &policy,
    };
    let record = command::find(store, &deed.name)?;
    let examples = match deed.examples.trim() {
        "" => None,
        number => Some(number.parse().map_err(|_| {
            Refusal::new(
                Code::ExamplesOutOfRange,
                "the examples to declare are a number",
            )
        })?),
    };
    consent::check_text(terms, &record.plan)?;
    consent::grant(store, &identity, terms, &record, examples, now)?;
    tracing::info!(plan = %record.plan.name, "a consent was granted on the page");
    Ok(())
}

/// As `release grant` and `release refuse` do it: the first word holds.
fn said(store: &Store, deed: &Deed, word: Decision) -> anyhow::Result<()> {
    let receipt = deed.name.parse()?;
    let holds = store.decide(&receipt, word)?;
    if holds != word {
        let message = format!("it was {} before, and the first word holds", holds.as_str());
        return Err(Refusal::new(Code::NothingFound, message).into());
    }
    tracing::info!(%receipt, word = word.as_str(), "a word was said on the page");
    Ok(())
}

async fn failed(site: &Site, base: Base, error: &anyhow::Error) -> Response {
    let (status, message, hint) = match failure::refusal(error) {
        Some(refusal) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            refusal.to_string(),
            refusal.code.hint(),
        ),
        None => {
            tracing::error!("{error:#}");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("{error:#}"),
                "this is a fault of fedner or of its machine",
            )
        }
    };
    let content = html! {
        h1 { "It was not done" }
        p.problem { (text(&message)) }
        p { "Hint: " (text(hint)) "." }
        p { a href="" { "Overview" } }
    };
    say(site, base, status, "Not done", content).await
}
