//! From data to tokens: the constants and small impls that say what the struct says.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Data, Meta, PathArguments, Type};

use crate::attr::{Concern, DefaultValue, Field, Job};

/// What is written beside a struct without mistakes.
pub(crate) fn job(job: &Job<'_>) -> TokenStream {
    let name = self_type(job);
    let definition = definition(job);
    let names = names(job);
    let registration = (!job.options.unregistered).then(|| {
        let registration = quote_spanned!(name.span()=> __rocketjob::Registration::of::<#name>());
        quote!(__rocketjob::submit! { #registration })
    });
    let body = quote! {
        // In scope for types without rules, callbacks or stored form, for which `Probe` has nothing itself.
        use __rocketjob::{NoCallbacks as _, NoRules as _, NoUpgrade as _, Unknown as _};

        #names

        #[automatically_derived]
        impl __rocketjob::Job for #name {
            const DEFINITION: &'static __rocketjob::Definition = &#definition;

            fn check_rules(&self, problems: &mut __rocketjob::ValidationFailed) {
                __rocketjob::Probe::<Self>::check(self, problems);
            }

            fn callbacks() -> ::core::option::Option<&'static dyn __rocketjob::PerformCallbacks<Self>> {
                __rocketjob::Probe::<Self>::callbacks()
            }
        }

        #registration
    };
    in_const(job, &body)
}

/// What the expressions of built-in concerns may refer to, where there are any.
fn names(job: &Job<'_>) -> Option<TokenStream> {
    let concerns = &job.options.concerns;
    let is_built_in = |concern: &Concern| matches!(concern, Concern::BuiltIn(..));
    concerns.iter().any(is_built_in).then(|| {
        let kind = job.kind();
        let stored = job.fields.iter().filter(|field| field.stored.is_stored());
        let fields = stored.map(|field| {
            let (ident, name) = (field.ident, &field.stored.name);
            quote!(const #ident: &'static str = #name;)
        });
        quote! {
            #[allow(dead_code)]
            const __KIND: &str = #kind;
            #[allow(dead_code)]
            struct StoredFields;
            #[allow(dead_code, non_upper_case_globals)]
            impl StoredFields {
                #(#fields)*
            }
        }
    })
}

/// The code where nobody sees its names, and where it finds ours.
pub(crate) fn in_const(job: &Job<'_>, body: &TokenStream) -> TokenStream {
    let path = job.options.facade.as_ref();
    let facade = path.map_or_else(|| quote!(::rocketjob), |path| quote!(#path));
    let allowed = allowed(job);
    quote! {
        #[doc(hidden)]
        #(#[allow(#allowed)])*
        const _: () = {
            use #facade::__private as __rocketjob;

            #body
        };
    }
}

/// The lints that the struct allows or expects: the code repeats the types of its fields.
fn allowed<'a>(job: &Job<'a>) -> impl Iterator<Item = &'a TokenStream> {
    let fields = match &job.input.data {
        Data::Struct(data) => Some(data.fields.iter()),
        Data::Enum(_) | Data::Union(_) => None,
    };
    let of_fields = fields.into_iter().flatten().flat_map(|field| &field.attrs);
    let attributes = job.input.attrs.iter().chain(of_fields);
    attributes.filter_map(|attribute| match &attribute.meta {
        Meta::List(lints) if lints.path.is_ident("allow") || lints.path.is_ident("expect") => {
            Some(&lints.tokens)
        }
        _ => None,
    })
}

/// The name of the struct, as the derive writes it.
pub(crate) fn self_type(job: &Job<'_>) -> Ident {
    let mut name = job.input.ident.clone();
    name.set_span(at(name.span()));
    name
}

/// The place of `span`, in code that counts as written by the derive: lints that are about what
/// people write leave it alone.
fn at(span: Span) -> Span {
    Span::call_site().located_at(span)
}

/// A definition that says the kind and the path of the type, and nothing else.
pub(crate) fn bare_definition(job: &Job<'_>) -> TokenStream {
    let kind = job.kind();
    let name = job.input.ident.to_string();
    quote! {
        __rocketjob::Definition::new(
            #kind,
            ::core::concat!(::core::module_path!(), "::", #name),
        )
    }
}

fn definition(job: &Job<'_>) -> TokenStream {
    let options = &job.options;
    let aliases = &options.aliases;
    let about = option(job.about.as_ref());
    let description = option(options.description.as_ref());
    let priority = options
        .priority
        .map(|priority| quote!(priority: #priority,));
    let keep_completed = options.keep_completed;
    let duration = |seconds: u64| quote!(::core::time::Duration::from_secs(#seconds));
    let expires_in = option(options.expires_in.map(duration));
    let log_level = option(
        options
            .log_level
            .as_ref()
            .map(|level| quote!(__rocketjob::LogLevel::#level)),
    );
    let pausable = options.pausable;
    let timeout = option(options.timeout.map(duration));
    let on_lost_claim = options
        .on_lost_claim
        .as_ref()
        .map(|what| quote!(on_lost_claim: __rocketjob::LostClaim::#what,));
    let max_lost_claims = options
        .max_lost_claims
        .map(|most| quote!(max_lost_claims: #most,));
    let version = options.version.map(|version| quote!(version: #version,));
    let fields = job
        .fields
        .iter()
        .filter(|field| field.stored.is_stored())
        .map(field_definition);
    let concerns: Vec<_> = options.concerns.iter().map(concern).collect();
    let rest = bare_definition(job);
    let own = self_type(job);
    quote! {
        __rocketjob::Definition {
            aliases: &[#(#aliases),*],
            #version
            upgrade: __rocketjob::Probe::<#own>::UPGRADE,
            about: #about,
            description: #description,
            #priority
            keep_completed: #keep_completed,
            expires_in: #expires_in,
            log_level: #log_level,
            pausable: #pausable,
            timeout: #timeout,
            #on_lost_claim
            #max_lost_claims
            fields: &[#(#fields),*],
            concerns: match __rocketjob::Probe::<#own>::CALLBACKS {
                ::core::option::Option::None => &[#(#concerns),*],
                ::core::option::Option::Some(own) => &[#(#concerns,)* own],
            },
            ..#rest
        }
    }
}

fn field_definition(field: &Field<'_>) -> TokenStream {
    let ty = field.ty;
    let name = &field.stored.name;
    let options = &field.options;
    let probe = if field.stored.converted {
        // Whatever the type's own form, the user's function makes another of it.
        quote!(<__rocketjob::Probe<#ty> as __rocketjob::Unknown>)
    } else {
        quote!(__rocketjob::Probe::<#ty>)
    };
    // An `Option` may be absent, also that of a type of which nothing is known.
    let optional = if is_option(ty) {
        quote!(true)
    } else {
        quote!(#probe::OPTIONAL)
    };
    let label = option(options.label.as_ref());
    let description = option(field.description.as_ref());
    let user_editable = options.user_editable;
    let copy_on_restart = options.copy_on_restart;
    let default = option(
        options
            .default
            .as_ref()
            .map(|default| default_of(ty, default)),
    );
    quote! {
        __rocketjob::FieldDefinition {
            name: #name,
            field_type: #probe::TYPE,
            via_text: #probe::VIA_TEXT,
            optional: #optional,
            label: #label,
            description: #description,
            user_editable: #user_editable,
            copy_on_restart: #copy_on_restart,
            default: #default,
        }
    }
}

fn default_of(ty: &Type, default: &DefaultValue) -> TokenStream {
    let of_type = || quote_spanned!(at(default.name.span())=> ::core::default::Default::default());
    let value = default
        .value
        .as_ref()
        .map_or_else(of_type, |value| quote!(#value));
    quote! {
        || {
            let value: #ty = #value;
            __rocketjob::default_value(&value)
        }
    }
}

fn concern(concern: &Concern) -> TokenStream {
    let span = at(concern.span());
    match concern {
        Concern::BuiltIn(_, made) => quote_spanned!(span=> &(#made)),
        Concern::Custom(value) => quote_spanned!(span=> &(#value)),
    }
}

fn option(value: Option<impl quote::ToTokens>) -> TokenStream {
    value.map_or_else(
        || quote!(::core::option::Option::None),
        |value| quote!(::core::option::Option::Some(#value)),
    )
}

/// Whether the type is an `Option`, as far as its name tells.
pub(crate) fn is_option(ty: &Type) -> bool {
    match ty {
        Type::Path(path) => path.path.segments.last().is_some_and(|last| {
            last.ident == "Option" && matches!(last.arguments, PathArguments::AngleBracketed(_))
        }),
        Type::Group(group) => is_option(&group.elem),
        _ => false,
    }
}
