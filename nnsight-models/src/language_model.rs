//! A network with its tokenizer: what users load and trace.

use std::panic::Location;
use std::path::Path;
use std::sync::Arc;

use candle_core::Tensor;
use nnsight_core::graph::{Facts, Graph, Limits, Prompt, Source as Line};
use nnsight_core::module::{Attachment, Forward, Instrument, Registrar, Role, SiteTable};
use nnsight_core::plan::{Explanation, Optimizations, Window};
use nnsight_core::run::{Observer, Request, Stages, TokenBatch, Vocabulary, WithAttachments, execute, explain, forward, prepare};
use nnsight_core::trace::{Attach, Attached, Edits, Fingerprint, Traceable};
use nnsight_core::types::{Describes, Saved, Signature, Sizes};
use nnsight_kernels::with_hot_pool;

use crate::config::Config;
use crate::error::at;
use crate::loading::{Checkpoint, Source, Weights, open};
use crate::prompts::Reader;
use crate::tokenizer::Tokenizer;
use crate::transformer_lens::Layout;
use crate::tree::Tree;
use crate::{Error, NoTokenizer, Result};

/// An architecture: what builds it from a checkpoint.
pub trait Network: Instrument + Stages + Sized + Sync {
    /// What a `config.json` calls it.
    const MODEL_TYPE: &'static str;
    /// Where it keeps what TransformerLens has names for.
    const LAYOUT: Layout;
    /// Builds it.
    ///
    /// # Errors
    /// Where the config asks for what it does not do, or a weight is missing.
    fn build(config: &Config, weights: &mut Weights) -> Result<Self>;
}

/// A network with its tokenizer. [`Llama`](crate::Llama) and [`Gpt2`](crate::Gpt2) are this.
pub struct LanguageModel<N: Network> {
    network: N,
    /// Or why there is none.
    tokenizer: std::result::Result<Tokenizer, NoTokenizer>,
    pub(crate) table: Arc<SiteTable>,
    sizes: Sizes,
    /// The tokens that end a text.
    ends: Vec<u32>,
    edits: Edits,
    optimizations: Optimizations,
    limits: Limits,
    origin: crate::loading::Fingerprint,
}

impl<N: Network> LanguageModel<N> {
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
        N::Signature: Describes<LanguageModel<N>>,
    {
        let place = Location::caller();
        Self::read(&source.into()).map_err(|error| error.of_loading_at(place))
    }

    fn read(source: &Source) -> Result<Self>
    where
        N::Signature: Describes<LanguageModel<N>>,
    {
        let Checkpoint { config, ends, tokenizer, mut weights, fingerprint } = open(source)?;
        let found = config.model_type()?;
        if found != N::MODEL_TYPE {
            return Err(Error::OtherArchitecture { expected: N::MODEL_TYPE, found: found.to_string() });
        }
        config.check::<N::Signature>()?;
        let sizes = config.sizes()?;
        let mut network = N::build(&config, &mut weights)?;
        weights.finish()?;
        network.attach(&mut 0);
        let registrar = Registrar::new(N::Signature::NAME, sizes.layers, &sizes.dims());
        let table = Arc::new(registrar.model::<N>());
        Ok(LanguageModel {
            network,
            tokenizer,
            table,
            sizes,
            ends,
            edits: Edits::default(),
            optimizations: Optimizations::default(),
            limits: Limits::default(),
            origin: fingerprint,
        })
    }

    /// Writes a checkpoint as a Hugging Face folder: `config.json`, `model.safetensors` in the source's type, `tokenizer.json`,
    /// and `generation_config.json` with the end tokens. A GGUF
    /// file that is used often loads faster in this form.
    ///
    /// # Errors
    /// As [`LanguageModel::load`], and where the folder cannot be written.
    #[track_caller]
    pub fn convert(source: impl Into<Source>, folder: &Path) -> Result<()> {
        let place = Location::caller();
        Self::rewrite(&source.into(), folder).map_err(|error| error.of_loading_at(place))
    }

    fn rewrite(source: &Source, folder: &Path) -> Result<()> {
        let Checkpoint { config, ends, tokenizer, mut weights, .. } = open(source)?;
        weights.remember();
        N::build(&config, &mut weights)?;
        weights.finish()?;
        std::fs::create_dir_all(folder).map_err(at(folder))?;
        let file = folder.join("config.json");
        std::fs::write(&file, config.to_json()).map_err(at(&file))?;
        if !ends.is_empty() {
            let file = folder.join("generation_config.json");
            std::fs::write(&file, serde_json::json!({ "eos_token_id": ends }).to_string()).map_err(at(&file))?;
        }
        if let Ok(tokenizer) = tokenizer {
            tokenizer.save(&folder.join("tokenizer.json"))?;
        }
        Ok(candle_core::safetensors::save(&weights.into_copies(), folder.join("model.safetensors"))?)
    }

