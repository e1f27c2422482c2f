//! What handlers share, and what every page has around it.

use std::sync::{Arc, PoisonError, RwLock};

use axum::response::Response;
use fedner_host::machine::{Machine as _, ThisMachine};
use fedner_page::confirm::Confirmations;
use fedner_page::guard::Base;
use fedner_page::layout::{self, Frame};
use fedner_page::live::Live;
use fedner_shared::time::Time;
use maud::Markup;

use super::attention::attention;
use super::deed::Deed;
use super::world::World;
use crate::cli::connect::Who;
use crate::config::{Config, Paths};

/// What handlers share.
#[derive(Debug, Clone)]
pub(super) struct Site(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    home: String,
    paths: Paths,
    who: Who,
    world: RwLock<World>,
    live: Live,
    confirmations: Confirmations<Deed>,
}

pub(super) const PLACES: [(&str, &str); 4] = [
    ("", "Overview"),
    ("institutions", "Institutions"),
    ("models", "Models"),
    ("events", "Events"),
];

impl Site {
    pub(super) fn new(config: Config, paths: Paths, who: Who) -> Self {
        Self(Arc::new(Inner {
            home: config.name,
            paths,
            who,
            world: RwLock::default(),
            live: Live::default(),
            confirmations: Confirmations::default(),
        }))
    }

    pub(super) fn home(&self) -> String {
        layout::text(&self.0.home)
    }

    pub(super) fn paths(&self) -> &Paths {
        &self.0.paths
    }

    pub(super) fn who(&self) -> Who {
        self.0.who
    }

    pub(super) fn may_act(&self) -> bool {
        self.0.who == Who::Operator
    }

    pub(super) fn confirmations(&self) -> &Confirmations<Deed> {
        &self.0.confirmations
    }

    pub(super) fn look<T>(&self, read: impl FnOnce(&World) -> T) -> T {
        read(&self.0.world.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The answer to a page that listens for changes.
    pub(super) fn stream(&self) -> Response {
        self.0.live.response()
    }

    /// Changes what pages show, without a word to them yet.
    pub(super) fn note<T>(&self, write: impl FnOnce(&mut World) -> T) -> T {
        write(&mut self.0.world.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// The same, and open pages look again.
    pub(super) fn change(&self, write: impl FnOnce(&mut World)) {
        self.note(write);
        self.0.live.touch();
    }

    /// A page at one of the [`PLACES`].
    pub(super) fn page(
        &self,
        base: &Base,
        (here, title): (&str, &str),
        content: impl FnOnce(&World, Time) -> Markup,
    ) -> Response {
        let now = ThisMachine.now();
        let (content, problem, attention) = self.look(|world| {
            let attention = attention(world, now).len();
            (content(world, now), world.problem.clone(), attention)
        });
        let places = PLACES.map(|(address, word)| {
            let count = if address.is_empty() { attention } else { 0 };
            (address, word, count)
        });
        let home = self.home();
        let frame = Frame {
            base,
            home: &home,
            title,
            places: &places,
            here,
            who: self.0.who.as_str(),
            problem: problem.as_deref(),
        };
        layout::page(&frame, content)
    }
}
