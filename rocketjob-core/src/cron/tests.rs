//! Schedules against a second implementation, which walks through the minutes of a year and knows
//! nothing of the first one.

use std::collections::BTreeSet;

use jiff::{
    Timestamp, ToSpan,
    civil::{Date, DateTime, date},
    tz::TimeZone,
};

use super::Schedule;

/// Clocks that are moved: by an hour in the night, by half an hour, and at midnight.
const ZONES: [&str; 4] = [
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "America/Santiago",
];

/// All that the format has, alone and together.
const ROWS: [&str; 40] = [
    "* * * * *",
    "*/5 * * * *",
    "0,15,30,45 * * * *",
    "7-50/10 * * * *",
    "30/10 * * * *",
    "30 * * * *",
    "0 0 * * *",
    "0 2 * * *",
    "30 2 * * *",
    "15 0 * * *",
    "*/15 1-3 * * *",
    "0 */2 * * *",
    "0 */5 * * *",
    "0 22-2 * * *",
    "0 8-18/3 * * *",
    "0 6,18 * * *",
    "0 12 1 * *",
    "0 12 1,15 * *",
    "0 12 */7 * *",
    "0 12 L * *",
    "0 12 -1 * *",
    "0 12 -2 * *",
    "0 12 -3--1 * *",
    "0 12 -7-L * *",
    "0 12 -9--1/4 * *",
    "0 12 1,L * *",
    "0 12 31 * *",
    "0 12 * Jan *",
    "0 12 1 jan,APR,Jul,oct *",
    "0 12 1 6-8 *",
    "0 12 * */4 *",
    "0 12 29 2 *",
    "0 12 * * Mon",
    "0 12 * * mon-FRI",
    "0 12 * * 0,6",
    "0 12 * * 7",
    "0 12 * * Mon#1",
    "0 12 * * Sun#-1",
    "0 12 * * Tue#2,Fri#-2,Wed",
    "0 12 13 * Fri",
];

/// A field as a test reads it: the items of a list, each as a range with a step.
fn values(field: &str, min: i64, max: i64, names: &[&str]) -> BTreeSet<i64> {
    let value = |text: &str| -> i64 {
        let named = names
            .iter()
            .position(|name| name.eq_ignore_ascii_case(text));
        match named {
            Some(index) => i64::try_from(index).unwrap() + min,
            None => text.parse().unwrap(),
        }
    };
    let mut all = BTreeSet::new();
    for item in field.split(',') {
        let (range, step) = item.split_once('/').unwrap_or((item, "1"));
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (min, max),
            Some((first, last)) => (value(first), value(last)),
            None if item.contains('/') => (value(range), max),
            None => (value(range), value(range)),
        };
        let last = if last < first {
            last + max - min + 1
        } else {
            last
        };
        let step = step.parse().unwrap();
        all.extend(
            (first..=last)
                .step_by(step)
                .map(|value| (value - min) % (max - min + 1) + min),
        );
    }
    all
}

fn is_day(field: &str, day: Date) -> bool {
    let of_month = i64::from(day.day());
    let from_end = of_month - i64::from(day.days_in_month()) - 1;
    field.split(',').any(|item| match item {
        "L" | "-1" => from_end == -1,
        "-2" => from_end == -2,
        "-3--1" => (-3..=-1).contains(&from_end),
        "-7-L" => (-7..=-1).contains(&from_end),
        "-9--1/4" => [-9, -5, -1].contains(&from_end),
        other => values(other, 1, 31, &[]).contains(&of_month),
    })
}

fn is_weekday(field: &str, day: Date) -> bool {
    const NAMES: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
    let weekday = i64::from(day.weekday().to_sunday_zero_offset());
    let earlier =
        (1..6).filter(|weeks| day.checked_sub(weeks.weeks()).unwrap().month() == day.month());
    let later =
        (1..6).filter(|weeks| day.checked_add(weeks.weeks()).unwrap().month() == day.month());
    let (nth, nth_last) = (earlier.count() + 1, later.count() + 1);
    field.split(',').any(|item| match item.split_once('#') {
        Some((name, count)) => {
            let is_named = values(name, 0, 6, &NAMES).contains(&weekday);
            let counted = match count.strip_prefix('-') {
                Some(count) => count.parse::<usize>().unwrap() == nth_last,
                None => count.parse::<usize>().unwrap() == nth,
            };
            is_named && counted
        }
        None if item == "7" => weekday == 0,
        None => values(item, 0, 6, &NAMES).contains(&weekday),
    })
}

/// The days of 2024 that a row names, and the hours and minutes.
struct Row {
    days: BTreeSet<Date>,
    hours: BTreeSet<i64>,
    minutes: BTreeSet<i64>,
}

