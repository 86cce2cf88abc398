//! The rules that go across attributes: what makes a struct a job that can be stored and read back.

use std::collections::BTreeMap;

use proc_macro2::Ident;
use syn::{Data, Fields, LitStr};

use crate::{
    attr::{self, Concern, Field, Job},
    envelope,
    expand::is_option,
    problems::Problems,
    unique,
};

/// The longest name of a kind, in bytes: it is part of index keys.
const MAX_KIND: usize = 200;

/// Options of serde that a job cannot have, and why.
const REFUSED: &[(&str, &str)] = &[
    (
        "deny_unknown_fields",
        "a document may carry fields of a newer version of the job: remove `deny_unknown_fields`",
    ),
    (
        "transparent",
        "a job is stored as a document with its fields, not as one value: remove `transparent`",
    ),
    (
        "tag",
        "the kind is stored as `_type` already, and `tag` would add a field that is none of the job's: remove it, and set the name with `#[rocketjob(kind = \"…\")]`",
    ),
    ("from", ANOTHER_TYPE),
    ("try_from", ANOTHER_TYPE),
    ("into", ANOTHER_TYPE),
];

const ANOTHER_TYPE: &str = "the stored fields would be those of another type, which nobody knows here: derive `RocketJob` on that type, or convert single fields with `#[serde(with = \"…\")]`";

/// Adds all that is wrong with a job.
pub(crate) fn check(job: &Job<'_>, problems: &mut Problems) {
    check_shape(job, problems);
    check_generics(job, problems);
    check_names(job, problems);
    check_serde(job, problems);
    for field in &job.fields {
        check_field(field, problems);
    }
    check_stored_names(job, problems);
    check_instances(job, problems);
    unique::check(job, problems);
}

fn check_shape(job: &Job<'_>, problems: &mut Problems) {
    let name = &job.input.ident;
    match &job.input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(_) => {}
            Fields::Unnamed(fields) => problems.add(
                fields,
                format!("the fields of a job are stored by name: write `struct {name} {{ name: Type, … }}`"),
            ),
            Fields::Unit => problems.add(
                name,
                format!("serde stores a unit struct as null, and a job is a document: write `struct {name} {{}}`"),
            ),
        },
        Data::Enum(data) => problems.add(
            data.enum_token,
            "a job is a struct with named fields: derive `RocketJob` on a struct for each kind of job, or make the enum a field of one",
        ),
        Data::Union(data) => problems.add(
            data.union_token,
            "a job is a struct with named fields; a union cannot be stored",
        ),
    }
}

fn check_generics(job: &Job<'_>, problems: &mut Problems) {
    let name = &job.input.ident;
    let generics = &job.input.generics;
    if !generics.params.is_empty() {
        problems.add(
            generics,
            format!("a job has one kind and one stored form, so that a server can read it back: remove the parameters of `{name}` and make its fields own values of known types"),
        );
    } else if let Some(clause) = &generics.where_clause {
        problems.add(
            clause,
            format!("a job has no bounds: remove those of `{name}`"),
        );
    }
}

fn check_names(job: &Job<'_>, problems: &mut Problems) {
    if let Some(kind) = &job.options.kind {
        check_name(kind, problems);
    }
    let kind = job.kind();
    let mut seen = vec![];
    for alias in &job.options.aliases {
        check_name(alias, problems);
        let name = alias.value();
        if name == kind {
            problems.add(
                alias,
                format!("`{name}` is the kind itself: an alias is an earlier name"),
            );
        } else if seen.contains(&name) {
            problems.add(alias, format!("the alias `{name}` is given twice"));
        }
        seen.push(name);
    }
}

fn check_name(name: &LitStr, problems: &mut Problems) {
    let text = name.value();
    if text.trim().is_empty() {
        problems.add(
            name,
            "the name of a kind is empty: leave it out to use the name of the struct",
        );
    } else if text.len() > MAX_KIND {
        problems.add(
            name,
            format!(
                "the name of a kind has at most {MAX_KIND} bytes, and this has {}",
                text.len()
            ),
        );
    } else if let Some(control) = text.chars().find(|letter| letter.is_control()) {
        problems.add(
            name,
            format!("the name of a kind has no control characters, and this has {control:?}"),
        );
    }
}

fn check_serde(job: &Job<'_>, problems: &mut Problems) {
    for option in &job.stored.options {
        if let Some((_, reason)) = REFUSED.iter().find(|(name, _)| option == name) {
            problems.add(option, reason);
        }
    }
    if let Some(option) = &job.stored.split {
        problems.add(
            option,
            "fields would be read under other names than they are stored under: write one case for both, `rename_all = \"…\"`",
        );
    }
}

