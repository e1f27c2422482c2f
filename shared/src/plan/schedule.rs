//! When the rounds of a run begin.

use std::cmp::Ordering;

use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use croner::{CivilDate, CivilDateTime, CivilTime, Cron, CronDateTime, Resolution, Weekday};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Plan;
use super::error::{Error, between, value};
use crate::time::Time;

/// Times at which a run goes on. Between them it waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Minute, hour, day, month and weekday, as cron reads them.
    pub times: String,
    /// The time zone of the times, by its IANA name.
    #[serde(default = "utc")]
    pub zone: String,
    /// Rounds that follow each other from each such time on.
    #[serde(default = "one")]
    pub rounds: u32,
    /// How often the base is scored, in a plan that trains nothing.
    #[serde(default = "one")]
    pub evaluations: u32,
}

fn utc() -> String {
    "UTC".to_owned()
}

const fn one() -> u32 {
    1
}

/// Most evaluations of one plan.
const MOST_EVALUATIONS: u32 = 10_000;

impl Schedule {
    /// The first of the times after `now`. Where a clock is put forward over it, it is as much later; where a
    /// clock is put back, the first of two such times counts.
    pub fn next_after(&self, now: Time) -> Option<Time> {
        let zone = TimeZone::get(&self.zone).ok()?;
        let instant = Timestamp::from_millisecond(now.as_millis()).ok()?;
        let mut from = zone.to_datetime(instant);
        let pattern = self.pattern().ok()?;
        // A time that a clock shows twice may lie behind us once.
        for _ in 0..3 {
            let next = pattern.find_next_occurrence(&Local(from), false).ok()?.0;
            let found = zone.to_ambiguous_timestamp(next).compatible().ok()?;
            if found > instant {
                return Some(Time::from_millis(found.as_millisecond()));
            }
            from = next;
        }
        None
    }

    fn pattern(&self) -> Result<Cron, CronError> {
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed);
        parser.build().parse(&self.times)
    }

    fn check(&self, plan: &Plan) -> Result<(), Error> {
        if TimeZone::get(&self.zone).is_err() {
            let expected = "the IANA name of a time zone, such as Europe/Berlin";
            return Err(value("schedule.zone", format!("{:?}", self.zone), expected));
        }
        let times = "schedule.times";
        if self.times.len() > 128 || self.pattern().is_err() {
            let expected = "minute, hour, day, month and weekday, such as \"0 2 1 * *\" for the first of each month at two";
            return Err(value(times, format!("{:?}", self.times), expected));
        }
        if self.next_after(Time::from_millis(0)).is_none() {
            let expected = "a time that comes";
            return Err(value(times, format!("{:?}", self.times), expected));
        }
        if plan.only_evaluates() {
            if self.rounds != 1 {
                let expected = "`evaluations`: with rounds = 0 there are no rounds";
                return Err(value("schedule.rounds", self.rounds, expected));
            }
            return between(
                "schedule.evaluations",
                self.evaluations,
                1,
                MOST_EVALUATIONS,
            );
        }
        if self.evaluations != 1 {
            let expected = "`rounds`: the plan trains, and every round is evaluated";
            return Err(value("schedule.evaluations", self.evaluations, expected));
        }
        between("schedule.rounds", self.rounds, 1, plan.rounds)
    }
}

impl Plan {
    /// Whether the run waits for a time of its schedule before that round.
    pub fn waits_before(&self, round: u32) -> bool {
        let first = self.first_round();
        let of = |schedule: &Schedule| round.saturating_sub(first).is_multiple_of(schedule.rounds);
        self.schedule.as_ref().is_some_and(of)
    }

    /// The part of the learning rate's schedule that a round is, of the rounds that follow each other.
    pub fn part_of_schedule(&self, round: u32) -> std::ops::Range<f64> {
        let together = self.schedule.as_ref().map_or(self.rounds, |s| s.rounds);
        let begun = round.saturating_sub(1) / together.max(1) * together;
        // The last ones may be fewer.
        let rounds = together.min(self.rounds.saturating_sub(begun)).max(1);
        let (place, rounds) = (f64::from(round - begun), f64::from(rounds));
        (place - 1.0) / rounds..place / rounds
    }

    pub(super) fn check_schedule(&self) -> Result<(), Error> {
        self.schedule.as_ref().map_or(Ok(()), |s| s.check(self))
    }
}

/// What a clock on a wall shows. Its zone is looked at once a time is found.
#[derive(Debug, Clone, Copy)]
struct Local(DateTime);

impl CronDateTime for Local {
    fn to_civil(&self) -> CivilDateTime {
        let Self(at) = self;
        let [month, day] = [at.month(), at.day()].map(|part| part.unsigned_abs().into());
        let [hour, minute, second] =
            [at.hour(), at.minute(), at.second()].map(|part| part.unsigned_abs().into());
        let date = CivilDate::from_parts_unchecked(at.year().into(), month, day);
        let time = CivilTime::from_parts_unchecked(hour, minute, second);
        CivilDateTime::new(date, time)
    }

