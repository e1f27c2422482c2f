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
//! | `masked` | a round of 22 million weights, open and under masks in turn; memory; bytes |
//! | `steps` | a step of a private head that all institutions take together, without training |
//! | `lost` | how long a masked round goes on after an institution is gone, before and after its update |
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
//! | `failover` | how long it takes until the next leader gives an assignment; lease, deaths |
//! | `cut` | what is sent twice where a front end dies in mid-upload |
//!
//! Write `beside` before `noop`, `large`, `many` or `waiting` to measure it twice. First it runs in one process on SQLite
//! and a folder, then in three on PostgreSQL and S3. Institutions dial the three in turn. `failover` and `cut` have three.
//!
//! Institutions of the first eleven are tasks of this program that speak the protocol over
//! connections of their own, download and digest every version, and send an update made before.
//! Those of the others are real clients.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod cut;
mod events;
mod failover;
mod federation;
mod flood;
mod hollow;
mod masks;
mod outage;
mod place;
mod processes;
mod revoked;
mod rounds;
mod upload;
mod waiting;

use anyhow::{Result, bail};

use crate::place::Place;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["beside", figure @ ..] => {
            measure(figure, Place::One)?;
            measure(figure, Place::Three { lease_s: 5 })
        }
        // `cargo bench` runs everything there is; these take minutes and are asked for by name.
        [] => {
            println!("name a figure: cargo bench -p fedner-tests --bench figures -- noop");
            Ok(())
        }
        figure => measure(figure, Place::One),
    }
}

fn measure(figure: &[&str], place: Place) -> Result<()> {
    let number =
        |at: usize, default: usize| figure.get(at).map_or(Ok(default), |word| word.parse());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match (figure.first().copied(), place) {
        (Some("noop"), _) => runtime.block_on(rounds::noop(place, number(1, 40)? as u32)),
        (Some("large"), _) => runtime.block_on(rounds::large(place, number(1, 6)? as u32)),
        (Some("many"), _) => {
            let (count, rounds) = (number(1, 1000)?, number(2, 5)? as u32);
            runtime.block_on(rounds::many(place, count, rounds))
        }
        (Some("masked"), Place::One) => {
            runtime.block_on(rounds::masked(number(1, 4)?, number(2, 4)? as u32))
        }
        (Some("steps"), Place::One) => {
            runtime.block_on(rounds::steps(number(1, 4)?, number(2, 40)? as u32))
        }
        (Some("lost"), Place::One) => runtime.block_on(rounds::lost(number(1, 10)?)),
        (Some("waiting"), _) => runtime.block_on(waiting::waiting(place, number(1, 1000)?)),
        (Some("flood"), Place::One) => runtime.block_on(flood::flood(number(1, 10)? as u64)),
        (Some("revoked"), Place::One) => runtime.block_on(revoked::revoked(number(1, 20)?)),
        (Some("upload"), Place::One) => runtime.block_on(upload::upload()),
        (Some("events"), Place::One) => runtime.block_on(events::events(number(1, 10_000)? as u32)),
        (Some("failover"), Place::One) => {
            let (lease, deaths) = (number(1, 5)? as u64, number(2, 10)?);
            runtime.block_on(failover::failover(lease, deaths))
        }
        (Some("cut"), Place::One) => cut::cut(number(1, 5)? as u32),
        (Some("idle"), Place::One) => processes::idle(),
        (Some("cold"), Place::One) => processes::cold(),
        (Some("killed"), Place::One) => processes::killed(),
        (Some("restarted"), Place::One) => processes::restarted(),
        (Some("outage"), Place::One) => outage::outage(number(1, 360)? as u64),
        (other, _) => {
            let other = other.unwrap_or_default();
            bail!("`{other}` is no figure here; the head of tests/benches/figures lists them")
        }
    }
}
