//! Sees, if layers are written as numbers, that a value comes from a layer which runs after the one it is assigned to.
//!
//! What is reported here does not compile, so that it must never be wrong: a name is forgotten at every binding that is not a plain `let`.

use std::collections::HashMap;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{BinOp, Block, Expr, Pat};

use super::of_model::{bound, is_compound};
use super::parse::{Invoke, Trace};
use super::rewrite::literal;
use crate::errors::Errors;

/// A site below a layer that is written as a number.
#[derive(Clone)]
struct LiteralSite {
    /// Which prompt it belongs to.
    invoke: usize,
    /// The list: `model.layers`.
    list: String,
    index: i64,
    /// The site without the model's name: `layers.9.output`.
    path: String,
}

pub fn check(trace: &Trace, errors: &mut Errors) {
    check_block(&trace.body, errors);
}

pub fn check_block(block: &Block, errors: &mut Errors) {
    Check { errors, scopes: vec![HashMap::new()], bindings: 0, invoke: 0, invokes: 0 }.visit_block(block);
}

/// What a name stands for.
#[derive(Clone, Default)]
struct Binding {
    /// Tells bindings of one name apart.
    id: usize,
    /// The sites that its value comes from, as far as they are known.
    sources: Vec<LiteralSite>,
}

struct Check<'a> {
    errors: &'a mut Errors,
    scopes: Vec<HashMap<String, Binding>>,
    bindings: usize,
    invoke: usize,
    invokes: usize,
}

impl<'ast> Visit<'ast> for Check<'_> {
    fn visit_block(&mut self, block: &'ast Block) {
        self.scoped(|check| visit::visit_block(check, block));
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        visit::visit_local(self, local);
        let sources = match (&local.pat, &local.init) {
            (Pat::Ident(_), Some(init)) => self.sources(&init.expr),
            _ => Vec::new(),
        };
        let sources = sources.into_iter().map(|(site, _)| site).collect::<Vec<_>>();
        bound(&local.pat).into_iter().for_each(|name| self.bind(name, sources.clone()));
    }

    fn visit_expr(&mut self, expression: &'ast Expr) {
        match expression {
            Expr::Assign(assign) => self.assignment(&assign.left, &assign.right),
            Expr::Binary(binary) if matches!(binary.op, BinOp::AddAssign(_) | BinOp::SubAssign(_) | BinOp::MulAssign(_) | BinOp::DivAssign(_)) => {
                self.assignment(&binary.left, &binary.right);
            }
            Expr::Macro(call) if call.mac.path.is_ident("invoke") => {
                if let Ok(invoke) = call.mac.parse_body::<Invoke>() {
                    self.inside(|check| Check::visit_detached(check, &invoke));
                }
            }
            // What is assigned in a loop may be there before the line that assigns it.
            Expr::ForLoop(_) | Expr::While(_) | Expr::Loop(_) | Expr::Closure(_) => {
                self.forget_assigned(expression);
                self.scoped(|check| {
                    match expression {
                        Expr::ForLoop(repeated) => check.forget(&repeated.pat),
                        Expr::Closure(closure) => closure.inputs.iter().for_each(|pattern| check.forget(pattern)),
                        _ => {}
                    }
                    visit::visit_expr(check, expression);
                });
                self.forget_assigned(expression);
                return;
            }
            Expr::If(_) | Expr::Match(_) => {
                self.scoped(|check| visit::visit_expr(check, expression));
                self.forget_assigned(expression);
                return;
            }
            Expr::Let(tested) => self.forget(&tested.pat),
            _ => {}
        }
        visit::visit_expr(self, expression);
        if let Expr::Assign(assign) = expression {
            self.forget_root(&assign.left);
        } else if let Expr::Binary(binary) = expression
            && is_compound(&binary.op)
        {
            self.forget_root(&binary.left);
        }
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        self.scoped(|check| {
            check.forget(&arm.pat);
            visit::visit_arm(check, arm);
        });
    }

    fn visit_item(&mut self, _item: &'ast syn::Item) {}
}

