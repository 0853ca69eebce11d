//! Where a block asks for the value of an expression: in a `let`, as an element, as an argument, as what a block ends with. A place of the model
//! is read there.
//!
//! This marks such expressions, by a method that no program has; the rewriting, which sees an expression before and after what is in it, turns
//! the marks into calls.

use syn::spanned::Spanned;
use syn::{Block, Expr, Pat, Stmt, Type, parse_quote_spanned};

use super::of_model::OfModel;
use crate::errors::Errors;

/// Marks a place: it is read if it is one of the model's.
pub const READ: &str = "__marked_read";
/// As [`READ`], of an expression whose type the compiler knows when it comes to it.
pub const KNOWN: &str = "__marked_known";
/// Marks what has to be evaluated first.
pub const BIND: &str = "__marked_bind";
/// Marks what may return a handle to a place.
pub const HANDLE: &str = "__marked_handle";

/// Where a value is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// In a `let` without a pattern.
    Let,
    /// As an element, or as what a block ends with.
    Element,
    /// As an argument.
    Argument,
}

/// The methods of a place that return a part of it.
const PARTS: [&str; 5] = ["at", "slice", "head", "select", "grad"];

/// Methods whose result is never a place of the model: those of values, and the commonest of plain Rust.
const VALUES: [&str; 100] = [
    "value",
    "exp",
    "ln",
    "sqrt",
    "sqr",
    "abs",
    "tanh",
    "sigmoid",
    "gelu",
    "silu",
    "relu",
    "recip",
    "powf",
    "clamp",
    "maximum",
    "minimum",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "sum",
    "sum_keepdim",
    "sum_keep",
    "sum_all",
    "mean",
    "mean_keepdim",
    "mean_keep",
    "mean_all",
    "max",
    "max_keepdim",
    "max_keep",
    "max_all",
    "min",
    "min_keepdim",
    "min_keep",
    "min_all",
    "var",
    "var_keepdim",
    "var_keep",
    "var_all",
    "norm",
    "norm_keepdim",
    "norm_keep",
    "norm_all",
    "argmax",
    "argmax_keepdim",
    "argmax_keep",
    "argmax_all",
    "argmin",
    "argmin_keepdim",
    "argmin_keep",
    "argmin_all",
    "softmax",
    "log_softmax",
    "cumsum",
    "matmul",
    "transpose",
    "permute",
    "split",
    "merge",
    "rename",
    "pick",
    "gather",
    "index_select",
    "where_",
    "topk",
    "zeros_like",
    "ones_like",
    "randn_like",
    "cast",
    "apply",
    "apply_with",
    "operation",
    "log",
    "print",
    "with_at",
    "with_slice",
    "one_hot",
    "expand",
    "all",
    "any",
    "tokens",
    "lm_head",
    "step",
    "steps",
    "prompt",
    "cache",
    "len",
    "clone",
    "collect",
    "into",
    "parse",
    "unwrap",
    "expect",
    "map",
    "iter",
    "into_iter",
    "to_string",
];

