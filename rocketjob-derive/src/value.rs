//! The values of options: what each may be, and what to say when it is something else.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{Expr, Ident, Lit, LitStr, Path, Token, parse::Parser, punctuated::Punctuated};

use crate::{
    item::{Item, Value},
    problems::Problems,
    spelling::{listed, nearest},
};

const LOG_LEVELS: &[(&str, &str)] = &[
    ("trace", "Trace"),
    ("debug", "Debug"),
    ("info", "Info"),
    ("warn", "Warn"),
    ("error", "Error"),
    ("fatal", "Fatal"),
];

const LOST_CLAIMS: &[(&str, &str)] = &[("run_again", "RunAgain"), ("fail", "Fail")];

/// From the longest, as they stand in a duration.
const UNITS: &[(char, u64)] = &[('d', 24 * 60 * 60), ('h', 60 * 60), ('m', 60), ('s', 1)];

/// An option that is there or not.
pub(crate) fn flag(item: &Item, problems: &mut Problems) -> bool {
    let plain = matches!(item.value, Value::None);
    if !plain {
        let name = &item.name;
        let message = format!("`{name}` stands alone: write `{name}`, or leave it out");
        problems.add(item, message);
    }
    plain
}

/// Text.
pub(crate) fn string(item: &Item, problems: &mut Problems) -> Option<LitStr> {
    let text = item.text().cloned();
    if text.is_none() {
        let name = &item.name;
        problems.add(item, format!("`{name}` is a text: write `{name} = \"…\"`"));
    }
    text
}

/// Several texts.
pub(crate) fn strings(item: &Item, problems: &mut Problems) -> Vec<LitStr> {
    let list = match &item.value {
        Value::List(list) => Punctuated::<LitStr, Token![,]>::parse_terminated
            .parse2(list.clone())
            .ok(),
        Value::None | Value::Is(_) => None,
    };
    let texts: Vec<_> = list.into_iter().flatten().collect();
    if texts.is_empty() {
        let name = &item.name;
        let message = format!("`{name}` is a list of texts: write `{name}(\"…\", \"…\")`");
        problems.add(item, message);
    }
    texts
}

/// A path, such as that of a crate.
pub(crate) fn path(item: &Item, problems: &mut Problems) -> Option<Path> {
    let text = string(item, problems)?;
    text.parse()
        .map_err(|_| {
            problems.add(
                &text,
                "not a path: write that of a crate or module, such as `crate = \"rocketjob\"`",
            );
        })
        .ok()
}

/// An expression in parentheses.
pub(crate) fn expression(item: &Item, problems: &mut Problems) -> Option<Expr> {
    match &item.value {
        Value::List(list) if !list.is_empty() => syn::parse2(list.clone())
            .map_err(|error| problems.add_error(error))
            .ok(),
        _ => {
            let name = &item.name;
            problems.add(
                item,
                format!("`{name}` needs a value of a type that implements `Concern`: write `{name}(EmailOnFailure)`"),
            );
            None
        }
    }
}

/// A priority.
pub(crate) fn priority(item: &Item, problems: &mut Problems) -> Option<u8> {
    let number = item.literal().and_then(|literal| match literal {
        Lit::Int(number) => number.base10_parse().ok(),
        _ => None,
    });
    let priority = number.filter(|priority| (1..=100).contains(priority));
    if priority.is_none() {
        problems.add(
            value_of(item),
            "a priority is a whole number from 1 (first) to 100 (last), such as `priority = 70`",
        );
    }
    priority
}

/// The version of a kind's fields.
pub(crate) fn version(item: &Item, problems: &mut Problems) -> Option<u32> {
    let version = positive(item);
    if version.is_none() {
        let message = format!(
            "a version is a whole number from 1 to {}, such as `version = 2`; a kind that says nothing has version 1",
            u32::MAX
        );
        problems.add(value_of(item), message);
    }
    version
}

fn positive(item: &Item) -> Option<u32> {
    let number: Option<u32> = item.literal().and_then(|literal| match literal {
        Lit::Int(number) => number.base10_parse().ok(),
        _ => None,
    });
    number.filter(|number| *number >= 1)
}

