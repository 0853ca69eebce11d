//! Which names of a block may hold something of the model. Whatever has nothing to do with them stays as it was written.

use std::collections::HashSet;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{Block, Expr, ExprClosure, FnArg, GenericArgument, Pat, PatIdent, PathArguments, Signature, Type};

use super::parse::{Invoke, Trace};

/// Methods of the model and its sites whose result has a type that follows from theirs.
const RETURN_KNOWN: [&str; 7] = ["at", "slice", "head", "select", "grad", "step", "prompt"];

/// The names of a block that may hold something of the model: a site, a value, a module, or a list of them.
///
/// A name counts in the whole block, whichever of its bindings holds it: what is asked for once too often is decided by its type.
#[derive(Default)]
pub struct OfModel {
    names: HashSet<String>,
    /// Those that may hold a place itself: the parameters of a function.
    places: HashSet<String>,
    /// Names that are bound with `let mut`, or as a parameter that may be changed.
    mutable: HashSet<String>,
    /// Names that are bound in the block in any way.
    bound: HashSet<String>,
    /// The model and the parameters, where the block binds nothing else to their names: their types are known all through it.
    typed: HashSet<String>,
}

impl OfModel {
    /// Of a block that calls the model by a name.
    pub fn of_block<'a>(model: &str, blocks: impl IntoIterator<Item = &'a Block>) -> Self {
        let mut found = OfModel::default();
        found.names.insert(model.to_string());
        let mut flows = Flows::default();
        blocks.into_iter().for_each(|block| flows.visit_block(block));
        found.typed.insert(model.to_string());
        found.follow(flows);
        found
    }

    /// Of a function, whose parameters may be anything but what is plainly data.
    pub fn of_function(signature: &Signature, block: &Block) -> Self {
        let mut found = OfModel::default();
        let mut flows = Flows::default();
        for input in &signature.inputs {
            match input {
                FnArg::Receiver(receiver) => {
                    found.names.insert("self".to_string());
                    found.typed.insert("self".to_string());
                    if matches!(receiver.kind, syn::ReceiverKind::Reference(_, _, Some(_))) {
                        found.mutable.insert("self".to_string());
                    }
                }
                FnArg::Typed(typed) => {
                    let names = bound(&typed.pat);
                    if matches!(&*typed.ty, Type::Reference(reference) if reference.mutability.is_some()) {
                        found.mutable.extend(names.iter().cloned());
                    }
                    found.typed.extend(names.iter().cloned());
                    if !is_data(&typed.ty) {
                        found.names.extend(names.iter().cloned());
                        found.places.extend(names);
                    }
                }
            }
        }
        flows.visit_block(block);
        found.follow(flows);
        found
    }

    fn follow(&mut self, flows: Flows) {
        self.mutable.extend(flows.mutable);
        self.typed.retain(|name| !flows.bound.contains(name));
        self.bound.extend(flows.bound);
        self.bound.extend(self.places.iter().cloned());
        loop {
            let before = self.names.len();
            for (names, source) in &flows.flows {
                if source.as_ref().is_none_or(|source| self.tokens_mention(source.clone())) {
                    // Nothing of a trace can be kept in what outlives it.
                    self.names.extend(names.iter().filter(|name| self.bound.contains(*name)).cloned());
                }
            }
            if self.names.len() == before {
                return;
            }
        }
    }

    /// Whether an expression names any of them.
    pub fn mentions(&self, expression: &Expr) -> bool {
        self.tokens_mention(expression.to_token_stream())
    }

    /// Whether a place begins with one of them.
    pub fn is_root_of(&self, place: &Expr) -> bool {
        match root(place) {
            Some(name) => self.names.contains(&name),
            None => self.mentions(place),
        }
    }

    /// Whether the compiler knows the type of a place when it comes to it: one that begins with the model or a parameter, and goes on with
    /// fields, layers and parts. What a variable of the block holds may be inferred later.
    pub fn is_typed(&self, place: &Expr) -> bool {
        match place {
            Expr::Path(path) => path.path.get_ident().is_some_and(|name| self.typed.contains(&name.to_string())),
            Expr::Field(field) => self.is_typed(&field.base),
            Expr::Index(index) => self.is_typed(&index.expr),
            Expr::Paren(paren) => self.is_typed(&paren.expr),
            Expr::Group(group) => self.is_typed(&group.expr),
            Expr::Unary(unary) => matches!(unary.op, syn::UnOp::Deref(_)) && self.is_typed(&unary.expr),
            Expr::MethodCall(call) => RETURN_KNOWN.iter().any(|name| call.method == name) && self.is_typed(&call.receiver),
            _ => false,
        }
    }

    /// Whether a name may hold a place of the model, rather than a value.
    pub fn may_be_place(&self, name: &str) -> bool {
        self.places.contains(name)
    }

    /// Whether a name is declared as one that changes.
    pub fn is_mutable(&self, name: &str) -> bool {
        self.mutable.contains(name)
    }

    /// Whether the block binds a name by itself.
    pub fn is_bound(&self, name: &str) -> bool {
        self.bound.contains(name)
    }

    fn tokens_mention(&self, tokens: TokenStream) -> bool {
        let (mut dot, mut dots) = (false, false);
        for token in tokens {
            let is_member = dot && !dots;
            match &token {
                TokenTree::Ident(ident) if !is_member && self.names.contains(&ident.to_string()) => return true,
                TokenTree::Group(group) if self.tokens_mention(group.stream()) => return true,
                TokenTree::Literal(literal) => {
                    let text = literal.to_string();
                    if text.contains('{') && self.names.iter().any(|name| text.contains(&format!("{{{name}"))) {
                        return true;
                    }
                }
                _ => {}
            }
            let is_dot = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '.');
            dots = is_dot && dot;
            dot = is_dot;
        }
        false
    }
}

