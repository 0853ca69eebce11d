//! A checkpoint in memory: a network with its tokenizer. It has no signature: what runs is compiled here, once.

use std::panic::Location;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use nnsight_core::batch::{Wanted, Window};
use nnsight_core::graph::{Facts, Graph, Limits, Source as Line};
use nnsight_core::module::Attachment;
use nnsight_core::observer::Observer;
use nnsight_core::plan::{Explanation, Optimizations};
use nnsight_core::run::{Request, WithAttachments, execute, explain, forward, prepare};
use nnsight_core::sites::{Registrar, SiteTable};
use nnsight_core::trace::{Edits, Fingerprint};
use nnsight_core::types::Saved;
use nnsight_kernels::with_hot_pool;
use nnsight_lm::{Prompt, Sizes, TokenBatch, TokenInputs, Vocabulary};

use crate::config::Declared;
use crate::error::at;
use crate::loading::{Checkpoint, Source, open};
use crate::network::{AnyNetwork, Architecture};
use crate::prompts::Reader;
use crate::tokenizer::Tokenizer;
use crate::tree::Tree;
use crate::{Error, NoTokenizer, Result};

/// A checkpoint in memory. A [`LanguageModel`](crate::LanguageModel) is one with a signature, and derefs to it.
pub struct Loaded {
    network: Box<AnyNetwork>,
    /// Or why there is none.
    tokenizer: std::result::Result<Tokenizer, NoTokenizer>,
    pub(crate) table: Arc<SiteTable>,
    sizes: Sizes,
    /// Whether it continues prompts.
    generates: bool,
    /// The tokens that end a text.
    ends: Vec<u32>,
    edits: Edits,
    pub(crate) optimizations: Optimizations,
    pub(crate) limits: Limits,
    origin: crate::loading::Fingerprint,
}

impl Loaded {
    pub(crate) fn read(source: &Source, architecture: &Architecture, declared: Declared) -> Result<Self> {
        let Checkpoint { config, ends, tokenizer, mut weights, fingerprint } = open(source, architecture.model_type, architecture.gguf)?;
        let found = config.model_type()?;
        if found != architecture.model_type {
            return Err(Error::OtherArchitecture { expected: architecture.model_type, found: found.to_string() });
        }
        config.check(declared)?;
        let sizes = config.sizes()?;
        let (network, sites) = (architecture.build)(&config, &mut weights)?;
        weights.finish()?;
        let table = (architecture.describe)(Registrar::new(declared.name, sizes.layers, &sizes.dims()))?;
        table.check_count("", sites)?;
        Ok(Loaded {
            network,
            tokenizer,
            table: Arc::new(table),
            sizes,
            generates: architecture.generates,
            ends,
            edits: Edits::default(),
            optimizations: Optimizations::default(),
            limits: Limits::default(),
            origin: fingerprint,
        })
    }

