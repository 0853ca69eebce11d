//! The sites of a model as data: where they are, what they hold, in which order they are passed, and which depends on which.

use std::collections::HashMap;

use crate::graph::{Axis, Facts};
use crate::types::KindTag;
use crate::{Error, Result};

/// One place of a model where a value can be read or replaced.
#[derive(Clone, Debug)]
pub struct SiteInfo {
    /// As the checkpoint names it: `layers.5.mlp.output`.
    pub path: String,
    /// What it holds.
    pub facts: Facts,
    /// Whether everything that comes later depends on what comes earlier through this site only: the inputs and outputs of layers.
    pub is_bottleneck: bool,
    /// Whether the module is given it: its input, or what comes to it from elsewhere, such as a mask.
    pub is_argument: bool,
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
    /// Other names: the beginning of a path, and what it stands for.
    aliases: HashMap<String, String>,
    /// The sites at which a position's value comes to depend on those before it, in order.
    mixing: Vec<usize>,
    /// The modules that were attached to the model.
    guests: Vec<GuestInfo>,
    /// When a pass comes by each site, and which it comes by then. Empty where that is their order, without guests.
    ranks: Vec<usize>,
    by_rank: Vec<usize>,
}

/// An attached module.
#[derive(Clone, Debug)]
struct GuestInfo {
    /// Its sites.
    sites: std::ops::Range<usize>,
    /// The site behind which it is run.
    host: usize,
    /// Whether the model goes on with what it gives.
    changes: bool,
}

