//! Changes of what has no column, on its bytes and within a statement: whoever knows what is to be
//! written need not read a row first.
//!
//! The functions are those of our connections. No index and no table depends on them, so any other
//! program can still work with the file.

use bson::{RawDocument, raw::RawElement};
use rocketjob_core::name;
use rusqlite::{Connection, functions::FunctionFlags};

/// Makes the functions known that [`sql`](crate::sql) uses:
///
/// - `has_slots(rest)`: 1 if a place in a limit may be taken, or nobody can tell; otherwise 0.
/// - `changed(rest, set, unset)`: `rest` with the fields of the document `set`, and without those
///   of `unset`; null if nobody can tell.
pub(crate) fn register(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_DIRECTONLY;
    connection.create_scalar_function("has_slots", 1, flags, |arguments| {
        let rest = arguments.get_raw(0).as_blob()?;
        Ok(has_slots(rest).unwrap_or(true))
    })?;
    connection.create_scalar_function("changed", 3, flags, |arguments| {
        let blob = |index| arguments.get_raw(index).as_blob();
        Ok(changed(blob(0)?, blob(1)?, blob(2)?))
    })
}

fn has_slots(rest: &[u8]) -> Option<bool> {
    let mut fields = Fields::of(rest)?;
    fields.try_fold(false, |found, field| {
        Some(found || field?.name() == name::SLOTS)
    })
}

/// As [`Change::apply`](rocketjob_core::Change::apply), for plain names.
fn changed(rest: &[u8], set: &[u8], unset: &[u8]) -> Option<Vec<u8>> {
    let set: Vec<_> = Fields::of(set)?.collect::<Option<_>>()?;
    let unset: Vec<_> = Fields::of(unset)?.collect::<Option<_>>()?;
    let mut is_written = vec![false; set.len()];
    let mut after = Vec::with_capacity(rest.len() + 64);
    after.extend_from_slice(&[0; 4]);
    for field in Fields::of(rest)? {
        let field = field?;
        if let Some(place) = set.iter().position(|other| other.name() == field.name()) {
            after.extend_from_slice(set[place].bytes);
            is_written[place] = true;
        } else if !unset.iter().any(|other| other.name() == field.name()) {
            after.extend_from_slice(field.bytes);
        }
    }
    for (field, is_written) in set.iter().zip(is_written) {
        if !is_written {
            after.extend_from_slice(field.bytes);
        }
    }
    after.push(0);
    let length = i32::try_from(after.len()).ok()?;
    after[..4].copy_from_slice(&length.to_le_bytes());
    Some(after)
}

/// A field as it is encoded, its name and type included.
struct Field<'d> {
    element: RawElement<'d>,
    bytes: &'d [u8],
}

impl<'d> Field<'d> {
    fn name(&self) -> &'d str {
        self.element.key().as_str()
    }
}

/// The fields of an encoded document. `None` is the end of one that is not sound.
struct Fields<'d> {
    elements: bson::raw::RawIter<'d>,
    rest: &'d [u8],
}

impl<'d> Fields<'d> {
    fn of(bytes: &'d [u8]) -> Option<Self> {
        let document = RawDocument::from_bytes(bytes).ok()?;
        Some(Self {
            elements: document.iter_elements(),
            rest: bytes.get(4..)?,
        })
    }
}

impl<'d> Iterator for Fields<'d> {
    type Item = Option<Field<'d>>;

    fn next(&mut self) -> Option<Self::Item> {
        let element = self.elements.next()?;
        Some(element.ok().and_then(|element| {
            // The type, the name and the zero behind it come before the value.
            let length = 1 + element.key().len() + 1 + element.size();
            let (bytes, rest) = self.rest.split_at_checked(length)?;
            self.rest = rest;
            Some(Field { element, bytes })
        }))
    }
}

#[cfg(test)]
mod tests {
    use bson::{Document, doc};

    use super::*;

    fn bytes(document: &Document) -> Vec<u8> {
        document.to_vec().unwrap()
    }

    #[test]
    fn fields_change_where_they_stand_and_new_ones_follow() {
        let rest = doc! { "a": 1, "b": { "c": "x" }, "d": [1, 2], "e": null, "f": "y" };
        let set = doc! { "b": "other", "g": { "h": 2 }, "a": 5_i64 };
        let after = changed(
            &bytes(&rest),
            &bytes(&set),
            &bytes(&doc! { "d": null, "z": null }),
        );
        let expected = doc! { "a": 5_i64, "b": "other", "e": null, "f": "y", "g": { "h": 2 } };
        assert_eq!(after.unwrap(), bytes(&expected));
    }

    #[test]
    fn slots_are_found_at_the_top_only() {
        assert_eq!(has_slots(&bytes(&doc! { "a": 1, "slots": [] })), Some(true));
        assert_eq!(
            has_slots(&bytes(&doc! { "a": { "slots": [] } })),
            Some(false)
        );
    }

    #[test]
    fn of_bytes_that_are_no_document_nothing_is_told() {
        let sound = bytes(&doc! { "a": "text", "b": 1 });
        let none = bytes(&Document::new());
        let mut other_type = sound.clone();
        other_type[4] = 0x77;
        let mut too_long = sound.clone();
        too_long[7] = 0x70;
        for broken in [
            &[1, 2, 3][..],
            &sound[..sound.len() - 1],
            &other_type,
            &too_long,
        ] {
            assert_eq!(has_slots(broken), None, "{broken:?}");
            assert_eq!(changed(broken, &none, &none), None, "{broken:?}");
        }
    }
}