    /// Writes a checkpoint as a Hugging Face folder.
    pub(crate) fn rewrite(source: &Source, architecture: &Architecture, folder: &Path) -> Result<()> {
        let Checkpoint { config, ends, tokenizer, mut weights, .. } = open(source, architecture.model_type, architecture.gguf)?;
        weights.remember();
        (architecture.build)(&config, &mut weights)?;
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
    /// If the checkpoint has none that is known. [`Loaded::try_tokenizer`] does not.
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

    /// What running a graph would do: which batches there are, what they share, and how much of the model is run. Nothing is computed.
    ///
    /// # Errors
    /// What the graph fails with.
    #[track_caller]
    pub fn explain(&self, graph: &Graph) -> nnsight_core::Result<Explanation> {
        let place = Some(Location::caller().into());
        let explained = self.edits.apply(graph.clone(), &self.limits).and_then(|graph| {
            let inputs = &self.inputs(&graph, &self.table)?;
            let request = Request { inputs, optimizations: self.optimizations, limits: self.limits, observer: Observer::default() };
            explain(&*self.network, &self.table, &graph, &request)
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

    /// Where it computes.
    pub fn device(&self) -> &Device {
        self.network.device()
    }

    /// The type of its numbers.
    pub fn dtype(&self) -> DType {
        self.network.dtype()
    }

    /// The logits at the last position of each prompt, from a plain forward pass.
    ///
    /// # Shapes
    /// `(Batch, Vocab)`
    ///
    /// # Errors
    /// If a prompt is empty, too long, or has tokens that do not exist; [`Error::NoLogits`] if the model is an encoder.
    #[track_caller]
    pub fn next_logits(&self, prompts: &[Prompt]) -> Result<Tensor> {
        let place = Some(Location::caller().into());
        if !self.generates {
            return Err(Error::NoLogits { signature: self.table.signature.clone() });
        }
        let tokens = self.reader().invoke(0, prompts, 0, &place)?;
        let tokens = self.known(tokens, &place)?;
        let rows = tokens.iter().map(Vec::as_slice).collect::<Vec<_>>();
        let batch = TokenBatch::new(&rows, self.network.device())?;
        Ok(with_hot_pool(|| forward(&*self.network, &batch, Wanted::OfLastLayer(Window::LAST)))?.squeeze(1)?)
    }

    fn reader(&self) -> Reader<'_> {
        let tokenizer = self.tokenizer.as_ref().ok();
        Reader { model: &self.table.signature, sizes: &self.sizes, tokenizer, generates: self.generates }
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

    /// What a graph is run on.
    fn inputs<'a>(&'a self, graph: &'a Graph, table: &SiteTable) -> nnsight_core::Result<TokenInputs<'a>> {
        Ok(TokenInputs::new(graph, self.all_tokens(graph)?, self, table))
    }

    /// The token ids of every prompt of a graph. The graph is validated first: what is too long is not split into tokens.
    fn all_tokens(&self, graph: &Graph) -> nnsight_core::Result<Vec<Vec<Vec<u32>>>> {
        graph.validate(&self.limits)?;
        let tokens = self.reader().graph(graph)?;
        tokens.into_iter().zip(&graph.invokes).map(|(tokens, invoke)| self.known(tokens, &invoke.source)).collect()
    }

    /// What tells the model from others: its weights, tokenizer and edits.
    pub(crate) fn full_fingerprint(&self) -> nnsight_core::Result<Fingerprint> {
        let model = |error: Error| nnsight_core::Error::model(error);
        let weights = Fingerprint::new(self.network.dtype()).with(self.origin.get().map_err(model)?.as_bytes());
        // The same text is other tokens with another tokenizer.
        let tokenizer = self.tokenizer.as_ref().ok().map(Tokenizer::to_json).transpose().map_err(model)?;
        self.edits.fingerprint(weights.with(tokenizer.unwrap_or_default().as_bytes()))
    }

    /// Runs a graph with attached modules, whose sites the table has.
    pub(crate) fn run_with(
        &self,
        table: &SiteTable,
        attachments: &[Attachment<'_>],
        graph: Graph,
        observer: Observer<'_>,
    ) -> nnsight_core::Result<Vec<nnsight_core::Result<Saved>>> {
        let graph = self.edits.apply(graph, &self.limits)?;
        let inputs = &self.inputs(&graph, table)?;
        let request = |observer| Request { inputs, optimizations: self.optimizations, limits: self.limits, observer };
        match (attachments, observer) {
            // Who is told of tokens is told of them here.
            ([], Observer { on_emitted: None, on_batch, on_note }) => with_hot_pool(|| {
                let observer = Observer { on_batch, on_note, on_emitted: None };
                execute(&*self.network, table, &graph, request(observer))
            }),
            ([], observer) => execute(&*self.network, table, &graph, request(observer)),
            (attachments, observer) => execute(&WithAttachments { model: &*self.network, attachments }, table, &graph, request(observer)),
        }
    }

    /// As [`Loaded::run_with`], without computing anything.
    pub(crate) fn scan_with(&self, table: &SiteTable, graph: Graph) -> nnsight_core::Result<Vec<Facts>> {
        let graph = self.edits.apply(graph, &self.limits)?;
        let tokens = self.all_tokens(&graph)?;
        let lengths = tokens.iter().map(|prompts| prompts.iter().map(|prompt| Some(prompt.len())).collect()).collect::<Vec<_>>();
        scan(&graph, table, lengths, &self.limits)
    }
}

/// What is known of the values that a graph saves, where it could be run.
pub(crate) fn scan(graph: &Graph, table: &SiteTable, mut lengths: Vec<Vec<Option<usize>>>, limits: &Limits) -> nnsight_core::Result<Vec<Facts>> {
    nnsight_core::run::share_inputs(graph, &mut lengths);
    let facts = prepare(graph, table, &lengths, limits)?;
    Ok(graph.saves.iter().map(|save| facts[save.index()].clone()).collect())
}

impl Vocabulary for Loaded {
    fn eos_token_ids(&self) -> &[u32] {
        &self.ends
    }

    fn decode(&self, tokens: &[u32]) -> nnsight_core::Result<String> {
        self.known_tokenizer()?.decode(tokens).map_err(nnsight_core::Error::model)
    }
}

impl std::fmt::Display for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.tree(), f)
    }
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LanguageModel({}, {} layers)", self.table.signature, self.sizes.layers)
    }
}
