//! `if` on a value: both branches are recorded, one of them runs.
//!
//! Whether a condition is a `bool` or a traced value is decided here where that can be seen, and by the compiler, from its type, where it
//! cannot. What a branch does to the program around it while it is recorded is asked of the condition at each such place.

use std::collections::HashSet;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::visit_mut::{self, VisitMut};
use syn::{BinOp, Block, Expr, ExprIf, Lifetime, Macro, Stmt, UnOp, parse_quote_spanned};

use super::of_model::{OfModel, bound, is_compound, root};

/// What is known of a condition from how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// It is a `bool`.
    Plain,
    /// Its type says.
    Unknown,
}

/// What a condition is, where names that are known to hold a `bool` are given.
pub fn classify(condition: &Expr, of_model: &OfModel, is_bool: &dyn Fn(&str) -> bool) -> Certainty {
    let of = |inner: &Expr| classify(inner, of_model, is_bool);
    match condition {
        Expr::Let(_) | Expr::Lit(_) | Expr::Macro(_) => Certainty::Plain,
        Expr::Call(call) if is_number_test(&call.func) => Certainty::Unknown,
        Expr::Binary(binary) => match binary.op {
            BinOp::BitAnd(_) | BinOp::BitOr(_) | BinOp::BitXor(_) => match (of(&binary.left), of(&binary.right)) {
                (Certainty::Plain, Certainty::Plain) => Certainty::Plain,
                _ => Certainty::Unknown,
            },
            _ => Certainty::Plain,
        },
        Expr::Unary(unary) => of(&unary.expr),
        Expr::Paren(inner) => of(&inner.expr),
        Expr::Group(inner) => of(&inner.expr),
        Expr::Path(path) if path.path.get_ident().is_some_and(|name| is_bool(&name.to_string())) => Certainty::Plain,
        Expr::MethodCall(call) if returns_bool(call) => Certainty::Plain,
        _ if of_model.mentions(condition) => Certainty::Unknown,
        _ => Certainty::Plain,
    }
}

/// Whether a method is one of those that return a `bool` by convention.
fn returns_bool(call: &syn::ExprMethodCall) -> bool {
    let name = call.method.to_string();
    let by_name = ["is_", "has_", "contains", "starts_with", "ends_with", "matches"].iter().any(|start| name.starts_with(start));
    by_name || (["any", "all"].contains(&name.as_str()) && !call.args.is_empty())
}

/// `MatchNumber::__is(..)`, which `match` on numbers becomes.
fn is_number_test(function: &Expr) -> bool {
    matches!(function, Expr::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "__is"))
}

/// Prepares the branches of an `if` whose condition may be a value: what they do to the program around them is asked of the condition.
pub struct Branches<'a> {
    condition: Ident,
    of_model: &'a OfModel,
    /// The names that the branch itself has bound, by scope.
    scopes: Vec<HashSet<String>>,
    /// The loops within the branch, with their labels.
    loops: Vec<Option<String>>,
    /// How many closures are around.
    closures: usize,
    /// The label of the loop around the `if`.
    around: Option<Lifetime>,
    /// Whether a branch leaves that loop, or begins its next round.
    pub leaves_the_loop: bool,
    /// The variables from outside that are assigned, each where that is done first.
    pub assigned: Vec<Ident>,
}

impl<'a> Branches<'a> {
    pub fn new(condition: Ident, of_model: &'a OfModel, around: Option<Lifetime>) -> Self {
        Branches { condition, of_model, scopes: Vec::new(), loops: Vec::new(), closures: 0, around, leaves_the_loop: false, assigned: Vec::new() }
    }

    fn is_local(&self, name: &str) -> bool {
        self.scopes.iter().any(|scope| scope.contains(name))
    }

