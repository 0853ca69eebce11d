//! The sites of a model as data: where they are, what they hold, in which order they are passed, and which depends on which.

use std::collections::HashMap;

use crate::graph::{Axis, Facts};
use crate::types::KindTag;

/// One place of a model where a value can be read or replaced.
#[derive(Clone, Debug)]
pub struct SiteInfo {
    /// As the checkpoint names it: `layers.5.mlp.output`.
    pub path: String,
    /// What it holds.
    pub facts: Facts,
    /// Whether everything that comes later depends on what comes earlier through this site only: the inputs and outputs of layers.
    pub is_bottleneck: bool,
    /// The module that it belongs to, and the element of that module.
    parent: Parent,
}

/// One module of a model.
#[derive(Clone, Debug)]
pub struct ModuleInfo {
    /// As the checkpoint names it; the model itself has the empty path.
    pub path: String,
    /// Its Rust type.
    pub type_name: &'static str,
    /// Its number of enclosing modules.
    pub level: usize,
    /// The axes that it takes and gives innermost, where it treats every position by itself and can be applied by hand.
    pub pointwise: Option<(Axis, Axis)>,
    /// Its sites, from its input to its output.
    pub sites: std::ops::Range<usize>,
    parent: Option<Parent>,
    /// For each element the elements that depend on it, as a bit mask; `None` for a list, where each depends on all before it.
    reach: Option<Vec<u64>>,
}

#[derive(Clone, Copy, Debug)]
struct Parent {
    module: usize,
    element: usize,
}

/// All sites of a model, in the order in which a forward pass comes by.
#[derive(Clone, Debug, Default)]
pub struct SiteTable {
    /// The name of the model's signature.
    pub signature: String,
    /// The number of layers.
    pub depth: usize,
    sites: Vec<SiteInfo>,
    modules: Vec<ModuleInfo>,
    by_path: HashMap<String, usize>,
    size_of: HashMap<String, usize>,
    /// The sites at which a position's value comes to depend on those before it, in order.
    mixing: Vec<usize>,
}

impl SiteTable {
    /// Whether a position's value at the site `to` can depend on another position's at the earlier site `from`.
    pub fn mixes_between(&self, from: usize, to: usize) -> bool {
        let next = self.mixing.partition_point(|&site| site <= from);
        self.mixing.get(next).is_some_and(|&site| site <= to)
    }

    /// The size of a dimension of this model, by its name.
    pub fn size_of(&self, dim: &str) -> Option<usize> {
        self.size_of.get(dim).copied()
    }

    /// The sites, in the order in which a forward pass comes by.
    pub fn sites(&self) -> &[SiteInfo] {
        &self.sites
    }

    /// The modules, each before those inside of it.
    pub fn modules(&self) -> &[ModuleInfo] {
        &self.modules
    }

    /// The position of a site in [`SiteTable::sites`]. A leading `model.` may be left out or put before.
    pub fn position(&self, path: &str) -> Option<usize> {
        self.by_path.get(path).or_else(|| self.by_path.get(path.strip_prefix("model.")?)).copied()
    }

    /// A module by its path.
    pub fn module(&self, path: &str) -> Option<&ModuleInfo> {
        self.modules.iter().find(|module| module.path == path)
    }

    /// The module that a site belongs to.
    pub fn module_of(&self, site: usize) -> &ModuleInfo {
        &self.modules[self.sites[site].parent.module]
    }

    /// Whether the value at the site `from` can influence the value at the later site `to` within one pass.
    pub fn reaches(&self, from: usize, to: usize) -> bool {
        if from >= to {
            return false;
        }
        let mut inner = self.sites[from].parent;
        loop {
            let module = &self.modules[inner.module];
            if module.sites.contains(&to) {
                let target = self.element_in(to, inner.module);
                let enters = match &module.reach {
                    None => inner.element < target,
                    Some(reach) => reach[inner.element] & (1 << target) != 0,
                };
                return enters && self.depends_on_inputs(to, inner.module);
            }
            match module.parent {
                Some(parent) => inner = parent,
                None => return false,
            }
        }
    }

