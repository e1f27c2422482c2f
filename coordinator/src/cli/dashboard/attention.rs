//! What a person should look at.

use std::time::Duration;

use fedner_page::layout::{Tone, badge, text};
use fedner_page::words;
use fedner_shared::state::{InstitutionState, MemberState, RunState};
use fedner_shared::time::Time;
use fedner_shared::view::{InstitutionView, RunView};
use maud::{Markup, html};

use super::world::World;

const CERTIFICATE_SOON: Duration = Duration::from_hours(14 * 24);

/// Something that a person should look at.
#[derive(Debug)]
pub(super) struct Attention {
    tone: Tone,
    what: String,
    then: &'static str,
    address: String,
}

impl Attention {
    pub(super) fn what(&self) -> &str {
        &self.what
    }
}

pub(super) fn attention(world: &World, now: Time) -> Vec<Attention> {
    let mut found = Vec::new();
    for run in &world.runs {
        let address = format!("runs/{}", run.run);
        if run.state == RunState::Failed && is_newest_of_its_name(world, run) {
            let reason = run.failure.as_deref().unwrap_or("no reason was given");
            found.push(Attention {
                tone: Tone::Bad,
                what: format!("{} failed: {reason}", run.run),
                then: "Mend the cause, then retry the run.",
                address: address.clone(),
            });
        }
        if run.state == RunState::Created {
            found.push(Attention {
                tone: Tone::Active,
                what: format!("{} waits to be started", run.run),
                then: "Start it when the institutions know of it.",
                address: address.clone(),
            });
        }
        let suspected = run.members.iter().filter(|member| {
            member.aside.is_some() && member.state != MemberState::Left && !run.state.is_end()
        });
        for member in suspected {
            found.push(Attention {
                tone: Tone::Warn,
                what: format!("{} is set aside in {}", member.institution, run.run),
                then: "Look at its figures before it takes part again.",
                address: address.clone(),
            });
        }
    }
    for view in active(world) {
        if view.twice {
            found.push(Attention {
                tone: Tone::Bad,
                what: format!("{} is in use in two places", view.institution),
                then: "Ask the institution which of its copies is the right one.",
                address: "institutions".to_owned(),
            });
        }
        if view.certificate_expires < now + CERTIFICATE_SOON {
            found.push(Attention {
                tone: Tone::Warn,
                what: format!(
                    "the certificate of {} ends {}",
                    view.institution,
                    words::relative(view.certificate_expires, now)
                ),
                then: "It is renewed by itself when its client connects.",
                address: "institutions".to_owned(),
            });
        }
    }
    found
}

/// A run that was carried on by another one needs nobody any more.
fn is_newest_of_its_name(world: &World, run: &RunView) -> bool {
    let newest = world.runs.iter().rev().find(|other| other.name == run.name);
    newest.is_some_and(|newest| newest.run == run.run)
}

pub(super) fn card(found: &[Attention]) -> Markup {
    const SHOWN: usize = 12;
    html! {
        section #attention data-live {
            @if !found.is_empty() {
                div.card {
                    div.head { h2 { "Needs attention" } div.aside { (found.len()) } }
                    ul.list {
                        @for item in found.iter().take(SHOWN) {
                            li {
                                (badge(item.tone, match item.tone { Tone::Bad => "fault", Tone::Warn => "soon", Tone::Plain | Tone::Active | Tone::Good => "waits" }))
                                " " a href=(item.address) { (text(&item.what)) } ". "
                                span.muted { (item.then) }
                            }
                        }
                        @if found.len() > SHOWN { li.muted { "and " (found.len() - SHOWN) " more" } }
                    }
                }
            }
        }
    }
}

pub(super) fn active(world: &World) -> impl Iterator<Item = &InstitutionView> {
    let active = |view: &&InstitutionView| view.state == InstitutionState::Active;
    world.institutions.iter().filter(active)
}
