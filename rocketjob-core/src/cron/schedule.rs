//! A schedule: the times at which something is to happen, as cron writes them.

use std::{fmt, str::FromStr};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::{
    calendar::{self, Way},
    format::{self, Fields},
};

/// When something is to happen, again and again: cron's five fields, with seconds before them and a
/// time zone behind them where wanted.
///
/// | field | values |
/// |---|---|
/// | second | 0–59; may be left out, and is 0 then |
/// | minute | 0–59 |
/// | hour | 0–23 |
/// | day of the month | 1–31, `L` for the last one, -1 to -31 from the end |
/// | month | 1–12, `Jan`–`Dec` |
/// | weekday | 0–7 with Sunday as 0 and 7, `Sun`–`Sat`, `Mon#1` for the first Monday of the month, `Sun#-1` for the last Sunday |
/// | time zone | a name of the IANA database; without one, that of the machine |
///
/// Each field takes `*` for all, lists (`1,15`), ranges (`9-17`, `-3--1` for the last three days,
/// `22-2` over the end), and steps (`*/15`, `10-50/20`, `5/10` from 5 on). Names may be in any case.
/// Where both the day of the month and the weekday are other than `*`, either will do.
///
/// When the clock is moved, what names its hours happens once on that day: a time that the clock
/// leaves out comes as much later as the clock was moved (`30 2 * * *` at 3:30), and one that comes
/// twice counts the first time. What happens in every hour (`*/15 * * * *`) goes by the time that
/// passes: it is left out with the hour that is missing, and happens in both of the doubled hours.
///
/// # Examples
/// ```
/// use rocketjob_core::Schedule;
///
/// let nightly = Schedule::parse("0 2 * * * America/New_York")?;
/// let next = nightly.next_after("2026-01-10T12:00:00Z".parse()?).ok_or("never")?;
/// assert_eq!(next.to_string(), "2026-01-11T07:00:00Z");
/// assert_eq!(nightly.previous(next), Some(next));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Schedule {
    text: String,
    fields: Fields,
    zone: TimeZone,
}

/// A text that is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` {why}")]
pub struct ScheduleError {
    word: String,
    why: String,
}

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// What is wrong, with which part of it, and what would be right; also for a schedule that never
    /// happens, such as the 30th of February.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let layout = format::read(text.as_bytes()).map_err(|flaw| {
            let word = text.get(flaw.start..flaw.end).unwrap_or_default().trim();
            ScheduleError {
                word: word.into(),
                why: flaw.why.into(),
            }
        })?;
        let zone = match layout.zone.and_then(|(start, end)| text.get(start..end)) {
            None => TimeZone::system(),
            Some(name) => TimeZone::get(name).map_err(|_| ScheduleError {
                word: name.into(),
                why: "is no time zone: write a name of the IANA database, such as `Europe/Paris` or `UTC`".into(),
            })?,
        };
        Ok(Self {
            text: text.split_whitespace().collect::<Vec<_>>().join(" "),
            fields: layout.fields,
            zone,
        })
    }

    /// The first time after `time`; `None` when there is none in the next 40 years.
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        let second = SignedDuration::from_secs(1);
        let from = whole_second(time)?.checked_add(second).ok()?;
        calendar::find(&self.fields, &self.zone, from, Way::Forward)
    }

    /// The latest time that is not after `time`; `None` when there is none in the last 40 years.
    pub fn previous(&self, time: Timestamp) -> Option<Timestamp> {
        calendar::find(&self.fields, &self.zone, whole_second(time)?, Way::Backward)
    }

    /// The time zone whose clock and calendar it goes by.
    pub fn time_zone(&self) -> &TimeZone {
        &self.zone
    }

    /// What is wrong with a schedule in an attribute, found when the program is compiled; whether
    /// its time zone exists is known only where it runs.
    #[doc(hidden)]
    pub const fn flaw(text: &str) -> Option<&'static str> {
        match format::read(text.as_bytes()) {
            Ok(_) => None,
            Err(flaw) => Some(flaw.why),
        }
    }
}

/// The second that has begun at `time`.
fn whole_second(time: Timestamp) -> Option<Timestamp> {
    Timestamp::from_second(time.as_millisecond().div_euclid(1000)).ok()
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        Self::parse(text)
    }
}
