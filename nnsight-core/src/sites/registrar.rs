//! Writing down the sites of a model.

use super::table::{ModuleInfo, Parent, SiteInfo, SiteTable};
use super::{Describe, Mixing};
use crate::graph::{Axis, AxisRole, Facts, KindTag};

/// Which earlier elements of its module an element depends on.
#[derive(Clone, Copy, Debug)]
pub enum DependsOn {
    /// All of them.
    AllBefore,
    /// These, and what they depend on.
    Only(&'static [&'static str]),
}

/// Sizes above it are those of vocabularies.
const WIDEST: usize = 1 << 15;

/// Writes a [`SiteTable`]; `derive(Module)` calls it.
pub struct Registrar {
    table: SiteTable,
    open: Vec<Open>,
}

/// A module that is being written down.
struct Open {
    module: usize,
    names: Vec<&'static str>,
    /// For each element, all that it depends on.
    ancestors: Vec<u64>,
    list: bool,
}

impl Registrar {
    /// Starts a table. `sizes` are those that the signature may not know, by the names of their dimensions.
    pub fn new(signature: &str, depth: usize, sizes: &[(&str, usize)]) -> Self {
        let size_of = sizes.iter().map(|(name, size)| (name.to_string(), *size)).collect();
        let table = SiteTable { signature: signature.to_string(), depth, size_of, ..SiteTable::default() };
        Registrar { table, open: Vec::new() }
    }

    /// Goes on with a table, whose model gets further modules.
    pub(super) fn extend<M: Describe>(table: SiteTable, name: &str) -> SiteTable {
        let mut registrar = Registrar { table, open: Vec::new() };
        M::describe(&mut registrar, name, None);
        registrar.table
    }

    /// Writes down a model.
    pub fn model<M: Describe>(mut self) -> SiteTable {
        M::describe(&mut self, "", None);
        self.table
    }

    /// Opens a module.
    pub fn begin(&mut self, type_name: &'static str, path: &str, pointwise: Option<(Axis, Axis)>) {
        let type_name = type_name.split('<').next().unwrap_or(type_name).rsplit("::").next().unwrap_or(type_name);
        let pointwise = pointwise.map(|(input, output)| (self.sized(input), self.sized(output)));
        self.open(type_name, path, pointwise, false);
    }

    fn open(&mut self, type_name: &'static str, path: &str, pointwise: Option<(Axis, Axis)>, list: bool) {
        let parent = self.open.last().map(|open| Parent { module: open.module, element: open.names.len().saturating_sub(1) });
        let start = self.table.sites.len();
        let level = self.open.len();
        self.open.push(Open { module: self.table.modules.len(), names: Vec::new(), ancestors: Vec::new(), list });
        let path = path.to_string();
        self.table.modules.push(ModuleInfo { path, type_name, level, pointwise, sites: start..start, parent, reach: None });
    }

    /// Closes the module that was opened last.
    pub fn end(&mut self) {
        let open = self.open.pop().expect("every `end` follows a `begin`");
        let module = &mut self.table.modules[open.module];
        module.sites.end = self.table.sites.len();
        if !open.list {
            let count = open.ancestors.len();
            let descendants =
                |element: usize| (0..count).filter(|&other| open.ancestors[other] & (1 << element) != 0).fold(0, |mask, other| mask | (1 << other));
            module.reach = Some((0..count).map(descendants).collect());
        }
    }

    fn element(&mut self, name: &'static str, from: DependsOn) {
        let open = self.open.last_mut().expect("elements stand between `begin` and `end`");
        let before = open.names.len();
        let ancestors = match from {
            DependsOn::AllBefore if open.list => 0,
            DependsOn::AllBefore => (1u64 << before) - 1,
            DependsOn::Only(names) => names.iter().fold(0, |mask, wanted| {
                let index = open.names.iter().position(|name| name == wanted).expect("`from` names an earlier element");
                mask | (1 << index) | open.ancestors[index]
            }),
        };
        open.names.push(name);
        open.ancestors.push(ancestors);
    }

    /// Adds a site of the module.
    pub fn site(&mut self, name: &'static str, kind: KindTag, axes: Vec<Axis>, from: DependsOn) {
        self.element(name, from);
        let open = self.open.last().expect("sites stand between `begin` and `end`");
        let parent = Parent { module: open.module, element: open.names.len() - 1 };
        let path = join(&self.table.modules[open.module].path, name);
        let axes = axes.into_iter().map(|axis| self.sized(axis)).collect();
        self.table.by_path.insert(path.clone(), self.table.sites.len());
        let is_residual_boundary = self.open.iter().rev().nth(1).is_some_and(|outer| outer.list) && matches!(name, "input" | "output");
        let facts = Facts { kind, axes };
        let from_elsewhere = matches!(from, DependsOn::Only([])) && facts.along(|role| role == AxisRole::Row).is_some();
        let is_argument = name == "input" || from_elsewhere;
        let width = facts.axes.last().and_then(|axis| axis.size).filter(|&width| width <= WIDEST);
        self.table.widest = self.table.widest.max(width.unwrap_or(0));
        self.table.sites.push(SiteInfo { path, facts, is_residual_boundary, is_argument, parent });
    }

    /// Says that at the site added last a position's value comes to depend on others.
    pub fn mixes_positions(&mut self, mixing: Mixing) {
        self.table.mixing.push((self.table.sites.len() - 1, mixing));
    }

    fn sized(&self, axis: Axis) -> Axis {
        Axis { size: axis.size.or_else(|| self.table.size_of(&axis.name)), ..axis }
    }

    fn path(&self, name: &str) -> String {
        let open = self.open.last().expect("children stand between `begin` and `end`");
        join(&self.table.modules[open.module].path, name)
    }

    /// Adds a submodule, with the axes it takes and gives where it may be applied by hand.
    pub fn child<M: Describe>(&mut self, name: &'static str, from: DependsOn, pointwise: Option<(Axis, Axis)>) {
        let path = self.path(name);
        self.element(name, from);
        M::describe(self, &path, pointwise);
    }

    /// Adds a list of submodules, one per layer.
    pub fn list<M: Describe>(&mut self, name: &'static str, from: DependsOn) {
        let path = self.path(name);
        self.element(name, from);
        self.open("List", &path, None, true);
        // The layers are the first list of a model.
        let is_first = self.table.layers.is_empty();
        let mut starts = Vec::with_capacity(self.table.depth + 1);
        for layer in 0..self.table.depth {
            starts.push(self.table.sites.len());
            self.element("", DependsOn::AllBefore);
            M::describe(self, &format!("{path}.{layer}"), None);
        }
        if is_first {
            starts.push(self.table.sites.len());
            self.table.layers = starts;
        }
        self.end();
    }
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_string(),
        path => format!("{path}.{name}"),
    }
}
