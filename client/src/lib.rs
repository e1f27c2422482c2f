//! The client: trains beside an institution's text and lets only clipped, noised updates leave.
//!
//! | module | does |
//! |---|---|
//! | [`cli`] | commands, one file each |
//! | [`agent`] | the daemon: checks in, moves the session on, carries out its effects |
//! | [`egress`] | the only way out: clip, noise, policy, debit, receipt |
//! | [`audit`] | attacks on what is claimed, and signed reports of them |
//! | [`consent`] | what the institution agreed to, and whether its policy allows it |
//! | [`training`] | the trainer and the evaluator, off the asynchronous threads |
//! | [`transport`] | mutual TLS to the coordinator, transfers that resume |
//! | [`state`] | the database: session, plans, consents, ledger, receipts |
//! | [`blobs`] | files by digest |
//! | [`identity`] | keys and certificates, enrolment, renewal |
//! | [`rules`] | which policy is in force |
//! | [`observe`] | metrics, on loopback |
//! | [`config`] | the directory of an institution and its TOML files |

pub mod agent;
pub mod audit;
pub mod blobs;
pub mod cli;
pub mod config;
pub mod consent;
pub mod discreet;
pub mod dp_sgd;
pub mod egress;
pub mod identity;
pub mod observe;
pub mod rules;
pub mod sound;
pub mod state;
pub mod training;
pub mod transport;

/// Says to the coordinator and in `--version` which software this is.
pub const SOFTWARE: &str = concat!("fedner-client/", env!("CARGO_PKG_VERSION"));
