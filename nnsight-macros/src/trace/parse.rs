//! What is written between the parentheses.

use syn::parse::{Parse, ParseStream};
use syn::{Block, Expr, Ident, Token};

/// `trace!(model, prompt, { … })`
pub struct Trace {
    /// What the block calls the model.
    pub name: Ident,
    /// The model.
    pub model: Expr,
    /// The prompt, where it is given here and not by `invoke!`.
    pub prompt: Option<Expr>,
    /// The block.
    pub body: Block,
}

/// `invoke!(prompt, { … })`
pub struct Invoke {
    /// The prompt.
    pub prompt: Expr,
    /// The block.
    pub body: Block,
}

impl Parse for Trace {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let (name, model) = named(input.parse()?)?;
        let comma = |input: ParseStream| match input.is_empty() {
            true => Err(input.error("expected a block behind the model: `trace!(model, prompt, { … })`")),
            false => input.parse::<Token![,]>(),
        };
        comma(input)?;
        let prompt = match input.peek(syn::token::Brace) {
            true => None,
            false => {
                let prompt = input.parse()?;
                comma(input)?;
                Some(prompt)
            }
        };
        let body = input.parse()?;
        end(input)?;
        Ok(Trace { name, model, prompt, body })
    }
}

impl Parse for Invoke {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let prompt = input.parse()?;
        input.parse::<Token![,]>()?;
        let body = input.parse()?;
        end(input)?;
        Ok(Invoke { prompt, body })
    }
}

fn end(input: ParseStream) -> syn::Result<()> {
    input.parse::<Option<Token![,]>>()?;
    match input.is_empty() {
        true => Ok(()),
        false => Err(input.error("nothing may stand behind the block")),
    }
}

/// The name by which the block calls the model: `model`, `self.model` is called `model`, `m = self.models[0]` is called `m`.
fn named(expression: Expr) -> syn::Result<(Ident, Expr)> {
    if let Expr::Assign(assign) = expression {
        let name = match &*assign.left {
            Expr::Path(path) => path.path.get_ident().cloned(),
            _ => None,
        };
        let name = name.ok_or_else(|| syn::Error::new_spanned(&assign.left, "expected a name for the model, as in `m = self.models[0]`"))?;
        return Ok((name, *assign.right));
    }
    match name_of(&expression) {
        Some(name) => Ok((name, expression)),
        None => Err(syn::Error::new_spanned(&expression, "give the model a name for the block: `trace!(model = …, prompt, { … })`")),
    }
}

fn name_of(expression: &Expr) -> Option<Ident> {
    match expression {
        Expr::Path(path) => path.path.get_ident().cloned(),
        Expr::Reference(reference) => name_of(&reference.expr),
        Expr::Paren(paren) => name_of(&paren.expr),
        Expr::Group(group) => name_of(&group.expr),
        Expr::Unary(unary) => name_of(&unary.expr),
        Expr::Field(field) => match &field.member {
            syn::Member::Named(name) => Some(name.clone()),
            syn::Member::Unnamed(_) => None,
        },
        _ => None,
    }
}