    fn declare(&mut self, names: Vec<String>) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.extend(names);
        }
    }

    fn scoped(&mut self, body: impl FnOnce(&mut Self)) {
        self.scopes.push(HashSet::new());
        body(self);
        self.scopes.pop();
    }

    /// `{ condition.method(argument); expression }`
    fn ask(&self, expression: &mut Expr, method: &str, argument: Option<TokenStream>, span: Span) {
        let question = self.question(method, argument, span);
        let asked = std::mem::replace(expression, Expr::PLACEHOLDER);
        *expression = parse_quote_spanned!(span=> { #question #asked });
    }

    fn question(&self, method: &str, argument: Option<TokenStream>, span: Span) -> TokenStream {
        // The name is resolved where the `if` is, and the question is asked where it arises.
        let condition = Ident::new(&self.condition.to_string(), self.condition.span().located_at(span));
        let method = Ident::new(method, span);
        quote_spanned!(span=> #condition.#method(#argument);)
    }

    /// What a macro of the host does while the branch is recorded.
    fn host(&self, call: &Macro) -> Option<&'static str> {
        const PRINTS: [&str; 7] = ["println", "print", "eprintln", "eprint", "dbg", "write", "writeln"];
        const PANICS: [&str; 10] = [
            "panic",
            "assert",
            "assert_eq",
            "assert_ne",
            "debug_assert",
            "debug_assert_eq",
            "debug_assert_ne",
            "todo",
            "unimplemented",
            "unreachable",
        ];
        let first = call.path.segments.first()?.ident.to_string();
        let last = call.path.segments.last()?.ident.to_string();
        match () {
            () if PRINTS.contains(&last.as_str()) || (call.path.segments.len() > 1 && ["log", "tracing"].contains(&first.as_str())) => {
                Some("may_print")
            }
            () if PANICS.contains(&last.as_str()) => Some("may_panic"),
            () => None,
        }
    }

    /// Whether a `break` or `continue` leaves the branch. If it does, it names the loop.
    fn leaves(&mut self, expression: &mut Expr) -> bool {
        let (Expr::Break(syn::ExprBreak { label, .. }) | Expr::Continue(syn::ExprContinue { label, .. })) = expression else { return false };
        let stays = match label {
            None => !self.loops.is_empty(),
            Some(label) => self.loops.iter().flatten().any(|own| label.ident == own),
        };
        if !stays && label.is_none() {
            label.clone_from(&self.around);
            self.leaves_the_loop = true;
        }
        !stays
    }

    fn assignment(&mut self, place: &Expr, span: Span) -> Option<(&'static str, TokenStream)> {
        match place {
            Expr::Path(path) => {
                let name = path.path.get_ident()?;
                if !self.is_local(&name.to_string()) && !self.assigned.contains(name) {
                    self.assigned.push(name.clone());
                }
                None
            }
            // What a method returns can only be a place of the model.
            Expr::MethodCall(_) | Expr::Call(_) => None,
            place => {
                if root(place).is_some_and(|name| self.is_local(&name)) {
                    return None;
                }
                let probe = quote_spanned! {span=>
                    if false { ::nnsight::__private::Probe::of(&#place) } else { ::nnsight::__private::Probe::unasked() }
                };
                Some(("may_assign", probe))
            }
        }
    }
}

/// Methods of the standard library that change what they are called on.
const CHANGES: [&str; 30] = [
    "push",
    "pop",
    "insert",
    "remove",
    "extend",
    "clear",
    "append",
    "push_str",
    "push_back",
    "push_front",
    "pop_back",
    "pop_front",
    "entry",
    "get_mut",
    "iter_mut",
    "next",
    "take",
    "replace",
    "retain",
    "drain",
    "truncate",
    "sort",
    "sort_by",
    "dedup",
    "resize",
    "swap",
    "fill",
    "set",
    "get_or_insert",
    "extend_from_slice",
];

impl VisitMut for Branches<'_> {
    fn visit_block_mut(&mut self, block: &mut Block) {
        self.scoped(|this| visit_mut::visit_block_mut(this, block));
    }

    fn visit_local_mut(&mut self, local: &mut syn::Local) {
        visit_mut::visit_local_mut(self, local);
        self.declare(bound(&local.pat));
    }

    fn visit_stmt_mut(&mut self, statement: &mut Stmt) {
        if let Stmt::Macro(call) = statement {
            if let Some(method) = self.host(&call.mac) {
                let (call, span) = (call.clone(), call.mac.path.span());
                let question = self.question(method, None, span);
                *statement = Stmt::Expr(parse_quote_spanned!(span=> { #question #call }), Some(syn::Token![;](span)));
            }
            return;
        }
        visit_mut::visit_stmt_mut(self, statement);
    }

    fn visit_expr_mut(&mut self, expression: &mut Expr) {
        match expression {
            Expr::Closure(closure) => {
                let loops = std::mem::take(&mut self.loops);
                self.closures += 1;
                self.scoped(|this| {
                    closure.inputs.iter().for_each(|pattern| this.declare(bound(pattern)));
                    visit_mut::visit_expr_mut(this, &mut closure.body);
                });
                self.closures -= 1;
                self.loops = loops;
                return;
            }
            Expr::ForLoop(repeated) => {
                self.visit_expr_mut(&mut repeated.expr);
                self.loops.push(repeated.label.as_ref().map(|label| label.name.ident.to_string()));
                self.scoped(|this| {
                    this.declare(bound(&repeated.pat));
                    visit_mut::visit_block_mut(this, &mut repeated.body);
                });
                self.loops.pop();
                return;
            }
            Expr::While(syn::ExprWhile { label, .. }) | Expr::Loop(syn::ExprLoop { label, .. }) => {
                self.loops.push(label.as_ref().map(|label| label.name.ident.to_string()));
                self.scoped(|this| visit_mut::visit_expr_mut(this, expression));
                self.loops.pop();
                return;
            }
            // What a pattern binds is bound in the branch that follows.
            Expr::If(_) => {
                self.scoped(|this| visit_mut::visit_expr_mut(this, expression));
                return;
            }
            Expr::Let(tested) => self.declare(bound(&tested.pat)),
            _ => {}
        }
        visit_mut::visit_expr_mut(self, expression);
        let asked = match expression {
            Expr::Assign(assign) => {
                let span = assign.eq_token.span;
                self.assignment(&assign.left, span).map(|(method, probe)| (method, Some(probe), span))
            }
            Expr::Binary(binary) if is_compound(&binary.op) => {
                let span = binary.op.span();
                self.assignment(&binary.left, span).map(|(method, probe)| (method, Some(probe), span))
            }
            Expr::Return(returned) if self.closures == 0 => Some(("may_return", None, returned.return_token.span)),
            Expr::Try(tried) if self.closures == 0 => Some(("may_fail", None, tried.question_token.span)),
            Expr::Break(_) | Expr::Continue(_) if self.closures == 0 => {
                let span = expression.span();
                self.leaves(expression).then_some(("leave", None, span))
            }
            Expr::Macro(call) => self.host(&call.mac).map(|method| (method, None, call.mac.path.span())),
            Expr::Call(call) => match &*call.func {
                Expr::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "exit" || last.ident == "abort") => {
                    Some(("may_panic", None, path.span()))
                }
                _ => None,
            },
            Expr::MethodCall(call) => match root_of_variable(&call.receiver) {
                Some(name) if !self.is_local(&name) => {
                    let changes = CHANGES.iter().any(|method| call.method == method);
                    let may = match self.of_model.is_bound(&name) {
                        true => self.of_model.is_mutable(&name),
                        false => changes,
                    };
                    let (receiver, span) = (&call.receiver, call.method.span());
                    may.then(|| ("may_change", Some(quote_spanned!(span=> &#receiver)), span))
                }
                _ => None,
            },
            _ => None,
        };
        if let Some((method, argument, span)) = asked {
            self.ask(expression, method, argument, span);
        }
    }

    fn visit_arm_mut(&mut self, arm: &mut syn::Arm) {
        self.scoped(|this| {
            this.declare(bound(&arm.pat));
            visit_mut::visit_arm_mut(this, arm);
        });
    }

    fn visit_item_mut(&mut self, _item: &mut syn::Item) {}
}

/// The variable that a receiver is, or is a field of.
fn root_of_variable(receiver: &Expr) -> Option<String> {
    match receiver {
        Expr::Path(_) => root(receiver),
        Expr::Field(field) => root_of_variable(&field.base),
        Expr::Index(index) => root_of_variable(&index.expr),
        Expr::Paren(paren) => root_of_variable(&paren.expr),
        Expr::Group(group) => root_of_variable(&group.expr),
        Expr::Unary(unary) if matches!(unary.op, UnOp::Deref(_)) => root_of_variable(&unary.expr),
        _ => None,
    }
}

/// An `if` whose condition may be a value. Its branches have been prepared.
pub fn expand(branch: &ExprIf, condition: &Ident, assigned: &[Ident]) -> Expr {
    let ExprIf { cond, then_branch, else_branch, .. } = branch;
    let otherwise = match else_branch {
        Some((_, otherwise)) => quote!(#otherwise),
        None => quote!(()),
    };
    // The names of variables are the macro's own; what is called, is called at the user's `if`.
    let span = branch.if_token.span;
    let own = Span::mixed_site().located_at(span);
    let name = |stem: &str, variable: &Ident| Ident::new(&format!("{stem}_{variable}"), own);
    let call = |method: &str, arguments: TokenStream, at: Span| {
        let condition = Ident::new(&condition.to_string(), condition.span().located_at(at));
        let method = Ident::new(method, at);
        quote_spanned!(at=> #condition.#method(#arguments))
    };
    let before = assigned.iter().map(|variable| {
        let (kept, call) = (name("before", variable), call("before", quote!(&#variable), variable.span()));
        quote_spanned!(own=> let #kept = #call;)
    });
    let swap = assigned.iter().map(|variable| {
        let (then, kept) = (name("then", variable), name("before", variable));
        let call = call("swap", quote!(&mut #variable, #kept), variable.span());
        quote_spanned!(own=> let #then = #call;)
    });
    let settle = assigned.iter().map(|variable| {
        let then = name("then", variable);
        let call = call("settle", quote!(&mut #variable, #then), variable.span());
        quote_spanned!(own=> #call;)
    });
    let (then, other, result) = (Ident::new("then", own), Ident::new("otherwise", own), Ident::new("result", own));
    let label = |stem: &str| Lifetime::new(&format!("'{stem}{condition}"), own);
    let (ended, not_taken) = (label("ended"), label("not_taken"));
    let (enter_then, enter_else) = (call("enter_then", quote!(), span), call("enter_else", quote!(), span));
    let (leave_then, both) = (call("leave_then", quote!(#then), span), call("both", quote!(#then), span));
    let merge = call("merge", quote!(#then, #other), span);
    // A variable that the first branch moves is there in the second: of a `bool`, the compiler sees that only one of them is reached.
    parse_quote_spanned!(own=> {
        let #condition = #cond;
        let #condition = ::nnsight::__private::IntoCondition::__condition(#condition);
        #[allow(clippy::let_unit_value, clippy::unit_arg, unreachable_code, unused_braces, clippy::diverging_sub_expression)]
        #ended: {
            #(#before)*
            let #then = #not_taken: {
                if !#enter_then {
                    break #not_taken ::core::option::Option::None;
                }
                let #then = #then_branch;
                match #leave_then {
                    ::core::ops::ControlFlow::Break(#then) => break #ended #then,
                    ::core::ops::ControlFlow::Continue(#then) => ::core::option::Option::Some(#both),
                }
            };
            #(#swap)*
            #enter_else;
            let #other = #otherwise;
            let #result = #merge;
            #(#settle)*
            #result
        }
    })
}
