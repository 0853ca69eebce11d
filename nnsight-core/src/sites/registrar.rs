//! Writing down the sites of a model.

use super::table::{ModuleInfo, Parent, SiteInfo, SiteTable};
use super::{Describe, Mixing};
use crate::graph::{Axis, AxisRole, Facts, KindTag};
use crate::{Error, Result};

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

/// What a list of modules is to whatever runs the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListRole {
    /// Its entries are the stages of the model between the first and the last, which run one after the other: what a plan calls layers. A model
    /// has one such list.
    Stages,
    /// It is a part of the modules around it.
    Inner,
}

/// How long a list of modules is: as a size of the model, or as a number that is the same for every model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The name of the size.
    pub name: &'static str,
    /// The number, if it is the same for every model.
    pub fixed: Option<usize>,
}

/// The name of the size that is the number of a model's layers.
const LAYERS: &str = "Layers";

/// Writes a [`SiteTable`]; `derive(Module)` calls it.
pub struct Registrar {
    table: SiteTable,
    open: Vec<Open>,
    /// Whether the model itself is written down, and not what is attached to it.
    is_model: bool,
    /// What is wrong with its lists.
    problem: Option<Error>,
}

/// A module that is being written down.
struct Open {
    module: usize,
    names: Vec<&'static str>,
    /// For each element, all that it depends on.
    ancestors: Vec<u64>,
    list: Option<ListRole>,
}

impl Registrar {
    /// Starts a table. `depth` is the number of its layers, and `sizes` are those that the signature may not know, by the names of their dimensions.
    pub fn new(signature: &str, depth: usize, sizes: &[(&str, usize)]) -> Self {
        let sizes = sizes.iter().copied().chain([(LAYERS, depth)]);
        let size_of = sizes.map(|(name, size)| (name.to_string(), size)).collect();
        let table = SiteTable { signature: signature.to_string(), depth, size_of, ..SiteTable::default() };
        Registrar { table, open: Vec::new(), is_model: true, problem: None }
    }

    /// Goes on with a table, whose model gets further modules.
    pub(super) fn extend<M: Describe>(table: SiteTable, name: &str) -> Result<SiteTable> {
        Registrar { table, open: Vec::new(), is_model: false, problem: None }.write::<M>(name)
    }

    /// Writes down a model.
    ///
    /// # Errors
    /// [`Error::NoLength`] if the length of a list is not among the sizes, [`Error::TwoStageLists`].
    pub fn model<M: Describe>(self) -> Result<SiteTable> {
        self.write::<M>("")
    }

    fn write<M: Describe>(mut self, path: &str) -> Result<SiteTable> {
        M::describe(&mut self, path, None);
        self.problem.map_or(Ok(self.table), Err)
    }

    /// Opens a module.
    pub fn begin(&mut self, type_name: &'static str, path: &str, pointwise: Option<(Axis, Axis)>) {
        let type_name = type_name.split('<').next().unwrap_or(type_name).rsplit("::").next().unwrap_or(type_name);
        let pointwise = pointwise.map(|(input, output)| (self.sized(input), self.sized(output)));
        self.open(type_name, path, pointwise, None);
    }

    fn open(&mut self, type_name: &'static str, path: &str, pointwise: Option<(Axis, Axis)>, list: Option<ListRole>) {
        let parent = self.open.last().map(|open| Parent { module: open.module, element: open.names.len().saturating_sub(1) });
        let start = self.table.sites.len();
        let level = self.open.len();
        self.open.push(Open { module: self.table.modules.len(), names: Vec::new(), ancestors: Vec::new(), list });
        let path = path.to_string();
        self.table.modules.push(ModuleInfo { path, type_name, level, pointwise, sites: start..start, parent, reach: None, length: None });
    }

    /// Closes the module that was opened last.
    pub fn end(&mut self) {
        let open = self.open.pop().expect("every `end` follows a `begin`");
        let module = &mut self.table.modules[open.module];
        module.sites.end = self.table.sites.len();
        if open.list.is_none() {
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
            DependsOn::AllBefore if open.list.is_some() => 0,
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
        let is_of_stage = self.open.iter().rev().nth(1).is_some_and(|outer| outer.list == Some(ListRole::Stages));
        let is_residual_boundary = is_of_stage && matches!(name, "input" | "output");
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

    /// Adds a list of submodules.
    pub fn list<M: Describe>(&mut self, name: &'static str, from: DependsOn, count: Count, role: ListRole) {
        let path = self.path(name);
        let Some(length) = self.table.length_of(count) else {
            let problem = Error::NoLength { path, count: count.name, signature: self.table.signature.clone(), source_line: None };
            self.problem.get_or_insert(problem);
            return;
        };
        // What is attached to a model runs within its stages, and a stage is one whatever is in it.
        let is_outermost = self.is_model && self.open.iter().all(|open| open.list.is_none());
        let role = if is_outermost { role } else { ListRole::Inner };
        if let (ListRole::Stages, [first, ..]) = (role, &self.table.layers[..]) {
            let first = self.table.list_around(*first);
            self.problem.get_or_insert(Error::TwoStageLists { first, second: path.clone(), source_line: None });
        }
        self.element(name, from);
        let list = self.table.modules.len();
        self.open("List", &path, None, Some(role));
        self.table.modules[list].length = Some(length);
        let mut starts = Vec::with_capacity(length + 1);
        for entry in 0..length {
            starts.push(self.table.sites.len());
            self.element("", DependsOn::AllBefore);
            M::describe(self, &format!("{path}.{entry}"), None);
        }
        if role == ListRole::Stages {
            starts.push(self.table.sites.len());
            self.table.layers = starts;
            self.table.depth = length;
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