impl Check<'_> {
    fn scoped(&mut self, body: impl FnOnce(&mut Self)) {
        self.scopes.push(HashMap::new());
        body(self);
        self.scopes.pop();
    }

    fn bind(&mut self, name: String, sources: Vec<LiteralSite>) {
        self.bindings += 1;
        let binding = Binding { id: self.bindings, sources };
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name, binding);
        }
    }

    fn forget(&mut self, pattern: &Pat) {
        bound(pattern).into_iter().for_each(|name| self.bind(name, Vec::new()));
    }

    /// After an assignment to a variable, nothing is known of it.
    fn forget_root(&mut self, place: &Expr) {
        if let Expr::Path(path) = place
            && let Some(name) = path.path.get_ident()
        {
            self.bindings += 1;
            let id = self.bindings;
            if let Some(binding) = self.scopes.iter_mut().rev().find_map(|scope| scope.get_mut(&name.to_string())) {
                *binding = Binding { id, sources: Vec::new() };
            }
        }
    }

    fn forget_assigned(&mut self, expression: &Expr) {
        struct Assigned<'a, 'b>(&'a mut Check<'b>);
        impl<'ast> Visit<'ast> for Assigned<'_, '_> {
            fn visit_expr(&mut self, expression: &'ast Expr) {
                match expression {
                    Expr::Assign(assign) => self.0.forget_root(&assign.left),
                    Expr::Binary(binary) if is_compound(&binary.op) => self.0.forget_root(&binary.left),
                    _ => {}
                }
                visit::visit_expr(self, expression);
            }
        }
        Assigned(self).visit_expr(expression);
    }

    fn binding(&self, name: &str) -> Option<&Binding> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name))
    }
}

impl Check<'_> {
    fn visit_detached(&mut self, invoke: &Invoke) {
        for statement in &invoke.body.stmts {
            self.visit_stmt(statement);
        }
    }

    fn inside<T>(&mut self, body: impl FnOnce(&mut Self) -> T) -> T {
        self.invokes += 1;
        let outer = std::mem::replace(&mut self.invoke, self.invokes);
        let result = body(self);
        self.invoke = outer;
        result
    }

    fn assignment(&mut self, place: &Expr, value: &Expr) {
        let Some(target) = self.site(place) else { return };
        for (source, span) in self.sources(value) {
            let comparable = source.invoke == target.invoke && source.list == target.list && (source.index < 0) == (target.index < 0);
            if comparable && source.index > target.index {
                self.errors.add(span, format!("the value comes from `{}`, which runs after `{}`", source.path, target.path));
            }
        }
    }

    /// All literal sites that a value comes from, each with the place where it is named.
    fn sources(&self, value: &Expr) -> Vec<(LiteralSite, proc_macro2::Span)> {
        let mut collect = Sources { check: self, found: Vec::new() };
        collect.visit_expr(value);
        collect.found
    }

    /// The site that an expression denotes or begins with, behind any number of method calls.
    fn site(&self, expression: &Expr) -> Option<LiteralSite> {
        let mut fields = Vec::new();
        let mut at = expression;
        loop {
            at = match at {
                Expr::MethodCall(call) => {
                    fields.clear();
                    &call.receiver
                }
                Expr::Paren(paren) => &paren.expr,
                Expr::Group(group) => &group.expr,
                Expr::Call(call) if call.args.len() == 1 => call.args.first()?,
                Expr::Field(field) => {
                    match &field.member {
                        syn::Member::Named(name) => fields.push(name.to_string()),
                        syn::Member::Unnamed(_) => return None,
                    }
                    &field.base
                }
                Expr::Index(index) => {
                    let number = literal(&index.index)?;
                    let list = chain(&index.expr)?;
                    let (base, rest) = list.split_once('.')?;
                    fields.extend([number.to_string(), rest.to_string()]);
                    fields.reverse();
                    // A name that is bound anew is another list.
                    let binding = self.binding(base).map_or(0, |binding| binding.id);
                    let list = format!("{binding} {list}");
                    return Some(LiteralSite { invoke: self.invoke, list, index: number, path: fields.join(".") });
                }
                _ => return None,
            };
        }
    }
}

/// `model.transformer.h` as text.
fn chain(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Path(path) => path.path.get_ident().map(ToString::to_string),
        Expr::Field(field) => match &field.member {
            syn::Member::Named(name) => Some(format!("{}.{name}", chain(&field.base)?)),
            syn::Member::Unnamed(_) => None,
        },
        _ => None,
    }
}

struct Sources<'a, 'b> {
    check: &'a Check<'b>,
    found: Vec<(LiteralSite, proc_macro2::Span)>,
}

impl<'ast> Visit<'ast> for Sources<'_, '_> {
    fn visit_expr(&mut self, expression: &'ast Expr) {
        match expression {
            // A value of another prompt may come from any layer.
            Expr::Macro(_) | Expr::Closure(_) => return,
            Expr::Path(path) => {
                let sites = path.path.get_ident().and_then(|name| self.check.binding(&name.to_string()));
                self.found.extend(sites.into_iter().flat_map(|binding| &binding.sources).map(|site| (site.clone(), expression.span())));
                return;
            }
            Expr::Field(_) => {
                if let Some(site) = self.check.site(expression) {
                    self.found.push((site, expression.span()));
                    return;
                }
            }
            _ => {}
        }
        visit::visit_expr(self, expression);
    }
}
