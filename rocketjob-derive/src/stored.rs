//! What serde's attributes make of the struct: under which names its fields are stored, and how.
//!
//! Only what changes that is read. Everything else, mistakes included, is for serde's own derive.

use proc_macro2::Span;
use syn::{Attribute, Ident, LitStr, ext::IdentExt};

use crate::item::{Item, Value};

/// What serde's attributes say of the struct.
pub(crate) struct StoredStruct {
    rename_all: Both<Case>,
    /// The option by which fields are read under other names than they are written.
    pub(crate) split: Option<Ident>,
    /// The names of all options.
    pub(crate) options: Vec<Ident>,
}

/// What serde's attributes say of a field.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct StoredField {
    /// The stored name.
    pub(crate) name: String,
    /// Where the name comes from.
    pub(crate) span: Span,
    /// The option that makes serde read the field under another name than it writes, and that name.
    pub(crate) split: Option<(Ident, String)>,
    /// Further names under which the field is read.
    pub(crate) aliases: Vec<LitStr>,
    /// Whether the field is neither written nor read.
    pub(crate) skipped: bool,
    /// Whether serde makes something of a document that lacks the field.
    pub(crate) defaulted: bool,
    /// Whether the field's own fields stand in its place.
    pub(crate) flattened: bool,
    /// The option by which a function of the user's writes the field.
    pub(crate) written_by: Option<Ident>,
    /// Whether a function of the user's writes or reads the field, so that its type says nothing.
    pub(crate) converted: bool,
}

/// A thing for each direction.
#[derive(Clone, Copy)]
struct Both<T> {
    written: T,
    read: T,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    AsIs,
    Upper,
    Pascal,
    Camel,
    Kebab,
    UpperKebab,
}

impl StoredStruct {
    /// Reads the attributes of a struct.
    pub(crate) fn read(attributes: &[Attribute]) -> Self {
        let mut stored = Self {
            rename_all: Both {
                written: Case::AsIs,
                read: Case::AsIs,
            },
            split: None,
            options: Vec::new(),
        };
        for item in options(attributes) {
            if item.is("rename_all") {
                let names = both(&item);
                stored.rename_all.written = Case::named(names.written.as_ref());
                stored.rename_all.read = Case::named(names.read.as_ref());
                if stored.rename_all.written != stored.rename_all.read {
                    stored.split = Some(item.name.clone());
                }
            }
            stored.options.push(item.name);
        }
        stored
    }
}

impl StoredField {
    /// Reads the attributes of a field.
    pub(crate) fn read(container: &StoredStruct, field: &Ident, attributes: &[Attribute]) -> Self {
        let plain = field.unraw().to_string();
        let mut names = Both {
            written: container.rename_all.written.apply(&plain),
            read: container.rename_all.read.apply(&plain),
        };
        let mut skipped = Both {
            written: false,
            read: false,
        };
        let mut stored = Self {
            name: String::new(),
            span: field.span(),
            split: None,
            aliases: Vec::new(),
            skipped: false,
            defaulted: container.options.iter().any(|option| option == "default"),
            flattened: false,
            written_by: None,
            converted: false,
        };
        for item in options(attributes) {
            match item.name.to_string().as_str() {
                "rename" => {
                    let given = both(&item);
                    if let Some(name) = given.written.as_ref() {
                        stored.span = name.span();
                        names.written = name.value();
                    }
                    if let Some(name) = given.read.as_ref() {
                        names.read = name.value();
                    }
                    let differ = names.written != names.read;
                    stored.split = differ.then(|| (item.name, names.read.clone()));
                }
                "alias" => stored.aliases.extend(item.text().cloned()),
                "skip" => {
                    skipped.written = true;
                    skipped.read = true;
                }
                "skip_serializing" => skipped.written = true,
                "skip_deserializing" => skipped.read = true,
                "default" => stored.defaulted = true,
                "flatten" => stored.flattened = true,
                "with" | "serialize_with" => {
                    stored.converted = true;
                    stored.written_by = Some(item.name);
                }
                "deserialize_with" => stored.converted = true,
                _ => {}
            }
        }
        stored.name = names.written;
        stored.skipped = skipped.written && skipped.read;
        stored
    }

    /// Whether the document has a field for it.
    pub(crate) fn is_stored(&self) -> bool {
        !self.skipped && !self.flattened
    }
}

impl Case {
    fn named(name: Option<&LitStr>) -> Self {
        match name.map(LitStr::value).as_deref() {
            Some("UPPERCASE" | "SCREAMING_SNAKE_CASE") => Self::Upper,
            Some("PascalCase") => Self::Pascal,
            Some("camelCase") => Self::Camel,
            Some("kebab-case") => Self::Kebab,
            Some("SCREAMING-KEBAB-CASE") => Self::UpperKebab,
            // Of a field, which is snake case already, serde makes nothing else by `lowercase`
            // and `snake_case`.
            _ => Self::AsIs,
        }
    }

    fn apply(self, field: &str) -> String {
        match self {
            Self::AsIs => field.to_owned(),
            Self::Upper => field.to_ascii_uppercase(),
            Self::Pascal => field.split('_').map(capitalized).collect(),
            Self::Camel => {
                let pascal = Self::Pascal.apply(field);
                let mut letters = pascal.chars();
                let first = letters.next().map(|letter| letter.to_ascii_lowercase());
                first.into_iter().chain(letters).collect()
            }
            Self::Kebab => field.replace('_', "-"),
            Self::UpperKebab => field.to_ascii_uppercase().replace('_', "-"),
        }
    }
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// The options of all `#[serde(…)]`; what is malformed is left to serde.
fn options(attributes: &[Attribute]) -> impl Iterator<Item = Item> {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("serde"))
        .filter_map(|attribute| Item::all_of(attribute).ok())
        .flatten()
}

/// The name for each direction: `= "…"` or `(serialize = "…", deserialize = "…")`.
fn both(item: &Item) -> Both<Option<LitStr>> {
    let Value::List(list) = &item.value else {
        return Both {
            written: item.text().cloned(),
            read: item.text().cloned(),
        };
    };
    let parts = Item::all_in(list).unwrap_or_default();
    let part = |name| {
        parts
            .iter()
            .find(|part| part.is(name))
            .and_then(Item::text)
            .cloned()
    };
    Both {
        written: part("serialize"),
        read: part("deserialize"),
    }
}