/// The name that a place begins with: `layer` in `layer.mlp.output`, `self` in `self.rng`.
pub fn root(place: &Expr) -> Option<String> {
    match place {
        Expr::Path(path) => path.path.get_ident().map(ToString::to_string),
        Expr::Field(field) => root(&field.base),
        Expr::Index(index) => root(&index.expr),
        Expr::Paren(paren) => root(&paren.expr),
        Expr::Group(group) => root(&group.expr),
        Expr::Unary(unary) if matches!(unary.op, syn::UnOp::Deref(_)) => root(&unary.expr),
        Expr::MethodCall(call) => root(&call.receiver),
        Expr::Try(tried) => root(&tried.expr),
        Expr::Reference(reference) => root(&reference.expr),
        _ => None,
    }
}

/// The names that a pattern binds.
pub fn bound(pattern: &Pat) -> Vec<String> {
    #[derive(Default)]
    struct Bound(Vec<String>);
    impl<'ast> Visit<'ast> for Bound {
        fn visit_pat_ident(&mut self, pattern: &'ast PatIdent) {
            self.0.push(pattern.ident.to_string());
            visit::visit_pat_ident(self, pattern);
        }
    }
    let mut found = Bound::default();
    found.visit_pat(pattern);
    found.0
}

/// Whether a type holds nothing of a trace, whatever its parameters are.
fn is_data(ty: &Type) -> bool {
    const DATA: [&str; 36] = [
        "bool",
        "u8",
        "u16",
        "u32",
        "u64",
        "u128",
        "usize",
        "i8",
        "i16",
        "i32",
        "i64",
        "i128",
        "isize",
        "f32",
        "f64",
        "char",
        "str",
        "String",
        "Vec",
        "Option",
        "Box",
        "Rc",
        "Arc",
        "HashMap",
        "HashSet",
        "BTreeMap",
        "BTreeSet",
        "VecDeque",
        "Range",
        "Tensor",
        "Path",
        "PathBuf",
        "Prompt",
        "Generation",
        "Duration",
        "StdRng",
    ];
    match ty {
        Type::Path(path) => path.path.segments.last().is_some_and(|last| {
            let is_known = DATA.iter().any(|name| last.ident == name);
            // A tensor is data whatever model and shape it has.
            let is_whole = last.ident == "Tensor";
            is_known
                && (is_whole
                    || match &last.arguments {
                        PathArguments::AngleBracketed(list) => list.args.iter().all(|argument| match argument {
                            GenericArgument::Type(ty) => is_data(ty),
                            _ => true,
                        }),
                        _ => true,
                    })
        }),
        Type::Reference(reference) => is_data(&reference.elem),
        Type::Slice(slice) => is_data(&slice.elem),
        Type::Array(array) => is_data(&array.elem),
        Type::Paren(paren) => is_data(&paren.elem),
        Type::Tuple(tuple) => tuple.elems.iter().all(is_data),
        _ => false,
    }
}

/// What flows into which names: from an expression, or from anywhere.
#[derive(Default)]
struct Flows {
    flows: Vec<(Vec<String>, Option<TokenStream>)>,
    mutable: Vec<String>,
    bound: Vec<String>,
}

