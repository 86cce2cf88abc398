//! `#[retry(…)]`: from its options to the constant expression that it stands for.

use proc_macro2::{Ident, TokenStream};
use quote::quote;
use syn::{Expr, Lit, Token, parse::Parser, punctuated::Punctuated};

use crate::{
    item::{Item, Value},
    problems::Problems,
    spelling::{listed, nearest},
    value,
};

const OPTIONS: &[&str] = &[
    "limit", "backoff", "delay", "factor", "max", "jitter", "only", "except",
];

const BACKOFFS: &[&str] = &["polynomial", "exponential", "fixed"];

/// What the options say, each as a token stream that stands in the expression.
#[derive(Default)]
struct Options {
    limit: Option<TokenStream>,
    backoff: Option<Backoff>,
    delay: Option<(Ident, u64)>,
    factor: Option<(Ident, f64)>,
    max: Option<u64>,
    jitter: Option<f64>,
    only: Option<(Ident, TokenStream)>,
    except: Option<(Ident, TokenStream)>,
}

/// How waits grow.
enum Backoff {
    Polynomial,
    Exponential,
    Fixed,
    Function(Expr),
}

/// Reads `#[retry]` and `#[retry(…)]`.
pub(crate) fn retry(item: &Item, problems: &mut Problems) -> Option<TokenStream> {
    let mut options = Options::default();
    match &item.value {
        Value::None => {}
        Value::List(list) => match Item::all_in(list) {
            Ok(items) => options.read(&items, problems)?,
            Err(error) => {
                problems.add_error(error);
                return None;
            }
        },
        Value::Is(_) => {
            problems.add(
                item,
                "write `retry`, or its options in parentheses: `retry(limit = 5)`",
            );
            return None;
        }
    }
    options.expression(problems)
}

impl Options {
    /// `None` where something is wrong.
    fn read(&mut self, items: &[Item], problems: &mut Problems) -> Option<()> {
        let mut sound = true;
        for (at, item) in items.iter().enumerate() {
            let name = item.name.to_string();
            if items.iter().take(at).any(|before| before.is(&name)) {
                problems.add(&item.name, format!("`{name}` is given twice"));
                sound = false;
            } else {
                sound &= self.add(&name, item, problems);
            }
        }
        sound.then_some(())
    }

    fn add(&mut self, name: &str, item: &Item, problems: &mut Problems) -> bool {
        let named = |value| (item.name.clone(), value);
        match name {
            "limit" => is_set(&mut self.limit, limit(item, problems)),
            "backoff" => is_set(&mut self.backoff, backoff(item, problems)),
            "delay" => is_set(&mut self.delay, value::duration(item, problems).map(named)),
            "factor" => {
                let factor = number(item, 1.0..=1000.0, problems);
                is_set(
                    &mut self.factor,
                    factor.map(|factor| (item.name.clone(), factor)),
                )
            }
            "max" => is_set(&mut self.max, value::duration(item, problems)),
            "jitter" => is_set(&mut self.jitter, number(item, 0.0..=1.0, problems)),
            "only" | "except" => {
                let classes = classes(item, problems);
                let classes = classes.map(|classes| (item.name.clone(), classes));
                let place = if name == "only" {
                    &mut self.only
                } else {
                    &mut self.except
                };
                is_set(place, classes)
            }
            _ => {
                problems.add(&item.name, unknown(name));
                false
            }
        }
    }

