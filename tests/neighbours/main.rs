//! A coordinator that plays every oracle, against neighbouring corpora.
//!
//! Two corpora that differ in one person's text are given to two institutions, which run the real
//! client: its agent, gate, trainer and files. A coordinator that keeps to no rule asks both the same,
//! and takes down whatever comes: calls, codes, stages, sizes and times. It must not tell the two
//! apart. Noised updates and counts are not compared: what they tell is what the ledger bills.
//!
//! Each defence is also switched off, and then the coordinator must see a difference.

mod base;
mod faults;
mod logs;
mod oracles;
mod rogue;
mod site;
mod text;
mod transcript;
