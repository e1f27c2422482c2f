//! The figures of `tests/BENCHMARKS.md`, each by one command, with real processes on loopback:
//!
//! ```sh
//! cargo bench -p fedner-tests --bench figures -- noop
//! ```
//!
//! | figure | measures |
//! |---|---|
//! | `noop` | a round without training, 1,000 weights, 4 institutions |
//! | `large` | the same with 22 million weights, every version stored; memory; bytes on the wire |
//! | `many` | a round of 1,000 institutions of 7,000 weights |
//! | `waiting` | memory of a coordinator on which 1,000 institutions wait |
//! | `flood` | memory, other members' time and disk while a stranger sends 10 MB |
//! | `revoked` | how long a revoked institution's held poll and connection go on |
//! | `upload` | one upload through TLS |
//! | `events` | start-up and commands after 10,000 rounds |
//! | `idle` | memory of an idle client |
//! | `cold` | from nothing to four clients checked in |
//! | `killed` | how long a client killed in mid-round holds it up |
//! | `restarted` | how long a round takes to go on after a restart of the coordinator |
//! | `outage` | what an outage of 6 minutes costs in mid-upload of 400 MB |
//!
//! Institutions of the first eight are tasks of this program that speak the protocol over
//! connections of their own, download and digest every version, and send an update made before.
//! Those of the others are real clients.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod events;
mod federation;
mod flood;
mod hollow;
mod outage;
mod processes;
mod revoked;
mod rounds;
mod upload;
mod waiting;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |at: usize, default: usize| words.get(at).map_or(Ok(default), |word| word.parse());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match words.first().copied() {
        Some("noop") => runtime.block_on(rounds::noop(number(1, 40)? as u32)),
        Some("large") => runtime.block_on(rounds::large(number(1, 6)? as u32)),
        Some("many") => runtime.block_on(rounds::many(number(1, 1000)?, number(2, 5)? as u32)),
        Some("waiting") => runtime.block_on(waiting::waiting(number(1, 1000)?)),
        Some("flood") => runtime.block_on(flood::flood(number(1, 10)? as u64)),
        Some("revoked") => runtime.block_on(revoked::revoked(number(1, 20)?)),
        Some("upload") => runtime.block_on(upload::upload()),
        Some("events") => runtime.block_on(events::events(number(1, 10_000)? as u32)),
        Some("idle") => processes::idle(),
        Some("cold") => processes::cold(),
        Some("killed") => processes::killed(),
        Some("restarted") => processes::restarted(),
        Some("outage") => outage::outage(number(1, 360)? as u64),
        Some(other) => {
            bail!("`{other}` is no figure; the head of tests/benches/figures lists them")
        }
        // `cargo bench` runs everything there is; these take minutes and are asked for by name.
        None => {
            println!("name a figure: cargo bench -p fedner-tests --bench figures -- noop");
            Ok(())
        }
    }
}
