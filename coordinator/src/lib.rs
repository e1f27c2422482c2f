//! The coordinator: assigns rounds, aggregates updates, keeps the history of models.
//!
//! A round in a straight line: [`rpc`] `check_in` → [`identity`] → [`engine`] (`Run::step`, then
//! [`store`] commit, then [`registry::Registry::carry_out`]) → the institution trains → [`intake`] → `Run::step`
//! → [`aggregate`] → [`registry`] → evaluations → events → views.

pub mod aggregate;
pub mod authority;
pub mod blobs;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod daily;
pub mod door;
pub mod engine;
pub mod garbage;
pub mod identity;
pub mod intake;
pub mod keys;
pub mod limits;
pub mod observe;
mod proxied;
pub mod pruning;
pub mod registry;
pub mod reload;
pub mod retention;
mod roots;
pub mod rpc;
pub mod store;
pub mod tls;
pub mod traces;
pub mod version;

/// Says to institutions which software this is.
pub const SOFTWARE: &str = concat!("fedner-coordinator/", env!("CARGO_PKG_VERSION"));
