//! A part of the day.

use std::fmt;
use std::str::FromStr;

use fedner_shared::time::Time;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// From one time of the day until another, in the machine's local time; `20:00-06:00` passes
/// midnight. The first minute belongs to it, the last does not.
///
/// ```
/// let hours: fedner_client::config::Hours = "20:00-06:00".parse().unwrap();
/// assert_eq!(hours.to_string(), "20:00-06:00");
/// assert!("06:00-06:00".parse::<fedner_client::config::Hours>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// Minutes after midnight.
    from: u16,
    until: u16,
}

/// The text is no part of a day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` are no hours: expected two different times of the day, such as 20:00-06:00")]
pub struct NoHours(String);

impl Hours {
    /// Whether they are at this instant, by the machine's time zone.
    pub fn are_at(&self, now: Time) -> bool {
        self.are_in(now, TimeZone::system())
    }

    /// Why they cannot be told: the machine's time zone is named and not known.
    pub fn fault() -> Option<String> {
        TimeZone::try_system().err().map(|error| error.to_string())
    }

    /// What a clock on the wall says here at this instant, and in which time zone.
    pub fn wall_clock(now: Time) -> Option<String> {
        let zone = TimeZone::try_system().ok()?;
        let instant = jiff::Timestamp::from_millisecond(now.as_millis()).ok()?;
        let name = zone.iana_name().unwrap_or("a fixed offset").to_owned();
        let local = instant.to_zoned_datetime(zone);
        Some(format!(
            "{:02}:{:02} ({name})",
            local.hour(),
            local.minute()
        ))
    }

    /// When they begin next; nothing where they are now.
    pub fn next_after(&self, now: Time) -> Option<Time> {
        self.next_in(now, TimeZone::system())
    }

    fn next_in(self, now: Time, zone: TimeZone) -> Option<Time> {
        if self.are_in(now, zone.clone()) {
            return None;
        }
        let instant = jiff::Timestamp::from_millisecond(now.as_millis()).ok()?;
        let local = instant.to_zoned_datetime(zone);
        let minute = i64::from(local.hour()) * 60 + i64::from(local.minute());
        let minutes = (i64::from(self.from) - minute).rem_euclid(24 * 60);
        let begun = i64::from(local.second()) * 1000 + now.as_millis().rem_euclid(1000);
        Some(Time::from_millis(
            now.as_millis() + minutes * 60_000 - begun,
        ))
    }

    fn are_in(self, now: Time, zone: TimeZone) -> bool {
        let Ok(instant) = jiff::Timestamp::from_millisecond(now.as_millis()) else {
            return false;
        };
        let local = instant.to_zoned_datetime(zone);
        let minute = local.hour() as u16 * 60 + local.minute() as u16;
        let (began, ends) = (minute >= self.from, minute < self.until);
        if self.from < self.until {
            began && ends
        } else {
            began || ends
        }
    }
}

fn minutes(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !(digits(hour) && digits(minute)) {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

impl FromStr for Hours {
    type Err = NoHours;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let times = text.split_once('-').and_then(|(from, until)| {
            let (from, until) = (minutes(from)?, minutes(until)?);
            (from != until).then_some(Self { from, until })
        });
        times.ok_or_else(|| NoHours(text.to_owned()))
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, until } = self;
        write!(
            f,
            "{:02}:{:02}-{:02}:{:02}",
            from / 60,
            from % 60,
            until / 60,
            until % 60
        )
    }
}

impl Serialize for Hours {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hours {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::offset;

    use super::*;

    /// 2026-01-01, so many hours and minutes after midnight in UTC.
    fn at(hour: i64, minute: i64) -> Time {
        Time::from_millis(1_767_225_600_000 + (hour * 60 + minute) * 60_000)
    }

    #[test]
    fn a_night_passes_midnight_and_a_day_does_not() {
        let night: Hours = "20:00-06:30".parse().expect("hours");
        let day: Hours = "06:30-20:00".parse().expect("hours");
        for (hour, minute, is_night) in [
            (19, 59, false),
            (20, 0, true),
            (23, 59, true),
            (0, 0, true),
            (6, 29, true),
            (6, 30, false),
            (12, 0, false),
        ] {
            let now = at(hour, minute);
            assert_eq!(
                night.are_in(now, TimeZone::UTC),
                is_night,
                "{hour}:{minute}"
            );
            assert_eq!(day.are_in(now, TimeZone::UTC), !is_night, "{hour}:{minute}");
        }
    }

    #[test]
    fn the_next_hours_begin_today_or_tomorrow() {
        let night: Hours = "20:00-06:00".parse().expect("hours");
        let zone = || TimeZone::fixed(offset(2));
        assert_eq!(night.next_in(at(18, 0), zone()), None, "20:00 by the wall");
        assert_eq!(night.next_in(at(17, 59), zone()), Some(at(18, 0)));
        assert_eq!(night.next_in(at(4, 0), zone()), Some(at(18, 0)));
        let morning: Hours = "06:00-07:00".parse().expect("hours");
        assert_eq!(morning.next_in(at(5, 0), zone()), Some(at(28, 0)));
        let seconds = Time::from_millis(at(5, 0).as_millis() + 59_999);
        assert_eq!(morning.next_in(seconds, zone()), Some(at(28, 0)));
    }

    #[test]
    fn the_machine_s_zone_decides() {
        let night: Hours = "20:00-06:00".parse().expect("hours");
        let east = TimeZone::fixed(offset(2));
        assert!(night.are_in(at(18, 0), east.clone()));
        assert!(!night.are_in(at(17, 59), east));
        assert!(!night.are_in(at(18, 0), TimeZone::UTC));
    }

    #[test]
    fn other_texts_are_no_hours() {
        for text in [
            "",
            "20:00",
            "20-06",
            "24:00-06:00",
            "20:60-06:00",
            "8:00-09:00",
            "08:00-08:00",
            "+8:00-09:00",
        ] {
            assert!(text.parse::<Hours>().is_err(), "{text}");
        }
    }
}
