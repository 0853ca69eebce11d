//! What `derive(Module)` reads off a struct.

use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Attribute, Data, DeriveInput, Expr, Field, Fields, GenericArgument, Generics, Ident, LitStr, PathArguments, Token, Type, Visibility};

use super::common::Common;
use super::load::Load;
use crate::errors::Errors;

/// A struct of submodules.
pub struct Module {
    pub name: Ident,
    pub visibility: Visibility,
    pub generics: Generics,
    /// The type parameter for its signature, if it has one of its own.
    pub signature: Option<Ident>,
    /// The name of the struct of sites.
    pub sites: Ident,
    /// What it takes and gives; a model and its containers have neither.
    pub ends: Option<(Shape, Shape)>,
    /// The innermost axes, where it treats every position by itself.
    pub pointwise: Option<(Type, Type)>,
    /// Children and taps in the order in which a forward pass reaches them.
    pub elements: Vec<Element>,
    /// The field of type `Place`.
    pub place: Ident,
    /// How it is read from a checkpoint, if it says.
    pub load: Option<Load>,
    /// The names that its sites have on every architecture.
    pub common: Vec<Common>,
}

/// A child or a tap.
pub struct Element {
    pub name: Ident,
    pub docs: Vec<Attribute>,
    /// What it depends on, where that is not everything before it.
    pub from: Option<Vec<Ident>>,
    pub what: What,
}

pub enum What {
    Child {
        ty: Type,
        pointwise: bool,
    },
    /// `count` is the size of the model that is its length; `stages`, whether the model's stages are its entries.
    List {
        ty: Type,
        count: Option<Type>,
        stages: bool,
    },
    Tap {
        shape: Shape,
        mixes: Option<Mixes>,
    },
}

/// `(Batch, Seq, Hidden)`, or `(Batch, Seq) Int`
pub struct Shape {
    pub dims: Type,
    pub kind: Option<Ident>,
}

impl Parse for Shape {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let dims = input.parse()?;
        let kind = if input.peek(Ident) { Some(input.parse()?) } else { None };
        Ok(Shape { dims, kind })
    }
}

mod keyword {
    syn::custom_keyword!(sites);
    syn::custom_keyword!(input);
    syn::custom_keyword!(output);
    syn::custom_keyword!(pointwise);
    syn::custom_keyword!(config);
    syn::custom_keyword!(from);
    syn::custom_keyword!(name);
    syn::custom_keyword!(count);
    syn::custom_keyword!(stages);
    syn::custom_keyword!(mixes);
}

/// `#[module(sites = Mlp, input: (…), output: (…), pointwise(Hidden, Hidden), config = LlamaConfig)]`
#[derive(Default)]
struct ModuleArguments {
    sites: Option<Ident>,
    input: Option<Shape>,
    output: Option<Shape>,
    pointwise: Option<(Type, Type)>,
    config: Option<Type>,
}

