//! The attributes of our own concerns: each with the constant expression that it stands for.
//!
//! `#[retry(limit = 3)]` is `#[rocketjob(retry(limit = 3))]`, for those who have another derive that
//! claims the bare name.

use proc_macro2::TokenStream;
use quote::quote;

use crate::{cron, item::Item, limit, problems::Problems, retry::retry, unique::unique, value};

/// Makes the expression, whose paths begin at `__rocketjob`, and which may use `__KIND` and the stored
/// names of the fields as `StoredFields::field`; `None` where something is wrong, or
/// where the attribute says that the concern is not wanted.
pub(crate) type Read = fn(&Item, &mut Problems) -> Option<TokenStream>;

/// Each of them by its name.
const BUILT_IN: &[(&str, Read)] = &[
    ("cron", cron::cron),
    ("depends_on", limit::depends_on),
    ("processing_window", limit::processing_window),
    ("rate_limit", limit::rate_limit),
    ("restart", cron::restart),
    ("retry", retry),
    ("singleton", singleton),
    ("throttle", limit::throttle),
    ("unique", unique),
];

/// How the attribute of this name is read, and the name as it stands here.
pub(crate) fn built_in(name: &str) -> Option<(&'static str, Read)> {
    BUILT_IN.iter().find(|(known, _)| *known == name).copied()
}

/// The names of all.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|(name, _)| *name)
}

fn singleton(item: &Item, problems: &mut Problems) -> Option<TokenStream> {
    value::flag(item, problems).then(|| quote!(__rocketjob::Singleton))
}