impl Row {
    fn read(text: &str) -> Self {
        const MONTHS: [&str; 12] = [
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ];
        let fields: Vec<_> = text.split(' ').collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            panic!("{text}")
        };
        let months = values(month, 1, 12, &MONTHS);
        let days = date(2024, 1, 1)
            .series(1.day())
            .take_while(|day| day.year() == 2024);
        let days = days.filter(|date| months.contains(&i64::from(date.month())));
        let days = days.filter(|date| match (day, weekday) {
            ("*", "*") => true,
            (_, "*") => is_day(day, *date),
            ("*", _) => is_weekday(weekday, *date),
            _ => is_day(day, *date) || is_weekday(weekday, *date),
        });
        Self {
            days: days.collect(),
            hours: values(hour, 0, 23, &[]),
            minutes: values(minute, 0, 59, &[]),
        }
    }

    fn names(&self, time: DateTime) -> bool {
        self.minutes.contains(&i64::from(time.minute()))
            && self.hours.contains(&i64::from(time.hour()))
            && self.days.contains(&time.date())
    }

    /// By the definition: what happens in every hour goes by the time that passes, and what names its
    /// hours by what the wall clock should show.
    fn times(&self, minutes: &[(Timestamp, DateTime)], zone: &TimeZone) -> BTreeSet<Timestamp> {
        if self.hours.len() == 24 {
            let passing = minutes.iter().filter(|(_, clock)| self.names(*clock));
            return passing.map(|(time, _)| *time).collect();
        }
        let mut times = BTreeSet::new();
        for day in &self.days {
            for hour in &self.hours {
                for minute in &self.minutes {
                    let part = |value: &i64| i8::try_from(*value).unwrap();
                    let clock = day.at(part(hour), part(minute), 0, 0);
                    let time = zone.to_ambiguous_timestamp(clock).compatible().unwrap();
                    times.insert(time);
                }
            }
        }
        times
    }
}

#[test]
fn every_row_agrees_with_a_walk_through_the_minutes_of_a_year() {
    for name in ZONES {
        let zone = TimeZone::get(name).unwrap();
        let first = zone.to_timestamp(date(2024, 1, 1).at(0, 0, 0, 0)).unwrap();
        let end = zone.to_timestamp(date(2025, 1, 1).at(0, 0, 0, 0)).unwrap();
        let minutes = std::iter::successors(Some(first), |time| time.checked_add(1.minute()).ok());
        let minutes = minutes.take_while(|time| *time < end);
        let minutes: Vec<_> = minutes.map(|time| (time, zone.to_datetime(time))).collect();
        for row in ROWS {
            let expected = Row::read(row).times(&minutes, &zone);
            let schedule = Schedule::parse(&format!("{row} {name}")).unwrap();
            // Every minute of a year is many; some weeks have all that is special.
            let is_dense = expected.len() > 20_000;
            let until = if is_dense {
                first + (24 * 120).hours()
            } else {
                end
            };
            let expected: Vec<_> = expected.into_iter().filter(|time| *time < until).collect();
            let before = first - 1.second();
            let found = std::iter::successors(schedule.next_after(before), |time| {
                schedule.next_after(*time)
            });
            let found: Vec<_> = found.take_while(|time| *time < until).collect();
            assert_eq!(found, expected, "{row} {name}");
            let back = std::iter::successors(schedule.previous(until - 1.second()), |time| {
                schedule.previous(*time - 1.second())
            });
            let mut back: Vec<_> = back.take_while(|time| *time >= first).collect();
            back.reverse();
            assert_eq!(back, expected, "{row} {name}, backwards");
        }
    }
}

fn next(schedule: &str, after: &str) -> String {
    let schedule = Schedule::parse(schedule).unwrap();
    schedule
        .next_after(after.parse().unwrap())
        .unwrap()
        .to_string()
}

#[test]
fn a_time_that_the_clock_leaves_out_comes_as_much_later() {
    // At two the clock goes to three.
    assert_eq!(
        next("30 2 * * * Europe/Berlin", "2026-03-29T00:00:00Z"),
        "2026-03-29T01:30:00Z"
    );
    assert_eq!(
        next("30 2 * * * Europe/Berlin", "2026-03-29T01:30:00Z"),
        "2026-03-30T00:30:00Z"
    );
    assert_eq!(
        next("30 * * * * Europe/Berlin", "2026-03-29T00:30:00Z"),
        "2026-03-29T01:30:00Z"
    );
}