impl Parse for ModuleArguments {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let mut arguments = ModuleArguments::default();
        while !input.is_empty() {
            if input.peek(keyword::sites) {
                input.parse::<keyword::sites>()?;
                input.parse::<Token![=]>()?;
                arguments.sites = Some(input.parse()?);
            } else if input.peek(keyword::input) {
                input.parse::<keyword::input>()?;
                input.parse::<Token![:]>()?;
                arguments.input = Some(input.parse()?);
            } else if input.peek(keyword::output) {
                input.parse::<keyword::output>()?;
                input.parse::<Token![:]>()?;
                arguments.output = Some(input.parse()?);
            } else if input.peek(keyword::pointwise) {
                input.parse::<keyword::pointwise>()?;
                let content;
                syn::parenthesized!(content in input);
                let from = content.parse()?;
                content.parse::<Token![,]>()?;
                arguments.pointwise = Some((from, content.parse()?));
            } else if input.peek(keyword::config) {
                input.parse::<keyword::config>()?;
                input.parse::<Token![=]>()?;
                arguments.config = Some(input.parse()?);
            } else {
                return Err(input.error("expected `sites = Name`, `input: (…)`, `output: (…)`, `pointwise(In, Out)` or `config = Config`"));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(arguments)
    }
}

/// `#[child]`, `#[child(pointwise, from(a, b), name = "model.norm", epsilon = config.epsilon)]`, `#[child(count = Experts)]`
#[derive(Default)]
pub struct ChildArguments {
    pointwise: bool,
    from: Option<Vec<Ident>>,
    /// The size of the model that is the length of a list, if not the number of layers.
    pub count: Option<Type>,
    /// Whether the model's stages are the entries of a list that says how long it is.
    stages: Option<keyword::stages>,
    /// What the checkpoint calls it, if not as the field is called.
    pub name: Option<LitStr>,
    /// How it is read: the options of its own that are not the default.
    pub options: Vec<(Ident, Expr)>,
}

impl Parse for ChildArguments {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let mut arguments = ChildArguments::default();
        while !input.is_empty() {
            if input.peek(keyword::pointwise) {
                input.parse::<keyword::pointwise>()?;
                arguments.pointwise = true;
            } else if input.peek(keyword::name) && input.peek2(Token![=]) {
                input.parse::<keyword::name>()?;
                input.parse::<Token![=]>()?;
                arguments.name = Some(input.parse()?);
            } else if input.peek(keyword::count) && input.peek2(Token![=]) {
                input.parse::<keyword::count>()?;
                input.parse::<Token![=]>()?;
                arguments.count = Some(input.parse()?);
            } else if input.peek(keyword::stages) {
                arguments.stages = Some(input.parse()?);
            } else if input.peek(Ident) && input.peek2(Token![=]) {
                let option = input.parse()?;
                input.parse::<Token![=]>()?;
                arguments.options.push((option, input.parse()?));
            } else {
                arguments.from = Some(parse_from(input)?);
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(arguments)
    }
}

impl ChildArguments {
    pub fn of(attribute: &Attribute) -> syn::Result<Self> {
        match &attribute.meta {
            syn::Meta::Path(_) => Ok(ChildArguments::default()),
            _ => attribute.parse_args(),
        }
    }
}

/// How a tap mixes positions: `mixes(causal)`, which `mixes` alone means, `mixes(all)`, `mixes(scan)`, `mixes(window(4096))`.
pub enum Mixes {
    Causal,
    All,
    Scan,
    Window(syn::Expr),
}

impl Parse for Mixes {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        if !input.peek(syn::token::Paren) {
            return Ok(Mixes::Causal);
        }
        let content;
        syn::parenthesized!(content in input);
        let name: Ident = content.parse()?;
        match name.to_string().as_str() {
            "causal" => Ok(Mixes::Causal),
            "all" => Ok(Mixes::All),
            "scan" => Ok(Mixes::Scan),
            "window" => {
                let size;
                syn::parenthesized!(size in content);
                Ok(Mixes::Window(size.parse()?))
            }
            _ => Err(syn::Error::new(name.span(), "positions are mixed `causal`, `all`, `scan` or `window(size)`")),
        }
    }
}

/// `#[tap(z: (Batch, Heads, Seq, HeadDim), from(pattern, v), mixes)]`; `mixes` says that a position's value depends on others.
struct TapArguments {
    name: Ident,
    shape: Shape,
    from: Option<Vec<Ident>>,
    mixes: Option<Mixes>,
}

impl Parse for TapArguments {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let name = input.parse()?;
        input.parse::<Token![:]>()?;
        let shape = input.parse()?;
        let (mut from, mut mixes) = (None, None);
        while input.parse::<Option<Token![,]>>()?.is_some() && !input.is_empty() {
            match input.parse::<Option<keyword::mixes>>()? {
                Some(_) => mixes = Some(input.parse()?),
                None => from = Some(parse_from(input)?),
            }
        }
        Ok(TapArguments { name, shape, from, mixes })
    }
}

fn parse_from(input: ParseStream) -> syn::Result<Vec<Ident>> {
    input.parse::<keyword::from>().map_err(|error| syn::Error::new(error.span(), "expected `from(…)`: the elements it depends on"))?;
    let content;
    syn::parenthesized!(content in input);
    Ok(Punctuated::<Ident, Token![,]>::parse_terminated(&content)?.into_iter().collect())
}

impl Module {
    /// Reads a struct; notes everything that is wrong with it.
    pub fn new(input: &DeriveInput, errors: &mut Errors) -> Option<Self> {
        let fields = match &input.data {
            Data::Struct(data) => match &data.fields {
                Fields::Named(fields) => &fields.named,
                _ => return fail(errors, input, "a module needs named fields: their names are the names of its sites"),
            },
            _ => return fail(errors, input, "only a struct can be a module"),
        };
        let mut arguments = ModuleArguments::default();
        for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("module")) {
            arguments = errors.keep(attribute.parse_args())?;
        }
        let signature = signature_of(&input.generics);
        let ends = match (arguments.input, arguments.output) {
            (Some(input), Some(output)) => Some((input, output)),
            (None, None) => None,
            _ => return fail(errors, input, "a module has both an input and an output, or neither"),
        };
        let Some(place) = fields.iter().find(|field| is_named(&field.ty, "Place")).and_then(|field| field.ident.clone()) else {
            return fail(errors, input, "a module needs a field `place: Place`, which says where its sites are");
        };
        let elements = fields.iter().flat_map(|field| elements(field, errors)).collect::<Vec<_>>();
        check_sources(&elements, ends.is_some(), errors);
        if elements.len() > ELEMENTS {
            errors.add(
                input.ident.span(),
                format!("a module has at most {ELEMENTS} children and taps, and this has {}: make some of them a module", elements.len()),
            );
        }
        let load = Load::new(arguments.config, fields, errors);
        let common = input.attrs.iter().filter(|attribute| attribute.path().is_ident("common"));
        let common = common.filter_map(|attribute| errors.keep(attribute.parse_args())).collect();
        let sites = arguments.sites.unwrap_or_else(|| quote::format_ident!("{}Sites", input.ident));
        Some(Module {
            name: input.ident.clone(),
            visibility: input.vis.clone(),
            generics: input.generics.clone(),
            signature,
            sites,
            ends,
            pointwise: arguments.pointwise,
            elements,
            place,
            load,
            common,
        })
    }
}

