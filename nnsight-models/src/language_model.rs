//! A checkpoint in memory with its signature: what users load and trace.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::path::Path;
use std::sync::Arc;

use nnsight_core::graph::{Facts, Graph, Limits};
use nnsight_core::module::{Attach, Attached, Attachment, BelongsTo, Forward, Of, Role};
use nnsight_core::observer::Observer;
use nnsight_core::plan::Optimizations;
use nnsight_core::sites::SiteTable;
use nnsight_core::trace::{Fingerprint, Traceable};
use nnsight_core::types::{Describes, Dynamic, Saved, Signature};

use crate::Result;
use crate::causal::CausalLm;
use crate::config::Declared;
use crate::loaded::Loaded;
use crate::loading::Source;
use crate::network::{Architecture, Network};
use crate::transformer_lens::{Paths, named_as_transformer_lens};

/// The network `N` with its tokenizer, in the checkpoint `C`. [`Llama`](crate::Llama) and [`Gpt2`](crate::Gpt2) are this, and
/// encoders such as [`Bert`](crate::Bert).
///
/// The signature types what a trace sees, and nothing else: everything that the model has and does is that of the [`Loaded`] to which it derefs.
pub struct LanguageModel<N, C> {
    loaded: Loaded,
    marker: PhantomData<fn() -> (N, C)>,
}

impl<N: Network, C: Signature> LanguageModel<N, C> {
    /// Loads a model.
    ///
    /// # Errors
    /// If nothing is found, a file is damaged, the checkpoint is not what the signature says, or it asks for something that would not be computed: a
    /// key of the config that is not known, a tensor that is not used. [`Source::ignoring`] leaves these out of account.
    ///
    /// # Examples
    /// ```no_run
    /// use nnsight_models::{Llama, SmolLm2_135M, Source};
    /// let model = Llama::<SmolLm2_135M>::load(Source::default())?;
    /// # Ok::<(), nnsight_models::Error>(())
    /// ```
    #[track_caller]
    pub fn load(source: impl Into<Source>) -> Result<Self>
    where
        C: Describes<LanguageModel<N, C>>,
    {
        let place = Location::caller();
        let loaded = Loaded::read(&source.into(), &Architecture::of::<N>(), Declared::of::<C>());
        Ok(LanguageModel { loaded: loaded.map_err(|error| error.of_loading_at(place))?, marker: PhantomData })
    }

    /// Writes a checkpoint as a Hugging Face folder: `config.json`, `model.safetensors` in the source's type, `tokenizer.json`,
    /// and `generation_config.json` with the end tokens. A GGUF
    /// file that is used often loads faster in this form.
    ///
    /// # Errors
    /// As [`LanguageModel::load`], and if the folder cannot be written.
    #[track_caller]
    pub fn convert(source: impl Into<Source>, folder: &Path) -> Result<()> {
        let place = Location::caller();
        Loaded::rewrite(&source.into(), &Architecture::of::<N>(), folder).map_err(|error| error.of_loading_at(place))
    }

    /// The model with a module of your own attached to it, a probe or an autoencoder, whose sites are those of `model.attached`:
    /// `model.attach("sae", Role::Splice("layers.5.output"), sae)?`.
    ///
    /// # Errors
    /// Where the model has no such place, the module does not take what is there, or the name is taken.
    #[track_caller]
    pub fn attach<X>(&self, name: &str, role: Role<'_>, module: X) -> nnsight_core::Result<Attached<'_, Self, X>>
    where
        X: BelongsTo<C> + Forward,
    {
        let place = Some(Location::caller().into());
        Attached::new(self, name, role, module).map_err(|error| error.or_at(place))
    }

    /// Has traces on this model make these optimizations only; the results are the same.
    #[must_use]
    pub fn with_optimizations(mut self, optimizations: Optimizations) -> Self {
        self.loaded.optimizations = optimizations;
        self
    }

    /// As [`Self::with_optimizations`].
    #[deprecated(since = "0.2.0", note = "renamed to `with_optimizations`")]
    #[must_use]
    pub fn with_plan(self, optimizations: Optimizations) -> Self {
        self.with_optimizations(optimizations)
    }

    /// Has graphs on this model ask for no more than this, whoever wrote them.
    ///
    /// # Examples
    /// ```no_run
    /// use nnsight_core::graph::Limits;
    /// use nnsight_models::{Llama, SmolLm2_135M, Source};
    /// let model = Llama::<SmolLm2_135M>::load(Source::default())?.with_limits(Limits { bytes: 1 << 30, ..Limits::default() });
    /// # Ok::<(), nnsight_models::Error>(())
    /// ```
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.loaded.limits = limits;
        self
    }

