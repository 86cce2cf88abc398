//! From tokens to data: what the attributes of a struct and of its fields say.
//!
//! Everything keeps the tokens that messages point at. What a value may be is decided here, what
//! goes with what is for [`check`](crate::check).

use std::collections::BTreeSet;

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::{
    Attribute, Data, DeriveInput, Expr, Fields, Ident, Lit, LitStr, Meta, Path, Type,
    ext::IdentExt, spanned::Spanned,
};

use crate::{
    concern,
    item::{self, Item, Value},
    problems::Problems,
    spelling,
    stored::{StoredField, StoredStruct},
    value,
};

/// A struct that is to become a job.
pub(crate) struct Job<'a> {
    pub(crate) input: &'a DeriveInput,
    pub(crate) about: Option<String>,
    pub(crate) options: JobOptions,
    pub(crate) stored: StoredStruct,
    pub(crate) fields: Vec<Field<'a>>,
}

/// What `#[rocketjob(…)]` says, `#[concern(…)]`, and the attributes of our own concerns.
#[derive(Default)]
pub(crate) struct JobOptions {
    pub(crate) kind: Option<LitStr>,
    pub(crate) aliases: Vec<LitStr>,
    pub(crate) description: Option<LitStr>,
    pub(crate) priority: Option<u8>,
    pub(crate) keep_completed: bool,
    pub(crate) expires_in: Option<u64>,
    pub(crate) log_level: Option<Ident>,
    pub(crate) pausable: bool,
    pub(crate) timeout: Option<u64>,
    pub(crate) on_lost_claim: Option<Ident>,
    pub(crate) max_lost_claims: Option<u32>,
    pub(crate) version: Option<u32>,
    pub(crate) unregistered: bool,
    pub(crate) facade: Option<Path>,
    pub(crate) concerns: Vec<Concern>,
}

/// A concern of the job.
pub(crate) enum Concern {
    /// One of ours: its name, and the expression that makes it.
    BuiltIn(Ident, TokenStream),
    Custom(Expr),
}

/// A field of the struct.
pub(crate) struct Field<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) ty: &'a Type,
    pub(crate) description: Option<String>,
    pub(crate) options: FieldOptions,
    pub(crate) stored: StoredField,
}

/// What `#[field(…)]` says.
#[derive(Default)]
pub(crate) struct FieldOptions {
    /// The first `#[field(…)]`, if there is one.
    pub(crate) given: Option<Attribute>,
    pub(crate) user_editable: bool,
    pub(crate) copy_on_restart: bool,
    pub(crate) label: Option<LitStr>,
    pub(crate) default: Option<DefaultValue>,
}

/// What stands in for a field that a document lacks.
pub(crate) struct DefaultValue {
    /// Where the option stands.
    pub(crate) name: Ident,
    /// `None` for the default of the type.
    pub(crate) value: Option<Expr>,
}

impl<'a> Job<'a> {
    /// Reads a struct; of an enum, a union or a tuple struct only the attributes above it.
    pub(crate) fn read(input: &'a DeriveInput, problems: &mut Problems) -> Self {
        let options = JobOptions::read(&input.attrs, problems);
        let stored = StoredStruct::read(&input.attrs);
        let fields = match &input.data {
            Data::Struct(data) => match &data.fields {
                Fields::Named(fields) => fields
                    .named
                    .iter()
                    .filter_map(|field| Field::read(&stored, field, problems))
                    .collect(),
                Fields::Unnamed(_) | Fields::Unit => Vec::new(),
            },
            Data::Enum(_) | Data::Union(_) => Vec::new(),
        };
        Self {
            input,
            about: doc_comment(&input.attrs),
            options,
            stored,
            fields,
        }
    }

    /// The stable name.
    pub(crate) fn kind(&self) -> String {
        match &self.options.kind {
            Some(kind) => kind.value(),
            None => self.input.ident.unraw().to_string(),
        }
    }
}

impl JobOptions {
    fn read(attributes: &[Attribute], problems: &mut Problems) -> Self {
        let mut options = Self::default();
        let mut seen = Seen::default();
        for attribute in attributes {
            match our_name(attribute) {
                Some("rocketjob") => {
                    for item in items(attribute, problems) {
                        options.add(&item, &mut seen, problems);
                    }
                }
                Some("field") => problems.add(
                    attribute,
                    "`#[field(…)]` belongs on a field of the struct; options of the job itself are `#[rocketjob(…)]`",
                ),
                Some(name) => {
                    let Some(item) = as_item(attribute) else {
                        continue;
                    };
                    // Whoever wrote ours in full has another derive that claims the bare name.
                    let is_plain = matches!(item.value, Value::None);
                    if name != "concern" && !is_plain && nested(attributes, name).is_some() {
                        continue;
                    }
                    options.add(&item, &mut seen, problems);
                }
                None => {}
            }
        }
        options
    }