/// Marks the value of an expression where it is asked for.
pub fn bind(expression: &mut Expr, position: Position, of_model: &OfModel) {
    let mark = match expression {
        Expr::Paren(inner) => return bind(&mut inner.expr, position, of_model),
        Expr::Group(inner) => return bind(&mut inner.expr, position, of_model),
        Expr::Block(block) => return bind_end(&mut block.block, position, of_model),
        Expr::Unsafe(block) => return bind_end(&mut block.block, position, of_model),
        Expr::If(branch) => {
            bind_end(&mut branch.then_branch, position, of_model);
            if let Some((_, otherwise)) = &mut branch.else_branch {
                bind(otherwise, position, of_model);
            }
            return;
        }
        Expr::Match(branches) => {
            branches.arms.iter_mut().for_each(|arm| bind(&mut arm.body, position, of_model));
            return;
        }
        Expr::Field(_) if of_model.is_root_of(expression) && !is_evaluated(expression) => READ,
        Expr::Field(_) if of_model.is_root_of(expression) => BIND,
        Expr::Unary(unary) if matches!(unary.op, syn::UnOp::Deref(_)) && !is_evaluated(expression) && of_model.is_root_of(expression) => READ,
        Expr::Path(path) if position != Position::Argument => match path.path.get_ident() {
            Some(name) if of_model.may_be_place(&name.to_string()) => READ,
            _ => return,
        },
        Expr::MethodCall(call) if PARTS.iter().any(|part| call.method == part) && of_model.is_root_of(&call.receiver) => BIND,
        Expr::MethodCall(call) if position == Position::Let && !VALUES.iter().any(|name| call.method == name) => {
            match of_model.mentions(expression) && !crosses_out(expression) {
                true => HANDLE,
                false => return,
            }
        }
        Expr::Call(call) if position == Position::Let && is_function(&call.func) => match of_model.mentions(expression) {
            true => HANDLE,
            false => return,
        },
        _ => return,
    };
    let mark = if mark != HANDLE && of_model.is_typed(expression) { KNOWN } else { mark };
    let span = expression.span();
    let mark = syn::Ident::new(mark, span);
    let inner = std::mem::replace(expression, Expr::PLACEHOLDER);
    *expression = parse_quote_spanned!(span=> #inner.#mark());
}

/// Marks what a block ends with.
pub fn bind_end(block: &mut Block, position: Position, of_model: &OfModel) {
    if let Some(Stmt::Expr(last, None)) = block.stmts.last_mut() {
        bind(last, position, of_model);
    }
}

/// Marks what a `let` binds; says so where the type that is written is that of a place.
pub fn bind_local(local: &mut syn::Local, of_model: &OfModel, errors: &mut Errors) {
    let Some(init) = local.init.as_mut().filter(|init| init.diverge.is_none()) else { return };
    let (name, ty) = match &local.pat {
        Pat::Type(typed) => (&*typed.pat, Some(&*typed.ty)),
        pattern => (pattern, None),
    };
    if !matches!(name, Pat::Ident(ident) if ident.by_ref.is_none() && ident.subpat.is_none()) {
        return;
    }
    bind(&mut init.expr, Position::Let, of_model);
    let reads = matches!(&*init.expr, Expr::MethodCall(call) if [KNOWN, READ, BIND].iter().any(|mark| call.method == mark));
    if let Some(ty) = ty.filter(|ty| reads && names_place(ty)) {
        errors.add(ty.span(), "a `let` reads a site: its type is `Value`. To keep the place itself, borrow it: `let place = &mut …;`");
    }
}

/// Whether a type is written as that of a place.
pub fn names_place(ty: &Type) -> bool {
    match ty {
        Type::Path(path) => path.path.segments.last().is_some_and(|last| ["Site", "SitePart", "Gradient"].iter().any(|name| last.ident == name)),
        _ => false,
    }
}

/// Whether naming a place runs something: it is then evaluated once, and not named twice.
fn is_evaluated(place: &Expr) -> bool {
    match place {
        Expr::Path(_) => false,
        Expr::Field(field) => is_evaluated(&field.base),
        Expr::Index(index) => is_evaluated(&index.expr) || !is_plain_index(&index.index),
        Expr::Paren(paren) => is_evaluated(&paren.expr),
        Expr::Group(group) => is_evaluated(&group.expr),
        Expr::Unary(unary) => is_evaluated(&unary.expr),
        _ => true,
    }
}

fn is_plain_index(index: &Expr) -> bool {
    match index {
        Expr::Path(_) | Expr::Lit(_) => true,
        Expr::Field(field) => is_plain_index(&field.base),
        Expr::Unary(unary) => is_plain_index(&unary.expr),
        Expr::Binary(binary) => is_plain_index(&binary.left) && is_plain_index(&binary.right),
        Expr::Paren(paren) => is_plain_index(&paren.expr),
        Expr::Cast(cast) => is_plain_index(&cast.expr),
        Expr::Reference(reference) => is_plain_index(&reference.expr),
        _ => false,
    }
}

/// Whether a call is of a function by its name, and not of a type's constructor.
fn is_function(function: &Expr) -> bool {
    match function {
        Expr::Path(path) => path.path.segments.last().is_some_and(|last| {
            let name = last.ident.to_string();
            name.starts_with(|first: char| first.is_lowercase())
                && !["effect", "cat", "stack", "fold", "while_loop", "repeat_while"].contains(&name.as_str())
        }),
        _ => false,
    }
}

/// Whether an expression leaves its block on the way: it cannot be moved into another.
fn crosses_out(expression: &Expr) -> bool {
    use syn::visit::Visit;
    struct Crosses(bool);
    impl<'ast> Visit<'ast> for Crosses {
        fn visit_expr(&mut self, expression: &'ast Expr) {
            self.0 |= matches!(expression, Expr::Await(_) | Expr::Yield(_));
            syn::visit::visit_expr(self, expression);
        }
    }
    let mut crosses = Crosses(false);
    crosses.visit_expr(expression);
    crosses.0
}
