//! What a program needs of the machine that it runs on, in one place for both programs.
//!
//! | module | holds |
//! |---|---|
//! | [`address`] | where a server answers, at one address or at several |
//! | [`dial`] | all addresses of a name, and the proxies of a network |
//! | [`disk`] | free space, and whether a disk is of another machine |
//! | [`memory`] | how much memory may still be taken |
//! | [`machine`] | the clock, the jitter and the disk, which a simulation replaces; work that blocks |
//! | [`files`] | files for their owner alone, which are there as a whole or not at all |
//! | [`crash`] | the places where a program may die that must lose nothing there |
//! | [`sqlite`] | opening a database, migrating it, and named commits |
//! | [`output`] | text, JSON, tables, errors and exit status |
//! | [`log`] | the log, as text or JSON with fields |
//! | [`progress`] | how far long work has come |
//! | [`signal`] | what a daemon is asked by signals |
//! | [`service`] | what a service manager is told |
//! | [`turn`] | several addresses of one server, tried in turn over TLS |

pub mod address;
pub mod crash;
pub mod dial;
pub mod disk;
pub mod files;
pub mod log;
pub mod machine;
pub mod memory;
pub mod output;
pub mod progress;
pub mod service;
pub mod signal;
pub mod sqlite;
pub mod turn;
