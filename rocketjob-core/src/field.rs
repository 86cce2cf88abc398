//! What is known of a job's own fields: their types in the store and what people may do with them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};

/// The type of one stored value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScalarType {
    /// Anything; the store keeps what the serializer makes of it.
    Any,
    /// Text.
    String,
    /// A whole number: int32 where it fits, else int64.
    Integer,
    /// A double.
    Float,
    /// True or false.
    Boolean,
    /// A point in time: a BSON date, to the millisecond.
    Time,
    /// A calendar day: a BSON date at midnight UTC.
    Date,
    /// A BSON object id.
    ObjectId,
    /// Bytes.
    Binary,
    /// A nested document.
    Document,
}

/// The type of a field in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldType {
    /// One value.
    One(ScalarType),
    /// An array of values.
    Array(ScalarType),
    /// A document whose values are all of one type.
    Map(ScalarType),
}

impl FieldType {
    /// A field of which nothing is known.
    pub const ANY: Self = Self::One(ScalarType::Any);

    const fn element(self) -> ScalarType {
        match self {
            Self::One(scalar) => scalar,
            // What is nested deeper is kept as the serializer made it.
            Self::Array(_) | Self::Map(_) => ScalarType::Any,
        }
    }
}

/// How a Rust type is stored.
///
/// Implement it for a type of your own whose stored form is one of [`ScalarType`]; types without
/// it are stored as their serializer makes them.
pub trait StoredAs {
    /// The type in the store.
    const TYPE: FieldType;
    /// Whether serde sees the type as text (RFC 3339) while the store keeps a date.
    const VIA_TEXT: bool = false;
    /// Whether the value may be absent.
    const OPTIONAL: bool = false;
}

macro_rules! stored_as {
    ($scalar:ident: $($type:ty),+ $(,)?) => {
        $(impl StoredAs for $type { const TYPE: FieldType = FieldType::One(ScalarType::$scalar); })+
    };
}

stored_as!(String: String, &str, char, std::path::PathBuf);
stored_as!(Integer: i8, i16, i32, i64, isize, u8, u16, u32, u64, usize);
stored_as!(Float: f32, f64);
stored_as!(Boolean: bool);
stored_as!(Time: bson::DateTime);
stored_as!(ObjectId: bson::oid::ObjectId);
stored_as!(Binary: bson::Binary);
stored_as!(Document: bson::Document);

impl StoredAs for jiff::Timestamp {
    const TYPE: FieldType = FieldType::One(ScalarType::Time);
    const VIA_TEXT: bool = true;
}

impl StoredAs for jiff::civil::Date {
    const TYPE: FieldType = FieldType::One(ScalarType::Date);
    const VIA_TEXT: bool = true;
}

impl<T: StoredAs> StoredAs for Option<T> {
    const TYPE: FieldType = T::TYPE;
    const VIA_TEXT: bool = T::VIA_TEXT;
    const OPTIONAL: bool = true;
}

impl<T: StoredAs> StoredAs for Box<T> {
    const TYPE: FieldType = T::TYPE;
    const VIA_TEXT: bool = T::VIA_TEXT;
    const OPTIONAL: bool = T::OPTIONAL;
}

macro_rules! stored_as_list {
    ($($list:ident $(+ $extra:ident)?),+ $(,)?) => {
        $(impl<T: StoredAs $(, $extra)?> StoredAs for $list<T $(, $extra)?> {
            const TYPE: FieldType = FieldType::Array(T::TYPE.element());
            const VIA_TEXT: bool = T::VIA_TEXT;
        })+
    };
}

stored_as_list!(Vec, BTreeSet, HashSet + S);

impl<T: StoredAs> StoredAs for BTreeMap<String, T> {
    const TYPE: FieldType = FieldType::Map(T::TYPE.element());
    const VIA_TEXT: bool = T::VIA_TEXT;
}

impl<T: StoredAs, S> StoredAs for HashMap<String, T, S> {
    const TYPE: FieldType = FieldType::Map(T::TYPE.element());
    const VIA_TEXT: bool = T::VIA_TEXT;
}

/// One of a job's own fields, as the derive knows it.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct FieldDefinition {
    /// The stored name, after any renaming.
    pub name: &'static str,
    /// The type in the store.
    pub field_type: FieldType,
    /// Whether serde sees text where the store keeps a date.
    pub via_text: bool,
    /// Whether the value may be absent.
    pub optional: bool,
    /// What people read in place of the name.
    pub label: Option<&'static str>,
    /// The field's doc comment.
    pub description: Option<&'static str>,
    /// Whether people may edit it on a job that waits.
    pub user_editable: bool,
    /// Whether a job's successor inherits it.
    pub copy_on_restart: bool,
    /// What stands in for the field where a document lacks it.
    pub default: Option<fn() -> bson::Bson>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_tell_the_type_of_their_elements() {
        assert_eq!(
            <Option<Vec<i64>>>::TYPE,
            FieldType::Array(ScalarType::Integer)
        );
        assert_eq!(<Vec<Vec<i64>>>::TYPE, FieldType::Array(ScalarType::Any));
        assert_eq!(
            <BTreeMap<String, Option<jiff::civil::Date>>>::TYPE,
            FieldType::Map(ScalarType::Date)
        );
        const { assert!(<Vec<jiff::Timestamp>>::VIA_TEXT) };
        const { assert!(!<Vec<bson::DateTime>>::VIA_TEXT) };
        const { assert!(<Option<bool>>::OPTIONAL && !<Vec<Option<bool>>>::OPTIONAL) };
    }
}