fn check_field(field: &Field<'_>, problems: &mut Problems) {
    let Field {
        ident,
        options,
        stored,
        ..
    } = field;
    if !stored.is_stored() {
        if let Some(attribute) = &options.given {
            let why = if stored.flattened {
                "it is flattened, and has no name of its own"
            } else {
                "serde skips it"
            };
            let message =
                format!("`{ident}` is not a stored field, since {why}: remove `#[field(…)]`");
            problems.add(attribute, message);
        }
        return;
    }
    if let Some((option, read)) = &stored.split {
        let message = format!(
            "`{ident}` would be stored as `{}` and read as `{read}`: write one name for both, `rename = \"…\"`",
            stored.name
        );
        problems.add(option, message);
    }
    let Some(default) = &options.default else {
        return;
    };
    if let Some(option) = &stored.written_by {
        let message = format!(
            "a default is stored as its type is, and `#[serde({option} = …)]` stores the field otherwise: write `#[serde(default = \"…\")]` in place of this"
        );
        problems.add(&default.name, message);
    } else if let Some(alias) = stored.aliases.first() {
        let message = format!(
            "a document that has `{}` would get the default as well, and serde refuses both: write `#[serde(default)]` or `#[serde(default = \"…\")]` in place of this",
            alias.value()
        );
        problems.add(&default.name, message);
    }
}

/// A job that makes its next instance leaves no field of it without a value, and makes one only.
fn check_instances(job: &Job<'_>, problems: &mut Problems) {
    let makers = job
        .options
        .concerns
        .iter()
        .filter_map(|concern| match concern {
            Concern::BuiltIn(name, _) if name == "cron" || name == "restart" => Some(name),
            Concern::BuiltIn(..) | Concern::Custom(_) => None,
        });
    let makers: Vec<_> = makers.collect();
    let [first, rest @ ..] = makers.as_slice() else {
        return;
    };
    for other in rest {
        problems.add(
            other,
            format!("`{first}` and `{other}` would each make a next instance: keep one of them"),
        );
    }
    if *first == "cron" && attr::option_of(&job.input.attrs, "unique").is_some() {
        problems.add(
            first,
            "the next instance that `cron` makes would stand in the way of this one, and `unique` refuse it: remove `unique`; `cron` lets each schedule be there once anyway",
        );
    }
    for field in &job.fields {
        let Field {
            ident,
            options,
            stored,
            ..
        } = field;
        let has_value = options.copy_on_restart
            || options.default.is_some()
            || stored.defaulted
            || is_option(field.ty);
        if stored.is_stored() && !has_value {
            problems.add(
                ident,
                format!("the next instance that `{first}` makes would have no `{ident}`: mark it `#[field(copy_on_restart)]`, give it a default with `#[field(default)]`, or make it an `Option`"),
            );
        }
    }
}

/// No field may be stored as one of the envelope, or as another field.
fn check_stored_names(job: &Job<'_>, problems: &mut Problems) {
    let mut owners = BTreeMap::<String, &Ident>::new();
    for field in job.fields.iter().filter(|field| field.stored.is_stored()) {
        let Field { ident, stored, .. } = field;
        let name = LitStr::new(&stored.name, stored.span);
        for (name, is_alias) in
            std::iter::once((&name, false)).chain(stored.aliases.iter().map(|alias| (alias, true)))
        {
            let text = name.value();
            if let Some(message) = refusal(ident, &text, is_alias) {
                problems.add(name, message);
            } else if let Some(other) = owners.get(&text) {
                let message = if *other == *ident {
                    format!("`{ident}` has the name `{text}` twice")
                } else {
                    format!("`{other}` is stored as `{text}` too: give `{ident}` another name")
                };
                problems.add(name, message);
            }
            owners.entry(text).or_insert(ident);
        }
    }
}

fn refusal(field: &Ident, name: &str, is_alias: bool) -> Option<String> {
    if let Some(instead) = envelope::instead_of(name) {
        let act = if is_alias {
            "remove this alias".to_owned()
        } else if field == name {
            "rename this field".to_owned()
        } else {
            format!("store `{field}` under another name")
        };
        return Some(format!("`{name}` is part of every job: {instead}; {act}"));
    }
    let usable = !name.is_empty() && !name.starts_with('$') && !name.contains(['.', '\0']);
    (!usable).then(|| {
        format!("`{field}` cannot be stored as {name:?}: a stored name is not empty, does not begin with `$` and has no `.` in it")
    })
}
