//! The collector of mistakes: everything that is wrong with a struct is said in one compile.

use std::fmt::Display;

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::Error;

/// The mistakes found so far, in the order in which they were found.
#[derive(Default)]
pub(crate) struct Problems {
    errors: Vec<Error>,
}

impl Problems {
    /// Adds a mistake that is shown below `place`.
    pub(crate) fn add(&mut self, place: impl ToTokens, message: impl Display) {
        self.errors.push(Error::new_spanned(place, message));
    }

    /// Adds what the parser could not read.
    pub(crate) fn add_error(&mut self, error: Error) {
        self.errors.push(error);
    }

    /// The mistakes as tokens that make the compiler report them; `None` when there are none.
    pub(crate) fn finish(self) -> Option<TokenStream> {
        let all = self.errors.into_iter().reduce(|mut all, error| {
            all.combine(error);
            all
        })?;
        Some(all.into_compile_error())
    }
}
