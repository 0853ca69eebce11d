//! What is written between the parentheses.

use syn::parse::{Parse, ParseStream};
use syn::{Block, Expr, ExprForLoop, Ident, Token};

/// `trace!(model, prompt, { … })`, `generate!(model, prompt, max_new_tokens = 20, { … })`
pub struct Trace {
    /// What the block calls the model.
    pub name: Ident,
    /// The model.
    pub model: Expr,
    /// The prompt, where it is given here and not by `invoke!`.
    pub prompt: Option<Expr>,
    /// How prompts are continued.
    pub settings: Settings,
    /// The block.
    pub body: Block,
}

/// `sweep!(model, prompt, checkpoint = "grid.safetensors", for (layer, position) in grid(0..30, 0..14) { … })`
pub struct Sweep {
    /// What the block calls the model.
    pub name: Ident,
    /// The model.
    pub model: Expr,
    /// The prompt of every point, which may name what the pattern binds.
    pub prompt: Expr,
    /// What else is asked for.
    pub settings: Settings,
    /// The points, and the block.
    pub points: ExprForLoop,
}

impl Parse for Sweep {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let (name, model) = named(input.parse()?)?;
        input.parse::<Token![,]>()?;
        let prompt = input.parse()?;
        input.parse::<Token![,]>()?;
        let mut settings = Settings::default();
        while input.peek(Ident) && input.peek2(Token![=]) {
            let name = input.parse()?;
            input.parse::<Token![=]>()?;
            settings.0.push((name, input.parse()?));
            input.parse::<Token![,]>()?;
        }
        let points = input.parse().map_err(|error| syn::Error::new(error.span(), "expected the points: `for layer in 0..30 { … }`"))?;
        end(input)?;
        Ok(Sweep { name, model, prompt, settings, points })
    }
}

/// `invoke!(prompt, { … })`, `invoke!({ … })`
pub struct Invoke {
    /// The prompt; without one the block sees all prompts side by side.
    pub prompt: Option<Expr>,
    /// How it is continued, where that is said here.
    pub settings: Settings,
    /// The block.
    pub body: Block,
}

/// `max_new_tokens = 20, temperature = 0.7`
#[derive(Default)]
pub struct Settings(pub Vec<(Ident, Expr)>);

impl Settings {
    /// Takes a setting out.
    pub fn take(&mut self, name: &str) -> Option<Expr> {
        let index = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.remove(index).1)
    }
}

impl Parse for Trace {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let (name, model) = named(input.parse()?)?;
        if input.is_empty() {
            return Err(input.error("expected a block behind the model: `trace!(model, prompt, { … })`"));
        }
        input.parse::<Token![,]>()?;
        let Invoke { prompt, settings, body } = input.parse()?;
        Ok(Trace { name, model, prompt, settings, body })
    }
}

impl Parse for Invoke {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let (mut prompt, mut settings) = (None, Settings::default());
        while !input.peek(syn::token::Brace) {
            match input.parse()? {
                Expr::Assign(assign) => match &*assign.left {
                    Expr::Path(path) if path.path.get_ident().is_some() => {
                        settings.0.extend(path.path.get_ident().map(|name| (name.clone(), *assign.right.clone())));
                    }
                    other => return Err(syn::Error::new_spanned(other, "expected a setting, as in `max_new_tokens = 20`")),
                },
                expression if prompt.is_none() && settings.0.is_empty() => prompt = Some(expression),
                other => return Err(syn::Error::new_spanned(other, "expected a setting, as in `max_new_tokens = 20`, or the block")),
            }
            if input.is_empty() {
                return Err(input.error("expected a block behind the prompt: `trace!(model, prompt, { … })`"));
            }
            input.parse::<Token![,]>()?;
        }
        let body = input.parse()?;
        end(input)?;
        Ok(Invoke { prompt, settings, body })
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
