//! The one place that asks for the time.

use fedner_shared::time::Time;

pub(crate) fn now() -> Time {
    Time::from_millis(jiff::Timestamp::now().as_millisecond())
}