    fn civil_weekday(&self) -> Weekday {
        let days = self.0.weekday().to_sunday_zero_offset();
        Weekday::from_days_from_sunday(days.unsigned_abs().into())
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let part = |value: u32| i8::try_from(value).map_err(|_| CronError::InvalidTime);
        let year = i16::try_from(civil.year()).map_err(|_| CronError::InvalidDate)?;
        let (month, day) = (part(civil.month())?, part(civil.day())?);
        let (hour, minute, second) = (
            part(civil.hour())?,
            part(civil.minute())?,
            part(civil.second())?,
        );
        DateTime::new(year, month, day, hour, minute, second, 0)
            .map(|at| Resolution::Single(Self(at)))
            .map_err(|_| CronError::InvalidDate)
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        let later = self.0.checked_add(SignedDuration::from_secs(seconds));
        later.ok().map(Self)
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(rounds: u32, schedule: &str) -> Result<Plan, Error> {
        Plan::parse(&format!(
            "name = \"p\"\nbase = \"b@1\"\nlabels = [\"Drug\"]\nmethod = \"head\"\nrounds = {rounds}\n\
             [cohort]\ninstitutions = [\"st-anna\"]\nquorum = 1\n[privacy]\nunit = \"none\"\n\
             [schedule]\n{schedule}\n"
        ))
    }

    fn at(text: &str) -> Time {
        let instant: Timestamp = text.parse().expect("instant");
        Time::from_millis(instant.as_millisecond())
    }

    #[test]
    fn times_are_those_of_the_zone_summer_and_winter() {
        let plan = plan(3, "times = \"0 2 1 * *\"\nzone = \"Europe/Berlin\"").expect("plan");
        let schedule = plan.schedule.expect("schedule");
        let next = |from: &str| schedule.next_after(at(from));
        assert_eq!(
            next("2026-11-29T12:00:00Z"),
            Some(at("2026-12-01T01:00:00Z"))
        );
        // Strictly after.
        assert_eq!(
            next("2026-12-01T01:00:00Z"),
            Some(at("2027-01-01T01:00:00Z"))
        );
        assert_eq!(
            next("2027-05-20T00:00:00Z"),
            Some(at("2027-06-01T00:00:00Z"))
        );
        let nightly = Schedule {
            times: "30 2 * * *".to_owned(),
            ..schedule
        };
        // On this day there is no half past two: it is as much later.
        let next = |from: &str| nightly.next_after(at(from));
        assert_eq!(
            next("2027-03-28T00:00:00Z"),
            Some(at("2027-03-28T01:30:00Z"))
        );
        // On this one there are two: the first counts, and only that.
        assert_eq!(
            next("2027-10-30T12:00:00Z"),
            Some(at("2027-10-31T00:30:00Z"))
        );
        assert_eq!(
            next("2027-10-31T00:30:00Z"),
            Some(at("2027-11-01T01:30:00Z"))
        );
        assert_eq!(
            next("2027-10-31T01:10:00Z"),
            Some(at("2027-11-01T01:30:00Z"))
        );
    }

    #[test]
    fn rounds_of_one_sitting_are_one_schedule_of_the_learning_rate() {
        let plan = plan(5, "times = \"@weekly\"\nrounds = 2").expect("plan");
        let waits: Vec<u32> = (1..=5).filter(|round| plan.waits_before(*round)).collect();
        assert_eq!(waits, [1, 3, 5]);
        let parts: Vec<_> = (1..=5).map(|round| plan.part_of_schedule(round)).collect();
        assert_eq!(parts, [0.0..0.5, 0.5..1.0, 0.0..0.5, 0.5..1.0, 0.0..1.0]);
        let mut alone = plan;
        alone.schedule = None;
        assert_eq!(alone.part_of_schedule(2), 0.2..0.4);
        assert!(!alone.waits_before(1));
    }

    #[test]
    fn what_never_comes_or_makes_no_sense_is_refused() {
        for (rounds, schedule, key) in [
            (2, "times = \"0 2 30 2 *\"", "schedule.times"),
            (2, "times = \"every day\"", "schedule.times"),
            (2, "times = \"0 0 2 1 * *\"", "schedule.times"),
            (2, "times = \"0 2 1 * * 2020\"", "schedule.times"),
            (
                2,
                "times = \"0 2 * * *\"\nzone = \"Mars/Base\"",
                "schedule.zone",
            ),
            (2, "times = \"0 2 * * *\"\nrounds = 3", "schedule.rounds"),
            (
                2,
                "times = \"0 2 * * *\"\nevaluations = 3",
                "schedule.evaluations",
            ),
            (0, "times = \"0 2 * * *\"\nrounds = 3", "schedule.rounds"),
            (
                0,
                "times = \"0 2 * * *\"\nevaluations = 0",
                "schedule.evaluations",
            ),
        ] {
            let error = plan(rounds, schedule).expect_err(schedule).to_string();
            assert!(error.contains(key), "{schedule}: {error}");
        }
        let plan = plan(0, "times = \"0 2 * * MON-FRI\"\nevaluations = 12").expect("plan");
        assert_eq!(plan.evaluations(), 12);
        assert_eq!((plan.first_round(), plan.last_round()), (0, 11));
    }
}