impl SiteTable {
    /// Whether a position's value at the site `to` can depend on another position's at the earlier site `from`.
    pub fn mixes_between(&self, from: usize, to: usize) -> bool {
        let (from, to) = (self.host_of(from), self.host_of(to));
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

    /// The position of a site in [`SiteTable::sites`]. A leading `model.` may be left out or put before, and an alias may stand for what it
    /// was made for.
    pub fn position(&self, path: &str) -> Option<usize> {
        let own = || self.by_path.get(path).or_else(|| self.by_path.get(path.strip_prefix("model.")?)).copied();
        own().or_else(|| self.by_path.get(&self.resolve(path)?).copied())
    }

    /// Gives a site, or a module and everything in it, another name beside its own.
    ///
    /// # Errors
    /// [`Error::NoSite`] where there is nothing to be named, [`Error::NameTaken`] where the name is one already.
    pub fn alias(&mut self, name: &str, path: &str) -> Result<()> {
        let path = path.strip_prefix("model.").filter(|own| self.names(own)).unwrap_or(path);
        let target = if self.names(path) { Some(path.to_string()) } else { self.resolve(path).filter(|path| self.names(path)) };
        let Some(target) = target else {
            let suggestion = crate::error::did_you_mean(self.suggest(path));
            return Err(Error::NoSite { path: path.to_string(), suggestion, source_line: Default::default() });
        };
        if self.names(name) || self.aliases.contains_key(name) {
            return Err(Error::NameTaken { name: name.to_string() });
        }
        self.aliases.insert(name.to_string(), target);
        Ok(())
    }

    /// The other names and what they stand for.
    pub fn aliases(&self) -> impl Iterator<Item = (&str, &str)> {
        self.aliases.iter().map(|(name, path)| (name.as_str(), path.as_str()))
    }

    fn names(&self, path: &str) -> bool {
        self.by_path.contains_key(path) || self.modules.iter().any(|module| module.path == path)
    }

    /// A path whose beginning is an alias, in full.
    fn resolve(&self, path: &str) -> Option<String> {
        let beginnings = path.match_indices('.').map(|(end, _)| end).chain([path.len()]).rev();
        beginnings.into_iter().find_map(|end| self.aliases.get(&path[..end]).map(|target| format!("{target}{}", &path[end..])))
    }

    /// A module by its path, or an alias of it.
    pub fn module(&self, path: &str) -> Option<&ModuleInfo> {
        let find = |path: &str| self.modules.iter().find(|module| module.path == path);
        find(path).or_else(|| find(&self.resolve(path)?))
    }

    /// The module that a site belongs to.
    pub fn module_of(&self, site: usize) -> &ModuleInfo {
        &self.modules[self.sites[site].parent.module]
    }

    /// When a pass comes by a site, as a number that is larger for what comes later.
    pub fn rank(&self, site: usize) -> usize {
        self.ranks.get(site).copied().unwrap_or(site)
    }

    /// The site that a pass comes by at this time.
    pub fn at_rank(&self, rank: usize) -> usize {
        self.by_rank.get(rank).copied().unwrap_or(rank)
    }

    fn guest_of(&self, site: usize) -> Option<&GuestInfo> {
        self.guests.iter().find(|guest| guest.sites.contains(&site))
    }

    /// The site of the model itself at which a site is passed.
    fn host_of(&self, site: usize) -> usize {
        self.guest_of(site).map_or(site, |guest| guest.host)
    }

    /// Adds the sites of a module that is run behind the site `host`; the model goes on with what it gives, where it `changes` anything.
    pub(crate) fn attach<M: super::Instrument>(&self, name: &str, host: usize, changes: bool) -> Result<SiteTable> {
        if self.names(name) || self.aliases.contains_key(name) {
            return Err(Error::NameTaken { name: name.to_string() });
        }
        let first = self.sites.len();
        let mut registrar = Registrar { table: self.clone(), open: Vec::new() };
        M::describe(&mut registrar, name, None);
        let mut table = registrar.table;
        let sites = first..table.sites.len();
        let input = table.sites.get(first).filter(|site| site.path == format!("{name}.input")).map(|site| &site.facts);
        if input != Some(&self.sites[host].facts) {
            let found = input.map_or("nothing".to_string(), ToString::to_string);
            let (host, holds) = (self.sites[host].path.clone(), self.sites[host].facts.to_string());
            return Err(Error::Guest { name: name.to_string(), found, host, holds });
        }
        let mut by_rank = if self.by_rank.is_empty() { (0..first).collect() } else { self.by_rank.clone() };
        // Behind the host, and behind what was attached to it before.
        let mut behind = self.rank(host) + 1;
        while by_rank.get(behind).is_some_and(|&site| self.guest_of(site).is_some_and(|guest| guest.host == host)) {
            behind += 1;
        }
        by_rank.splice(behind..behind, sites.clone());
        table.ranks = vec![0; by_rank.len()];
        by_rank.iter().enumerate().for_each(|(rank, &site)| table.ranks[site] = rank);
        table.by_rank = by_rank;
        table.guests.push(GuestInfo { sites, host, changes });
        Ok(table)
    }

    /// Whether the value at the site `from` can influence the value at the later site `to` within one pass.
    pub fn reaches(&self, from: usize, to: usize) -> bool {
        match (self.guest_of(from), self.guest_of(to)) {
            (Some(a), Some(b)) if a.host == b.host && a.sites == b.sites => self.reaches_within(from, to),
            (None, None) => self.reaches_within(from, to),
            (out, into) => {
                let leaves = out.is_none_or(|guest| {
                    let output = guest.sites.end - 1;
                    guest.changes && (from == output || self.reaches_within(from, output))
                });
                let enters = into.is_none_or(|guest| self.depends_on_inputs(to, usize::MAX) && guest.sites.contains(&to));
                let (from, to) = (self.host_of(from), self.host_of(to));
                let between = match (out, into) {
                    (None, Some(_)) => from == to || self.reaches_within(from, to),
                    (Some(a), Some(b)) => self.reaches_within(from, to) || from == to && a.sites.start < b.sites.start,
                    _ => self.reaches_within(from, to),
                };
                leaves && enters && between
            }
        }
    }

    /// [`SiteTable::reaches`] between two sites of the model itself, or of one attached module.
    fn reaches_within(&self, from: usize, to: usize) -> bool {
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
        let candidates = self.by_path.keys().chain(self.modules.iter().map(|module| &module.path)).chain(self.aliases.keys());
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
        let facts = Facts { kind, axes };
        let from_elsewhere = matches!(from, From::These([])) && facts.axes.iter().any(|axis| axis.name == "Batch");
        let is_argument = name == "input" || from_elsewhere;
        self.table.sites.push(SiteInfo { path, facts, is_bottleneck, is_argument, parent });
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
