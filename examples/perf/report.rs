//! What a section found: every measurement, what they come to, and how that stands to the bounds.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::statistics::median;

/// One measurement of one way.
#[derive(Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) way: String,
    pub(crate) round: usize,
    #[serde(flatten)]
    pub(crate) figures: Map<String, Value>,
}

/// A figure that the table shows for each way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// Its name in samples.
    pub(crate) figure: &'static str,
    pub(crate) title: &'static str,
    pub(crate) decimals: usize,
}

/// How a value must stand to another.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtLeast(f64),
    Above(f64),
    AtMost(f64),
    Below(f64),
}

impl Bound {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::Above(bound) => value > bound,
            Self::AtMost(bound) => value <= bound,
            Self::Below(bound) => value < bound,
        }
    }

    /// How it is written, and the value.
    pub(crate) const fn parts(self) -> (&'static str, f64) {
        match self {
            Self::AtLeast(bound) => ("≥", bound),
            Self::Above(bound) => (">", bound),
            Self::AtMost(bound) => ("≤", bound),
            Self::Below(bound) => ("<", bound),
        }
    }
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A share, as so many percent.
    Percent,
    /// So many times the other.
    Times,
    /// As it is.
    Plain,
}

/// A value that something is concluded from.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) way: String,
    pub(crate) figure: &'static str,
    /// The way whose figure it was divided by.
    pub(crate) base: Option<String>,
    pub(crate) value: f64,
    pub(crate) bound: Option<Bound>,
    pub(crate) met: Option<bool>,
    #[serde(skip)]
    pub(crate) unit: Unit,
}

/// One section of the report.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) name: &'static str,
    /// What was measured, in a sentence or two.
    pub(crate) about: String,
    pub(crate) columns: &'static [Column],
    pub(crate) ways: Vec<String>,
    pub(crate) rounds: Vec<Sample>,
    /// What was put in place of a median.
    told: BTreeMap<(String, &'static str), f64>,
    pub(crate) findings: Vec<Finding>,
}

impl Section {
    pub(crate) fn new(name: &'static str, about: String, columns: &'static [Column]) -> Self {
        Self {
            name,
            about,
            columns,
            ways: Vec::new(),
            rounds: Vec::new(),
            told: BTreeMap::new(),
            findings: Vec::new(),
        }
    }

    /// Adds a measurement: an object of figures.
    pub(crate) fn add(&mut self, way: &str, round: usize, figures: Value) {
        let Value::Object(figures) = figures else {
            return;
        };
        if !self.ways.iter().any(|known| known == way) {
            self.ways.push(way.to_owned());
        }
        let told = figures.iter().filter_map(|(name, value)| {
            let value = value.as_f64()?;
            Some(format!("{name} {value:.3}"))
        });
        let told: Vec<_> = told.collect();
        crate::progress(&format!(
            "{} round {round}, {way}: {}",
            self.name,
            told.join(", ")
        ));
        self.rounds.push(Sample {
            way: way.to_owned(),
            round,
            figures,
        });
    }

    /// Says what a figure of a way comes to, where that is not the median of its rounds.
    pub(crate) fn tell(&mut self, way: &str, figure: &'static str, value: f64) {
        self.told.insert((way.to_owned(), figure), value);
    }

    /// All values of a list of a way, from all rounds.
    pub(crate) fn pooled(&self, way: &str, list: &str) -> Vec<f64> {
        let samples = self.rounds.iter().filter(|sample| sample.way == way);
        let lists = samples.filter_map(|sample| sample.figures.get(list)?.as_array());
        lists.flatten().filter_map(Value::as_f64).collect()
    }

    /// What a figure of a way comes to.
    pub(crate) fn figure(&self, way: &str, figure: &str) -> Option<f64> {
        let told = self
            .told
            .iter()
            .find(|((told, name), _)| told == way && *name == figure);
        if let Some((_, told)) = told {
            return Some(*told);
        }
        let samples = self.rounds.iter().filter(|sample| sample.way == way);
        let values: Vec<_> = samples
            .filter_map(|sample| sample.figures.get(figure)?.as_f64())
            .collect();
        (!values.is_empty()).then(|| median(&values))
    }

    /// Concludes something from a figure.
    pub(crate) fn find(
        &mut self,
        way: &str,
        figure: &'static str,
        unit: Unit,
        bound: Option<Bound>,
    ) {
        if let Some(value) = self.figure(way, figure) {
            self.conclude(way, figure, None, value, unit, bound);
        }
    }

    /// Compares a figure of two ways.
    pub(crate) fn compare(
        &mut self,
        way: &str,
        base: &str,
        figure: &'static str,
        unit: Unit,
        bound: Option<Bound>,
    ) {
        if let (Some(value), Some(other)) = (self.figure(way, figure), self.figure(base, figure)) {
            self.conclude(way, figure, Some(base), value / other, unit, bound);
        }
    }

    fn conclude(
        &mut self,
        way: &str,
        figure: &'static str,
        base: Option<&str>,
        value: f64,
        unit: Unit,
        bound: Option<Bound>,
    ) {
        self.findings.push(Finding {
            way: way.to_owned(),
            figure,
            base: base.map(ToOwned::to_owned),
            value,
            bound,
            met: bound.map(|bound| bound.is_met(value)),
            unit,
        });
    }

    pub(crate) fn to_json(&self) -> Value {
        let results: Map<_, _> = self
            .ways
            .iter()
            .map(|way| {
                let figures: Map<_, _> = self
                    .columns
                    .iter()
                    .filter_map(|column| {
                        let value = self.figure(way, column.figure)?;
                        Some((column.figure.to_owned(), json!(value)))
                    })
                    .collect();
                (way.clone(), Value::Object(figures))
            })
            .collect();
        json!({
            "about": self.about,
            "results": results,
            "findings": self.findings,
            "rounds": self.rounds,
        })
    }
}
