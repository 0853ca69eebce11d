//! The constructs that mean something else in a trace than in Rust.

use std::collections::HashSet;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit_mut::{VisitMut, visit_expr_mut, visit_local_mut, visit_stmt_mut};
use syn::{BinOp, Expr, ExprIf, ExprMatch, Lit, Macro, Pat, Stmt, Token, UnOp, parse_quote_spanned};

use super::bind::{self, Position};
use super::branch::{self, Branches, Certainty, classify};
use super::expand::{self, Names};
use super::loops::Loops;
use super::of_model::{OfModel, bound, root};
use super::parse::{Invoke, Trace};
use crate::errors::Errors;

pub struct Rewrite<'a> {
    /// The names of the trace, or `None` in a function, where there is no `invoke!`.
    pub names: Option<&'a Names>,
    /// What has to do with the model.
    pub of_model: &'a OfModel,
    /// Whether what the function ends with is a place, as its signature says.
    pub returns_place: bool,
    /// Whether the block is one of `generate!`, whose model has steps.
    pub generates: bool,
    pub errors: &'a mut Errors,
    /// The names that hold a `bool`, or hide one that does, by scope.
    pub bools: Vec<Vec<(String, bool)>>,
    /// Names that were declared without a value.
    pub unset: HashSet<String>,
    /// Literal indices of the statement that is looked at, to be checked before it.
    checks: Vec<Stmt>,
    /// Names that the condition which is looked at binds.
    tested: Vec<String>,
    /// The loops around what is looked at.
    loops: Loops,
    /// How many conditions there are so far, so that each has a name of its own.
    pub conditions: usize,
}

impl<'a> Rewrite<'a> {
    pub fn new(names: Option<&'a Names>, of_model: &'a OfModel, errors: &'a mut Errors) -> Self {
        Rewrite {
            names,
            of_model,
            returns_place: false,
            generates: names.is_some_and(|names| names.generates),
            errors,
            bools: Vec::new(),
            unset: HashSet::new(),
            checks: Vec::new(),
            tested: Vec::new(),
            loops: Loops::default(),
            conditions: 0,
        }
    }

    /// Rewrites a block; what it ends with is read.
    pub fn block(&mut self, block: &mut syn::Block) {
        if !self.returns_place {
            bind::bind_end(block, Position::Element, self.of_model);
        }
        self.visit_block_mut(block);
    }
}