    /// As [`Loaded::fingerprint`].
    ///
    /// # Errors
    /// As [`Loaded::fingerprint`].
    pub fn fingerprint(&self) -> Result<&str> {
        self.loaded.fingerprint()
    }

    /// Makes the names of TransformerLens (`blocks.5.hook_resid_post`) other names of the model's paths, for `get` and for graphs. Before
    /// that, each is proved to denote the right tensor, by what holds between them on a short run of the model: the residual stream is the
    /// sum of what is added to it, a pattern is the softmax of its scores and adds up to one, and so on.
    ///
    /// # Errors
    /// [`nnsight_core::Error::WrongName`] names the one that does not hold.
    #[track_caller]
    pub fn with_transformer_lens_names(self) -> nnsight_core::Result<Self>
    where
        N::Sites<'static, Dynamic>: CausalLm<'static, Dynamic>,
    {
        let place = Some(Location::caller().into());
        let loaded = named_as_transformer_lens(self.loaded, Paths::of::<N::Sites<'static, Dynamic>>()).map_err(|error| error.or_at(place))?;
        Ok(LanguageModel { loaded, ..self })
    }
}

impl<N, C> Deref for LanguageModel<N, C> {
    type Target = Loaded;
    fn deref(&self) -> &Loaded {
        &self.loaded
    }
}

impl<N, C> DerefMut for LanguageModel<N, C> {
    fn deref_mut(&mut self) -> &mut Loaded {
        &mut self.loaded
    }
}

impl<N: Network, C: Signature> Traceable for LanguageModel<N, C> {
    type Network = Of<N, C>;
    type Kind = N::Kind;

    fn table(&self) -> &Arc<SiteTable> {
        &self.loaded.table
    }

    fn run(&self, graph: Graph, observer: Observer<'_>) -> nnsight_core::Result<Vec<nnsight_core::Result<Saved>>> {
        self.loaded.run_with(&self.loaded.table, &[], graph, observer)
    }

    fn scan(&self, graph: Graph) -> nnsight_core::Result<Vec<Facts>> {
        self.loaded.scan_with(&self.loaded.table, graph)
    }

    fn limits(&self) -> Limits {
        self.loaded.limits
    }

    fn fingerprint(&self) -> nnsight_core::Result<Fingerprint> {
        self.loaded.full_fingerprint()
    }
}

impl<N: Network, C: Signature> Attach for LanguageModel<N, C> {
    fn run_with(
        &self,
        table: &SiteTable,
        attachments: &[Attachment<'_>],
        graph: Graph,
        observer: Observer<'_>,
    ) -> nnsight_core::Result<Vec<nnsight_core::Result<Saved>>> {
        self.loaded.run_with(table, attachments, graph, observer)
    }

    fn scan_with(&self, table: &SiteTable, graph: Graph) -> nnsight_core::Result<Vec<Facts>> {
        self.loaded.scan_with(table, graph)
    }
}

impl<N, C> std::fmt::Display for LanguageModel<N, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.loaded, f)
    }
}

impl<N, C> std::fmt::Debug for LanguageModel<N, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.loaded, f)
    }
}