/// The most children and taps of a module, beside its input and output: what depends on what is kept as bits of a word.
const ELEMENTS: usize = 62;

/// The parameter that is the checkpoint: the one that is bound to be a `Signature`.
fn signature_of(generics: &Generics) -> Option<Ident> {
    let is_signature = |bound: &syn::TypeParamBound| match bound {
        syn::TypeParamBound::Trait(bound) => bound.path.segments.last().is_some_and(|last| last.ident == "Signature"),
        _ => false,
    };
    let by_bound = generics.type_params().find(|parameter| parameter.bounds.iter().any(is_signature)).map(|parameter| parameter.ident.clone());
    let by_clause = || {
        generics.where_clause.as_ref()?.predicates.iter().find_map(|predicate| match predicate {
            syn::WherePredicate::Type(predicate) if predicate.bounds.iter().any(is_signature) => match &predicate.bounded_ty {
                Type::Path(path) => path.path.get_ident().cloned(),
                _ => None,
            },
            _ => None,
        })
    };
    by_bound.or_else(by_clause)
}

/// Every name in a `from(…)` is that of an element before it.
fn check_sources(elements: &[Element], has_input: bool, errors: &mut Errors) {
    let mut known = Vec::from_iter(has_input.then(|| "input".to_string()));
    for element in elements {
        for name in element.from.iter().flatten().filter(|name| !known.contains(&name.to_string())) {
            let known = match known.is_empty() {
                true => "there is none before it".to_string(),
                false => format!("before it there are `{}`", known.join("`, `")),
            };
            errors.add(name.span(), format!("`from(…)` names a child or tap before `{}`, and `{name}` is none: {known}", element.name));
        }
        known.push(element.name.to_string());
    }
}

fn fail<T>(errors: &mut Errors, input: &DeriveInput, message: &str) -> Option<T> {
    errors.add(input.ident.span(), message);
    None
}

pub fn is_named(ty: &Type, name: &str) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|segment| segment.ident == name))
}

/// The taps before a field, and the field itself where it is a child.
fn elements(field: &Field, errors: &mut Errors) -> Vec<Element> {
    let mut elements = Vec::new();
    let docs = || field.attrs.iter().filter(|attribute| attribute.path().is_ident("doc")).cloned().collect::<Vec<_>>();
    for attribute in &field.attrs {
        if attribute.path().is_ident("tap") {
            if let Some(TapArguments { name, shape, from, mixes }) = errors.keep(attribute.parse_args()) {
                elements.push(Element { name, docs: Vec::new(), from, what: What::Tap { shape, mixes } });
            }
        } else if attribute.path().is_ident("child") {
            let arguments = errors.keep(ChildArguments::of(attribute));
            if let (Some(ChildArguments { pointwise, from, count, stages, .. }), Some(name)) = (arguments, field.ident.clone()) {
                let what = match element_of_list(&field.ty) {
                    // What says nothing is the list of the layers.
                    Some(ty) => What::List { ty, stages: stages.is_some() || count.is_none(), count },
                    None => {
                        if let Some(span) = count.map(|count| count.span()).or(stages.map(|stages| stages.span())) {
                            errors.add(span, format!("`count` and `stages` say what a list is, and `{name}` is none: its type is not a `Vec`"));
                        }
                        What::Child { ty: field.ty.clone(), pointwise }
                    }
                };
                elements.push(Element { name, docs: docs(), from, what });
            }
        }
    }
    elements
}

/// `T` of `Vec<T>`.
pub fn element_of_list(ty: &Type) -> Option<Type> {
    let Type::Path(path) = ty else { return None };
    let segment = path.path.segments.last().filter(|segment| segment.ident == "Vec")?;
    match &segment.arguments {
        PathArguments::AngleBracketed(arguments) => match arguments.args.first()? {
            GenericArgument::Type(ty) => Some(ty.clone()),
            _ => None,
        },
        _ => None,
    }
}
