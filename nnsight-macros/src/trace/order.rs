//! Sees, where layers are written as numbers, that a value comes from a layer which runs after the one it is assigned to.

use std::collections::HashMap;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{BinOp, Block, Expr, Pat, Stmt};

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
    Check { errors, variables: HashMap::new(), invoke: 0, invokes: 0 }.visit_block(block);
}

struct Check<'a> {
    errors: &'a mut Errors,
    /// The sites that the value of a variable comes from.
    variables: HashMap<String, Vec<LiteralSite>>,
    invoke: usize,
    invokes: usize,
}

impl<'ast> Visit<'ast> for Check<'_> {
    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        visit::visit_stmt(self, statement);
        if let Stmt::Local(local) = statement
            && let (Pat::Ident(name), Some(init)) = (&local.pat, &local.init)
        {
            let sources = self.sources(&init.expr);
            self.variables.insert(name.ident.to_string(), sources.into_iter().map(|(site, _)| site).collect());
        }
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
            _ => {}
        }
        visit::visit_expr(self, expression);
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
                    fields.extend([number.to_string(), list.split_once('.')?.1.to_string()]);
                    fields.reverse();
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
                let sites = path.path.get_ident().and_then(|name| self.check.variables.get(&name.to_string()));
                self.found.extend(sites.into_iter().flatten().map(|site| (site.clone(), expression.span())));
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
