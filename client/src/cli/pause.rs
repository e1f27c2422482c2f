//! `pause` and `resume`.

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use fedner_host::machine::{Machine as _, ThisMachine};
use fedner_shared::time::Time;
use serde::Serialize;

use super::Context;
use crate::state::Store;

/// Without an end, work is put off for so long.
const LONG: Duration = Duration::from_hours(24 * 365 * 10);

/// Take no work for a while, for maintenance; what was begun goes on to its end
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Until then: 2026-12-01T06:00:00Z, or a date and time here
    #[arg(long, value_name = "TIME", conflicts_with = "minutes")]
    until: Option<Until>,
    /// For so many minutes
    #[arg(long = "for", value_name = "MINUTES")]
    minutes: Option<u32>,
}

/// Take work again
#[derive(Debug, clap::Args)]
pub(super) struct Resume {}

/// An instant, as people write it.
#[derive(Debug, Clone, Copy)]
struct Until(Time);

impl FromStr for Until {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let instant = match text.parse::<jiff::Timestamp>() {
            Ok(instant) => instant,
            Err(_) => text
                .parse::<jiff::civil::DateTime>()?
                .to_zoned_datetime(jiff::tz::TimeZone::system())?
                .timestamp(),
        };
        Ok(Self(Time::from_millis(instant.as_millisecond())))
    }
}

#[derive(Debug, Serialize)]
struct Report {
    /// Absent where work is taken.
    paused_until: Option<Time>,
}

pub(super) fn pause(context: &Context, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let now = ThisMachine.now();
    let minutes = arguments.minutes.map(|n| now + Duration::from_mins(1) * n);
    let until = arguments.until.map(|Until(time)| time);
    set(context, Some(until.or(minutes).unwrap_or(now + LONG)))
}

pub(super) fn resume(context: &Context) -> anyhow::Result<ExitCode> {
    set(context, None)
}

fn set(context: &Context, until: Option<Time>) -> anyhow::Result<ExitCode> {
    let directory = context.directory()?;
    directory.settings()?;
    let store = Store::open(&directory.database())?;
    store.save_paused(until)?;
    let paused_until = store.paused(ThisMachine.now())?;
    let report = Report { paused_until };
    context
        .output
        .data(&report, |report| match report.paused_until {
            Some(until) => format!("no work is taken until {until}; the operator sees it"),
            None => "work is taken".to_owned(),
        })?;
    Ok(ExitCode::SUCCESS)
}
