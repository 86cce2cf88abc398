//! The stored form of a job: columns for what is looked up, and the rest of the document as BSON.
//!
//! A row and its document are the same thing. What a column cannot express exactly (a priority
//! that is text, a wide integer) stays in the rest, where it wins over the column; the row is then
//! marked as a misfit. Null in a column means absent.

use bson::{
    Binary, Bson, DateTime, Document, RawDocument, doc, oid::ObjectId, spec::BinarySubtype,
};
use rocketjob_core::{Filter, integer, name, whole_number};
use rusqlite::{Statement, types::Value};

use crate::error::Failure;

/// What values a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Integer,
    Time,
    Boolean,
}

/// A field of the document that is a column.
#[derive(Debug)]
pub(crate) struct Column {
    /// The name in the document.
    pub(crate) field: &'static str,
    /// The name in the table.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
}

const fn column(field: &'static str, name: &'static str, kind: Kind) -> Column {
    Column { field, name, kind }
}

const fn same(field: &'static str, kind: Kind) -> Column {
    column(field, field, kind)
}

/// The fields that are columns, in the order of the table.
pub(crate) const COLUMNS: [Column; 14] = [
    column(name::KIND, "kind", Kind::Text),
    same(name::STATE, Kind::Text),
    same(name::PRIORITY, Kind::Integer),
    same(name::RUN_AT, Kind::Time),
    same(name::CREATED_AT, Kind::Time),
    same(name::STARTED_AT, Kind::Time),
    same(name::COMPLETED_AT, Kind::Time),
    same(name::WORKER_NAME, Kind::Text),
    same(name::CLAIM, Kind::Text),
    same(name::READY, Kind::Boolean),
    same(name::HOLD, Kind::Text),
    same(name::UNIQUE_KEY, Kind::Text),
    same(name::UNFINISHED_KEY, Kind::Text),
    same(name::SUB_STATE, Kind::Text),
];

const STATE: usize = 1;
const PRIORITY: usize = 2;
const RUN_AT: usize = 3;
const READY: usize = 9;
const HOLD: usize = 10;
const UNIQUE_KEY: usize = 11;
const UNFINISHED_KEY: usize = 12;
/// Whether the job has successors that wait to be created.
const SUCCESSORS: usize = COLUMNS.len();
const MISFIT: usize = SUCCESSORS + 1;
const WIDTH: usize = MISFIT + 1;

/// Under which name a rest that is no BSON document appears: it must not get lost.
const UNREADABLE: &str = "unreadable";

/// Whether the column at `index` of [`Row::values`] says when its job may be claimed.
pub(crate) fn decides_when(index: usize) -> bool {
    matches!(index, STATE | RUN_AT | READY | HOLD)
}

/// The name of the column at `index` of [`Row::values`].
pub(crate) fn column_name(index: usize) -> &'static str {
    match index {
        SUCCESSORS => "successors",
        MISFIT => "misfit",
        index => COLUMNS.get(index).map_or("rest", |column| column.name),
    }
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) id: Vec<u8>,
    /// Apart from the rest of the row, which is handed around a lot.
    pub(crate) values: Box<[Value; WIDTH]>,
    pub(crate) rest: Vec<u8>,
}

impl Row {
    /// The row of `document`, which must have an `_id`.
    pub(crate) fn encode(document: Document) -> Result<Self, Failure> {
        let mut values = Box::new([const { Value::Null }; WIDTH]);
        if Filter::exists(name::SUCCESSORS).matches(&document) {
            values[SUCCESSORS] = Value::Integer(1);
        }
        let mut id = Vec::new();
        let mut rest = Document::new();
        for (field, value) in document {
            if field == name::ID {
                id = key(&value)?;
                if !matches!(value, Bson::ObjectId(_)) {
                    rest.insert(field, value);
                }
                continue;
            }
            let Some(index) = COLUMNS.iter().position(|column| column.field == field) else {
                rest.insert(field, value);
                continue;
            };
            let (stored, fits) = store(&COLUMNS[index], &value);
            values[index] = stored;
            if !fits {
                values[MISFIT] = Value::Integer(1);
                rest.insert(field, value);
            }
        }
        Ok(Self {
            id,
            values,
            rest: rest.to_vec()?,
        })
    }

