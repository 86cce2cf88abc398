//! The attributes that keep jobs from starting: `throttle`, `rate_limit`, `depends_on` and
//! `processing_window`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{
    Ident, Lit, LitInt, LitStr, Path, Token,
    parse::{Parse, ParseStream, Parser},
    punctuated::Punctuated,
};

use crate::{
    item::{Item, Value},
    problems::Problems,
    spelling::listed,
    value,
};

const THROTTLE: &[&str] = &["running", "group", "by"];
const RATE_UNITS: &[(&str, u64)] = &[
    ("second", 1),
    ("minute", 60),
    ("hour", 60 * 60),
    ("day", 24 * 60 * 60),
];

const THROTTLE_FORM: &str =
    "write `throttle(running = 25)`, with `group = \"…\"` or `by = field` where that is meant";
const RATE_FORM: &str = "write `rate_limit(100 per minute)`, with a second, minute, hour, day or a text such as \"10s\", and `by = field` where that is meant";
const DEPENDS_FORM: &str = "write the kinds to wait for: `depends_on(FirstJob, SecondJob)`; \"Other::Kind\" for one of another program";
const WINDOW_FORM: &str =
    "write `processing_window(schedule = \"30 8 * * * America/New_York\", duration = \"10h\")`";

/// `#[throttle(running = 25, group = "…" | by = field)]`.
pub(crate) fn throttle(item: &Item, problems: &mut Problems) -> Option<TokenStream> {
    let options = options(item, THROTTLE_FORM, problems)?;
    let (mut running, mut group, mut by) = (None, None, None);
    for option in &options {
        match option.name.to_string().as_str() {
            "running" => running = positive(option, "running", problems),
            "group" => group = value::string(option, problems),
            "by" => by = field(option, problems),
            name => {
                let known = listed(THROTTLE);
                let message = format!("unknown option `{name}`\n`throttle` accepts {known}");
                problems.add(&option.name, message);
            }
        }
    }
    if let (Some(_), Some(by)) = (&group, &by) {
        problems.add(
            by,
            "`group` counts all jobs of the group together, and `by` those of each value apart: give one of them",
        );
        return None;
    }
    if running.is_none() && !options.iter().any(|option| option.is("running")) {
        problems.add(item, THROTTLE_FORM);
    }
    let running = running?;
    let group = group.map(|group| quote!(.group(#group)));
    let by = by.as_ref().map(by_field);
    Some(quote!(__rocketjob::Throttle::new(__KIND, #running) #group #by))
}

/// `#[rate_limit(100 per minute, by = field)]`.
pub(crate) fn rate_limit(item: &Item, problems: &mut Problems) -> Option<TokenStream> {
    let Value::List(list) = &item.value else {
        problems.add(item, RATE_FORM);
        return None;
    };
    let rate = match syn::parse2::<RateTokens>(list.clone()) {
        Ok(rate) => rate,
        Err(error) => {
            problems.add_error(error);
            return None;
        }
    };
    let mut by = None;
    for option in &rate.options {
        if option.is("by") {
            by = field(option, problems);
        } else {
            problems.add(&option.name, RATE_FORM);
        }
    }
    let (starts, seconds) = (rate.starts, rate.seconds);
    let by = by.as_ref().map(by_field);
    Some(quote! {
        __rocketjob::RateLimit::new(
            __KIND,
            #starts,
            ::core::time::Duration::from_secs(#seconds),
        ) #by
    })
}

/// `#[depends_on(FirstJob, "Second::Kind")]`.
pub(crate) fn depends_on(item: &Item, problems: &mut Problems) -> Option<TokenStream> {
    let list = match &item.value {
        Value::List(list) if !list.is_empty() => list.clone(),
        _ => {
            problems.add(item, DEPENDS_FORM);
            return None;
        }
    };
    let Ok(kinds) = Punctuated::<Dependency, Token![,]>::parse_terminated.parse2(list) else {
        problems.add(item, DEPENDS_FORM);
        return None;
    };
    let kinds = kinds.iter().map(Dependency::expand);
    Some(quote!(__rocketjob::DependsOn::new(&[#(#kinds),*])))
}

/// `#[processing_window(schedule = "…", duration = "10h")]`.
pub(crate) fn processing_window(item: &Item, problems: &mut Problems) -> Option<TokenStream> {
    let (mut schedule, mut duration) = (None, None);
    for option in options(item, WINDOW_FORM, problems)? {
        match option.name.to_string().as_str() {
            "schedule" => schedule = value::string(&option, problems),
            "duration" => duration = value::duration(&option, problems),
            _ => problems.add(&option.name, WINDOW_FORM),
        }
    }
    let (Some(schedule), Some(duration)) = (schedule, duration) else {
        problems.add(item, WINDOW_FORM);
        return None;
    };
    Some(quote!(__rocketjob::ProcessingWindow::new(#schedule, #duration)))
}

/// A number of starts, the window, and what else stands there.
struct RateTokens {
    starts: u32,
    seconds: u64,
    options: Vec<Item>,
}

impl Parse for RateTokens {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let form = |input: ParseStream<'_>| input.error(RATE_FORM);
        let number: LitInt = input.parse().map_err(|_| form(input))?;
        let starts = number.base10_parse().ok().filter(|starts| *starts > 0);
        let starts = starts.ok_or_else(|| syn::Error::new(number.span(), RATE_FORM))?;
        let per: Ident = input.parse().map_err(|_| form(input))?;
        if per != "per" {
            return Err(syn::Error::new(per.span(), RATE_FORM));
        }
        let seconds = window(input)?;
        let mut options = Vec::new();
        if input.parse::<Option<Token![,]>>()?.is_some() {
            options = Item::all_in(&input.parse()?)?;
        }
        Ok(Self {
            starts,
            seconds,
            options,
        })
    }
}

/// The length of the window: a unit, or a duration as text.
fn window(input: ParseStream<'_>) -> syn::Result<u64> {
    if input.peek(LitStr) {
        let text: LitStr = input.parse()?;
        let seconds = value::parse_duration(&text.value());
        return seconds.ok_or_else(|| syn::Error::new(text.span(), RATE_FORM));
    }
    let unit: Ident = input.parse().map_err(|_| input.error(RATE_FORM))?;
    let known = RATE_UNITS.iter().find(|(name, _)| unit == name);
    known
        .map(|(_, seconds)| *seconds)
        .ok_or_else(|| syn::Error::new(unit.span(), RATE_FORM))
}

/// A kind to wait for.
enum Dependency {
    Kind(LitStr),
    Job(Path),
}

impl Parse for Dependency {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if input.peek(LitStr) {
            input.parse().map(Self::Kind)
        } else {
            input.parse().map(Self::Job)
        }
    }
}

impl Dependency {
    fn expand(&self) -> TokenStream {
        match self {
            Self::Kind(kind) => quote!(|| #kind),
            Self::Job(job) => quote!(|| <#job as __rocketjob::Job>::DEFINITION.kind),
        }
    }
}

fn options(item: &Item, form: &str, problems: &mut Problems) -> Option<Vec<Item>> {
    let Value::List(list) = &item.value else {
        problems.add(item, form);
        return None;
    };
    match Item::all_in(list) {
        Ok(options) => Some(options),
        Err(error) => {
            problems.add_error(error);
            None
        }
    }
}

fn positive(option: &Item, name: &str, problems: &mut Problems) -> Option<u32> {
    let number = option.literal().and_then(|literal| match literal {
        Lit::Int(number) => number.base10_parse().ok(),
        _ => None,
    });
    let number = number.filter(|number| *number > 0);
    if number.is_none() {
        let message = format!(
            "`{name}` is a whole number from 1, such as `{name} = 25`: for no limit, leave the attribute out"
        );
        problems.add(option, message);
    }
    number
}

/// The name of a field of the struct.
fn field(option: &Item, problems: &mut Problems) -> Option<Ident> {
    let name = match &option.value {
        Value::Is(syn::Expr::Path(path)) => path.path.get_ident().cloned(),
        _ => None,
    };
    if name.is_none() {
        problems.add(option, "`by` is the name of a field: write `by = customer`");
    }
    name
}

/// Where the name is no field of the struct, the compiler says so at the name.
fn by_field(field: &Ident) -> TokenStream {
    let name = quote_spanned!(field.span()=> StoredFields::#field);
    quote!(.by(#name))
}