    /// Text to token ids and back.
    ///
    /// # Panics
    /// If the checkpoint has none that is known. [`LanguageModel::try_tokenizer`] does not.
    #[track_caller]
    pub fn tokenizer(&self) -> &Tokenizer {
        match &self.tokenizer {
            Ok(tokenizer) => tokenizer,
            Err(none) => panic!("{none}; `try_tokenizer` returns whether there is one"),
        }
    }

    /// Text to token ids and back, if the checkpoint has a tokenizer that is known.
    pub fn try_tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref().ok()
    }

    /// The edits that every trace on this model begins with. A view that leaves the model alone is made with `edit!`.
    pub fn edits(&self) -> &Edits {
        &self.edits
    }

    /// Edits the model in place: every trace begins with these edits. Take them from a view, `edit!(model, { … })?.into_edits()`, or from a
    /// file.
    pub fn edits_mut(&mut self) -> &mut Edits {
        &mut self.edits
    }

    /// The model with a module of your own attached to it, a probe or an autoencoder, whose sites are those of `model.attached`:
    /// `model.attach("sae", Role::Splice("layers.5.output"), sae)?`.
    ///
    /// # Errors
    /// Where the model has no such place, the module does not take what is there, or the name is taken.
    #[track_caller]
    pub fn attach<X>(&self, name: &str, role: Role<'_>, module: X) -> nnsight_core::Result<Attached<'_, Self, X>>
    where
        X: Instrument<Signature = N::Signature> + Forward,
    {
        let place = Some(Location::caller().into());
        Attached::new(self, name, role, module).map_err(|error| error.or_at(place))
    }

    /// Gives a site, or a module and everything in it, another name beside its own: `model.alias("mlp5", "layers.5.mlp")?`. The name can be
    /// used with `get`, with `cache.get` and in graphs.
    ///
    /// # Errors
    /// Where there is nothing to be named, or the name is taken.
    #[track_caller]
    pub fn alias(&mut self, name: &str, path: &str) -> nnsight_core::Result<()> {
        let place = Some(Location::caller().into());
        Arc::make_mut(&mut self.table).alias(name, path).map_err(|error| error.or_at(place))
    }

    /// Has traces on this model make these optimizations only; the results are the same.
    #[must_use]
    pub fn with_optimizations(self, optimizations: Optimizations) -> Self {
        LanguageModel { optimizations, ..self }
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
    pub fn with_limits(self, limits: Limits) -> Self {
        LanguageModel { limits, ..self }
    }

    /// What running a graph would do: which batches there are, what they share, and how much of the model is run. Nothing is computed.
    ///
    /// # Errors
    /// What the graph fails with.
    #[track_caller]
    pub fn explain(&self, graph: &Graph) -> nnsight_core::Result<Explanation> {
        let place = Some(Location::caller().into());
        let explained = self.edits.apply(graph.clone(), &self.limits).and_then(|graph| {
            let tokens = self.all_tokens(&graph)?;
            let request = Request { tokens, vocabulary: self, optimizations: self.optimizations, limits: self.limits, observer: Observer::default() };
            explain(&self.network, &self.table, &graph, request)
        });
        explained.map_err(|error| error.or_at(place))
    }

    /// The number of layers.
    pub fn depth(&self) -> usize {
        self.sizes.layers
    }

    /// All sizes.
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// The tree of modules with their sites and sizes, as data. `println!("{model}")` prints it.
    pub fn tree(&self) -> Tree {
        Tree::new(&self.table)
    }

    /// What the model's numbers come from: 64 digits that are the same for the same weight files, config, type and format of the weights, wherever the
    /// files lie, and differ otherwise. Edits are no part of it.
    ///
    /// Nothing is read when the model is loaded. The first call reads the weight files to compute their SHA-256, which is kept in the cache until they
    /// change; after that it takes microseconds.
    ///
    /// # Errors
    /// [`Error::Changed`] if a file changed since the model was loaded, [`Error::File`] if one cannot be read.
    pub fn fingerprint(&self) -> Result<&str> {
        self.origin.get()
    }

    /// The network itself.
    pub fn network(&self) -> &N {
        &self.network
    }

    /// The logits at the last position of each prompt, from a plain forward pass.
    ///
    /// # Shapes
    /// `(Batch, Vocab)`
    ///
    /// # Errors
    /// Where a prompt is empty, too long, or has tokens that do not exist.
    #[track_caller]
    pub fn next_logits(&self, prompts: &[Prompt]) -> Result<Tensor> {
        let place = Some(Location::caller().into());
        let tokens = self.reader().invoke(0, prompts, 0, &place)?;
        let tokens = self.known(tokens, &place)?;
        let rows = tokens.iter().map(Vec::as_slice).collect::<Vec<_>>();
        let mut batch = TokenBatch::new(&rows, self.network.device())?;
        batch.window = Some(Window::LAST);
        batch.cuts_last_layer = true;
        Ok(with_hot_pool(|| forward(&self.network, &batch))?.squeeze(1)?)
    }

    fn reader(&self) -> Reader<'_> {
        Reader { model: &self.table.signature, sizes: &self.sizes, tokenizer: self.tokenizer.as_ref().ok() }
    }

    /// The tokenizer, for what cannot be done without one.
    fn known_tokenizer(&self) -> nnsight_core::Result<&Tokenizer> {
        self.tokenizer.as_ref().map_err(|none| nnsight_core::Error::model(Error::from(none.clone())))
    }

    /// The token ids of prompts that all have some; of one that has none, it is said at the line of the program that has it.
    fn known(&self, tokens: Vec<Option<Vec<u32>>>, place: &Option<Line>) -> nnsight_core::Result<Vec<Vec<u32>>> {
        if tokens.iter().any(Option::is_none) {
            self.known_tokenizer().map_err(|error| error.or_at(place.clone()))?;
        }
        Ok(tokens.into_iter().flatten().collect())
    }

    /// The token ids of every prompt of a graph. The graph is validated first: what is too long is not split into tokens.
    fn all_tokens(&self, graph: &Graph) -> nnsight_core::Result<Vec<Vec<Vec<u32>>>> {
        graph.validate(&self.limits)?;
        let tokens = self.reader().graph(graph)?;
        tokens.into_iter().zip(&graph.invokes).map(|(tokens, invoke)| self.known(tokens, &invoke.source)).collect()
    }
}