    /// The document of this row.
    pub(crate) fn decode(&self) -> Document {
        let mut document = self.decode_columns();
        if add(&mut document, &self.rest).is_err() {
            document = self.decode_columns();
            let bytes = Binary {
                subtype: BinarySubtype::Generic,
                bytes: self.rest.clone(),
            };
            document.insert(UNREADABLE, bytes);
        }
        document
    }

    fn decode_columns(&self) -> Document {
        let mut document = Document::new();
        if let Some(id) = object_id(&self.id) {
            document.insert(name::ID, id);
        }
        for (column, value) in COLUMNS.iter().zip(self.values.as_slice()) {
            if let Some(value) = load(column, value) {
                document.insert(column.field, value);
            }
        }
        document
    }

    /// A row of a statement that selects all columns.
    pub(crate) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        let mut values = Box::new([const { Value::Null }; WIDTH]);
        for (index, value) in values.iter_mut().enumerate() {
            *value = row.get(index + 1)?;
        }
        Ok(Self {
            id: row.get(0)?,
            values,
            rest: row.get(WIDTH + 1)?,
        })
    }

    /// Gives all columns to a statement, in their order, and says what number comes next.
    pub(crate) fn bind(&self, statement: &mut Statement<'_>) -> rusqlite::Result<usize> {
        statement.raw_bind_parameter(1, &self.id)?;
        for (index, value) in self.values.iter().enumerate() {
            statement.raw_bind_parameter(index + 2, value)?;
        }
        statement.raw_bind_parameter(WIDTH + 2, &self.rest)?;
        Ok(WIDTH + 3)
    }

    /// Whether the columns alone may say something else than the document.
    pub(crate) fn is_misfit(&self) -> bool {
        self.values[MISFIT] != Value::Null
    }

    pub(crate) fn is_running(&self) -> bool {
        self.state() == Some("running")
    }

    pub(crate) fn state(&self) -> Option<&str> {
        text(&self.values[STATE])
    }

    pub(crate) fn unique_key(&self) -> Option<&str> {
        text(&self.values[UNIQUE_KEY])
    }

    pub(crate) fn unfinished_key(&self) -> Option<&str> {
        text(&self.values[UNFINISHED_KEY])
    }

    /// When it falls due, in milliseconds.
    pub(crate) fn run_at(&self) -> Option<i64> {
        match self.values[RUN_AT] {
            Value::Integer(time) => Some(time),
            _ => None,
        }
    }

    /// The priority by which it is claimed.
    pub(crate) fn place(&self) -> i64 {
        match self.values[PRIORITY] {
            Value::Integer(priority) => priority,
            _ => i64::from(rocketjob_core::DEFAULT_PRIORITY),
        }
    }

    /// The value of the column with this name, for keyset paging.
    pub(crate) fn value(&self, column: &str) -> Value {
        COLUMNS
            .iter()
            .position(|other| other.name == column)
            .map_or(Value::Null, |index| self.values[index].clone())
    }
}

/// Adds what has no column, as it is encoded.
fn add(document: &mut Document, rest: &[u8]) -> Result<(), bson::error::Error> {
    for field in RawDocument::from_bytes(rest)? {
        let (name, value) = field?;
        document.insert(name.as_str(), Bson::try_from(value)?);
    }
    Ok(())
}

/// The stored form of an id. One that is no `ObjectId` is never 12 bytes long.
pub(crate) fn key(id: &Bson) -> Result<Vec<u8>, Failure> {
    match id {
        Bson::ObjectId(id) => Ok(id.bytes().to_vec()),
        other => Ok(doc! { "id of another type": other }.to_vec()?),
    }
}

