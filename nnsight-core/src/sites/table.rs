//! The sites of a model as data: where they are, what they hold, in which order they are passed, and which depends on which.

use std::collections::HashMap;

use super::{Count, Mixing};
use crate::graph::{Axis, AxisRole, Facts, KindTag};
use crate::{Error, Result};

/// One place of a model where a value can be read or replaced.
#[derive(Clone, Debug)]
pub struct SiteInfo {
    /// As the checkpoint names it: `layers.5.mlp.output`.
    pub path: String,
    /// What it holds.
    pub facts: Facts,
    /// Whether everything that comes later depends on what comes earlier through this site only: the inputs and outputs of layers.
    pub is_residual_boundary: bool,
    /// Whether the module is given it: its input, or what comes to it from elsewhere, such as a mask.
    pub is_argument: bool,
    /// The module that it belongs to, and the element of that module.
    pub(super) parent: Parent,
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
    /// The number of its entries, of a list.
    pub length: Option<usize>,
    pub(super) parent: Option<Parent>,
    /// For each element the elements that depend on it, as a bit mask; `None` for a list, where each depends on all before it.
    pub(super) reach: Option<Vec<u64>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Parent {
    pub module: usize,
    pub element: usize,
}

/// All sites of a model, in the order in which a forward pass reaches them.
#[derive(Clone, Debug, Default)]
pub struct SiteTable {
    /// The name of the model's signature.
    pub signature: String,
    /// The number of layers: the entries of the list that the stages are made of.
    pub depth: usize,
    pub(super) sites: Vec<SiteInfo>,
    pub(super) modules: Vec<ModuleInfo>,
    /// The first site of each layer, and the one after the last. The layers are the entries of the list that the stages are made of
    /// ([`ListRole::Stages`](super::ListRole::Stages)), of which a model has one; other lists are parts of the modules around them.
    pub(super) layers: Vec<usize>,
    /// The largest size of a value at one position, without those that are as large as a vocabulary.
    pub(super) widest: usize,
    pub(super) by_path: HashMap<String, usize>,
    pub(super) size_of: HashMap<String, usize>,
    /// Other names: the beginning of a path, and what it stands for.
    pub(super) aliases: HashMap<String, String>,
    /// The sites at which a position's value comes to depend on those before it, in order.
    pub(super) mixing: Vec<(usize, Mixing)>,
    /// The modules that were attached to the model.
    pub(super) attachments: Vec<AttachmentInfo>,
    /// When a pass reaches each site, and which it reaches then. Empty where that is their order, without attachments.
    pub(super) ranks: Vec<usize>,
    pub(super) by_rank: Vec<usize>,
}

/// An attached module.
#[derive(Clone, Debug)]
pub(super) struct AttachmentInfo {
    /// Its sites.
    sites: std::ops::Range<usize>,
    /// The site behind which it is run.
    target: usize,
    /// Whether the model goes on with what it gives.
    changes: bool,
}

impl SiteTable {
    /// How a position's value at the site `to` depends on other positions' at the earlier site `from`, if it does.
    pub fn mixing_between(&self, from: usize, to: usize) -> Option<Mixing> {
        let (from, to) = (self.target_of(from), self.target_of(to));
        let next = self.mixing.partition_point(|&(site, _)| site <= from);
        let passed = self.mixing[next..].iter().take_while(|&&(site, _)| site <= to).map(|&(_, mixing)| mixing);
        passed.reduce(Mixing::and)
    }

    /// Whether a run can branch off from another at a position: what comes before it does not depend on what comes after, and what the model keeps
    /// of it can be cut there.
    pub fn branches_at_positions(&self) -> bool {
        self.mixing.iter().all(|(_, mixing)| matches!(mixing, Mixing::Causal | Mixing::Window(_)))
    }

    /// The size of a dimension of this model, by its name.
    pub fn size_of(&self, dim: &str) -> Option<usize> {
        self.size_of.get(dim).copied()
    }

    /// The length of a list, if it is known.
    pub fn length_of(&self, count: Count) -> Option<usize> {
        count.fixed.or_else(|| self.size_of(count.name))
    }

    /// The path of the outermost list that a site is in.
    pub(super) fn list_around(&self, site: usize) -> String {
        let lists = self.modules.iter().filter(|module| module.length.is_some() && module.sites.contains(&site));
        lists.map(|module| module.path.clone()).next().unwrap_or_default()
    }

    /// Says if a module that was put together has not as many sites as the table says it has: one of its lists is not as long as its `count`.
    ///
    /// # Errors
    /// [`Error::OtherLengths`]
    pub fn check_count(&self, module: &str, found: usize) -> Result<()> {
        let expected = self.module(module).map_or(self.sites.len(), |module| module.sites.len());
        match found == expected {
            true => Ok(()),
            false => Err(Error::OtherLengths { module: module.to_string(), expected, found, source_line: None }),
        }
    }

