//! The constructs that mean something else in a trace than in Rust.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit_mut::{VisitMut, visit_expr_mut, visit_stmt_mut};
use syn::{BinOp, Expr, ExprIf, ExprMatch, ExprMethodCall, Lit, Macro, Pat, Stmt, Token, UnOp, parse_quote_spanned};

use super::expand::{self, Names};
use super::parse::{Invoke, Trace};
use crate::errors::Errors;

pub struct Rewrite<'a> {
    /// The names of the trace, or `None` in a function, where there is no `invoke!`.
    pub names: Option<&'a Names>,
    pub errors: &'a mut Errors,
}

impl VisitMut for Rewrite<'_> {
    fn visit_expr_mut(&mut self, expression: &mut Expr) {
        if let Expr::Macro(call) = expression {
            if let Some(expanded) = self.macro_call(&mut call.mac) {
                *expression = Expr::Verbatim(expanded);
            }
            return;
        }
        if let Expr::Match(branches) = expression
            && let Some(chain) = number_match(branches)
        {
            *expression = chain;
        }
        if let Expr::MethodCall(call) = expression
            && let Some(printed) = print(call)
        {
            *expression = printed;
        }
        visit_expr_mut(self, expression);
        let rewritten = match expression {
            Expr::Assign(assign) => assignment(&assign.left, "__assign", assign.eq_token.span(), &assign.right),
            Expr::Binary(binary) => compound(&binary.op).and_then(|method| assignment(&binary.left, method, binary.op.span(), &binary.right)),
            Expr::Index(index) => literal_index(index),
            Expr::If(branch) => condition(branch),
            Expr::While(repeated) => {
                plain_while(repeated);
                None
            }
            _ => None,
        };
        if let Some(rewritten) = rewritten {
            *expression = rewritten;
        }
    }

    fn visit_stmt_mut(&mut self, statement: &mut Stmt) {
        if let Stmt::Macro(call) = statement {
            if let Some(expanded) = self.macro_call(&mut call.mac) {
                *statement = Stmt::Expr(Expr::Verbatim(expanded), call.semi_token);
            }
            return;
        }
        visit_stmt_mut(self, statement);
    }

    /// Items inside of a block are no part of the trace.
    fn visit_item_mut(&mut self, _item: &mut syn::Item) {}
}

