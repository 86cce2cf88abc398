//! Which moments a schedule means, on the calendar and the clock of a time zone.
//!
//! Time is taken in stretches of one offset from UTC, from one change of the clock to the next; in
//! each the wall clock simply goes on.

use jiff::{
    SignedDuration, Timestamp, ToSpan,
    civil::{Date, DateTime},
    tz::{Offset, TimeZone},
};

use super::format::Fields;

/// How far is looked, in days: the 29th of February, over the year 2100 that has none and for each
/// weekday, comes within 40 years.
const HORIZON: i64 = 41 * 366;

/// Which way is looked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Forward,
    Backward,
}

/// A stretch of time in which the wall clock simply goes on, `from` included and `until` not.
struct Stretch {
    from: Timestamp,
    until: Timestamp,
    offset: Offset,
    /// By how much the clock was moved where it begins: forward, or back.
    moved: SignedDuration,
    before: Offset,
}

impl Stretch {
    /// The one that `at` lies in.
    fn around(zone: &TimeZone, at: Timestamp) -> Self {
        let offset = zone.to_offset(at);
        let next = at
            .checked_add(SignedDuration::from_secs(1))
            .unwrap_or(Timestamp::MAX);
        let from = zone.preceding(next).next().map(|change| change.timestamp());
        let until = zone.following(at).next().map(|change| change.timestamp());
        let from = from.unwrap_or(Timestamp::MIN);
        let before = from
            .checked_sub(SignedDuration::from_secs(1))
            .map_or(offset, |instant| zone.to_offset(instant));
        Self {
            from,
            until: until.unwrap_or(Timestamp::MAX),
            offset,
            moved: SignedDuration::from_secs(i64::from(offset.seconds() - before.seconds())),
            before,
        }
    }
}

/// The first moment at or after `at`, a whole second, or the last at or before it.
pub(super) fn find(fields: &Fields, zone: &TimeZone, at: Timestamp, way: Way) -> Option<Timestamp> {
    let days = SignedDuration::from_hours(24 * HORIZON);
    let end = match way {
        Way::Forward => at.checked_add(days).unwrap_or(Timestamp::MAX),
        Way::Backward => at.checked_sub(days).unwrap_or(Timestamp::MIN),
    };
    let mut at = at;
    loop {
        let stretch = Stretch::around(zone, at);
        if let Some(found) = within(fields, &stretch, at, way) {
            return Some(found);
        }
        let second = SignedDuration::from_secs(1);
        at = match way {
            Way::Forward => stretch.until,
            Way::Backward => stretch.from.checked_sub(second).ok()?,
        };
        let is_over = match way {
            Way::Forward => at >= end,
            Way::Backward => at <= end,
        };
        if is_over {
            return None;
        }
    }
}

/// Looks in one stretch, from `at` on.
fn within(fields: &Fields, stretch: &Stretch, at: Timestamp, way: Way) -> Option<Timestamp> {
    let (from, until) = (stretch.from, stretch.until);
    if fields.every_hour() || stretch.moved.is_zero() || from == Timestamp::MIN {
        return search(fields, stretch.offset, (from, until), at, way);
    }
    let changed = from.checked_add(stretch.moved.abs()).ok()?.min(until);
    if stretch.moved.is_negative() {
        // The hour comes twice, and counted the first time.
        return search(fields, stretch.offset, (changed, until), at, way);
    }
    // What the clock left out comes as if it had not been moved.
    let left_out = search(fields, stretch.before, (from, changed), at, way);
    let usual = search(fields, stretch.offset, (from, until), at, way);
    match way {
        Way::Forward => left_out.into_iter().chain(usual).min(),
        Way::Backward => left_out.into_iter().chain(usual).max(),
    }
}

/// Looks on a wall clock at `offset` in a part of time, its end not included.
fn search(
    fields: &Fields,
    offset: Offset,
    part: (Timestamp, Timestamp),
    at: Timestamp,
    way: Way,
) -> Option<Timestamp> {
    let last = part.1.checked_sub(SignedDuration::from_secs(1)).ok()?;
    let (first, last) = match way {
        Way::Forward => (at.max(part.0), last),
        Way::Backward => (part.0, at.min(last)),
    };
    if first > last {
        return None;
    }
    let (first, last) = (offset.to_datetime(first), offset.to_datetime(last));
    let found = match way {
        Way::Forward => search_forward(fields, first, last),
        Way::Backward => search_backward(fields, first, last),
    }?;
    offset.to_timestamp(found).ok()
}

