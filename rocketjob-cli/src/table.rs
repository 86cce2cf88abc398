//! Tables for people: a line for each row, no wider than the terminal.

use comfy_table::{ColumnConstraint, ContentArrangement, Row, Table, Width, presets};
use console::measure_text_width;

/// The gap between two columns.
const GAP: usize = 2;
/// A column that takes the rest of a line is no narrower than this.
const LEAST: usize = 10;

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    title: &'static str,
    fit: Fit,
}

/// What becomes of a column where a terminal is narrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// It is shown as it is.
    Whole,
    /// It is left out.
    Spare,
    /// It has what the others leave, and is cut.
    Rest,
}

impl Column {
    /// One that is shown whole at any width.
    pub(crate) const fn whole(title: &'static str) -> Self {
        let fit = Fit::Whole;
        Self { title, fit }
    }

    /// One that is left out where there is no room.
    pub(crate) const fn spare(title: &'static str) -> Self {
        let fit = Fit::Spare;
        Self { title, fit }
    }

    /// One of free text, which is cut where there is no room.
    pub(crate) const fn rest(title: &'static str) -> Self {
        let fit = Fit::Rest;
        Self { title, fit }
    }
}

/// The table as text; `room` is the width of the terminal, if there is one.
pub(crate) fn table(columns: &[Column], rows: &[Vec<String>], room: Option<u16>) -> String {
    let widths: Vec<_> = (0..columns.len())
        .map(|index| width(columns, rows, index))
        .collect();
    let shown = match room {
        Some(room) => fitting(columns, &widths, usize::from(room)),
        None => (0..columns.len()).collect(),
    };
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_truncation_indicator("…")
        .set_header(shown.iter().map(|index| columns[*index].title));
    for row in rows {
        let mut line = Row::from(shown.iter().map(|index| row[*index].as_str()));
        line.max_height(1);
        table.add_row(line);
    }
    if let Some(room) = room {
        // The outer margins of the first and of the last cell are cut off below.
        table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(room.saturating_add(2));
        for (place, index) in shown.iter().enumerate() {
            let constraint = match columns[*index].fit {
                Fit::Rest => ColumnConstraint::LowerBoundary(Width::Fixed(least(widths[*index]))),
                Fit::Whole | Fit::Spare => ColumnConstraint::ContentWidth,
            };
            if let Some(column) = table.column_mut(place) {
                column.set_constraint(constraint);
            }
        }
    }
    let lines = table.lines();
    let lines = lines.map(|line| {
        let line = line.trim_end();
        line.strip_prefix(' ').unwrap_or(line).to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn width(columns: &[Column], rows: &[Vec<String>], index: usize) -> usize {
    let cells = rows.iter().map(|row| row[index].as_str());
    let cells = cells.chain([columns[index].title]);
    cells.map(measure_text_width).max().unwrap_or(0)
}

/// The places of the columns for which there is room: the last spare ones go first.
fn fitting(columns: &[Column], widths: &[usize], room: usize) -> Vec<usize> {
    let mut shown: Vec<_> = (0..columns.len()).collect();
    let needed = |shown: &[usize]| -> usize {
        let each = shown.iter().map(|index| match columns[*index].fit {
            Fit::Rest => usize::from(least(widths[*index])),
            Fit::Whole | Fit::Spare => widths[*index],
        });
        each.sum::<usize>() + GAP * shown.len().saturating_sub(1)
    };
    while needed(&shown) > room {
        let spare = shown
            .iter()
            .rposition(|index| columns[*index].fit == Fit::Spare);
        let Some(spare) = spare else { break };
        shown.remove(spare);
    }
    shown
}

fn least(width: usize) -> u16 {
    u16::try_from(width.min(LEAST)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::whole("ID"),
        Column::spare("AGE"),
        Column::spare("SIZE"),
        Column::rest("TEXT"),
    ];

    #[test]
    fn a_table_is_as_wide_as_there_is_room() {
        let rows = [[
            "0123456789",
            "3 days",
            "12",
            "a text of many words that is long",
        ]];
        let rows: Vec<Vec<String>> = rows.map(|row| row.map(ToOwned::to_owned).into()).into();
        for (room, expected) in [
            (
                None,
                "ID          AGE     SIZE  TEXT\n0123456789  3 days  12    a text of many words that is long",
            ),
            (
                Some(50),
                "ID          AGE     SIZE  TEXT\n0123456789  3 days  12    a text of many word…",
            ),
            (
                Some(32),
                "ID          AGE     TEXT\n0123456789  3 days  a text of…",
            ),
            (Some(25), "ID          TEXT\n0123456789  a text of…"),
            (Some(5), "ID          TEXT\n0123456789  a text…"),
        ] {
            assert_eq!(table(&COLUMNS, &rows, room), expected, "{room:?}");
        }
    }
}
