//! The grammar that attributes share: a list of `name`, `name = value` and `name(…)`.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{
    Attribute, Expr, ExprGroup, ExprLit, Ident, Lit, LitStr, Result, Token,
    ext::IdentExt,
    parenthesized,
    parse::{Parse, ParseStream, Parser},
    punctuated::Punctuated,
};

/// One option of an attribute.
pub(crate) struct Item {
    pub(crate) name: Ident,
    pub(crate) value: Value,
}

/// What stands behind the name of an option.
pub(crate) enum Value {
    /// Nothing: `keep_completed`.
    None,
    /// `= value`.
    Is(Expr),
    /// `(…)`.
    List(TokenStream),
}

impl Item {
    /// The options in an attribute's parentheses.
    pub(crate) fn all_of(attribute: &Attribute) -> Result<Vec<Self>> {
        attribute.parse_args_with(Self::list)
    }

    /// The options in the parentheses of another option.
    pub(crate) fn all_in(list: &TokenStream) -> Result<Vec<Self>> {
        Self::list.parse2(list.clone())
    }

    /// Whether the option has this name.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// The value, where it is a text.
    pub(crate) fn text(&self) -> Option<&LitStr> {
        match self.literal()? {
            Lit::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The value, where it is a literal.
    pub(crate) fn literal(&self) -> Option<&Lit> {
        match &self.value {
            Value::Is(value) => literal(value),
            Value::None | Value::List(_) => None,
        }
    }

    fn list(input: ParseStream<'_>) -> Result<Vec<Self>> {
        let items = Punctuated::<Self, Token![,]>::parse_terminated(input)?;
        Ok(items.into_iter().collect())
    }
}

/// The literal that the expression is; what a macro put in for one comes as a group.
pub(crate) fn literal(expression: &Expr) -> Option<&Lit> {
    match expression {
        Expr::Lit(ExprLit { lit, .. }) => Some(lit),
        Expr::Group(ExprGroup { expr, .. }) => literal(expr),
        _ => None,
    }
}

impl Parse for Item {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let name = input.call(Ident::parse_any)?;
        let value = if input.peek(Token![=]) {
            input.parse::<Token![=]>()?;
            Value::Is(input.parse()?)
        } else if input.peek(syn::token::Paren) {
            let list;
            parenthesized!(list in input);
            Value::List(list.parse()?)
        } else if input.is_empty() || input.peek(Token![,]) {
            Value::None
        } else {
            return Err(input.error(format_args!(
                "expected `{name}`, `{name} = value` or `{name}(…)`, and a comma between options"
            )));
        };
        Ok(Self { name, value })
    }
}

impl ToTokens for Item {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        self.name.to_tokens(tokens);
        match &self.value {
            Value::None => {}
            Value::Is(value) => value.to_tokens(tokens),
            Value::List(list) => list.to_tokens(tokens),
        }
    }
}
