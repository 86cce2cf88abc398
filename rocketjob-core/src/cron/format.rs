//! The text of a schedule, read field by field.
//!
//! Our own reader, since no crate knows the whole format (days counted from the end of the month and
//! their ranges, `Sun#-1`, seconds that may be left out), and since it is `const`: a schedule in an
//! attribute is checked when the program is compiled.

use super::span::{DAY, HOUR, MINUTE, MONTH, SECOND, Unit, WEEKDAY, span};

/// Which moments of the wall clock a schedule names; each field is a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fields {
    pub(crate) seconds: u64,
    pub(crate) minutes: u64,
    pub(crate) hours: u64,
    /// Bit 1 is the first day of the month.
    pub(crate) days: u64,
    /// Bit 1 is the last day of the month, bit 2 the one before it.
    pub(crate) days_from_end: u64,
    pub(crate) months: u64,
    /// Bit 0 is Sunday.
    pub(crate) weekdays: u64,
    /// By how many of its weekday have come in the month, from the first (`Mon#1`) on.
    pub(crate) nth: [u64; 5],
    /// By how many of its weekday are to come, from the last (`Mon#-1`) on.
    pub(crate) nth_last: [u64; 5],
    /// The day of the month is `*`.
    pub(crate) any_day: bool,
    /// The weekday is `*`.
    pub(crate) any_weekday: bool,
}

/// Where the parts of a text are, as ranges of bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) fields: Fields,
    /// The name of the time zone, where one is given.
    pub(crate) zone: Option<(usize, usize)>,
}

/// What is wrong with a text: with which word, and why.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flaw {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) why: &'static str,
}

/// The longest text: what comes from people has bounds.
const MAX_LENGTH: usize = 500;
const MAX_WORDS: usize = 7;

/// Reads a text: five fields, six with seconds before them, and a time zone behind them.
pub(crate) const fn read(text: &[u8]) -> Result<Layout, Flaw> {
    let (words, count) = match words(text) {
        Ok(found) => found,
        Err(flaw) => return Err(flaw),
    };
    let last = if count == 0 { (0, 0) } else { words[count - 1] };
    let is_short = "has too few fields: write minute, hour, day of the month, month and weekday, such as `0 2 * * *`, with seconds before them or a time zone behind them where wanted";
    let (has_seconds, has_zone) = match count {
        5 => (false, false),
        // No time zone has the name of a weekday.
        6 if weekday_field(text, last).is_ok() => (true, false),
        6 => (false, true),
        7 => (true, true),
        _ => {
            return Err(Flaw {
                start: 0,
                end: text.len(),
                why: is_short,
            });
        }
    };
    if has_zone && !is_zone_name(text, last) {
        return Err(flaw(
            last,
            "is neither a weekday nor a time zone such as `Europe/Paris` or `UTC`",
        ));
    }
    let at = if has_seconds { 1 } else { 0 };
    let fields = match fields(text, &words, at) {
        Ok(fields) => fields,
        Err(flaw) => return Err(flaw),
    };
    if !fields.may_happen() {
        return Err(Flaw {
            start: 0,
            end: text.len(),
            why: "never happens: none of its months has such a day",
        });
    }
    let zone = if has_zone { Some(last) } else { None };
    Ok(Layout { fields, zone })
}

const fn fields(
    text: &[u8],
    words: &[(usize, usize); MAX_WORDS],
    at: usize,
) -> Result<Fields, Flaw> {
    let seconds = if at == 1 {
        plain_field(text, words[0], SECOND)
    } else {
        Ok(1)
    };
    let minutes = plain_field(text, words[at], MINUTE);
    let hours = plain_field(text, words[at + 1], HOUR);
    let days = day_field(text, words[at + 2]);
    let months = plain_field(text, words[at + 3], MONTH);
    let weekdays = weekday_field(text, words[at + 4]);
    match (seconds, minutes, hours, days, months, weekdays) {
        (Ok(seconds), Ok(minutes), Ok(hours), Ok(days), Ok(months), Ok(weekdays)) => Ok(Fields {
            seconds,
            minutes,
            hours,
            days: days.0,
            days_from_end: days.1,
            months,
            weekdays: weekdays.0,
            nth: weekdays.1,
            nth_last: weekdays.2,
            any_day: is_any(text, words[at + 2]),
            any_weekday: is_any(text, words[at + 4]),
        }),
        (Err(flaw), ..)
        | (_, Err(flaw), ..)
        | (_, _, Err(flaw), ..)
        | (_, _, _, Err(flaw), ..)
        | (_, _, _, _, Err(flaw), _)
        | (_, _, _, _, _, Err(flaw)) => Err(flaw),
    }
}

impl Fields {
    /// Whether every hour is named.
    pub(crate) const fn every_hour(&self) -> bool {
        self.hours == (1 << 24) - 1
    }