#[test]
fn a_time_that_comes_twice_counts_once_unless_every_hour_does() {
    // At three the clock goes back to two.
    assert_eq!(
        next("30 2 * * * Europe/Berlin", "2026-10-25T00:00:00Z"),
        "2026-10-25T00:30:00Z"
    );
    assert_eq!(
        next("30 2 * * * Europe/Berlin", "2026-10-25T00:30:00Z"),
        "2026-10-26T01:30:00Z"
    );
    assert_eq!(
        next("30 * * * * Europe/Berlin", "2026-10-25T00:30:00Z"),
        "2026-10-25T01:30:00Z"
    );
}

#[test]
fn seconds_may_be_given() {
    assert_eq!(
        next("*/20 * * * * * UTC", "2026-01-01T00:00:20Z"),
        "2026-01-01T00:00:40Z"
    );
    assert_eq!(
        next("5 0 0 1 1 * UTC", "2026-01-01T00:00:05Z"),
        "2027-01-01T00:00:05Z"
    );
    assert_eq!(
        next("* * * * * UTC", "2026-01-01T00:00:00.5Z"),
        "2026-01-01T00:01:00Z"
    );
    let schedule = Schedule::parse("*/20 * * * * *").unwrap();
    let time: Timestamp = "2026-01-01T00:00:40.999Z".parse().unwrap();
    assert_eq!(
        schedule.previous(time).unwrap().to_string(),
        "2026-01-01T00:00:40Z"
    );
}

#[test]
fn what_is_rare_is_found_over_centuries() {
    assert_eq!(
        next("0 0 29 2 * UTC", "2096-03-01T00:00:00Z"),
        "2104-02-29T00:00:00Z"
    );
    assert_eq!(
        next("0 0 * 2 Mon#5 UTC", "2072-03-01T00:00:00Z"),
        "2112-02-29T00:00:00Z"
    );
}

#[test]
fn without_a_zone_it_is_that_of_the_machine() {
    let schedule = Schedule::parse(" 0  2 * * * ").unwrap();
    assert_eq!(schedule.time_zone(), &TimeZone::system());
    assert_eq!(schedule.to_string(), "0 2 * * *");
}

#[test]
fn what_is_wrong_is_named() {
    let flaw = |text: &str| Schedule::parse(text).unwrap_err().to_string();
    for (text, start) in [
        ("60 * * * *", "`60` is no minute"),
        ("* 24 * * *", "`24` is no hour"),
        ("* * 0 * *", "`0` is no day of the month"),
        ("* * 32 * *", "`32` is no day of the month"),
        ("* * -1-3 * *", "`-1-3` is no day of the month"),
        ("* * -1--3 * *", "`-1--3` is no day of the month"),
        ("* * * 13 *", "`13` is no month"),
        ("* * * Foo *", "`Foo` is no month"),
        ("* * * * 8 UTC", "`8` is no weekday"),
        ("* * * * Mon#6 UTC", "`Mon#6` is no weekday"),
        ("* * * * Mon#0 UTC", "`Mon#0` is no weekday"),
        ("* * * * Mon-Fri#1 UTC", "`Mon-Fri#1` is no weekday"),
        ("*/0 * * * *", "`*/0` is no minute"),
        ("*/ * * * *", "`*/` is no minute"),
        (", * * * *", "`,` is no minute"),
        ("1, * * * *", "`1,` is no minute"),
        ("5-1000000000 * * * *", "`5-1000000000` is no minute"),
        ("0 60 * * * *", "`60` is no minute"),
        ("0 0 * * * Mars/Olympus", "`Mars/Olympus` is no time zone"),
        (
            "0 0 * * * ../etc",
            "`../etc` is neither a weekday nor a time zone",
        ),
        ("0 0 30 2 *", "`0 0 30 2 *` never happens"),
        ("0 0 -30 2 *", "`0 0 -30 2 *` never happens"),
        ("* * * *", "`* * * *` has too few fields"),
        ("", "`` has too few fields"),
        (
            "* * * * * * UTC *",
            "`* * * * * * UTC *` has too many fields",
        ),
    ] {
        assert!(flaw(text).starts_with(start), "{text}: {}", flaw(text));
    }
    assert!(flaw(&"*,".repeat(300)).contains("too long"));
}

#[test]
fn attributes_are_checked_when_the_program_is_compiled() {
    const { assert!(Schedule::flaw("0 2 * * Mon#1 America/New_York").is_none()) };
    const { assert!(Schedule::flaw("0 25 * * *").is_some()) };
}

proptest::proptest! {
    #[test]
    fn no_text_is_too_much(text in "\\PC{0,40}|[0-9*/,#L -]{0,30}|([-0-9*,/]{1,4} ){5}UTC") {
        if let Ok(schedule) = Schedule::parse(&text) {
            let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
            if let Some(next) = schedule.next_after(start) {
                assert!(next > start);
                assert_eq!(schedule.previous(next), Some(next));
            }
        }
    }
}
