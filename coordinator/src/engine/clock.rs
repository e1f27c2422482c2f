//! Time that passed without the engine: the machine was suspended, or its clock was set.

use std::time::Duration;

use fedner_round::Input;
use fedner_shared::time::Time;
use tokio::time::Instant;

use super::Engine;

/// The clock is looked at so often.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What a busy machine may take longer, and a clock be corrected by.
const SLACK: Duration = Duration::from_secs(10);

/// What both clocks said at the last look.
#[derive(Debug)]
pub(super) struct Look {
    wall: Time,
    steady: Instant,
}

impl Look {
    pub(super) fn new(wall: Time) -> Self {
        let steady = Instant::now();
        Self { wall, steady }
    }

    /// By how many milliseconds the wall clock went on without the engine; negative where it was set
    /// back.
    fn jump(&self, now: &Self) -> i64 {
        let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        let steady = now.steady.saturating_duration_since(self.steady);
        let wall = now.wall.as_millis().saturating_sub(self.wall.as_millis());
        // The steady clock stands still while some machines are suspended, and goes on in others.
        let set = wall.saturating_sub(millis(steady));
        let set = if set.unsigned_abs() > SLACK.as_millis() as u64 {
            set
        } else {
            0
        };
        let stopped = steady.saturating_sub(LOOK_EVERY);
        let stopped = if stopped > SLACK { millis(stopped) } else { 0 };
        set.saturating_add(stopped)
    }
}

impl Engine {
    /// Moves what waits for an instant by the time that passed without the engine. So requests that
    /// waited meanwhile are answered before any deadline is judged.
    pub(super) fn note_jump(&mut self, looked: &mut Look) {
        let now = Look::new(self.now());
        let millis = looked.jump(&now);
        *looked = now;
        if millis == 0 {
            return;
        }
        tracing::warn!(
            "the clock jumped by {:.1} s: deadlines are moved by as much",
            millis as f64 / 1000.0
        );
        for id in self.under_way() {
            self.step_logged(&id, Input::Jumped { millis });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_longer_than_a_busy_machine_takes_is_a_jump() {
        let start = Look::new(Time::from_millis(1_000_000));
        let after = |wall: i64, steady: u64| {
            let later = Look {
                wall: Time::from_millis(1_000_000 + wall),
                steady: start.steady + Duration::from_millis(steady),
            };
            start.jump(&later)
        };
        assert_eq!(after(5_000, 5_000), 0);
        assert_eq!(after(14_000, 14_000), 0, "a busy machine");
        assert_eq!(after(60_000, 60_000), 55_000, "stopped");
        assert_eq!(after(60_000, 1_000), 59_000, "suspended");
        assert_eq!(after(-3_600_000, 1_000), -3_601_000, "set back");
        let year = 365 * 24 * 3_600_000;
        assert_eq!(after(year, 5_000), year - 5_000, "set to another year");
    }
}