impl<N: Network> Traceable for LanguageModel<N> {
    type Network = N;

    fn table(&self) -> &Arc<SiteTable> {
        &self.table
    }

    fn run(&self, graph: Graph, observer: Observer<'_>) -> nnsight_core::Result<Vec<nnsight_core::Result<Saved>>> {
        self.run_with(&self.table, &[], graph, observer)
    }

    fn scan(&self, graph: Graph) -> nnsight_core::Result<Vec<Facts>> {
        self.scan_with(&self.table, graph)
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn fingerprint(&self) -> nnsight_core::Result<Fingerprint> {
        let model = |error: Error| nnsight_core::Error::model(error);
        let weights = Fingerprint::new(self.network.dtype()).with(self.origin.get().map_err(model)?.as_bytes());
        // The same text is other tokens with another tokenizer.
        let tokenizer = self.tokenizer.as_ref().ok().map(Tokenizer::to_json).transpose().map_err(model)?;
        self.edits.fingerprint(weights.with(tokenizer.unwrap_or_default().as_bytes()))
    }
}

impl<N: Network> Attach for LanguageModel<N> {
    fn run_with(
        &self,
        table: &SiteTable,
        attachments: &[Attachment<'_>],
        graph: Graph,
        observer: Observer<'_>,
    ) -> nnsight_core::Result<Vec<nnsight_core::Result<Saved>>> {
        let graph = self.edits.apply(graph, &self.limits)?;
        let request =
            Request { tokens: self.all_tokens(&graph)?, vocabulary: self, optimizations: self.optimizations, limits: self.limits, observer };
        match attachments {
            // Who is told of tokens is told of them here.
            [] if request.observer.on_token.is_none() => {
                let Request { tokens, optimizations, limits, observer: Observer { on_batch, .. }, .. } = request;
                with_hot_pool(|| {
                    let observer = Observer { on_batch, ..Observer::default() };
                    execute(&self.network, table, &graph, Request { tokens, vocabulary: self, optimizations, limits, observer })
                })
            }
            [] => execute(&self.network, table, &graph, request),
            attachments => execute(&WithAttachments { model: &self.network, attachments }, table, &graph, request),
        }
    }

    fn scan_with(&self, table: &SiteTable, graph: Graph) -> nnsight_core::Result<Vec<Facts>> {
        let graph = self.edits.apply(graph, &self.limits)?;
        let tokens = self.all_tokens(&graph)?;
        let lengths = tokens.iter().map(|prompts| prompts.iter().map(|prompt| Some(prompt.len())).collect()).collect::<Vec<_>>();
        scan(&graph, table, lengths, &self.limits)
    }
}

/// What is known of the values that a graph saves, where it could be run.
pub(crate) fn scan(graph: &Graph, table: &SiteTable, mut lengths: Vec<Vec<Option<usize>>>, limits: &Limits) -> nnsight_core::Result<Vec<Facts>> {
    nnsight_core::run::share_prompts(graph, &mut lengths);
    let facts = prepare(graph, table, &lengths, limits)?;
    Ok(graph.saves.iter().map(|save| facts[save.index()].clone()).collect())
}

impl<N: Network> Vocabulary for LanguageModel<N> {
    fn eos_token_ids(&self) -> &[u32] {
        &self.ends
    }

    fn decode(&self, tokens: &[u32]) -> nnsight_core::Result<String> {
        self.known_tokenizer()?.decode(tokens).map_err(nnsight_core::Error::model)
    }
}

impl<N: Network> std::fmt::Display for LanguageModel<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.tree(), f)
    }
}

impl<N: Network> std::fmt::Debug for LanguageModel<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LanguageModel({}, {} layers)", self.table.signature, self.sizes.layers)
    }
}