    /// The sites, in the order in which a forward pass reaches them.
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
            return Err(Error::NoSite { path: crate::error::shortened(path), suggestion, source_line: None });
        };
        if self.names(name) || self.aliases.contains_key(name) {
            return Err(Error::NameTaken { name: crate::error::shortened(name), source_line: None });
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
        // A beginning longer than every alias is none, however long the path is.
        let longest = self.aliases.keys().map(String::len).max()?;
        let beginnings = path.match_indices('.').map(|(end, _)| end).chain([path.len()]).take_while(|end| *end <= longest).collect::<Vec<_>>();
        beginnings.into_iter().rev().find_map(|end| self.aliases.get(&path[..end]).map(|target| format!("{target}{}", &path[end..])))
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

    /// The modules that a site is in, the innermost first, as places of [`SiteTable::modules`].
    pub(crate) fn modules_around(&self, site: usize) -> impl Iterator<Item = usize> {
        let parent = |module: &usize| self.modules[*module].parent.map(|parent| parent.module);
        std::iter::successors(Some(self.sites[site].parent.module), parent)
    }

    /// Whether modules of the user's own are attached to the model.
    pub fn has_attachments(&self) -> bool {
        !self.attachments.is_empty()
    }

    /// When a pass reaches a site, as a number that is larger for what comes later.
    pub fn rank(&self, site: usize) -> usize {
        self.ranks.get(site).copied().unwrap_or(site)
    }

    /// The site that a pass reaches at this time.
    pub fn at_rank(&self, rank: usize) -> usize {
        self.by_rank.get(rank).copied().unwrap_or(rank)
    }

    fn attachment_of(&self, site: usize) -> Option<&AttachmentInfo> {
        self.attachments.iter().find(|attachment| attachment.sites.contains(&site))
    }

    /// The site of the model itself at which a site is passed.
    fn target_of(&self, site: usize) -> usize {
        self.attachment_of(site).map_or(site, |attachment| attachment.target)
    }

    /// Adds the sites of a module that is run after the site `target`; the model goes on with its output, if it `changes` anything.
    pub(crate) fn attach<M: super::Describe>(&self, name: &str, target: usize, changes: bool) -> Result<SiteTable> {
        if self.names(name) || self.aliases.contains_key(name) {
            return Err(Error::NameTaken { name: crate::error::shortened(name), source_line: None });
        }
        let first = self.sites.len();
        let mut table = super::Registrar::extend::<M>(self.clone(), name)?;
        let sites = first..table.sites.len();
        let input = table.sites.get(first).filter(|site| site.path == format!("{name}.input")).map(|site| &site.facts);
        if input != Some(&self.sites[target].facts) {
            let found = input.map_or("nothing".to_string(), ToString::to_string);
            let (target, holds) = (self.sites[target].path.clone(), self.sites[target].facts.to_string());
            return Err(Error::Attachment { name: name.into(), found: found.into(), target: target.into(), holds: holds.into(), source_line: None });
        }
        let mut by_rank = if self.by_rank.is_empty() { (0..first).collect() } else { self.by_rank.clone() };
        // After the target, and after what was attached to it before.
        let mut behind = self.rank(target) + 1;
        while by_rank.get(behind).is_some_and(|&site| self.attachment_of(site).is_some_and(|attachment| attachment.target == target)) {
            behind += 1;
        }
        by_rank.splice(behind..behind, sites.clone());
        table.ranks = vec![0; by_rank.len()];
        by_rank.iter().enumerate().for_each(|(rank, &site)| table.ranks[site] = rank);
        table.by_rank = by_rank;
        table.attachments.push(AttachmentInfo { sites, target, changes });
        Ok(table)
    }

    /// Whether the value at the site `from` can influence the value at the later site `to` within one pass.
    pub fn reaches(&self, from: usize, to: usize) -> bool {
        match (self.attachment_of(from), self.attachment_of(to)) {
            (Some(a), Some(b)) if a.target == b.target && a.sites == b.sites => self.reaches_within(from, to),
            (None, None) => self.reaches_within(from, to),
            (out, into) => {
                let leaves = out.is_none_or(|attachment| {
                    let output = attachment.sites.end - 1;
                    attachment.changes && (from == output || self.reaches_within(from, output))
                });
                let enters = into.is_none_or(|attachment| self.depends_on_inputs(to, usize::MAX) && attachment.sites.contains(&to));
                let (from, to) = (self.target_of(from), self.target_of(to));
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

    /// The stage in which a pass reaches a site, counted as the executor counts them: the embedding, the layers, the head. `None` where the
    /// model has no list of layers.
    pub fn stage_of(&self, site: usize) -> Option<usize> {
        let site = self.target_of(site);
        (!self.layers.is_empty()).then(|| self.layers.partition_point(|&start| start <= site))
    }

    /// The largest size of a value at one position, without those that are as large as a vocabulary.
    pub(crate) fn widest(&self) -> usize {
        self.widest.max(1)
    }

    /// The site at which the embeddings of tokens come out: the first that holds a vector of the residual stream for each position.
    pub fn embedding(&self) -> Option<usize> {
        let stream = |site: &SiteInfo| {
            let roles = [AxisRole::Row, AxisRole::Position, AxisRole::Plain];
            site.facts.kind == KindTag::Float && site.facts.axes.iter().map(|axis| axis.role).eq(roles)
        };
        self.sites.iter().position(stream)
    }

    /// The path that comes closest to a wrong one.
    pub fn suggest(&self, wrong: &str) -> Option<String> {
        let candidates = self.by_path.keys().chain(self.modules.iter().map(|module| &module.path)).chain(self.aliases.keys());
        crate::error::closest(candidates, wrong)
    }
}
