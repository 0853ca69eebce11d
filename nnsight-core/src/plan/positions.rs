//! Which positions of a prompt an edit writes, and which a reading needs: where nothing but a causal mask lies between, no position depends on a
//! later one.

use std::fmt::{Display, Formatter};

use crate::graph::{AxisRole, Facts, Region};
use crate::sites::Mixing;

/// Some positions of a prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Positions {
    /// None.
    #[default]
    None,
    /// From the first to the last of these, both included.
    Range(usize, usize),
    /// All, or it is not known which.
    All,
}

/// The positions that a region of a site takes, where the prompt has `length` tokens.
pub(super) fn of(region: &Region, facts: &Facts, length: Option<usize>) -> Positions {
    let axis = facts.along(|role| role == AxisRole::Position);
    let mut steps = region.0.iter().filter(|step| Some(step.axis as usize) == axis);
    match (steps.next(), steps.next(), length) {
        (Some(step), None, Some(length)) => match step.resolve(length) {
            Some(span) => Positions::Range(span.start, span.start + span.len - 1),
            None => Positions::All,
        },
        _ => Positions::All,
    }
}

impl Positions {
    /// Takes others in.
    pub fn add(&mut self, other: Positions) {
        *self = match (&self, other) {
            (Positions::None, other) => other,
            (Positions::Range(a, b), Positions::Range(c, d)) => Positions::Range(*a.min(&c), *b.max(&d)),
            (Positions::Range(a, b), Positions::None) => Positions::Range(*a, *b),
            _ => Positions::All,
        };
    }

    /// Whether what is written here can be seen there, with what lies between.
    pub fn reaches(&self, read: &Positions, between: Option<Mixing>) -> bool {
        match (self, read, between) {
            (_, _, Some(Mixing::All)) => true,
            (Positions::Range(first, last), Positions::Range(from, to), None) => first <= to && last >= from,
            (Positions::Range(first, last), Positions::Range(from, to), Some(Mixing::Window(size))) => {
                first <= to && last.saturating_add(size.max(1)) > *from
            }
            (Positions::Range(first, _), Positions::Range(_, to), Some(Mixing::Causal | Mixing::Scan)) => first <= to,
            _ => true,
        }
    }
}

impl Display for Positions {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Positions::None => f.write_str("no position"),
            Positions::Range(first, last) if first == last => write!(f, "position {first}"),
            Positions::Range(first, last) => write!(f, "positions {first} to {last}"),
            Positions::All => f.write_str("every position"),
        }
    }
}
