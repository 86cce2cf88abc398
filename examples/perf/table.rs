//! A section for people: tables that can stand in a Markdown document as they are.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

use crate::report::{Column, Finding, Section, Unit};

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### {}\n\n{}\n", self.name, self.about)?;
        let titles = self.columns.iter().map(|column| column.title.to_owned());
        let mut figures = table([String::new()].into_iter().chain(titles));
        for way in &self.ways {
            let cells = self.columns.iter().map(|column| {
                let value = self.figure(way, column.figure);
                value.map_or_else(String::new, |value| decimal(value, column.decimals))
            });
            figures.add_row([way.clone()].into_iter().chain(cells));
        }
        for column in figures.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        writeln!(f, "{figures}")?;
        if self.findings.is_empty() {
            return Ok(());
        }
        let mut findings = table(["", "", "wanted", ""].map(ToOwned::to_owned));
        for finding in &self.findings {
            let wanted = finding.bound.map(|bound| {
                let (sign, bound) = bound.parts();
                format!("{sign} {}", self.written(bound, finding))
            });
            let met = finding.met.map(|met| if met { "met" } else { "NOT MET" });
            findings.add_row([
                finding.way.clone(),
                self.said(finding),
                wanted.unwrap_or_default(),
                met.unwrap_or_default().to_owned(),
            ]);
        }
        writeln!(f, "\n{findings}")
    }
}

impl Section {
    fn said(&self, finding: &Finding) -> String {
        let value = self.written(finding.value, finding);
        match (&finding.base, self.column(finding)) {
            (Some(base), _) => format!("{value} of {base}"),
            (None, Some(column)) => format!("{}: {value}", column.title),
            (None, None) => value,
        }
    }

    fn written(&self, value: f64, finding: &Finding) -> String {
        match finding.unit {
            Unit::Percent => format!("{} %", short(value * 100.0, 1)),
            Unit::Times => format!("{} ×", short(value, 2)),
            Unit::Plain => {
                // One more than in the table, so that it shows on which side of a bound it is.
                let column = self.column(finding);
                short(value, column.map_or(2, |column| column.decimals) + 1)
            }
        }
    }

    fn column(&self, finding: &Finding) -> Option<&Column> {
        let mut columns = self.columns.iter();
        columns.find(|column| column.figure == finding.figure)
    }
}

/// Without a fraction where there is none.
fn short(value: f64, decimals: usize) -> String {
    let text = decimal(value, decimals);
    let whole = format!(".{}", "0".repeat(decimals));
    text.strip_suffix(&whole).unwrap_or(&text).to_owned()
}

fn table(header: impl IntoIterator<Item = String>) -> Table {
    let mut table = Table::new();
    table
        .load_style(ASCII_MARKDOWN)
        .set_header(header.into_iter().collect::<Vec<_>>());
    table
}

/// With a comma between the thousands.
fn decimal(value: f64, decimals: usize) -> String {
    let plain = format!("{value:.decimals$}");
    let (whole, fraction) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let (sign, digits) = whole.split_at(usize::from(whole.starts_with('-')));
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{fraction}")
}
