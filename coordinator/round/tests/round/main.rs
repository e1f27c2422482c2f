//! The round core, driven from outside: named stories, and random ones against a naive model.

mod away;
mod driver;
mod evaluation;
mod gate;
mod guard;
mod model;
mod precedence;
mod schedule;
mod secure;
mod stories;
