//! The loops around an `if` on a value. Such an `if` becomes a labelled block, out of which Rust lets a `break` or `continue` reach a loop only by
//! its label.

use proc_macro2::Span;
use syn::{Expr, Lifetime};

/// The loops around a place, the innermost last.
#[derive(Default)]
pub struct Loops {
    around: Vec<Around>,
    count: usize,
}

struct Around {
    label: Lifetime,
    /// Whether something needs the label.
    is_needed: bool,
}

impl Loops {
    /// Begins a loop. Other expressions are none.
    pub fn enter(&mut self, expression: &mut Expr) {
        let Some(label) = label_of(expression) else { return };
        self.count += 1;
        let own = || Lifetime::new(&format!("'__loop_{}", self.count), Span::mixed_site());
        let label = label.as_ref().map_or_else(own, |label| label.name.clone());
        self.around.push(Around { label, is_needed: false });
    }

    /// Ends a loop, which has a label from here on if one is needed.
    pub fn leave(&mut self, expression: &mut Expr) {
        let Some(label) = label_of(expression) else { return };
        if let Some(Around { label: own, is_needed: true }) = self.around.pop()
            && label.is_none()
        {
            *label = Some(syn::Label { name: own, colon_token: syn::Token![:](Span::mixed_site()) });
        }
    }

    /// The label of the innermost loop, if there is one.
    pub fn innermost(&self) -> Option<Lifetime> {
        self.around.last().map(|around| around.label.clone())
    }

    /// Has the innermost loop keep its label.
    pub fn need(&mut self) {
        if let Some(around) = self.around.last_mut() {
            around.is_needed = true;
        }
    }
}

fn label_of(expression: &mut Expr) -> Option<&mut Option<syn::Label>> {
    match expression {
        Expr::ForLoop(repeated) => Some(&mut repeated.label),
        Expr::While(repeated) => Some(&mut repeated.label),
        Expr::Loop(repeated) => Some(&mut repeated.label),
        _ => None,
    }
}
