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
    /// Its own sites with what they hold, in the order of a forward pass.
    pub sites: Vec<(String, Facts)>,
}

impl Tree {
    pub(crate) fn new(table: &SiteTable) -> Self {
        let modules = table.modules().iter().map(|module| {
            let inside = module.sites.clone().filter(|&site| table.module_of(site).path == module.path && module.type_name != "List");
            let sites = inside.map(|site| {
                let info = &table.sites()[site];
                (info.path.rsplit('.').next().unwrap_or_default().to_string(), info.facts.clone())
            });
            TreeModule { path: module.path.clone(), type_name: module.type_name, level: module.level, sites: sites.collect() }
        });
        Tree { signature: table.signature.clone(), modules: modules.collect() }
    }
}

impl Display for Tree {
    /// One module a line. Layers that are like the first are not written out.
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let layers = self.modules.iter().filter(|module| module.type_name == "List").map(|list| {
            let count = self.modules.iter().filter(|module| module.level == list.level + 1 && module.path.starts_with(&list.path)).count();
            (list.path.as_str(), count)
        });
        let layers = layers.collect::<Vec<_>>();
        write!(f, "{}", self.signature)?;
        for module in &self.modules[1..] {
            let list = layers.iter().find_map(|(list, count)| Some((*count, module.path.strip_prefix(*list)?.strip_prefix('.')?)));
            if list.is_some_and(|(_, rest)| rest.split('.').next() != Some("0")) {
                continue;
            }
            let name = module.path.rsplit('.').next().unwrap_or_default();
            let name = match list {
                Some((count, "0")) => format!("0 … {}", count - 1),
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