/// How many servers may die with a job.
pub(crate) fn max_lost_claims(item: &Item, problems: &mut Problems) -> Option<u32> {
    let most = positive(item);
    if most.is_none() {
        let message = format!(
            "how many servers may die with a job is a whole number from 1 to {}, such as `max_lost_claims = 5`",
            u32::MAX
        );
        problems.add(value_of(item), message);
    }
    most
}

/// A duration, in seconds.
pub(crate) fn duration(item: &Item, problems: &mut Problems) -> Option<u64> {
    let seconds = item.text().and_then(|text| parse_duration(&text.value()));
    if seconds.is_none() {
        let name = &item.name;
        let message = format!(
            "not a duration: write days, hours, minutes and seconds, such as `{name} = \"7d\"`, \"2h\", \"1h 30m\" or \"45s\""
        );
        problems.add(value_of(item), message);
    }
    seconds
}

/// A log level, as the name of the variant.
pub(crate) fn log_level(item: &Item, problems: &mut Problems) -> Option<Ident> {
    choice(item, problems, LOG_LEVELS, |given, names| {
        format!("no log level {given}\nthe levels are {names}")
    })
}

/// What follows on a lost claim, as the name of the variant.
pub(crate) fn on_lost_claim(item: &Item, problems: &mut Problems) -> Option<Ident> {
    choice(item, problems, LOST_CLAIMS, |given, names| {
        format!("`on_lost_claim` cannot be {given}\nthe choices are {names}")
    })
}

/// One of the texts in `choices`, as the name of the variant beside it. `message` is told the text
/// that is none of them, with what was probably meant, and all that it may be.
fn choice(
    item: &Item,
    problems: &mut Problems,
    choices: &[(&str, &str)],
    message: impl Fn(&str, &str) -> String,
) -> Option<Ident> {
    let text = string(item, problems)?;
    let given = text.value();
    let choice = choices.iter().find(|(name, _)| *name == given);
    if choice.is_none() {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let hint = match nearest(&given.to_lowercase(), &names) {
            Some(nearest) => format!(": did you mean \"{nearest}\"?"),
            None => String::new(),
        };
        let given = format!("\"{given}\"{hint}");
        problems.add(&text, message(&given, &listed(&names)));
    }
    choice.map(|(_, variant)| Ident::new(variant, text.span()))
}

/// The part of the option that a message about its value points at.
fn value_of(item: &Item) -> TokenStream {
    match &item.value {
        Value::Is(value) => value.to_token_stream(),
        Value::None | Value::List(_) => item.to_token_stream(),
    }
}

/// Seconds, from parts such as `1h 30m`: the longest unit first, each at most once.
pub(crate) fn parse_duration(text: &str) -> Option<u64> {
    let mut units = UNITS.iter();
    let mut total = 0_u64;
    for part in text.split_whitespace() {
        let unit = part.chars().last()?;
        let number = part.strip_suffix(unit)?;
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let (_, seconds) = units.find(|(name, _)| *name == unit)?;
        let part = number.parse::<u64>().ok()?.checked_mul(*seconds)?;
        total = total.checked_add(part)?;
    }
    (total > 0).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up_their_parts() {
        assert_eq!(parse_duration("30s"), Some(30));
        assert_eq!(parse_duration("15m"), Some(900));
        assert_eq!(parse_duration("2h"), Some(7200));
        assert_eq!(parse_duration("7d"), Some(604_800));
        assert_eq!(parse_duration(" 1h  30m "), Some(5400));
        assert_eq!(parse_duration("1d 1s"), Some(86_401));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            " ",
            "2",
            "h",
            "2 h",
            "2H",
            "-2h",
            "+2h",
            "1.5h",
            "2h30m",
            "30m 1h",
            "1h 1h",
            "0s",
            "2w",
            "2é",
            "99999999999999999999s",
            "999999999999999999d",
        ] {
            assert_eq!(parse_duration(text), None, "{text:?}");
        }
    }
}
