//! A model without weights, for shapes.

use std::panic::Location;
use std::sync::Arc;

use nnsight_core::graph::{Facts, Graph};
use nnsight_core::module::Of;
use nnsight_core::observer::Observer;
use nnsight_core::sites::{Registrar, SiteTable};
use nnsight_core::trace::Traceable;
use nnsight_core::types::{Describes, Saved, Signature};
use nnsight_lm::{PromptKind, Sizes};

use crate::language_model::LanguageModel;
use crate::loaded::scan;
use crate::network::{Architecture, Network};
use crate::prompts::{Reader, lengths};
use crate::tokenizer::Tokenizer;
use crate::tree::Tree;
use crate::{Error, Result};

/// A model of which only the sizes are there. `scan!` finds out on it what a trace would give, and what is wrong with it; running one fails.
pub struct Meta<N, C> {
    table: Arc<SiteTable>,
    tokenizer: Option<Tokenizer>,
    sizes: Sizes,
    marker: std::marker::PhantomData<fn() -> (N, C)>,
}

impl<N: Network, C: Signature> LanguageModel<N, C> {
    /// The model without weights, as its signature describes it: `Llama::<Llama3_1_405B>::meta()`.
    ///
    /// # Errors
    /// [`Error::Loading`] of [`Error::NoSizes`] if the signature does not know any sizes.
    ///
    /// # Examples
    /// ```
    /// use nnsight_models::{Llama, Llama3_1_405B};
    /// println!("{}", Llama::<Llama3_1_405B>::meta()?.tree());
    /// # Ok::<(), nnsight_models::Error>(())
    /// ```
    #[track_caller]
    pub fn meta() -> Result<Meta<N, C>>
    where
        C: Describes<LanguageModel<N, C>>,
    {
        let place = Location::caller();
        let no_sizes = || Error::NoSizes { signature: C::NAME }.of_loading_at(place);
        let sizes = C::SIZES.and_then(Sizes::of).ok_or_else(no_sizes)?;
        let table = (Architecture::of::<N>().describe)(Registrar::new(C::NAME, sizes.layers, &sizes.dims()))?;
        Ok(Meta { table: Arc::new(table), tokenizer: None, sizes, marker: std::marker::PhantomData })
    }
}

impl<N, C> Meta<N, C> {
    /// With a tokenizer, so that the lengths of texts are known too.
    #[must_use]
    pub fn with_tokenizer(self, tokenizer: Tokenizer) -> Self {
        Meta { tokenizer: Some(tokenizer), ..self }
    }

    /// The tree of modules with their sites and sizes.
    pub fn tree(&self) -> Tree {
        Tree::new(&self.table)
    }
}

impl<N: Network, C: Signature> Traceable for Meta<N, C> {
    type Network = Of<N, C>;
    type Kind = N::Kind;

    fn table(&self) -> &Arc<SiteTable> {
        &self.table
    }

    fn run(&self, _graph: Graph, _observer: Observer<'_>) -> nnsight_core::Result<Vec<nnsight_core::Result<Saved>>> {
        Err(nnsight_core::Error::model(Error::NoWeights { signature: C::NAME }))
    }

    fn scan(&self, graph: Graph) -> nnsight_core::Result<Vec<Facts>> {
        graph.validate(&self.limits())?;
        let reader = Reader {
            model: &self.table.signature,
            sizes: &self.sizes,
            tokenizer: self.tokenizer.as_ref(),
            generates: <N::Kind as PromptKind>::GENERATES,
        };
        scan(&graph, &self.table, lengths(&reader.graph(&graph)?), &self.limits())
    }
}

impl<N, C> std::fmt::Debug for Meta<N, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Meta({})", self.table.signature)
    }
}
