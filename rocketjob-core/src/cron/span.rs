//! One item of a field: a value, a range, with a step where wanted; and what the fields take.

/// One of the fields, with what is said when something is wrong in it.
#[derive(Clone, Copy)]
pub(super) struct Unit {
    min: i32,
    max: i32,
    names: &'static [&'static [u8; 3]],
    pub(super) why: &'static str,
}

pub(super) const SECOND: Unit = Unit {
    min: 0,
    max: 59,
    names: &[],
    why: "is no second: write 0 to 59, `*`, a range, a list or a step such as `*/15`",
};
pub(super) const MINUTE: Unit = Unit {
    min: 0,
    max: 59,
    names: &[],
    why: "is no minute: write 0 to 59, `*`, a range, a list or a step such as `*/15`",
};
pub(super) const HOUR: Unit = Unit {
    min: 0,
    max: 23,
    names: &[],
    why: "is no hour: write 0 to 23, `*`, a range, a list or a step such as `*/2`",
};
pub(super) const DAY: Unit = Unit {
    min: 1,
    max: 31,
    names: &[],
    why: "is no day of the month: write 1 to 31, `L` for the last one, -1 to -31 from the end, `*`, a range, a list or a step",
};
pub(super) const MONTH: Unit = Unit {
    min: 1,
    max: 12,
    names: &[
        b"JAN", b"FEB", b"MAR", b"APR", b"MAY", b"JUN", b"JUL", b"AUG", b"SEP", b"OCT", b"NOV",
        b"DEC",
    ],
    why: "is no month: write 1 to 12, `Jan` to `Dec`, `*`, a range, a list or a step",
};
pub(super) const WEEKDAY: Unit = Unit {
    min: 0,
    max: 7,
    names: &[b"SUN", b"MON", b"TUE", b"WED", b"THU", b"FRI", b"SAT"],
    why: "is no weekday: write 0 to 7, `Sun` to `Sat`, `Mon#1` for the first one of a month, `Sun#-1` for the last, `*`, a range, a list or a step",
};

/// A range with a step.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) first: i32,
    pub(super) last: i32,
    step: i32,
}

impl Span {
    /// The values, from the first to the last; a range that goes back goes over the end of the unit.
    pub(super) const fn bits(self, unit: Unit) -> u64 {
        // A week has seven days, although Sunday has two numbers.
        let size = if unit.max == 7 {
            7
        } else {
            unit.max - unit.min + 1
        };
        let mut last = self.last;
        if last < self.first {
            last += size;
        }
        let (mut set, mut value) = (0, self.first);
        while value <= last {
            let within = if value > unit.max {
                value - size
            } else {
                value
            };
            set |= 1 << within;
            value += self.step;
        }
        set
    }

    /// The values of a range of negative days.
    pub(super) const fn bits_from_end(self) -> u64 {
        let (mut set, mut value) = (0, self.first);
        while value <= self.last {
            set |= 1 << -value;
            value += self.step;
        }
        set
    }
}

/// Reads an item: `*`, a value, a range, each with a step where wanted.
pub(super) const fn span(
    text: &[u8],
    item: (usize, usize),
    unit: Unit,
    negative: bool,
) -> Option<Span> {
    let (start, end) = item;
    if start >= end {
        return None;
    }
    // Sunday is 0 and 7, and comes once.
    let max = if unit.max == 7 { 6 } else { unit.max };
    let (mut first, mut last, mut at) = (unit.min, max, start + 1);
    let mut is_single = false;
    if text[start] != b'*' {
        let Some(read) = value(text, start, end, unit, negative) else {
            return None;
        };
        (first, at) = read;
        last = first;
        is_single = true;
    }
    if is_single && at < end && text[at] == b'-' {
        let Some(read) = value(text, at + 1, end, unit, negative) else {
            return None;
        };
        (last, at) = read;
        is_single = false;
        // A range of negative days neither goes over the end nor mixes both ways to count.
        if (first < 0) != (last < 0) || (first < 0 && last < first) {
            return None;
        }
    }
    let mut step = 1;
    if at < end && text[at] == b'/' {
        let Some(read) = number(text, at + 1, end) else {
            return None;
        };
        (step, at) = read;
        if step < 1 || step > unit.max {
            return None;
        }
        if is_single {
            last = if first < 0 { -1 } else { max };
        }
    }
    if at == end {
        Some(Span { first, last, step })
    } else {
        None
    }
}

/// A value, and where it ends.
const fn value(
    text: &[u8],
    start: usize,
    end: usize,
    unit: Unit,
    negative: bool,
) -> Option<(i32, usize)> {
    if start >= end {
        return None;
    }
    if negative && text[start].eq_ignore_ascii_case(&b'L') {
        return Some((-1, start + 1));
    }
    if negative && text[start] == b'-' {
        return match number(text, start + 1, end) {
            Some((value, at)) if value >= unit.min && value <= unit.max => Some((-value, at)),
            _ => None,
        };
    }
    match number(text, start, end) {
        Some((value, at)) if value >= unit.min && value <= unit.max => Some((value, at)),
        Some(_) => None,
        None => name(text, start, end, unit),
    }
}

const fn name(text: &[u8], start: usize, end: usize, unit: Unit) -> Option<(i32, usize)> {
    let (mut index, mut value) = (0, unit.min);
    while index < unit.names.len() && start + 3 <= end {
        let name = unit.names[index];
        if text[start].eq_ignore_ascii_case(&name[0])
            && text[start + 1].eq_ignore_ascii_case(&name[1])
            && text[start + 2].eq_ignore_ascii_case(&name[2])
        {
            return Some((value, start + 3));
        }
        index += 1;
        value += 1;
    }
    None
}

/// A number of up to two digits, and where it ends.
const fn number(text: &[u8], start: usize, end: usize) -> Option<(i32, usize)> {
    let (mut value, mut at) = (0, start);
    while at < end && at < start + 2 && text[at].is_ascii_digit() {
        value = value * 10 + (text[at] - b'0') as i32;
        at += 1;
    }
    if at == start { None } else { Some((value, at)) }
}
