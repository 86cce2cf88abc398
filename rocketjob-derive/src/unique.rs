//! `#[unique(…)]`: from its options to the constant expression that it stands for.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Expr, Lit, LitStr};

use crate::{
    attr::{self, Field, Job},
    item::{Item, Value},
    problems::Problems,
    spelling::{listed, nearest},
};

const OPTIONS: &[&str] = &["by", "states", "on_conflict"];

const STATES: &[&str] = &[
    "queued",
    "running",
    "paused",
    "failed",
    "completed",
    "aborted",
];

const CONFLICTS: &[(&str, &str)] = &[
    ("reject", "Reject"),
    ("return_existing", "ReturnExisting"),
    ("replace", "Replace"),
];

const FORM: &str = "say what makes two jobs alike: write `unique(by = [customer, \"address.city\"])` with stored fields, or `unique(by = path::to::function)`";

/// What `by` says.
enum By {
    /// Stored names.
    Fields(Vec<LitStr>),
    Function(Expr),
}

/// Reads `#[unique(…)]`.
pub(crate) fn unique(item: &Item, problems: &mut Problems) -> Option<TokenStream> {
    let items = options(item, problems)?;
    let mut sound = true;
    for (at, option) in items.iter().enumerate() {
        let name = option.name.to_string();
        let again = items.iter().take(at).any(|before| before.is(&name));
        if again {
            problems.add(&option.name, format!("`{name}` is given twice"));
        } else if !OPTIONS.contains(&name.as_str()) {
            problems.add(&option.name, unknown(&name));
        }
        sound &= !again && OPTIONS.contains(&name.as_str());
    }
    let find = |name| items.iter().find(|item| item.is(name));
    let by = if let Some(by) = find("by") {
        by_of(by, problems)
    } else {
        problems.add(&item.name, FORM);
        None
    };
    let scope = find("states").map_or_else(
        || Some(quote!(Active)),
        |states| scope(states, problems).map(Scope::variant),
    );
    let on_conflict = find("on_conflict").map_or_else(
        || Some(quote!(Reject)),
        |conflict| on_conflict(conflict, problems),
    );
    let (by, scope, on_conflict) = (by?, scope?, on_conflict?);
    let by = match by {
        By::Fields(fields) => quote!(Fields(&[#(#fields),*])),
        By::Function(function) => {
            quote!(Value(|document| __rocketjob::unique_value(document, #function)))
        }
    };
    sound.then(|| {
        quote! {
            __rocketjob::Unique {
                by: __rocketjob::UniqueBy::#by,
                scope: __rocketjob::UniqueScope::#scope,
                on_conflict: __rocketjob::OnConflict::#on_conflict,
            }
        }
    })
}

fn options(item: &Item, problems: &mut Problems) -> Option<Vec<Item>> {
    let Value::List(list) = &item.value else {
        problems.add(item, FORM);
        return None;
    };
    Item::all_in(list)
        .map_err(|error| problems.add_error(error))
        .ok()
}

fn by_of(item: &Item, problems: &mut Problems) -> Option<By> {
    let by = match &item.value {
        Value::Is(Expr::Array(list)) => {
            let fields: Option<Vec<_>> = list.elems.iter().map(field).collect();
            fields.filter(|fields| !fields.is_empty()).map(By::Fields)
        }
        Value::Is(Expr::Lit(_)) | Value::None | Value::List(_) => None,
        Value::Is(function) => Some(By::Function(function.clone())),
    };
    if by.is_none() {
        problems.add(item, FORM);
    }
    by
}

fn field(field: &Expr) -> Option<LitStr> {
    match field {
        Expr::Path(path) => {
            let ident = path.path.get_ident()?;
            Some(LitStr::new(&ident.to_string(), ident.span()))
        }
        Expr::Lit(literal) => match &literal.lit {
            Lit::Str(name) => Some(name.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// The states in which a key is held: those for which stores have an index.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Active,
    Unfinished,
}

impl Scope {
    fn variant(self) -> TokenStream {
        match self {
            Self::Active => quote!(Active),
            Self::Unfinished => quote!(Unfinished),
        }
    }
}

fn scope(item: &Item, problems: &mut Problems) -> Option<Scope> {
    let Value::Is(Expr::Array(list)) = &item.value else {
        problems.add(item, "write `states = [queued, running]`");
        return None;
    };
    let mut named = Vec::new();
    for state in &list.elems {
        let name = state.to_token_stream().to_string();
        if !STATES.contains(&name.as_str()) {
            let hint = match nearest(&name, STATES) {
                Some(nearest) => format!(": did you mean `{nearest}`?"),
                None => String::new(),
            };
            let states = listed(STATES);
            problems.add(
                state,
                format!("no state `{name}`{hint}\nthe states are {states}"),
            );
            return None;
        }
        named.push(name);
    }
    named.sort();
    named.dedup();
    let named: Vec<_> = named.iter().map(String::as_str).collect();
    match named.as_slice() {
        ["queued", "running"] => Some(Scope::Active),
        ["failed", "paused", "queued", "running"] => Some(Scope::Unfinished),
        _ => {
            problems.add(
                list,
                "a key is held by an index of the store, and there are two: write `states = [queued, running]`, or `states = [queued, running, paused, failed]`\nqueued and running go together, since a worker hands a job back without asking; a job that is completed or aborted holds nothing",
            );
            None
        }
    }
}

fn on_conflict(item: &Item, problems: &mut Problems) -> Option<TokenStream> {
    let name = match &item.value {
        Value::Is(value) => value.to_token_stream().to_string(),
        Value::None | Value::List(_) => String::new(),
    };
    let found = CONFLICTS.iter().find(|(known, _)| *known == name);
    if found.is_none() {
        let names: Vec<_> = CONFLICTS.iter().map(|(known, _)| *known).collect();
        let hint = match nearest(&name, &names) {
            Some(nearest) => format!(": did you mean `{nearest}`?"),
            None => String::new(),
        };
        let message = format!(
            "`on_conflict` says what becomes of a second job{hint}\nthe choices are {}",
            listed(&names)
        );
        problems.add(item, message);
    }
    let (_, variant) = found?;
    let variant = syn::Ident::new(variant, item.name.span());
    Some(quote!(#variant))
}

fn unknown(name: &str) -> String {
    let hint = match nearest(name, OPTIONS) {
        Some(nearest) => format!(": did you mean `{nearest}`?"),
        None => String::new(),
    };
    let accepted = listed(OPTIONS);
    format!("unknown option `{name}`{hint}\n`#[unique(…)]` accepts {accepted}")
}

/// What goes across attributes: the fields must be stored ones, and not all goes with `singleton`.
pub(crate) fn check(job: &Job<'_>, problems: &mut Problems) {
    let Some(item) = attr::option_of(&job.input.attrs, "unique") else {
        return;
    };
    // What is wrong with the options themselves was said when they were read.
    let Some(items) = options(&item, &mut Problems::default()) else {
        return;
    };
    let ignored = &mut Problems::default();
    for option in &items {
        if option.is("by") {
            match by_of(option, ignored) {
                Some(By::Fields(fields)) => check_fields(job, &fields, problems),
                Some(By::Function(function)) => check_function(job, &function, problems),
                None => {}
            }
        }
    }
    let states = items.iter().find(|option| option.is("states"));
    let scope = states.map_or(Some(Scope::Active), |states| scope(states, ignored));
    let is_restarted = attr::option_of(&job.input.attrs, "restart").is_some();
    if is_restarted && scope == Some(Scope::Unfinished) {
        problems.add(
            &item.name,
            "an instance that failed holds its key, and the next one that `restart` makes would be refused: write `states = [queued, running]`",
        );
    }
    let is_singleton = attr::option_of(&job.input.attrs, "singleton").is_some();
    if is_singleton && scope == Some(Scope::Active) {
        problems.add(
            &item.name,
            "with `singleton` only one job of the kind is queued or running, whatever its fields: remove `unique`, or remove `singleton`",
        );
    }
}

fn check_fields(job: &Job<'_>, fields: &[LitStr], problems: &mut Problems) {
    let stored = |field: &&Field<'_>| field.stored.is_stored();
    let names: Vec<&str> = job
        .fields
        .iter()
        .filter(stored)
        .map(|field| field.stored.name.as_str())
        .collect();
    let is_open = job.fields.iter().any(|field| field.stored.flattened);
    for field in fields {
        let path = field.value();
        let head = path.split('.').next().unwrap_or_default();
        if names.contains(&head) || is_open {
            continue;
        }
        let renamed = job
            .fields
            .iter()
            .filter(stored)
            .find(|own| *own.ident == head);
        let message = match (renamed, nearest(head, &names)) {
            (Some(own), _) => format!(
                "`{head}` is stored as `{0}`: write \"{0}\"",
                own.stored.name
            ),
            (None, Some(nearest)) => {
                format!("the job stores no field `{head}`: did you mean `{nearest}`?")
            }
            (None, None) => format!("the job stores no field `{head}`"),
        };
        problems.add(field, message);
    }
}

fn check_function(job: &Job<'_>, function: &Expr, problems: &mut Problems) {
    let Expr::Path(path) = function else { return };
    let is_field = |ident: &syn::Ident| job.fields.iter().any(|field| field.ident == ident);
    if let Some(ident) = path.path.get_ident().filter(|ident| is_field(ident)) {
        problems.add(
            ident,
            format!("fields stand in brackets: write `by = [{ident}]`"),
        );
    }
}
