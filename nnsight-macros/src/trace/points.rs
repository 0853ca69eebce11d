//! The points of a sweep: its loops, one within the other, are the axes of a grid.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{Block, Expr, ExprForLoop, Pat, PatIdent, PatTuple, Stmt, parse_quote};

use crate::errors::Errors;

/// Loops of a sweep, and the block of the innermost.
pub struct Points {
    /// What a point is taken apart by.
    pub pattern: Pat,
    /// What it goes over, axis by axis.
    axes: Vec<Expr>,
    /// Where they are given.
    span: Span,
    /// What is done at each.
    pub body: Block,
}

impl Points {
    /// From the outermost loop. An inner one must go over the same points whatever the outer ones are at.
    pub fn new(outer: ExprForLoop, errors: &mut Errors) -> Self {
        let (mut axes, span) = axes_of(*outer.expr);
        let mut points = match inner_loop(&outer.body) {
            None => return Points { pattern: *outer.pat, axes, span, body: outer.body },
            Some(inner) => Points::new(inner, errors),
        };
        let own = names_of(*outer.pat, axes.len(), errors);
        let inner = names_of(points.pattern, points.axes.len(), errors);
        let names = own.iter().flat_map(bound).collect::<Vec<_>>();
        for axis in points.axes.iter_mut().filter(|axis| names_any(axis.to_token_stream(), &names)) {
            errors.add(axis.span(), "the loops of a sweep make a grid: an inner one goes over the same points whatever the outer one is at");
            // So that rustc has no more to say about it.
            *axis = parse_quote!(0..1);
        }
        let elems = own.into_iter().chain(inner).collect();
        points.pattern = Pat::Tuple(PatTuple { attrs: Vec::new(), paren_token: syn::token::Paren::default(), elems });
        axes.append(&mut points.axes);
        Points { axes, span, ..points }
    }

    /// Whether something names what a point is taken apart into.
    pub fn bind(&self, expression: &Expr) -> bool {
        names_any(expression.to_token_stream(), &bound(&self.pattern))
    }

    /// All of them.
    pub fn all(&self, errors: &mut Errors) -> TokenStream {
        let (axes, span) = (&self.axes, self.span);
        match axes.len() {
            1 => quote_spanned!(span=> ::nnsight::__private::points(#(#axes),*)),
            2 => quote_spanned!(span=> ::nnsight::__private::grid2(#(#axes),*)),
            3 => quote_spanned!(span=> ::nnsight::__private::grid3(#(#axes),*)),
            _ => {
                errors.add(span, "a grid has one, two or three axes");
                quote!(::nnsight::__private::points([(); 0]))
            }
        }
    }
}

/// What a loop goes over, and where that is said.
fn axes_of(expression: Expr) -> (Vec<Expr>, Span) {
    match expression {
        Expr::Call(call) if matches!(&*call.func, Expr::Path(path) if path.path.is_ident("grid")) => {
            let span = call.func.span();
            (call.args.into_iter().collect(), span)
        }
        other => {
            let span = other.span();
            (vec![other], span)
        }
    }
}

/// The loop that a block is nothing but.
fn inner_loop(block: &Block) -> Option<ExprForLoop> {
    match &block.stmts[..] {
        [Stmt::Expr(Expr::ForLoop(inner), _)] => Some(inner.clone()),
        _ => None,
    }
}

/// The patterns for the axes of one loop.
fn names_of(pattern: Pat, axes: usize, errors: &mut Errors) -> Vec<Pat> {
    match pattern {
        Pat::Tuple(tuple) if axes > 1 && tuple.elems.len() == axes => tuple.elems.into_iter().collect(),
        pattern if axes == 1 => vec![pattern],
        other => {
            errors.add(other.span(), format!("expected a name for each of the {axes} axes, as in `(layer, position)`"));
            vec![parse_quote!(_); axes]
        }
    }
}

/// The names that a pattern gives to what it takes apart.
fn bound(pattern: &Pat) -> Vec<String> {
    #[derive(Default)]
    struct Bound(Vec<String>);
    impl<'ast> Visit<'ast> for Bound {
        fn visit_pat_ident(&mut self, pattern: &'ast PatIdent) {
            self.0.push(pattern.ident.to_string());
            syn::visit::visit_pat_ident(self, pattern);
        }
    }
    let mut found = Bound::default();
    found.visit_pat(pattern);
    found.0
}

/// Whether any of these names stands somewhere in the tokens, also inside of a text to be filled in.
fn names_any(tokens: TokenStream, names: &[String]) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => names_any(group.stream(), names),
        TokenTree::Ident(ident) => names.iter().any(|name| ident == name),
        TokenTree::Literal(literal) => names.iter().any(|name| literal.to_string().contains(&format!("{{{name}"))),
        TokenTree::Punct(_) => false,
    })
}