/// The id of which `key` is the stored form, if it is an `ObjectId`.
pub(crate) fn object_id(key: &[u8]) -> Option<ObjectId> {
    key.try_into().ok().map(ObjectId::from_bytes)
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// What goes into the column for `value`, and whether it says all.
pub(crate) fn store(column: &Column, value: &Bson) -> (Value, bool) {
    let is_name = matches!(column.field, name::KIND | name::STATE);
    match (column.kind, value) {
        (_, Bson::Null) => (Value::Null, true),
        (Kind::Text, Bson::String(text)) => (Value::Text(text.clone()), true),
        // A symbol is text of old: it comes back as text. It is no name of a kind or state, though.
        (Kind::Text, Bson::Symbol(text)) if !is_name => (Value::Text(text.clone()), true),
        (Kind::Time, Bson::DateTime(time)) => (Value::Integer(time.timestamp_millis()), true),
        (Kind::Boolean, Bson::Boolean(flag)) => (Value::Integer(i64::from(*flag)), true),
        (Kind::Integer, value) => match whole_number(value) {
            Some(number) => (Value::Integer(number), integer(number) == *value),
            // One that cannot be read comes first, so that it is set aside soon.
            None => (Value::Integer(i64::MIN), false),
        },
        // What is no time never falls due.
        (Kind::Time, _) if column.field == name::RUN_AT => (Value::Integer(i64::MAX), false),
        _ => (Value::Null, false),
    }
}

fn load(column: &Column, value: &Value) -> Option<Bson> {
    match (column.kind, value) {
        (Kind::Text, Value::Text(text)) => Some(Bson::String(text.clone())),
        (Kind::Integer, Value::Integer(number)) => Some(integer(*number)),
        (Kind::Time, Value::Integer(time)) => Some(Bson::DateTime(DateTime::from_millis(*time))),
        (Kind::Boolean, Value::Integer(flag)) => Some(Bson::Boolean(*flag != 0)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(document: &Document) -> Row {
        let row = Row::encode(document.clone()).unwrap();
        assert_eq!(row.decode(), *document);
        row
    }

    #[test]
    fn a_sound_document_is_no_misfit() {
        let row = there_and_back(&doc! {
            "_id": ObjectId::new(), "_type": "Mail", "state": "queued", "priority": 7, "ready": true,
            "run_at": DateTime::from_millis(5), "to": { "name": "Ann" }, "successors": [{ "a": 1 }],
        });
        assert!(!row.is_misfit());
        assert_eq!(row.place(), 7);
        assert_eq!(row.values[SUCCESSORS], Value::Integer(1));
    }

    #[test]
    fn what_does_not_fit_a_column_is_kept() {
        for odd in [
            doc! { "_id": ObjectId::new(), "priority": "high" },
            doc! { "_id": ObjectId::new(), "priority": 5_i64 },
            doc! { "_id": ObjectId::new(), "state": 7, "hold": { "a": 1 }, "ready": "yes" },
            doc! { "_id": ObjectId::new(), "run_at": "tomorrow", "state": Bson::Symbol("s".into()) },
        ] {
            assert!(there_and_back(&odd).is_misfit(), "{odd}");
        }
    }

    #[test]
    fn ids_may_be_of_any_type() {
        for id in [Bson::from("text"), 5.into(), doc! { "a": 1 }.into()] {
            let row = there_and_back(&doc! { "_id": id, "_type": "Mail" });
            assert_ne!(row.id.len(), 12);
        }
    }

    #[test]
    fn absent_and_null_are_one_value_in_columns() {
        let row = Row::encode(doc! { "_id": ObjectId::new(), "hold": null, "own": null }).unwrap();
        let document = row.decode();
        assert!(!document.contains_key("hold"));
        assert!(document.contains_key("own"));
    }

    #[test]
    fn a_rest_that_is_no_document_is_not_lost() {
        let mut row = Row::encode(doc! { "_id": ObjectId::new(), "_type": "Mail" }).unwrap();
        row.rest = vec![1, 2, 3];
        let document = row.decode();
        assert_eq!(document.get_str("_type").unwrap(), "Mail");
        assert_eq!(document.get_binary_generic(UNREADABLE).unwrap(), &[1, 2, 3]);
    }
}
