//! Names in a graph: they are short, and are text that can be printed.

use super::{Graph, Limits, Node, Op};
use crate::{Error, Result};

impl Op {
    /// The names that it carries: those of axes, modules, types, operations and labels.
    fn names(&self) -> Vec<&str> {
        match self {
            Op::Permute { names, .. } => names.iter().map(String::as_str).collect(),
            Op::Split { into, .. } => into.iter().map(|(name, _)| name.as_str()).collect(),
            Op::Merge { name, .. } | Op::Rename { name, .. } | Op::Stack { name } | Op::OneHot { name, .. } => vec![name],
            Op::Call { module } => vec![module],
            Op::Apply { axes, .. } => axes.iter().map(|(name, _)| name.as_str()).collect(),
            Op::Custom { operation, names, .. } => std::iter::once(operation).chain(names).map(String::as_str).collect(),
            Op::Store { dtype, .. } => dtype.as_deref().into_iter().collect(),
            Op::Get { .. }
            | Op::Set { .. }
            | Op::Skip { .. }
            | Op::Stop { .. }
            | Op::Output { .. }
            | Op::Grad
            | Op::SetGrad
            | Op::Constant(_)
            | Op::Scalar(_)
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::Compare(_)
            | Op::Logic(_)
            | Op::Reduce { .. }
            | Op::Softmax { .. }
            | Op::CumSum { .. }
            | Op::MatMul
            | Op::Slice(_)
            | Op::Patch(_)
            | Op::Scatter { .. }
            | Op::Pick { .. }
            | Op::Gather { .. }
            | Op::IndexSelect { .. }
            | Op::Cat { .. }
            | Op::Where
            | Op::Choose
            | Op::TopK { .. }
            | Op::Full(_)
            | Op::Randn { .. }
            | Op::Cast(_)
            | Op::Loop(_)
            | Op::Item { .. } => Vec::new(),
            // What it prints is made printable then.
            Op::Log { .. } => Vec::new(),
        }
    }
}

impl Graph {
    /// Checks the names of everything but nodes.
    pub(super) fn check_names(&self, limits: &Limits) -> Result<()> {
        let constants = self.constants.iter().flat_map(|constant| &constant.names).map(String::as_str);
        let files = self.sources.iter().map(|source| source.file.as_ref());
        let mut names = std::iter::once(self.signature.as_str()).chain(self.sites.iter().map(String::as_str)).chain(constants).chain(files);
        names.try_for_each(|name| check(name, limits))
    }
}

/// Checks the names that a node carries.
pub(super) fn check_node(node: &Node, limits: &Limits) -> Result<()> {
    if let Op::Log { label } = &node.op
        && label.len() > limits.name_bytes
    {
        return Err(too_long(label, limits));
    }
    node.op.names().into_iter().try_for_each(|name| check(name, limits))
}

fn check(name: &str, limits: &Limits) -> Result<()> {
    if name.len() > limits.name_bytes {
        return Err(too_long(name, limits));
    }
    match name.chars().any(steers) {
        false => Ok(()),
        true => {
            Err(Error::GraphFormat { problem: format!("the name `{}` has characters that cannot be printed", printable(name)), source_line: None })
        }
    }
}

fn too_long(name: &str, limits: &Limits) -> Error {
    Error::TooLarge { what: "bytes in one name", found: name.len(), limit: limits.name_bytes, source_line: None }
}

/// Whether a character does something to a terminal: those of the second half change the direction in which the rest of a line is shown.
fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text of unknown origin as it can be shown on a terminal: characters that would steer it are escaped.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match steers(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped() {
        assert_eq!(printable("größe of 層 → 5"), "größe of 層 → 5");
        assert_eq!(printable("\u{1b}[2Jgone\r\n\u{202e}"), "\\u{1b}[2Jgone\\r\\n\\u{202e}");
    }
}
