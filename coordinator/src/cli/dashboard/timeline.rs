//! The rounds of a run, and who did what when in one of them.

use fedner_page::layout::card;
use fedner_page::words;
use fedner_shared::event::Judgement;
use fedner_shared::id::InstitutionId;
use fedner_shared::time::Time;
use fedner_shared::view::RunView;
use maud::{Markup, html};

use super::history::{Part, Round};
use super::world::World;

/// Lanes that are shown at once.
const LANES: usize = 40;
/// With more rounds than this each is a thin bar.
const WIDE: usize = 40;

pub(super) fn cards(
    world: &World,
    run: &RunView,
    round: Option<u32>,
    all: bool,
    now: Time,
) -> Markup {
    let Some(history) = world
        .history
        .run(&run.run)
        .filter(|it| !it.rounds.is_empty())
    else {
        return html! { section #timeline data-live {} };
    };
    let newest = history.rounds.keys().next_back().copied();
    let chosen = round
        .filter(|round| history.rounds.contains_key(round))
        .or(newest)
        .unwrap_or_default();
    let aside = html! { (words::count(history.rounds.len(), "round", "rounds")) };
    card(
        "timeline",
        "Timeline",
        aside,
        html! {
            ol class=(if history.rounds.len() > WIDE { "rounds many" } else { "rounds" }) {
                @for (number, round) in &history.rounds {
                    li { a href=(format!("runs/{}?round={number}", run.run)) class=(class(round))
                        aria-current=[(*number == chosen).then_some("true")]
                        title=(describe(*number, round, now)) { (number) } }
                }
            }
            @if let Some(round) = history.rounds.get(&chosen) { (lanes(run, chosen, round, all, now)) }
        },
    )
}

fn class(round: &Round) -> &'static str {
    match (&round.judged, &round.version) {
        (Some((Judgement::Regressed, _)), _) => "bad",
        (_, None) => "",
        _ if round.attempt > 1 => "again",
        _ => "done",
    }
}

fn describe(number: u32, round: &Round, now: Time) -> String {
    let span = round
        .began
        .map(|began| words::span(round.end(now).since(began)));
    let span = span.unwrap_or_default();
    let f1 = round.f1.map(|f1| format!(", F1 {}", words::f1(f1)));
    let attempt = (round.attempt > 1).then(|| format!(", attempt {}", round.attempt));
    format!(
        "{number}: {span}{}{}",
        f1.unwrap_or_default(),
        attempt.unwrap_or_default()
    )
}

fn lanes(run: &RunView, number: u32, round: &Round, all: bool, now: Time) -> Markup {
    let Some(began) = round.began else {
        return html! {};
    };
    let end = round.end(now);
    let whole = end.since(began).as_millis().max(1) as f64;
    let mut parts: Vec<(&InstitutionId, &Part)> = round.parts.iter().collect();
    // The slowest first: they are what a round waits for.
    parts.sort_by_key(|(name, part)| {
        let last = part.sent.unwrap_or(Time::from_millis(i64::MAX));
        (std::cmp::Reverse(last), (*name).clone())
    });
    let shown = if all { parts.len() } else { LANES };
    html! {
        p.small.muted {
            "Round " (number) ", attempt " (round.attempt) ": began " (words::clock(began)) ", "
            (words::span(end.since(began))) @if round.closed.is_none() { " so far" }
            @if let Some((version, digest)) = &round.version { ", published " a href=(format!("models/{digest}")) { (version) } }
            "."
        }
        p.legend {
            @for (class, word) in [("wait", "waiting"), ("work", "downloading, training, sending"), ("done", "answered"), ("no", "declined"), ("away", "away")] {
                span class=(format!("key {class}")) { span.swatch aria-hidden="true" {} (word) }
            }
        }
        @for (name, part) in parts.iter().take(shown) { (lane(name, part, began, end, whole)) }
        @if parts.len() > shown {
            p.small { a href=(format!("runs/{}?round={number}&all=true", run.run)) { "All " (parts.len()) " institutions" } }
        }
    }
}

fn lane(name: &InstitutionId, part: &Part, began: Time, end: Time, whole: f64) -> Markup {
    let at = |time: Time| {
        (time.since(began).as_millis() as f64 / whole * 1000.0)
            .min(1000.0)
            .round()
    };
    // Who is quick says only that it has sent.
    let unsaid = if part.sent.is_some() { 0.0 } else { 1000.0 };
    let taken = part.taken.map_or(unsaid, at);
    // What comes first of being sent, declined and the end.
    let (until, class) = match (part.sent, part.declined) {
        (Some(sent), _) => (at(sent), "done"),
        (None, Some(declined)) => (at(declined), "no"),
        (None, None) => (part.away.map_or(1000.0, at), "away"),
    };
    let work = (until - taken).max(0.0);
    let rest = (1000.0 - until).max(0.0);
    let took = |from: Time, to: Time| words::span(to.since(from));
    let said = match (part.sent, part.declined, part.away, part.taken) {
        (Some(sent), ..) => format!("answered in {}", took(began, sent)),
        (None, Some(declined), ..) => format!("declined after {}", took(began, declined)),
        (None, None, Some(away), _) => format!("away for {}", took(away, end)),
        (None, None, None, Some(taken)) => format!("at work, {}", took(taken, end)),
        (None, None, None, None) => "waiting".to_owned(),
    };
    html! {
        div.lane {
            span title=(name) { (name) }
            svg viewBox="0 0 1000 10" preserveAspectRatio="none" role="img" aria-label=(format!("{name}: {said}")) {
                @if taken > 0.0 { rect.wait width=(taken.min(until)) height="10" {} }
                @if work > 0.0 { rect.work x=(taken) width=(work) height="10" {} }
                @if rest > 0.0 { rect class=(class) x=(until) width=(rest) height="10" {} }
            }
            span { (said) }
        }
    }
}