    fn add(&mut self, item: &Item, seen: &mut Seen, problems: &mut Problems) {
        let name = item.name.to_string();
        if name != "concern" && seen.again(item, problems) {
            return;
        }
        match name.as_str() {
            "kind" => self.kind = value::string(item, problems),
            "aliases" => self.aliases = value::strings(item, problems),
            "description" => self.description = value::string(item, problems),
            "priority" => self.priority = value::priority(item, problems),
            "keep_completed" => self.keep_completed = value::flag(item, problems),
            "expires_in" => self.expires_in = value::duration(item, problems),
            "log_level" => self.log_level = value::log_level(item, problems),
            "pausable" => self.pausable = value::flag(item, problems),
            "timeout" => self.timeout = value::duration(item, problems),
            "on_lost_claim" => self.on_lost_claim = value::on_lost_claim(item, problems),
            "max_lost_claims" => self.max_lost_claims = value::max_lost_claims(item, problems),
            "version" => self.version = value::version(item, problems),
            "unregistered" => self.unregistered = value::flag(item, problems),
            "crate" => self.facade = value::path(item, problems),
            "concern" => {
                let concern = value::expression(item, problems);
                self.concerns.extend(concern.map(Concern::Custom));
            }
            _ => match concern::built_in(&name) {
                Some((_, read)) => {
                    let made = read(item, problems);
                    let concern = made.map(|made| Concern::BuiltIn(item.name.clone(), made));
                    self.concerns.extend(concern);
                }
                None => problems.add(&item.name, spelling::unknown_job_option(&name)),
            },
        }
    }
}

impl<'a> Field<'a> {
    fn read(
        container: &StoredStruct,
        field: &'a syn::Field,
        problems: &mut Problems,
    ) -> Option<Self> {
        let ident = field.ident.as_ref()?;
        Some(Self {
            ident,
            ty: &field.ty,
            description: doc_comment(&field.attrs),
            options: FieldOptions::read(&field.attrs, problems),
            stored: StoredField::read(container, ident, &field.attrs),
        })
    }
}

impl FieldOptions {
    fn read(attributes: &[Attribute], problems: &mut Problems) -> Self {
        let mut options = Self::default();
        let mut seen = Seen::default();
        for attribute in attributes {
            match our_name(attribute) {
                Some("field") => {
                    options.given.get_or_insert_with(|| attribute.clone());
                    for item in items(attribute, problems) {
                        options.add(&item, &mut seen, problems);
                    }
                }
                Some(name) => {
                    let message = format!(
                        "`#[{name}]` belongs on the struct, below `#[derive(RocketJob)]`; options of a field are `#[field(…)]`"
                    );
                    problems.add(attribute, message);
                }
                None => {}
            }
        }
        options
    }

    fn add(&mut self, item: &Item, seen: &mut Seen, problems: &mut Problems) {
        if seen.again(item, problems) {
            return;
        }
        match item.name.to_string().as_str() {
            "user_editable" => self.user_editable = value::flag(item, problems),
            "copy_on_restart" => self.copy_on_restart = value::flag(item, problems),
            "label" => self.label = value::string(item, problems),
            "default" => {
                let name = item.name.clone();
                match &item.value {
                    Value::None => self.default = Some(DefaultValue { name, value: None }),
                    Value::Is(value) => {
                        let value = Some(value.clone());
                        self.default = Some(DefaultValue { name, value });
                    }
                    Value::List(_) => {
                        problems.add(item, "write `default`, or `default = value`");
                    }
                }
            }
            name => problems.add(&item.name, spelling::unknown_field_option(name)),
        }
    }
}

/// The options that were given already.
#[derive(Default)]
struct Seen(BTreeSet<String>);

impl Seen {
    /// Notes the option; a second one is a mistake.
    fn again(&mut self, item: &Item, problems: &mut Problems) -> bool {
        let name = item.name.to_string();
        let again = self.0.contains(&name);
        if again {
            let message = match name.as_str() {
                "singleton" => "`singleton` is given twice: `#[singleton]` says the same as `#[rocketjob(singleton)]`".into(),
                "aliases" => "`aliases` is given twice: write all names into one, `aliases(\"…\", \"…\")`".into(),
                _ => format!("`{name}` is given twice"),
            };
            problems.add(&item.name, message);
        }
        self.0.insert(name);
        again
    }
}