    /// Whether a site depends on what the modules around it are given, those inside of `outermost`. A weight does not.
    fn depends_on_inputs(&self, site: usize, outermost: usize) -> bool {
        let mut at = self.sites[site].parent;
        while at.module != outermost {
            let module = &self.modules[at.module];
            let takes_input = self.sites[module.sites.start].parent.module == at.module;
            if let (true, Some(reach)) = (takes_input && at.element > 0, &module.reach)
                && reach[0] & (1 << at.element) == 0
            {
                return false;
            }
            match module.parent {
                Some(parent) => at = parent,
                None => return true,
            }
        }
        true
    }

    /// Which element of the module the site stands in.
    fn element_in(&self, site: usize, module: usize) -> usize {
        let mut at = self.sites[site].parent;
        while at.module != module {
            at = self.modules[at.module].parent.expect("the site lies inside of the module");
        }
        at.element
    }

    /// The site at which the embeddings of tokens come out: the first that holds a vector of the residual stream for each position.
    pub fn embedding(&self) -> Option<usize> {
        let stream = |site: &SiteInfo| site.facts.axes.iter().map(|axis| axis.name.as_ref()).eq(["Batch", "Seq", "Hidden"]);
        self.sites.iter().position(stream)
    }

    /// The path that comes closest to a wrong one.
    pub fn suggest(&self, wrong: &str) -> Option<String> {
        let candidates = self.by_path.keys().chain(self.modules.iter().map(|module| &module.path));
        crate::error::closest(candidates, wrong)
    }
}

/// Which earlier elements of its module an element depends on.
#[derive(Clone, Copy, Debug)]
pub enum From {
    /// All of them.
    All,
    /// These, and what they depend on.
    These(&'static [&'static str]),
}

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

    /// Writes down a model.
    pub fn model<M: super::Instrument>(mut self) -> SiteTable {
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

    fn element(&mut self, name: &'static str, from: From) {
        let open = self.open.last_mut().expect("elements stand between `begin` and `end`");
        let before = open.names.len();
        let ancestors = match from {
            From::All if open.list => 0,
            From::All => (1u64 << before) - 1,
            From::These(names) => names.iter().fold(0, |mask, wanted| {
                let index = open.names.iter().position(|name| name == wanted).expect("`from` names an earlier element");
                mask | (1 << index) | open.ancestors[index]
            }),
        };
        open.names.push(name);
        open.ancestors.push(ancestors);
    }

    /// Adds a site of the module.
    pub fn site(&mut self, name: &'static str, kind: KindTag, axes: Vec<Axis>, from: From) {
        self.element(name, from);
        let open = self.open.last().expect("sites stand between `begin` and `end`");
        let parent = Parent { module: open.module, element: open.names.len() - 1 };
        let path = join(&self.table.modules[open.module].path, name);
        let axes = axes.into_iter().map(|axis| self.sized(axis)).collect();
        self.table.by_path.insert(path.clone(), self.table.sites.len());
        let is_bottleneck = self.open.iter().rev().nth(1).is_some_and(|outer| outer.list) && matches!(name, "input" | "output");
        self.table.sites.push(SiteInfo { path, facts: Facts { kind, axes }, is_bottleneck, parent });
    }

    /// Says that at the site added last a position's value comes to depend on those before it.
    pub fn mixes(&mut self) {
        self.table.mixing.push(self.table.sites.len() - 1);
    }

    fn sized(&self, axis: Axis) -> Axis {
        Axis { size: axis.size.or_else(|| self.table.size_of(&axis.name)), ..axis }
    }

    fn path(&self, name: &str) -> String {
        let open = self.open.last().expect("children stand between `begin` and `end`");
        join(&self.table.modules[open.module].path, name)
    }

    /// Adds a submodule, with the axes it takes and gives where it may be applied by hand.
    pub fn child<M: super::Instrument>(&mut self, name: &'static str, from: From, pointwise: Option<(Axis, Axis)>) {
        let path = self.path(name);
        self.element(name, from);
        M::describe(self, &path, pointwise);
    }

    /// Adds a list of submodules, one per layer.
    pub fn list<M: super::Instrument>(&mut self, name: &'static str, from: From) {
        let path = self.path(name);
        self.element(name, from);
        self.open("List", &path, None, true);
        for layer in 0..self.table.depth {
            self.element("", From::All);
            M::describe(self, &format!("{path}.{layer}"), None);
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