impl Rewrite<'_> {
    fn invoke(&mut self, mut invoke: Invoke) -> Option<TokenStream> {
        if let Some(prompt) = &mut invoke.prompt {
            self.visit_expr_mut(prompt);
        }
        invoke.settings.0.iter_mut().for_each(|(_, value)| self.visit_expr_mut(value));
        self.visit_block_mut(&mut invoke.body);
        self.names.map(|names| expand::invoke(invoke, names))
    }

    /// A trace of a session whose prompts are given by `invoke!`.
    fn group(&mut self, mut body: syn::Block) -> Option<TokenStream> {
        self.visit_block_mut(&mut body);
        Some(quote!(#body))
    }

    fn macro_call(&mut self, call: &mut Macro) -> Option<TokenStream> {
        if call.path.is_ident("invoke") && self.names.is_some() {
            let Some(invoke) = self.errors.keep(call.parse_body::<Invoke>()) else {
                return Some(quote!(::core::unreachable!()));
            };
            return self.invoke(invoke);
        }
        if let Some(names) = self.names.filter(|names| names.is_session)
            && (call.path.is_ident("trace") || call.path.is_ident("generate"))
            && let Ok(Trace { name, prompt, settings, body, .. }) = call.parse_body::<Trace>()
            && name == names.model
        {
            return match prompt {
                Some(_) => self.invoke(Invoke { prompt, settings, body }),
                None => self.group(body),
            };
        }
        let known = ["stop", "vec", "println", "print", "eprintln", "format", "assert", "assert_eq", "dbg"];
        if known.iter().any(|name| call.path.is_ident(name)) {
            // What does not parse as expressions (`vec![x; n]`) stays as it is.
            if let Ok(mut arguments) = call.parse_body_with(Punctuated::<Expr, Token![,]>::parse_terminated) {
                arguments.iter_mut().for_each(|argument| self.visit_expr_mut(argument));
                call.tokens = quote!(#arguments);
            }
        }
        None
    }
}

/// The name in the program of what is printed: `h.print()` becomes `h.log("h")`.
fn print(call: &ExprMethodCall) -> Option<Expr> {
    if call.method != "print" || !call.args.is_empty() {
        return None;
    }
    let receiver = &call.receiver;
    let label = quote!(#receiver).to_string().replace(" . ", ".").replace(" [", "[").replace(" (", "(");
    let log = syn::Ident::new("log", call.method.span());
    Some(parse_quote_spanned!(call.method.span()=> #receiver.#log(#label)))
}

fn compound(operator: &BinOp) -> Option<&'static str> {
    match operator {
        BinOp::AddAssign(_) => Some("__add_assign"),
        BinOp::SubAssign(_) => Some("__sub_assign"),
        BinOp::MulAssign(_) => Some("__mul_assign"),
        BinOp::DivAssign(_) => Some("__div_assign"),
        _ => None,
    }
}

/// `place = value` as a call, with the span of the operator, which is what the graph remembers as its line.
/// A field may belong to a site or to anything else: for the latter there is `PlainAssign`. What a method or
/// function gives can only be a place of the model.
fn assignment(place: &Expr, method: &str, operator: Span, value: &Expr) -> Option<Expr> {
    let method = syn::Ident::new(method, operator);
    // The parentheses of `(a + b)` mean nothing around an argument.
    let value = match value {
        Expr::Paren(paren) => &paren.expr,
        value => value,
    };
    match place {
        Expr::Field(_) => Some(parse_quote_spanned!(operator=> {
            #[allow(unused_imports)]
            use ::nnsight::__private::PlainAssign as _;
            #place.#method(#value)
        })),
        Expr::MethodCall(_) | Expr::Call(_) => Some(parse_quote_spanned!(operator=> #place.#method(#value))),
        _ => None,
    }
}

/// `model.layers[5]` as a call that the compiler can check.
fn literal_index(index: &syn::ExprIndex) -> Option<Expr> {
    let list = match &*index.expr {
        Expr::Field(_) => true,
        Expr::MethodCall(call) => call.args.is_empty() && call.method == "layers",
        _ => false,
    };
    let number = literal(&index.index)?;
    let base = &index.expr;
    let number = proc_macro2::Literal::isize_unsuffixed(isize::try_from(number).ok()?);
    let span = index.index.span();
    list.then(|| parse_quote_spanned!(span=> *#base.__index(::nnsight::__private::Literal::<{ #number }>)))
}

/// A whole number that is written out.
pub fn literal(expression: &Expr) -> Option<i64> {
    match expression {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Int(number) => number.base10_parse().ok(),
            _ => None,
        },
        Expr::Unary(unary) => match unary.op {
            UnOp::Neg(_) => literal(&unary.expr).map(std::ops::Neg::neg),
            _ => None,
        },
        Expr::Paren(paren) => literal(&paren.expr),
        Expr::Group(group) => literal(&group.expr),
        _ => None,
    }
}

/// `if` whose condition may be a value: the library decides by its type.
fn condition(branch: &ExprIf) -> Option<Expr> {
    if is_plain(&branch.cond) {
        return None;
    }
    let ExprIf { cond, then_branch, else_branch, .. } = branch;
    let otherwise = match else_branch {
        Some((_, otherwise)) => quote!(#otherwise),
        None => quote!(()),
    };
    // The names below are the macro's own; the place is the user's `if`.
    let span = Span::mixed_site().located_at(branch.if_token.span());
    Some(parse_quote_spanned!(span=> {
        let condition = #cond;
        let condition = ::nnsight::__private::IntoCondition::__condition(condition);
        #[allow(unreachable_code, unused_braces, clippy::diverging_sub_expression)]
        let then = if condition.enter_then() { ::core::option::Option::Some(#then_branch) } else { ::core::option::Option::None };
        #[allow(unreachable_code, unused_braces, clippy::diverging_sub_expression)]
        let otherwise = if condition.enter_else() { ::core::option::Option::Some(#otherwise) } else { ::core::option::Option::None };
        condition.merge(then, otherwise)
    }))
}

/// Has the library say what to write where the condition of a `while` is a value.
fn plain_while(repeated: &mut syn::ExprWhile) {
    if !is_plain(&repeated.cond) {
        let condition = &repeated.cond;
        let span = condition.span();
        *repeated.cond = parse_quote_spanned!(span=> ::nnsight::__private::WhileCondition::__while(#condition));
    }
}

/// `match` with whole numbers and `_` as `if` and `else if`, since what is matched may be a value: the library decides by its type.
fn number_match(branches: &ExprMatch) -> Option<Expr> {
    let (last, arms) = branches.arms.split_last()?;
    if !matches!(last.pat, Pat::Wild(_)) || arms.is_empty() {
        return None;
    }
    let span = Span::mixed_site().located_at(branches.match_token.span());
    let name = syn::Ident::new("matched", span);
    let conditions = arms.iter().map(|arm| Some((numbers(&arm.pat)?, &arm.body)));
    let conditions = conditions.collect::<Option<Vec<_>>>()?;
    let otherwise = &last.body;
    let chain = conditions.into_iter().rev().fold(quote!({ #otherwise }), |otherwise, (numbers, body)| {
        // `a | b` gives a truth value of either kind.
        let is = numbers.iter().map(|number| quote!(::nnsight::__private::MatchNumber::__is(&#name, #number)));
        quote!({ if (#(#is)|*) { #body } else #otherwise })
    });
    let value = &branches.expr;
    Some(parse_quote_spanned!(span=> {
        let #name = #value;
        #chain
    }))
}

/// The numbers that a pattern names, where it names nothing else.
fn numbers(pattern: &Pat) -> Option<Vec<Expr>> {
    match pattern {
        Pat::Lit(literal) => self::literal(&Expr::Lit(literal.clone())).map(|_| vec![Expr::Lit(literal.clone())]),
        Pat::Or(or) => Some(or.cases.iter().map(numbers).collect::<Option<Vec<_>>>()?.concat()),
        Pat::Paren(paren) => numbers(&paren.pat),
        _ => None,
    }
}

/// Whether a condition can only be a `bool`: comparisons and `&&` never give a value of the trace.
fn is_plain(condition: &Expr) -> bool {
    match condition {
        Expr::Let(_) | Expr::Lit(_) | Expr::Macro(_) => true,
        Expr::Binary(binary) => !matches!(binary.op, BinOp::BitAnd(_) | BinOp::BitOr(_) | BinOp::BitXor(_)),
        Expr::Unary(unary) => is_plain(&unary.expr),
        Expr::Paren(paren) => is_plain(&paren.expr),
        Expr::Group(group) => is_plain(&group.expr),
        _ => false,
    }
}