impl VisitMut for Rewrite<'_> {
    fn visit_expr_mut(&mut self, expression: &mut Expr) {
        if let Expr::Macro(call) = expression {
            if let Some(expanded) = self.macro_call(&mut call.mac) {
                *expression = Expr::Verbatim(expanded);
            }
            return;
        }
        if let Expr::MethodCall(call) = expression
            && let Some(marked) = self.marked(call)
        {
            *expression = marked;
            return;
        }
        if let Expr::Match(branches) = expression
            && self.of_model.mentions(&branches.expr)
            && let Some(chain) = number_match(branches)
        {
            *expression = chain;
        }
        self.check_names(expression);
        match expression {
            Expr::MethodCall(call) if call.method == "print" && call.args.is_empty() && self.of_model.is_root_of(&call.receiver) => {
                let label = written(&call.receiver);
                let span = call.method.span();
                self.visit_expr_mut(&mut call.receiver);
                if !leaves(&call.receiver) {
                    *expression = parse_quote_spanned!(span=> ::nnsight::__private::labelled(#label, || #expression));
                }
                return;
            }
            Expr::If(branch) => {
                if let Some(rewritten) = self.condition(branch) {
                    *expression = rewritten;
                    return;
                }
            }
            Expr::Reference(reference) if reference.mutability.is_some() => {
                if let Some(borrowed) = self.borrow(&mut reference.expr) {
                    *expression = borrowed;
                    return;
                }
            }
            Expr::Index(index) => {
                if let Some(number) = literal(&index.index)
                    && self.of_model.is_root_of(&index.expr)
                    && !root(&index.expr).is_some_and(|name| self.tested.contains(&name))
                {
                    let (list, span) = (&index.expr, index.index.span());
                    let number = proc_macro2::Literal::i64_unsuffixed(number);
                    // The list is only named, and nothing of it is evaluated.
                    self.checks.push(parse_quote_spanned!(span=> if false { #list.__check::<#number>(); }));
                }
            }
            Expr::Field(field) => {
                if let Some(layer) = self.layer(&mut field.base) {
                    *field.base = layer;
                    return;
                }
            }
            Expr::Closure(closure) => {
                bind::bind(&mut closure.body, Position::Element, self.of_model);
                let loops = std::mem::take(&mut self.loops);
                self.with_checks(&mut closure.body);
                self.loops = loops;
                return;
            }
            Expr::Match(branches) => {
                self.visit_expr_mut(&mut branches.expr);
                for arm in &mut branches.arms {
                    let tested = self.tested.len();
                    self.tested.extend(bound(&arm.pat));
                    self.visit_pat_mut(&mut arm.pat);
                    self.tested.truncate(tested);
                    self.with_checks(&mut arm.body);
                }
                return;
            }
            Expr::Let(tested) => self.tested.extend(bound(&tested.pat)),
            Expr::While(repeated) => {
                if self.certainty(&repeated.cond) == Certainty::Unknown {
                    plain_while(repeated);
                }
            }
            _ => self.bind_inside(expression),
        }
        // What is assigned to is known by how it is written.
        let place = match expression {
            Expr::Assign(assign) => self.put(&assign.left, "__assign", "__put"),
            Expr::Binary(binary) => compound(&binary.op).and_then(|(method, put)| self.put(&binary.left, method, put)),
            _ => None,
        };
        self.loops.enter(expression);
        visit_expr_mut(self, expression);
        self.loops.leave(expression);
        let Some(method) = place else { return };
        let rewritten = match expression {
            Expr::Assign(assign) => assignment(&assign.left, method, assign.eq_token.span, &assign.right),
            Expr::Binary(binary) => assignment(&binary.left, method, binary.op.span(), &binary.right),
            _ => return,
        };
        *expression = rewritten;
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

    fn visit_block_mut(&mut self, block: &mut syn::Block) {
        self.bools.push(Vec::new());
        let outer = (std::mem::take(&mut self.checks), std::mem::take(&mut self.tested));
        for mut statement in std::mem::take(&mut block.stmts) {
            self.visit_stmt_mut(&mut statement);
            self.tested.clear();
            block.stmts.append(&mut self.checks);
            block.stmts.push(statement);
        }
        (self.checks, self.tested) = outer;
        self.bools.pop();
    }

    fn visit_local_mut(&mut self, local: &mut syn::Local) {
        let is_bool = match (&local.pat, &local.init) {
            (Pat::Type(typed), _) if matches!(&*typed.ty, syn::Type::Path(path) if path.path.is_ident("bool")) => true,
            (_, Some(init)) => self.certainty(&init.expr) == Certainty::Plain && is_boolean(&init.expr),
            (_, None) => false,
        };
        let names = bound(&local.pat);
        if local.init.is_none() {
            self.unset.extend(names.iter().cloned());
        }
        bind::bind_local(local, self.of_model, self.errors);
        visit_local_mut(self, local);
        if let Some(scope) = self.bools.last_mut() {
            scope.extend(names.into_iter().map(|name| (name, is_bool)));
        }
    }

    /// Items inside of a block are no part of the trace.
    fn visit_item_mut(&mut self, _item: &mut syn::Item) {}
}

impl Rewrite<'_> {
    /// Marks the values that an expression asks for.
    fn bind_inside(&mut self, expression: &mut Expr) {
        let of_model = self.of_model;
        match expression {
            Expr::Tuple(tuple) => tuple.elems.iter_mut().for_each(|element| bind::bind(element, Position::Element, of_model)),
            Expr::Array(array) => array.elems.iter_mut().for_each(|element| bind::bind(element, Position::Element, of_model)),
            Expr::Repeat(repeat) => bind::bind(&mut repeat.expr, Position::Element, of_model),
            Expr::Struct(literal) => literal.fields.iter_mut().for_each(|field| bind::bind(&mut field.expr, Position::Element, of_model)),
            Expr::Call(call) => {
                let is_effect = matches!(&*call.func, Expr::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "effect"));
                if !is_effect {
                    call.args.iter_mut().for_each(|argument| bind::bind(argument, Position::Argument, of_model));
                }
            }
            Expr::MethodCall(call) => call.args.iter_mut().for_each(|argument| bind::bind(argument, Position::Argument, of_model)),
            Expr::Return(returned) if !self.returns_place => {
                returned.expr.iter_mut().for_each(|value| bind::bind(value, Position::Element, of_model));
            }
            Expr::Break(left) => left.expr.iter_mut().for_each(|value| bind::bind(value, Position::Element, of_model)),
            Expr::Assign(assign) => bind::bind(&mut assign.right, Position::Argument, of_model),
            _ => {}
        }
    }

    /// Rewrites an expression whose names are its own, such as what a closure returns.
    fn with_checks(&mut self, body: &mut Expr) {
        let outer = (std::mem::take(&mut self.checks), std::mem::take(&mut self.tested));
        self.visit_expr_mut(body);
        let checks = std::mem::replace(&mut self.checks, outer.0);
        self.tested = outer.1;
        if !checks.is_empty() {
            let span = body.span();
            *body = parse_quote_spanned!(span=> { #(#checks)* #body });
        }
    }

    /// A mark of a value, as what it asks for.
    fn marked(&mut self, call: &mut syn::ExprMethodCall) -> Option<Expr> {
        let name = [bind::READ, bind::KNOWN, bind::BIND, bind::HANDLE].into_iter().find(|name| call.method == name)?;
        let span = call.method.span();
        let raw = call.receiver.clone();
        self.visit_expr_mut(&mut call.receiver);
        let value = &call.receiver;
        Some(match name {
            bind::READ => parse_quote_spanned!(span=> ::nnsight::__private::read!([#raw] #value)),
            bind::KNOWN => parse_quote_spanned!(span=> ::nnsight::__private::known!(#value)),
            bind::BIND => parse_quote_spanned!(span=> ::nnsight::__private::bind!(#value)),
            _ => parse_quote_spanned!(span=> ::nnsight::__private::handle!(#value)),
        })
    }

    /// `&mut place`, where the place may be one of the model's.
    fn borrow(&mut self, place: &mut Expr) -> Option<Expr> {
        if !matches!(place, Expr::Field(_)) || !self.of_model.is_root_of(place) {
            return None;
        }
        let (raw, span) = (place.clone(), place.span());
        self.visit_expr_mut(place);
        Some(parse_quote_spanned!(span=> ::nnsight::__private::borrow!([#raw] #place)))
    }

    /// `model.layers[3]` before a field, as a call that checks the number. The list is known to be one of the model's by how it is written.
    fn layer(&mut self, base: &mut Expr) -> Option<Expr> {
        let Expr::Index(index) = base else { return None };
        let (number, name) = (literal(&index.index)?, root(&index.expr)?);
        if !self.of_model.is_typed(&index.expr) || self.names.is_none_or(|names| names.model != name) {
            return None;
        }
        self.visit_expr_mut(&mut index.expr);
        let (list, span) = (&index.expr, index.index.span());
        let number = proc_macro2::Literal::i64_unsuffixed(number);
        let layer: Expr = parse_quote_spanned!(span=> #list.__layer::<#number>());
        // Begins where the list does, so that what is said of the whole expression is shown there.
        Some(parse_quote_spanned!(list.span()=> (*#layer)))
    }

    /// The method that assigns to a place, if it may be one of the model's.
    fn put(&self, place: &Expr, call: &'static str, field: &'static str) -> Option<&'static str> {
        match place {
            Expr::MethodCall(_) | Expr::Call(_) => self.of_model.mentions(place).then_some(call),
            Expr::Field(_) => self.of_model.is_root_of(place).then_some(field),
            Expr::Unary(unary) if matches!(unary.op, UnOp::Deref(_)) => self.of_model.is_root_of(place).then_some(field),
            Expr::Paren(inner) => self.put(&inner.expr, call, field),
            _ => None,
        }
    }

    fn certainty(&self, condition: &Expr) -> Certainty {
        let is_bool =
            |name: &str| self.bools.iter().rev().flat_map(|scope| scope.iter().rev()).find(|(own, _)| own == name).is_some_and(|(_, is)| *is);
        classify(condition, self.of_model, &is_bool)
    }

    /// `if` whose condition may be a value: the library decides by its type.
    fn condition(&mut self, branch: &mut ExprIf) -> Option<Expr> {
        if self.certainty(&branch.cond) == Certainty::Plain {
            return None;
        }
        self.conditions += 1;
        // In the user's span, so that what is asked of it is shown where it is asked.
        let condition = syn::Ident::new(&format!("__condition_{}", self.conditions), branch.if_token.span);
        let mut branches = Branches::new(condition.clone(), self.of_model, self.loops.innermost());
        branches.visit_block_mut(&mut branch.then_branch);
        if let Some((_, otherwise)) = &mut branch.else_branch {
            branches.visit_expr_mut(otherwise);
        }
        if branches.leaves_the_loop {
            self.loops.need();
        }
        let mut assigned = branches.assigned;
        assigned.retain(|name| {
            let is_unset = self.unset.contains(&name.to_string());
            if is_unset {
                let message = format!(
                    "it cannot be seen whether the condition around this is a `bool`, and `{name}` has no value yet: write `let c: bool = …; if c {{ … }}`, \
                     or let the `if` have the value: `let {name} = if … {{ … }} else {{ … }};`"
                );
                self.errors.add(name.span(), message);
            }
            !is_unset
        });
        self.visit_expr_mut(&mut branch.cond);
        self.visit_block_mut(&mut branch.then_branch);
        if let Some((_, otherwise)) = &mut branch.else_branch {
            self.visit_expr_mut(otherwise);
        }
        Some(branch::expand(branch, &condition, &assigned))
    }

    /// Says so where a name means something else in the block than the program seems to think.
    fn check_names(&mut self, expression: &Expr) {
        let Some(names) = self.names else { return };
        let base = match expression {
            Expr::Field(field) => &*field.base,
            Expr::MethodCall(call) => &*call.receiver,
            _ => return,
        };
        if let (Expr::Field(field), Expr::Path(path)) = (expression, base)
            && self.generates
            && path.path.is_ident(&names.model)
            && !self.of_model.is_bound(&names.model.to_string())
            && let syn::Member::Named(member) = &field.member
        {
            let model = &names.model;
            let message = match member == "tokens" {
                true => format!("the tokens of a generation are computed by a method: write `{model}.tokens()`"),
                false => format!(
                    "in `generate!` a site belongs to a step: `{model}.prompt().{member}…` (the same as `{model}.step(0)`) is the prompt's own pass, \
                 `{model}.steps(..)` is every step"
                ),
            };
            self.errors.add(member.span(), message);
        }
        if let Some(outer) = &names.outer
            && base.to_token_stream().to_string() == *outer
        {
            self.errors.add(base.span(), format!("in this block the model is called `{}`: `{outer}` is the model outside of the trace", names.model));
        }
    }

    fn invoke(&mut self, mut invoke: Invoke) -> Option<TokenStream> {
        if let Some(prompt) = &mut invoke.prompt {
            self.visit_expr_mut(prompt);
        }
        invoke.settings.0.iter_mut().for_each(|(_, value)| self.visit_expr_mut(value));
        self.block(&mut invoke.body);
        self.names.map(|names| expand::invoke(invoke, names))
    }

    /// A trace of a session whose prompts are given by `invoke!`.
    fn group(&mut self, mut body: syn::Block) -> Option<TokenStream> {
        self.block(&mut body);
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
            let outer = std::mem::replace(&mut self.generates, call.path.is_ident("generate"));
            let expanded = match prompt {
                Some(_) => self.invoke(Invoke { prompt, settings, body }),
                None => self.group(body),
            };
            self.generates = outer;
            return expanded;
        }
        self.arguments(call);
        None
    }

    /// What any other macro is given, as far as it consists of expressions. What has nothing to do with the model stays as it was written.
    fn arguments(&mut self, call: &mut Macro) {
        let Ok(mut arguments) = call.parse_body_with(Punctuated::<Expr, Token![,]>::parse_terminated) else { return };
        let before = arguments.to_token_stream().to_string();
        for argument in &mut arguments {
            match argument {
                // `name = value` names an argument of a format.
                Expr::Assign(named) if matches!(&*named.left, Expr::Path(_)) => self.visit_expr_mut(&mut named.right),
                argument => {
                    if call.path.is_ident("vec") {
                        bind::bind(argument, Position::Element, self.of_model);
                    }
                    self.visit_expr_mut(argument);
                }
            }
        }
        if arguments.to_token_stream().to_string() != before {
            call.tokens = quote!(#arguments);
        }
    }
}

/// Whether an expression is a `bool` by how it is written.
fn is_boolean(expression: &Expr) -> bool {
    match expression {
        Expr::Binary(binary) => !matches!(
            binary.op,
            BinOp::Add(_)
                | BinOp::Sub(_)
                | BinOp::Mul(_)
                | BinOp::Div(_)
                | BinOp::Rem(_)
                | BinOp::Shl(_)
                | BinOp::Shr(_)
                | BinOp::BitXor(_)
                | BinOp::BitAnd(_)
                | BinOp::BitOr(_)
        ),
        Expr::Lit(literal) => matches!(literal.lit, Lit::Bool(_)),
        Expr::Unary(unary) => is_boolean(&unary.expr),
        Expr::Paren(paren) => is_boolean(&paren.expr),
        Expr::MethodCall(_) => true,
        _ => false,
    }
}

/// An expression as the program says it: `model.layers[3].output`.
fn written(expression: &Expr) -> String {
    quote!(#expression).to_string().replace(" . ", ".").replace(" [", "[").replace(" (", "(").replace("[ ", "[").replace(" ]", "]")
}

/// Whether an expression may leave the block that it is in.
fn leaves(expression: &Expr) -> bool {
    use syn::visit::Visit;
    struct Leaves(bool);
    impl<'ast> Visit<'ast> for Leaves {
        fn visit_expr(&mut self, expression: &'ast Expr) {
            self.0 |= matches!(expression, Expr::Return(_) | Expr::Break(_) | Expr::Continue(_) | Expr::Try(_) | Expr::Await(_) | Expr::Verbatim(_));
            syn::visit::visit_expr(self, expression);
        }
    }
    let mut found = Leaves(false);
    found.visit_expr(expression);
    found.0
}

/// The methods that an operator becomes: of what a method returns, and of a field or what a reference leads to.
fn compound(operator: &BinOp) -> Option<(&'static str, &'static str)> {
    match operator {
        BinOp::AddAssign(_) => Some(("__add_assign", "__put_add")),
        BinOp::SubAssign(_) => Some(("__sub_assign", "__put_sub")),
        BinOp::MulAssign(_) => Some(("__mul_assign", "__put_mul")),
        BinOp::DivAssign(_) => Some(("__div_assign", "__put_div")),
        _ => None,
    }
}

/// `place = value` as a call, with the span of the operator, which is what the graph remembers as its line. Places of the model have a method
/// for it; everything else has that of a trait, which assigns.
fn assignment(place: &Expr, method: &str, operator: Span, value: &Expr) -> Expr {
    let method = syn::Ident::new(method, operator);
    // The parentheses of `(a + b)` mean nothing around an argument.
    let value = match value {
        Expr::Paren(paren) => &paren.expr,
        value => value,
    };
    match place {
        Expr::Unary(_) => parse_quote_spanned!(operator=> (#place).#method(#value)),
        _ => parse_quote_spanned!(operator=> #place.#method(#value)),
    }
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

/// Has the library say what to write where the condition of a `while` is a value.
fn plain_while(repeated: &mut syn::ExprWhile) {
    let condition = &repeated.cond;
    let span = condition.span();
    *repeated.cond = parse_quote_spanned!(span=> ::nnsight::__private::WhileCondition::__while(#condition));
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
        // `a | b` is a boolean of either kind.
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
        // Without a suffix: it is compared as a number, whatever its type.
        Pat::Lit(literal) => {
            let (number, span) = (self::literal(&Expr::Lit(literal.clone()))?, literal.span());
            let number = proc_macro2::Literal::i128_unsuffixed(number.into());
            Some(vec![parse_quote_spanned!(span=> #number)])
        }
        Pat::Or(or) => Some(or.cases.iter().map(numbers).collect::<Option<Vec<_>>>()?.concat()),
        Pat::Paren(paren) => numbers(&paren.pat),
        _ => None,
    }
}
