//! The frame of a page, and the parts that pages are put together from.
//!
//! Text of peers goes through [`text`]: maud escapes markup, and this makes hidden characters visible.

use std::fmt::Write as _;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use crate::guard::Base;

/// What surrounds the content of one page.
#[derive(Debug)]
pub struct Frame<'a> {
    pub base: &'a Base,
    /// `fedner` and what the page is of.
    pub home: &'a str,
    /// Of this page; stands in the browser's title too.
    pub title: &'a str,
    /// Where one can go: address, word, and a count that asks for attention.
    pub places: &'a [(&'a str, &'a str, usize)],
    /// The address of the place that this page belongs to.
    pub here: &'a str,
    /// Who looks, as a badge at the right.
    pub who: &'a str,
    /// What keeps the page from being current.
    pub problem: Option<&'a str>,
}

/// Text of a peer in one line, everything hidden in it made visible.
pub fn text(text: &str) -> String {
    fedner_shared::text::line(text).into_owned()
}

/// Text as a part of an address.
pub fn part(text: &str) -> String {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@');
    let mut shown = String::with_capacity(text.len());
    for byte in text.bytes() {
        if plain(byte) {
            shown.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(shown, "%{byte:02x}");
        }
    }
    shown
}

/// A whole page.
pub fn page(frame: &Frame<'_>, content: Markup) -> Response {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                base href=(frame.base.address);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (frame.title) " · " (frame.home) }
                link rel="stylesheet" href="style.css";
                link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='6' fill='%23208070'/%3E%3C/svg%3E";
                script src="script.js" defer {}
            }
            body data-live="live" {
                a.skip href=(format!("{}#content", frame.base.rest)) { "Skip to the content" }
                header.top {
                    div.bar {
                        a.brand href="" { span.dot aria-hidden="true" {} (frame.home) }
                        nav aria-label="Places" {
                            @for (address, word, count) in frame.places {
                                a href=(address) aria-current=[(*address == frame.here).then_some("page")] {
                                    (word)
                                    @if *count > 0 { span.count { (count) } }
                                }
                            }
                        }
                        span.who { span.pulse #pulse title="Live" {} (frame.who) }
                    }
                }
                main #content tabindex="-1" {
                    div #problem data-live role="status" {
                        @if let Some(problem) = frame.problem { p.problem { (text(problem)) } }
                    }
                    (content)
                }
            }
        }
    };
    html_response(StatusCode::OK, markup)
}

pub fn html_response(status: StatusCode, markup: Markup) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    (status, kind, markup.into_string()).into_response()
}

/// A part of a page that is brought up to date by itself. `id` is unique on the page.
pub fn live(id: &str, content: Markup) -> Markup {
    html! { section id=(id) data-live { (content) } }
}

/// The same as a card with a title.
pub fn card(id: &str, title: &str, aside: Markup, content: Markup) -> Markup {
    html! {
        section.card id=(id) data-live aria-labelledby=(format!("{id}-title")) {
            div.head { h2 id=(format!("{id}-title")) { (title) } div.aside { (aside) } }
            (content)
        }
    }
}

/// How a state is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Active,
    Good,
    Warn,
    Bad,
}

impl Tone {
    pub const fn class(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Active => "active",
            Self::Good => "good",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

pub fn badge(tone: Tone, word: &str) -> Markup {
    html! { span class=(format!("badge {}", tone.class())) { (text(word)) } }
}

/// A figure with its name, as they stand in a row at the top of a page.
pub fn figure(name: &str, value: Markup, note: Markup) -> Markup {
    html! {
        div.figure {
            dt { (name) }
            dd.value { (value) }
            dd.note { (note) }
        }
    }
}

/// How far something has come, with its words for those who do not see it.
pub fn meter(part: f64, tone: Tone, words: &str) -> Markup {
    let width = (part.clamp(0.0, 1.0) * 1000.0).round();
    html! {
        svg class=(format!("meter {}", tone.class())) viewBox="0 0 1000 8" preserveAspectRatio="none" role="img" aria-label=(words) {
            rect.track width="1000" height="8" {}
            rect.part width=(width) height="8" {}
        }
    }
}

/// What stands where a list is empty, and what to do next.
pub fn empty(what: &str, hint: &str, command: Option<&str>) -> Markup {
    html! {
        div.empty {
            p { (what) }
            p.hint { (hint) }
            @if let Some(command) = command { pre { code { (command) } } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_markup_and_hidden_characters_are_text() {
        let name = "<script>alert(1)</script>\u{202e}\u{1b}[2J\"'&";
        let shown = badge(Tone::Bad, name).into_string();
        assert!(
            !shown.contains("<script>") && !shown.contains('\u{202e}'),
            "{shown}"
        );
        assert!(
            shown.contains("&lt;script&gt;") && shown.contains("u{202e}"),
            "{shown}"
        );
        assert!(!shown.contains('\u{1b}'));
        assert_eq!(part("a@1<\u{202e}&"), "a@1%3c%e2%80%ae%26");
    }
}