/// The name of the attribute, if it is one of ours.
///
/// Other derives may claim the same bare names. What has a form that ours never have is theirs:
/// `#[singleton = …]`, `#[field]`, `#[field("…")]`, `#[field(some::path)]`.
fn our_name(attribute: &Attribute) -> Option<&'static str> {
    let names = ["rocketjob", "concern", "field", "timeout", "expires_in"];
    let name = names
        .into_iter()
        .chain(concern::names())
        .find(|name| attribute.path().is_ident(name))?;
    let ours = match (name, &attribute.meta) {
        ("rocketjob", _) => true,
        ("field", Meta::List(list)) => begins_with_option(&list.tokens),
        ("field", _) | (_, Meta::NameValue(_)) => false,
        _ => true,
    };
    ours.then_some(name)
}

/// The option of this name, as a bare attribute or in `#[rocketjob(…)]`; for rules that go across
/// attributes.
pub(crate) fn option_of(attributes: &[Attribute], name: &str) -> Option<Item> {
    nested(attributes, name).or_else(|| {
        let mut bare = attributes.iter();
        bare.find(|attribute| our_name(attribute) == Some(name))
            .and_then(as_item)
    })
}

/// The option of this name in `#[rocketjob(…)]`.
fn nested(attributes: &[Attribute], name: &str) -> Option<Item> {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("rocketjob"))
        .filter_map(|attribute| Item::all_of(attribute).ok())
        .flatten()
        .find(|item| item.is(name))
}

fn begins_with_option(tokens: &TokenStream) -> bool {
    let mut tokens = tokens.clone().into_iter();
    match (tokens.next(), tokens.next()) {
        (Some(TokenTree::Ident(_)), Some(TokenTree::Punct(next))) => next.as_char() != ':',
        (Some(TokenTree::Ident(_)) | None, _) => true,
        _ => false,
    }
}

/// The options of one of our attributes.
fn items(attribute: &Attribute, problems: &mut Problems) -> Vec<Item> {
    let items = match &attribute.meta {
        Meta::List(_) => Item::all_of(attribute),
        Meta::Path(_) | Meta::NameValue(_) => Err(syn::Error::new_spanned(
            attribute,
            "write the options in parentheses: `#[rocketjob(priority = 70)]`",
        )),
    };
    items.unwrap_or_else(|error| {
        problems.add_error(error);
        Vec::new()
    })
}

/// A bare attribute as the option that it stands for.
fn as_item(attribute: &Attribute) -> Option<Item> {
    let name = attribute.path().get_ident()?.clone();
    let value = match &attribute.meta {
        Meta::Path(_) => Value::None,
        Meta::List(list) if name == "timeout" || name == "expires_in" => {
            Value::Is(list.parse_args().ok()?)
        }
        Meta::List(list) => Value::List(list.tokens.clone()),
        Meta::NameValue(_) => return None,
    };
    Some(Item { name, value })
}

/// The doc comment, its lines joined to paragraphs.
fn doc_comment(attributes: &[Attribute]) -> Option<String> {
    let mut text = String::new();
    let mut paragraph = false;
    for line in attributes.iter().filter_map(doc_text).flat_map(lines) {
        if line.is_empty() {
            paragraph = true;
            continue;
        }
        if !text.is_empty() {
            text.push_str(if paragraph { "\n\n" } else { " " });
        }
        text.push_str(&line);
        paragraph = false;
    }
    (!text.is_empty()).then_some(text)
}

fn doc_text(attribute: &Attribute) -> Option<String> {
    match &attribute.meta {
        // `include_str!` and the like are not expanded yet: only text counts.
        Meta::NameValue(doc) if doc.path.is_ident("doc") => match item::literal(&doc.value)? {
            Lit::Str(text) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

fn lines(text: String) -> Vec<String> {
    // A doc comment without text has no line, yet it ends a paragraph.
    let mut lines: Vec<_> = text.lines().map(|line| line.trim().to_owned()).collect();
    if lines.is_empty() {
        lines.push(text);
    }
    lines
}

impl Concern {
    /// Where the concern stands.
    pub(crate) fn span(&self) -> Span {
        match self {
            Self::BuiltIn(name, _) => name.span(),
            Self::Custom(value) => value.span(),
        }
    }
}
