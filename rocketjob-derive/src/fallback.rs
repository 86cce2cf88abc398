//! What is written beside the errors: an impl without content, so that the compiler does not add
//! to each mistake that the struct is not a job.

use proc_macro2::TokenStream;
use quote::quote;
use syn::Data;

use crate::{attr::Job, expand};

/// The errors, and an impl that keeps the rest of the program compiling.
///
/// A type with parameters, or which serde cannot store, gets none: the compiler would then miss
/// bounds or serde's traits.
pub(crate) fn hollow(job: &Job<'_>, errors: &TokenStream) -> TokenStream {
    let generics = &job.input.generics;
    if !generics.params.is_empty() || matches!(job.input.data, Data::Union(_)) {
        return errors.clone();
    }
    let name = expand::self_type(job);
    let bounds = &generics.where_clause;
    let definition = expand::bare_definition(job);
    let body = quote! {
        #[automatically_derived]
        impl __rocketjob::Job for #name #bounds {
            const DEFINITION: &'static __rocketjob::Definition = &#definition;
        }
    };
    let hollow = expand::in_const(job, &body);
    quote!(#errors #hollow)
}