    /// Whether any month of these has such a day.
    const fn may_happen(&self) -> bool {
        if self.any_day || !self.any_weekday {
            return true;
        }
        let mut month = 1;
        while month <= 12 {
            let length = match month {
                2 => 29,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            let of_month = (1 << (length + 1)) - 1;
            if self.months >> month & 1 == 1 && (self.days | self.days_from_end) & of_month != 0 {
                return true;
            }
            month += 1;
        }
        false
    }
}

const fn flaw(word: (usize, usize), why: &'static str) -> Flaw {
    Flaw {
        start: word.0,
        end: word.1,
        why,
    }
}

/// The words between white space.
const fn words(text: &[u8]) -> Result<([(usize, usize); MAX_WORDS], usize), Flaw> {
    let whole = (0, text.len());
    if text.len() > MAX_LENGTH {
        return Err(flaw(
            (0, 0),
            "is too long: a schedule has at most 500 bytes",
        ));
    }
    let (mut words, mut count, mut at) = ([(0, 0); MAX_WORDS], 0, 0);
    while at < text.len() {
        if text[at].is_ascii_whitespace() {
            at += 1;
            continue;
        }
        let start = at;
        while at < text.len() && !text[at].is_ascii_whitespace() {
            at += 1;
        }
        if count == MAX_WORDS {
            return Err(flaw(
                whole,
                "has too many fields: second, minute, hour, day of the month, month, weekday and time zone are all",
            ));
        }
        words[count] = (start, at);
        count += 1;
    }
    Ok((words, count))
}

const fn is_any(text: &[u8], word: (usize, usize)) -> bool {
    word.1 == word.0 + 1 && text[word.0] == b'*'
}

const fn is_zone_name(text: &[u8], word: (usize, usize)) -> bool {
    let mut at = word.0;
    while at < word.1 {
        let is_part =
            matches!(text[at], b'_' | b'-' | b'+' | b'/') || text[at].is_ascii_alphanumeric();
        if !is_part {
            return false;
        }
        at += 1;
    }
    text[word.0].is_ascii_alphabetic()
}

/// Goes through the items of a list: the end of the one that begins at `start`.
const fn item_end(text: &[u8], start: usize, end: usize) -> usize {
    let mut at = start;
    while at < end && text[at] != b',' {
        at += 1;
    }
    at
}

const fn plain_field(text: &[u8], word: (usize, usize), unit: Unit) -> Result<u64, Flaw> {
    let (mut set, mut start) = (0, word.0);
    while start <= word.1 {
        let end = item_end(text, start, word.1);
        match span(text, (start, end), unit, false) {
            Some(span) if span.first >= 0 => set |= span.bits(unit),
            _ => return Err(flaw(word, unit.why)),
        }
        start = end + 1;
    }
    Ok(set)
}

/// The days from the first on, and those from the last on.
const fn day_field(text: &[u8], word: (usize, usize)) -> Result<(u64, u64), Flaw> {
    let (mut days, mut from_end, mut start) = (0, 0, word.0);
    while start <= word.1 {
        let end = item_end(text, start, word.1);
        match span(text, (start, end), DAY, true) {
            Some(span) if span.first < 0 => from_end |= span.bits_from_end(),
            Some(span) => days |= span.bits(DAY),
            None => return Err(flaw(word, DAY.why)),
        }
        start = end + 1;
    }
    Ok((days, from_end))
}

type Weekdays = (u64, [u64; 5], [u64; 5]);

const fn weekday_field(text: &[u8], word: (usize, usize)) -> Result<Weekdays, Flaw> {
    let (mut set, mut nth, mut nth_last) = (0_u64, [0_u64; 5], [0_u64; 5]);
    let mut start = word.0;
    while start <= word.1 {
        let end = item_end(text, start, word.1);
        let hash = find(text, b'#', (start, end));
        let day = match span(text, (start, hash), WEEKDAY, false) {
            Some(span) if span.first >= 0 => span,
            _ => return Err(flaw(word, WEEKDAY.why)),
        };
        // Sunday is one day, whichever way it is written.
        let bits = (day.bits(WEEKDAY) | day.bits(WEEKDAY) >> 7) & 0x7f;
        if hash == end {
            set |= bits;
        } else {
            let is_last = hash + 1 < end && text[hash + 1] == b'-';
            let from = if is_last { hash + 2 } else { hash + 1 };
            let is_count = from + 1 == end && matches!(text[from], b'1'..=b'5');
            if !is_count || day.first != day.last {
                return Err(flaw(word, WEEKDAY.why));
            }
            let index = (text[from] - b'1') as usize;
            if is_last {
                nth_last[index] |= bits;
            } else {
                nth[index] |= bits;
            }
        }
        start = end + 1;
    }
    Ok((set, nth, nth_last))
}

/// Where `byte` is in a word, or the end of the word.
const fn find(text: &[u8], byte: u8, word: (usize, usize)) -> usize {
    let mut at = word.0;
    while at < word.1 && text[at] != byte {
        at += 1;
    }
    at
}
