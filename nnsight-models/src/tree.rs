//! The tree of a model's modules, for reading.

use std::fmt::{Display, Formatter};

use nnsight_core::graph::Facts;
use nnsight_core::sites::SiteTable;

/// A model's modules, each with its sites.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The model's signature.
    pub signature: String,
    /// The modules, each before those inside of it.
    pub modules: Vec<TreeModule>,
}

/// One module.
#[derive(Clone, Debug)]
pub struct TreeModule {
    /// As the checkpoint names it; the model itself has the empty path.
    pub path: String,
    /// Its Rust type.
    pub type_name: &'static str,
    /// The number of modules around it.
    pub level: usize,
    /// The number of its entries, of a list.
    pub length: Option<usize>,
    /// Its own sites with what they hold, in the order of a forward pass.
    pub sites: Vec<(String, Facts)>,
}

impl Tree {
    pub(crate) fn new(table: &SiteTable) -> Self {
        let modules = table.modules().iter().map(|module| {
            let inside = module.sites.clone().filter(|&site| table.module_of(site).path == module.path && module.length.is_none());
            let sites = inside.map(|site| {
                let info = &table.sites()[site];
                (info.path.rsplit('.').next().unwrap_or_default().to_string(), info.facts.clone())
            });
            TreeModule { path: module.path.clone(), type_name: module.type_name, level: module.level, length: module.length, sites: sites.collect() }
        });
        Tree { signature: table.signature.clone(), modules: modules.collect() }
    }
}

impl Display for Tree {
    /// One module a line. Layers that are like the first are not written out.
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        // The lists that are written out, one in another; those in other entries than the first are not.
        let mut lists: Vec<(&str, usize)> = Vec::new();
        write!(f, "{}", self.signature)?;
        for module in &self.modules[1..] {
            let entry = |list: &str| module.path.strip_prefix(list)?.strip_prefix('.');
            if lists.iter().any(|(list, _)| entry(list).is_some_and(|rest| rest.split('.').next() != Some("0"))) {
                continue;
            }
            let list = lists.iter().find_map(|(list, count)| (entry(list) == Some("0")).then_some(*count));
            lists.extend(module.length.map(|count| (module.path.as_str(), count)));
            let name = module.path.rsplit('.').next().unwrap_or_default();
            let name = match list {
                Some(count) => format!("0 … {}", count - 1),
                _ => name.to_string(),
            };
            write!(f, "\n{:indent$}{name}: {}", "", module.type_name, indent = 2 * module.level)?;
            for (site, facts) in &module.sites {
                write!(f, "\n{:indent$}.{site} {facts}", "", indent = 2 * module.level + 2)?;
            }
        }
        Ok(())
    }
}