impl Flows {
    fn bind(&mut self, pattern: &Pat, source: Option<TokenStream>) {
        struct Mutable<'a>(&'a mut Vec<String>);
        impl<'ast> Visit<'ast> for Mutable<'_> {
            fn visit_pat_ident(&mut self, pattern: &'ast PatIdent) {
                if pattern.mutability.is_some() {
                    self.0.push(pattern.ident.to_string());
                }
                visit::visit_pat_ident(self, pattern);
            }
        }
        Mutable(&mut self.mutable).visit_pat(pattern);
        self.bound.extend(bound(pattern));
        self.flow(bound(pattern), source);
    }

    fn flow(&mut self, names: Vec<String>, source: Option<TokenStream>) {
        self.flows.push((names, source));
    }

    /// Arguments of a call flow into what it may change, and into the parameters of closures among them.
    fn arguments<'a>(&mut self, receiver: Option<&'a Expr>, arguments: impl Iterator<Item = &'a Expr> + Clone) {
        let mut source = receiver.map(ToTokens::to_token_stream).unwrap_or_default();
        arguments.clone().filter(|argument| !matches!(argument, Expr::Closure(_))).for_each(|argument| argument.to_tokens(&mut source));
        for argument in arguments.clone() {
            match argument {
                Expr::Closure(closure) => closure.inputs.iter().for_each(|pattern| self.bind(pattern, Some(source.clone()))),
                Expr::Reference(reference) if reference.mutability.is_some() => {
                    self.flow(root(&reference.expr).into_iter().collect(), Some(source.clone()))
                }
                _ => {}
            }
        }
        if let Some(name) = receiver.and_then(root) {
            let mut all = TokenStream::new();
            arguments.for_each(|argument| argument.to_tokens(&mut all));
            self.flow(vec![name], Some(all));
        }
    }
}

impl<'ast> Visit<'ast> for Flows {
    fn visit_local(&mut self, local: &'ast syn::Local) {
        let source = local.init.as_ref().map(|init| init.expr.to_token_stream()).unwrap_or_default();
        self.bind(&local.pat, Some(source));
        // How a closure that has a name is called cannot be seen here.
        if let Some(Expr::Closure(closure)) = local.init.as_ref().map(|init| &*init.expr) {
            closure.inputs.iter().for_each(|pattern| self.bind(pattern, None));
        }
        visit::visit_local(self, local);
    }

    fn visit_expr(&mut self, expression: &'ast Expr) {
        match expression {
            Expr::ForLoop(repeated) => self.bind(&repeated.pat, Some(repeated.expr.to_token_stream())),
            Expr::Let(tested) => self.bind(&tested.pat, Some(tested.expr.to_token_stream())),
            Expr::Match(branches) => branches.arms.iter().for_each(|arm| self.bind(&arm.pat, Some(branches.expr.to_token_stream()))),
            Expr::Assign(assign) => self.flow(root(&assign.left).into_iter().collect(), Some(assign.right.to_token_stream())),
            Expr::Binary(binary) if is_compound(&binary.op) => {
                self.flow(root(&binary.left).into_iter().collect(), Some(binary.right.to_token_stream()));
            }
            Expr::MethodCall(call) => self.arguments(Some(&call.receiver), call.args.iter()),
            Expr::Call(call) => self.arguments(None, call.args.iter()),
            _ => {}
        }
        visit::visit_expr(self, expression);
    }

    fn visit_expr_closure(&mut self, closure: &'ast ExprClosure) {
        self.bound.extend(closure.inputs.iter().flat_map(bound));
        visit::visit_expr_closure(self, closure);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if let Ok(Invoke { body, .. }) = call.parse_body::<Invoke>() {
            Flows::nested(self, &body);
        } else if let Ok(Trace { body, .. }) = call.parse_body::<Trace>() {
            Flows::nested(self, &body);
        }
    }

    fn visit_item(&mut self, _item: &'ast syn::Item) {}
}

impl Flows {
    /// A block that lives no longer than this call.
    fn nested(&mut self, block: &Block) {
        let mut inner = Flows::default();
        inner.visit_block(block);
        self.flows.extend(inner.flows);
        self.mutable.extend(inner.mutable);
        self.bound.extend(inner.bound);
    }
}

/// Whether an operator assigns: `+=` and its kin.
pub fn is_compound(operator: &syn::BinOp) -> bool {
    use syn::BinOp::*;
    matches!(
        operator,
        AddAssign(_)
            | SubAssign(_)
            | MulAssign(_)
            | DivAssign(_)
            | RemAssign(_)
            | BitXorAssign(_)
            | BitAndAssign(_)
            | BitOrAssign(_)
            | ShlAssign(_)
            | ShrAssign(_)
    )
}