fn search_forward(fields: &Fields, first: DateTime, last: DateTime) -> Option<DateTime> {
    let (mut date, mut not_before) = (first.date(), seconds_of(first));
    for _ in 0..=HORIZON {
        if date > last.date() {
            return None;
        }
        if !has(fields.months, date.month()) {
            date = date.last_of_month().tomorrow().ok()?;
        } else if let Some(time) = happens_on(fields, date)
            .then(|| time_from(fields, not_before))
            .flatten()
        {
            return at_time(date, time).filter(|found| *found <= last);
        } else {
            date = date.tomorrow().ok()?;
        }
        not_before = (0, 0, 0);
    }
    None
}

fn search_backward(fields: &Fields, first: DateTime, last: DateTime) -> Option<DateTime> {
    let (mut date, mut not_after) = (last.date(), seconds_of(last));
    for _ in 0..=HORIZON {
        if date < first.date() {
            return None;
        }
        if !has(fields.months, date.month()) {
            date = date.first_of_month().yesterday().ok()?;
        } else if let Some(time) = happens_on(fields, date)
            .then(|| time_until(fields, not_after))
            .flatten()
        {
            return at_time(date, time).filter(|found| *found >= first);
        } else {
            date = date.yesterday().ok()?;
        }
        not_after = (23, 59, 59);
    }
    None
}

/// Hour, minute and second.
type Time = (u32, u32, u32);

fn seconds_of(time: DateTime) -> Time {
    let part = |value: i8| u32::try_from(value).unwrap_or_default();
    (part(time.hour()), part(time.minute()), part(time.second()))
}

fn at_time(date: Date, (hour, minute, second): Time) -> Option<DateTime> {
    let span = i64::from(hour).hours().minutes(minute).seconds(second);
    date.at(0, 0, 0, 0).checked_add(span).ok()
}

/// Whether the schedule has a time on this day. Where both the day of the month and the weekday are
/// given, either will do.
fn happens_on(fields: &Fields, date: Date) -> bool {
    match (fields.any_day, fields.any_weekday) {
        (true, true) => true,
        (false, true) => is_day(fields, date),
        (true, false) => is_weekday(fields, date),
        (false, false) => is_day(fields, date) || is_weekday(fields, date),
    }
}

fn is_day(fields: &Fields, date: Date) -> bool {
    let from_end = date.days_in_month() - date.day() + 1;
    has(fields.days, date.day()) || has(fields.days_from_end, from_end)
}

fn is_weekday(fields: &Fields, date: Date) -> bool {
    let weekday = date.weekday().to_sunday_zero_offset();
    let nth = usize::try_from((date.day() - 1) / 7).unwrap_or_default();
    let to_come = date.days_in_month() - date.day();
    let nth_last = usize::try_from(to_come / 7).unwrap_or_default();
    has(fields.weekdays, weekday)
        || has(fields.nth[nth], weekday)
        || has(fields.nth_last[nth_last], weekday)
}

fn has(set: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| set >> value & 1 == 1)
}

/// The first time of the day that is not before this one.
fn time_from(fields: &Fields, (hour, minute, second): Time) -> Option<Time> {
    let first = |set: u64| set.trailing_zeros();
    if fields.hours >> hour & 1 == 1 {
        if fields.minutes >> minute & 1 == 1
            && let Some(second) = from(fields.seconds, second)
        {
            return Some((hour, minute, second));
        }
        if let Some(minute) = from(fields.minutes, minute + 1) {
            return Some((hour, minute, first(fields.seconds)));
        }
    }
    let hour = from(fields.hours, hour + 1)?;
    Some((hour, first(fields.minutes), first(fields.seconds)))
}

/// The last time of the day that is not after this one.
fn time_until(fields: &Fields, (hour, minute, second): Time) -> Option<Time> {
    let last = |set: u64| set.ilog2();
    if fields.hours >> hour & 1 == 1 {
        if fields.minutes >> minute & 1 == 1
            && let Some(second) = below(fields.seconds, second + 1)
        {
            return Some((hour, minute, second));
        }
        if let Some(minute) = below(fields.minutes, minute) {
            return Some((hour, minute, last(fields.seconds)));
        }
    }
    let hour = below(fields.hours, hour)?;
    Some((hour, last(fields.minutes), last(fields.seconds)))
}

/// The first value of a set that is not below `value`.
fn from(set: u64, value: u32) -> Option<u32> {
    let rest = set >> value << value;
    (rest != 0).then(|| rest.trailing_zeros())
}

/// The last value of a set that is below `value`.
fn below(set: u64, value: u32) -> Option<u32> {
    let rest = set & ((1 << value) - 1);
    (rest != 0).then(|| rest.ilog2())
}