    fn expression(self, problems: &mut Problems) -> Option<TokenStream> {
        self.check(problems)?;
        let backoff = self.backoff();
        let limit = self.limit.map(|limit| quote!(limit: #limit,));
        let seconds = |seconds: u64| quote!(::core::time::Duration::from_secs(#seconds));
        let max = self.max.map(seconds);
        let max = max.map(|max| quote!(max: ::core::option::Option::Some(#max),));
        let jitter = self.jitter.map(|jitter| quote!(jitter: #jitter,));
        let errors = match (self.only, self.except) {
            (Some((_, only)), _) => Some(quote!(errors: __rocketjob::RetryOn::Only(&[#only]),)),
            (_, Some((_, except))) => {
                Some(quote!(errors: __rocketjob::RetryOn::Except(&[#except]),))
            }
            _ => None,
        };
        Some(quote! {
            __rocketjob::Retry {
                #limit
                backoff: #backoff,
                #max
                #jitter
                #errors
                ..__rocketjob::Retry::DEFAULT
            }
        })
    }

    /// What does not go together.
    fn check(&self, problems: &mut Problems) -> Option<()> {
        let mut sound = true;
        if let (Some(_), Some((except, _))) = (&self.only, &self.except) {
            problems.add(
                except,
                "`only` names all errors after which a job is tried again: remove `except`, or remove `only`",
            );
            sound = false;
        }
        if let (Some((factor, _)), false) = (
            &self.factor,
            matches!(self.backoff, Some(Backoff::Exponential)),
        ) {
            problems.add(
                factor,
                "`factor` says by how much each wait is longer than the one before: it goes with `backoff = exponential` alone",
            );
            sound = false;
        }
        if let (Some((delay, _)), Some(Backoff::Function(_))) = (&self.delay, &self.backoff) {
            problems.add(
                delay,
                "the function says how long each wait is: remove `delay`",
            );
            sound = false;
        }
        sound.then_some(())
    }

    fn backoff(&self) -> TokenStream {
        let seconds = self.delay.as_ref().map_or(5, |(_, seconds)| *seconds);
        let delay = quote!(delay: ::core::time::Duration::from_secs(#seconds));
        match &self.backoff {
            None | Some(Backoff::Polynomial) => quote!(__rocketjob::Backoff::Polynomial { #delay }),
            Some(Backoff::Fixed) => quote!(__rocketjob::Backoff::Fixed { #delay }),
            Some(Backoff::Exponential) => {
                let factor = self.factor.as_ref().map_or(2.0, |(_, factor)| *factor);
                quote!(__rocketjob::Backoff::Exponential { #delay, factor: #factor })
            }
            Some(Backoff::Function(function)) => quote!(__rocketjob::Backoff::By(#function)),
        }
    }
}

/// Puts the value into its place, and says whether there is one.
fn is_set<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    *place = value;
    place.is_some()
}

fn limit(item: &Item, problems: &mut Problems) -> Option<TokenStream> {
    let number = item.literal().and_then(|literal| match literal {
        Lit::Int(number) => number.base10_parse::<u32>().ok(),
        _ => None,
    });
    if number.is_none() {
        problems.add(
            item,
            "how often a job is tried again is a whole number, such as `limit = 5`; 0 for never",
        );
    }
    number.map(|number| quote!(#number))
}

fn number(
    item: &Item,
    range: std::ops::RangeInclusive<f64>,
    problems: &mut Problems,
) -> Option<f64> {
    let number = item.literal().and_then(|literal| match literal {
        Lit::Int(number) => number.base10_parse::<f64>().ok(),
        Lit::Float(number) => number.base10_parse::<f64>().ok(),
        _ => None,
    });
    let number = number.filter(|number| range.contains(number));
    if number.is_none() {
        let (name, least, most) = (&item.name, range.start(), range.end());
        problems.add(item, format!("`{name}` is a number from {least} to {most}"));
    }
    number
}

fn backoff(item: &Item, problems: &mut Problems) -> Option<Backoff> {
    let Value::Is(value) = &item.value else {
        let names = listed(BACKOFFS);
        let message = format!(
            "write `backoff = …` with one of {names}, or the path of a function `fn(u32, &JobFailure) -> Duration`"
        );
        problems.add(item, message);
        return None;
    };
    let word = match value {
        Expr::Path(path) => path.path.get_ident().map(ToString::to_string),
        _ => None,
    };
    let backoff = match word.as_deref() {
        Some("polynomial") => Backoff::Polynomial,
        Some("exponential") => Backoff::Exponential,
        Some("fixed") => Backoff::Fixed,
        _ => Backoff::Function(value.clone()),
    };
    Some(backoff)
}

/// Classes of errors: texts, and paths of types.
fn classes(item: &Item, problems: &mut Problems) -> Option<TokenStream> {
    let list = match &item.value {
        Value::List(list) => Punctuated::<Expr, Token![,]>::parse_terminated
            .parse2(list.clone())
            .ok(),
        Value::None | Value::Is(_) => None,
    };
    let classes = list.and_then(|list| list.iter().map(class).collect::<Option<Vec<_>>>());
    let classes = classes.filter(|classes| !classes.is_empty());
    if classes.is_none() {
        let name = &item.name;
        let message = format!(
            "`{name}` is a list of classes of errors, by type or by name: write `{name}(MyError, \"Timeout\")`"
        );
        problems.add(item, message);
    }
    classes.map(|classes| quote!(#(#classes),*))
}

fn class(class: &Expr) -> Option<TokenStream> {
    match class {
        Expr::Path(path) => {
            Some(quote!(__rocketjob::ErrorClass::Of(::core::any::type_name::<#path>)))
        }
        Expr::Lit(literal) => match &literal.lit {
            Lit::Str(name) if !name.value().trim().is_empty() => {
                Some(quote!(__rocketjob::ErrorClass::Named(#name)))
            }
            _ => None,
        },
        _ => None,
    }
}

fn unknown(name: &str) -> String {
    let hint = match nearest(name, OPTIONS) {
        Some(nearest) => format!(": did you mean `{nearest}`?"),
        None => String::new(),
    };
    let accepted = listed(OPTIONS);
    format!("unknown option `{name}`{hint}\n`#[retry(…)]` accepts {accepted}")
}
