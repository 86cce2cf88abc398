//! `#[cron(…)]` and `#[restart]`.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::{
    Expr, ExprCall, ExprLit, Lit, LitBool, LitStr, Token,
    parse::{Parse as _, ParseStream, Parser},
};

use crate::{
    item::{Item, Value},
    problems::Problems,
    spelling::listed,
    value,
};

const OPTIONS: &[&str] = &["singleton", "after_start", "misfire"];

const MISFIRE: &str = "what becomes of missed times is `misfire = skip`, `misfire = run_once` or `misfire = run_all(n)` with at least 1";

/// `#[restart]`.
pub(crate) fn restart(item: &Item, problems: &mut Problems) -> Option<TokenStream> {
    value::flag(item, problems).then(|| quote!(__rocketjob::Restart))
}

/// `#[cron]`, `#[cron("…")]`, `#[cron("…", option = value)]`.
pub(crate) fn cron(item: &Item, problems: &mut Problems) -> Option<TokenStream> {
    let (schedule, options) = match &item.value {
        Value::None => (None, Vec::new()),
        Value::List(list) => match parts.parse2(list.clone()) {
            Ok(parts) => parts,
            Err(error) => {
                problems.add_error(error);
                return None;
            }
        },
        Value::Is(_) => {
            problems.add(item, "write `cron(\"0 2 * * *\")`, or `cron` alone for jobs that get their schedule when they are created");
            return None;
        }
    };
    let mut fields = TokenStream::new();
    let mut seen = Vec::new();
    for option in &options {
        let name = option.name.to_string();
        if seen.contains(&name) {
            problems.add(&option.name, format!("`{name}` is given twice"));
            continue;
        }
        fields.extend(field(option, problems));
        seen.push(name);
    }
    let checked = schedule.as_ref().map(checked);
    let schedule = schedule.map(|text| quote!(schedule: ::core::option::Option::Some(#text),));
    Some(quote! {{
        #checked
        // Where all options are given the rest adds nothing.
        #[allow(clippy::needless_update)]
        const CRON: __rocketjob::Cron =
            __rocketjob::Cron { #schedule #fields ..__rocketjob::Cron::ad_hoc() };
        CRON
    }})
}

/// The schedule, and the options behind it.
fn parts(input: ParseStream<'_>) -> syn::Result<(Option<LitStr>, Vec<Item>)> {
    let mut schedule = None;
    if input.peek(LitStr) {
        schedule = Some(input.parse()?);
        if !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
    }
    let options = input.parse_terminated(Item::parse, Token![,])?;
    Ok((schedule, options.into_iter().collect()))
}

/// What fails to compile when the text is no schedule, where the text stands.
fn checked(text: &LitStr) -> TokenStream {
    quote_spanned! {text.span()=>
        const {
            if let ::core::option::Option::Some(why) = __rocketjob::Schedule::flaw(#text) {
                ::core::panic!("{}", why);
            }
        }
    }
}

fn field(option: &Item, problems: &mut Problems) -> Option<TokenStream> {
    let name = &option.name;
    match name.to_string().as_str() {
        "singleton" | "after_start" => {
            if let Some(Lit::Bool(LitBool { value, .. })) = option.literal() {
                return Some(quote!(#name: #value,));
            }
            let message = format!("write `{name} = true` or `{name} = false`");
            problems.add(option, message);
            None
        }
        "misfire" => {
            let policy = match &option.value {
                Value::Is(value) => misfire(value),
                Value::None | Value::List(_) => None,
            };
            if policy.is_none() {
                problems.add(option, MISFIRE);
            }
            policy.map(|policy| quote!(misfire: __rocketjob::Misfire::#policy,))
        }
        other => {
            let accepted = listed(OPTIONS);
            let message =
                format!("unknown option `{other}`\n`#[cron(…)]` accepts a schedule, {accepted}");
            problems.add(name, message);
            None
        }
    }
}

fn misfire(value: &Expr) -> Option<TokenStream> {
    if let Expr::Call(ExprCall { func, args, .. }) = value {
        let is_all = func.to_token_stream().to_string() == "run_all" && args.len() == 1;
        let Some(Expr::Lit(ExprLit {
            lit: Lit::Int(most),
            ..
        })) = args.first().filter(|_| is_all)
        else {
            return None;
        };
        let most = most.base10_parse::<u32>().ok().filter(|most| *most >= 1)?;
        return Some(quote!(RunAll(#most)));
    }
    match value.to_token_stream().to_string().as_str() {
        "skip" => Some(quote!(Skip)),
        "run_once" => Some(quote!(RunOnce)),
        _ => None,
    }
}
