//! A coordinator that goes back on a masked attempt, and the real agents that it asks again.
//!
//! Whoever runs the coordinator holds its database: it asks for what it likes, as often as it likes. The gates alone
//! are lied to in more ways ([`lying`](crate::lying)).

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fedner_round::{Phase, Run};
use fedner_shared::event::Event;
use fedner_shared::refusal::Code;
use fedner_shared::secure::SecureStep;
use rusqlite::{Connection, params};

use super::World;
use crate::op::{Op, Scenario, Setting};
use crate::secure;

/// What it asks for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Nothing: a restart alone.
    Nothing,
    /// A sum without one of those whose set was signed.
    OtherSet,
    /// Shares for a roster without one of those to whom shares were dealt.
    OtherRoster,
    /// Keys for the number of an earlier attempt.
    OldNumber,
}

impl Lie {
    pub(crate) const ALL: [Self; 4] = [
        Self::Nothing,
        Self::OtherSet,
        Self::OtherRoster,
        Self::OldNumber,
    ];

    /// Whether it can be told now.
    fn is_time(self, run: &Run) -> bool {
        let at = |wanted| matches!(run.phase, Phase::Agreeing { step, .. } if step == wanted);
        match self {
            Self::Nothing | Self::OtherSet => at(SecureStep::Unmasking),
            Self::OtherRoster => matches!(run.phase, Phase::Collecting { .. }),
            Self::OldNumber => run.round == 2 && at(SecureStep::Shares),
        }
    }

    fn edit(self, run: &mut Run) -> Result<()> {
        let until = run.phase.until().context("a phase that ends")?;
        let agreement = run.agreement.as_mut().context("an agreement")?;
        let step = match self {
            Self::Nothing => return Ok(()),
            Self::OtherSet => {
                agreement.members.pop();
                agreement.sets.clear();
                agreement.unmaskings.clear();
                SecureStep::Consistency
            }
            Self::OtherRoster => {
                agreement.keys.pop_last();
                agreement.shares.clear();
                SecureStep::Shares
            }
            Self::OldNumber => {
                agreement.keys.clear();
                agreement.shares.clear();
                run.agreements -= 1;
                SecureStep::Keys
            }
        };
        run.phase = Phase::Agreeing { step, until };
        Ok(())
    }
}

/// What came of a lie.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// How often a member would not take a step.
    pub(crate) refused: usize,
    pub(crate) published: usize,
}

/// Tells it in the midst of a run of four, and lets the run go on.
pub(crate) fn tell(lie: Lie, seed: u64) -> Result<Outcome> {
    let setting = Setting {
        secure: true,
        ..Setting::plain(4, 3, 2)
    };
    let mut world = World::new(&Scenario {
        seed,
        setting,
        ops: Vec::new(),
    })?;
    world.begin()?;
    world.wait_for(|run| lie.is_time(run))?;
    world.apply(Op::Crash {
        machine: 0,
        power: false,
    })?;
    let connection = Connection::open(world.coordinator_database())?;
    let sql = "SELECT snapshot FROM runs";
    let snapshot: String = connection.query_row(sql, [], |row| row.get(0))?;
    let mut run: Run = serde_json::from_str(&snapshot)?;
    lie.edit(&mut run)?;
    let snapshot = serde_json::to_string(&run)?;
    connection.execute("UPDATE runs SET snapshot = ?1", params![snapshot])?;
    drop(connection);
    world.apply(Op::Restart { machine: 0 })?;
    world.wait_for(|run| run.phase.is_end())?;
    secure::never_both(&world.place.statements()?)?;
    let mut outcome = Outcome::default();
    for entry in world.place.events_from(1)? {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "what else happened is no answer"
        )]
        match entry.event {
            Event::Declined {
                code: Code::SecureStep,
                ..
            } => outcome.refused += 1,
            Event::VersionPublished { .. } => outcome.published += 1,
            _ => {}
        }
    }
    Ok(outcome)
}

impl World {
    fn wait_for(&mut self, ready: impl Fn(&Run) -> bool) -> Result<()> {
        let until = self.sim.elapsed() + Duration::from_mins(10);
        while !self.place.runs()?.iter().any(&ready) {
            ensure!(self.sim.elapsed() < until, "{:?}", self.place.runs()?);
            self.pass(super::TICK)?;
        }
        Ok(())
    }
}
