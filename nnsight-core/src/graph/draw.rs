//! Pictures of a graph, for Graphviz and for Mermaid.

use std::fmt::Write as _;

use super::{Graph, NodeId, Op};

/// What a node looks like.
enum Look {
    Read,
    Write,
    Constant,
    Compute,
}

impl Graph {
    /// As Graphviz' DOT language: `dot -Tsvg`.
    pub fn to_dot(&self) -> String {
        let mut dot = String::from("digraph trace {\n  rankdir = LR;\n  node [fontname = \"monospace\"];\n");
        for (id, label, look) in self.boxes() {
            let style = match look {
                Look::Read => "shape = box, style = filled, fillcolor = \"#d0e8ff\"",
                Look::Write => "shape = box, style = filled, fillcolor = \"#ffd9c0\"",
                Look::Constant => "shape = plain",
                Look::Compute => "shape = ellipse",
            };
            let saved = if self.saves.contains(&id) { ", peripheries = 2" } else { "" };
            writeln!(dot, "  n{} [label = {label:?}, {style}{saved}];", id.0).expect("writing to a string does not fail");
        }
        for (from, to) in self.arrows() {
            writeln!(dot, "  n{} -> n{};", from.0, to.0).expect("writing to a string does not fail");
        }
        dot + "}\n"
    }

    /// As a Mermaid flow chart, which GitHub and many editors show.
    pub fn to_mermaid(&self) -> String {
        let mut chart = String::from("flowchart LR\n");
        for (id, label, look) in self.boxes() {
            let label = label.replace('"', "#quot;");
            let shape = match look {
                Look::Read => format!("[/\"{label}\"/]"),
                Look::Write => format!("[\\\"{label}\"\\]"),
                Look::Constant | Look::Compute => format!("(\"{label}\")"),
            };
            let saved = if self.saves.contains(&id) { ":::saved" } else { "" };
            writeln!(chart, "  n{}{shape}{saved}", id.0).expect("writing to a string does not fail");
        }
        for (from, to) in self.arrows() {
            writeln!(chart, "  n{} --> n{}", from.0, to.0).expect("writing to a string does not fail");
        }
        chart + "  classDef saved stroke-width:3px\n"
    }

    fn boxes(&self) -> impl Iterator<Item = (NodeId, String, Look)> {
        self.iter().map(|(id, node)| match &node.op {
            Op::Get { site, .. } => (id, self.site(*site).to_string(), Look::Read),
            Op::Skip { site, .. } => (id, format!("{} = (skipped)", self.site(*site)), Look::Write),
            Op::Stop { site, .. } => (id, format!("stop after {}", self.site(*site)), Look::Write),
            Op::SetGrad => (id, "grad =".to_string(), Look::Write),
            Op::Set { site, region, .. } => (id, format!("{}{region} =", self.site(*site)), Look::Write),
            Op::Scalar(number) => (id, number.to_string(), Look::Constant),
            Op::Constant(_) => (id, "constant".to_string(), Look::Constant),
            op => (id, op.name(), Look::Compute),
        })
    }

    fn arrows(&self) -> impl Iterator<Item = (NodeId, NodeId)> {
        self.iter().flat_map(|(id, node)| node.args.iter().map(move |&arg| (arg, id)))
    }
}
