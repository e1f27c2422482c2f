//! The pure core of the coordinator: a run as a state machine.
//!
//! ```text
//!            Start                all there, or timeout with quorum
//! Created ─────────▶ Recruiting ───────────────────────────────────▶ Collecting
//!                     ▲  ▲   │ timeout without quorum                  │  │
//!                     │  │   └── attempt + 1, or Failed                │  │ too few: attempt + 1,
//!                     │  └────────────────────────────────────────────-┘  │ or Failed
//!         round + 1   │                                                   │ all answered, or
//!                     │             Published              quorum         ▼ deadline
//! Completed ◀──── Evaluating ◀───────────────────────── Aggregating ◀─────┘
//!   last round
//! ```
//! While it is Aggregating, the closed updates are first measured, which may set some of them aside; with too
//! few left the attempt is repeated. `Cancel` leads to Cancelled from every state that is not an end; `Pause` stops the clock.
//!
//! | state | waits for | who moves it on |
//! |---|---|---|
//! | Created | the operator | `Start` |
//! | Recruiting | consents and presence of the cohort | institutions, the clock |
//! | Collecting | updates | institutions, the clock |
//! | Agreeing | a step of secure aggregation, before and after Collecting | institutions, the clock |
//! | Aggregating | the new version | the coordinator itself |
//! | Evaluating | counts on held-out text | institutions, the clock |
//!
//! Nothing here sees a clock, a socket, a file, a runtime or a random source: the time is an
//! argument, and what is to be done about a change is returned as [`Effect`]s.

mod agreement;
mod apply;
mod effect;
mod explain;
mod gate;
mod guard;
mod input;
mod invariant;
mod member;
mod members;
mod phase;
mod precedence;
mod rejection;
mod run;
mod secure;
mod settle;
mod standing;
mod step;
mod task;
mod weights;

pub use agreement::Agreement;
pub use effect::{Effect, Transition};
pub use input::Input;
pub use member::{Granted, Later, Member, Work};
pub use members::Members;
pub use phase::Phase;
pub use rejection::Rejection;
pub use run::Run;
pub use standing::{Standing, Verdict};
pub use step::Created;
pub use task::{Assignment, Contribution, TaskKind};
pub use weights::capped;
