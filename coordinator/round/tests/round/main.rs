//! The round core, driven from outside: named stories, and random ones against a naive model.

mod driver;
mod model;
mod stories;
