//! A network with its tokenizer: what users load and trace.

use std::path::Path;
use std::sync::Arc;

use candle_core::Tensor;
use nnsight_core::graph::{Facts, Graph, Prompt};
use nnsight_core::module::{Forward, Guest, Instrument, Registrar, Role, SiteTable};
use nnsight_core::plan::{Explanation, Plan, Window};
use nnsight_core::run::{Hosting, Request, Stages, TokenBatch, Vocabulary, Watch, execute, explain, forward, prepare};
use nnsight_core::trace::{Attached, Edits, Host, Traceable};
use nnsight_core::types::{Describes, Saved, Signature, Sizes};

use crate::config::Config;
use crate::error::at;
use crate::loading::{Checkpoint, Source, Weights, open};
use crate::tokenizer::Tokenizer;
use crate::transformer_lens::Layout;
use crate::tree::Tree;
use crate::workers::among_workers;
use crate::{Error, Result};

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
    tokenizer: Option<Tokenizer>,
    pub(crate) table: Arc<SiteTable>,
    sizes: Sizes,
    /// The tokens that end a text.
    ends: Vec<u32>,
    edits: Edits,
    plan: Plan,
}

impl<N: Network> LanguageModel<N> {
    /// Loads a model.
    ///
    /// # Errors
    /// Where nothing is found, a file is damaged, or the checkpoint is not what the signature says.
    ///
    /// # Examples
    /// ```no_run
    /// use nnsight_models::{Llama, SmolLm2_135M, Source};
    /// let model = Llama::<SmolLm2_135M>::load(Source::default())?;
    /// # Ok::<(), nnsight_models::Error>(())
    /// ```
    pub fn load(source: impl Into<Source>) -> Result<Self>
    where
        N::Signature: Describes<LanguageModel<N>>,
    {
        let Checkpoint { config, tokenizer, mut weights } = open(&source.into())?;
        let found = config.model_type()?;
        if found != N::MODEL_TYPE {
            return Err(Error::OtherArchitecture { expected: N::MODEL_TYPE, found: found.to_string() });
        }
        config.check::<N::Signature>()?;
        let sizes = config.sizes()?;
        let mut network = N::build(&config, &mut weights)?;
        network.attach(&mut 0);
        let registrar = Registrar::new(N::Signature::NAME, sizes.layers, &sizes.dims());
        let (table, ends) = (Arc::new(registrar.model::<N>()), config.end_tokens());
        Ok(LanguageModel { network, tokenizer, table, sizes, ends, edits: Edits::default(), plan: Plan::default() })
    }

    /// Writes a checkpoint as a Hugging Face folder: `config.json`, `model.safetensors` in the source's type, and `tokenizer.json`. A GGUF
    /// file that is used often loads faster in this form.
    ///
    /// # Errors
    /// As [`LanguageModel::load`], and where the folder cannot be written.
    pub fn convert(source: impl Into<Source>, folder: &Path) -> Result<()> {
        let Checkpoint { config, tokenizer, mut weights } = open(&source.into())?;
        weights.remember();
        N::build(&config, &mut weights)?;
        std::fs::create_dir_all(folder).map_err(at(folder))?;
        let file = folder.join("config.json");
        std::fs::write(&file, config.to_json()).map_err(at(&file))?;
        if let Some(tokenizer) = tokenizer {
            tokenizer.save(&folder.join("tokenizer.json"))?;
        }
        Ok(candle_core::safetensors::save(&weights.into_copies(), folder.join("model.safetensors"))?)
    }

    /// Text to token ids and back.
    ///
    /// # Panics
    /// Where the checkpoint has none. [`LanguageModel::try_tokenizer`] does not.
    pub fn tokenizer(&self) -> &Tokenizer {
        self.tokenizer.as_ref().expect("the checkpoint has no tokenizer.json; use `try_tokenizer` to ask whether there is one")
    }

    /// Text to token ids and back, where the checkpoint has a tokenizer.
    pub fn try_tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
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
    /// `model.attach("sae", Role::Through("layers.5.output"), sae)?`.
    ///
    /// # Errors
    /// Where the model has no such place, the module does not take what is there, or the name is taken.
    pub fn attach<X>(&self, name: &str, role: Role<'_>, module: X) -> nnsight_core::Result<Attached<'_, Self, X>>
    where
        X: Instrument<Signature = N::Signature> + Forward,
    {
        Attached::new(self, name, role, module)
    }

    /// Gives a site, or a module and everything in it, another name beside its own: `model.alias("mlp5", "layers.5.mlp")?`. The name can be
    /// used with `get`, with `cache.get` and in graphs.
    ///
    /// # Errors
    /// Where there is nothing to be named, or the name is taken.
    pub fn alias(&mut self, name: &str, path: &str) -> nnsight_core::Result<()> {
        Arc::make_mut(&mut self.table).alias(name, path)
    }

    /// Has traces on this model make these savings only; the results are the same.
    #[must_use]
    pub fn with_plan(self, plan: Plan) -> Self {
        LanguageModel { plan, ..self }
    }

    /// What running a graph would do: which batches there are, what they share, and how much of the model is run. Nothing is computed.
    ///
    /// # Errors
    /// What the graph fails with.
    pub fn explain(&self, graph: &Graph) -> nnsight_core::Result<Explanation> {
        let graph = self.edits.apply(graph.clone())?;
        let request = Request { tokens: self.all_tokens(&graph)?, vocabulary: self, plan: self.plan, watch: Watch::default() };
        explain(&self.network, &self.table, &graph, request)
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
    pub fn next_logits(&self, prompts: &[Prompt]) -> Result<Tensor> {
        let tokens = self.tokens(0, prompts)?;
        let rows = tokens.iter().map(Vec::as_slice).collect::<Vec<_>>();
        let mut batch = TokenBatch::new(&rows, self.network.device())?;
        batch.window = Some(Window::LAST);
        batch.cuts_last_layer = true;
        Ok(among_workers(|| forward(&self.network, &batch))?.squeeze(1)?)
    }

    /// The token ids of an invoke's prompts, checked.
    fn tokens(&self, invoke: usize, prompts: &[Prompt]) -> nnsight_core::Result<Vec<Vec<u32>>> {
        use nnsight_core::Error as E;
        let model = || self.table.signature.clone();
        let mut all = Vec::with_capacity(prompts.len());
        for (prompt, content) in prompts.iter().enumerate() {
            let tokens = match content {
                Prompt::Tokens(tokens) => tokens.clone(),
                Prompt::Masked { tokens, seen } if tokens.len() == seen.len() => tokens.clone(),
                Prompt::Masked { tokens, seen } => {
                    return Err(E::Mask { invoke, prompt, tokens: tokens.len(), mask: seen.len() });
                }
                // Embeddings stand in for those of any tokens.
                Prompt::Embeddings(constant) => match constant.tensor.dims() {
                    [length, hidden] if *hidden == self.sizes.hidden => vec![0; *length],
                    found => return Err(E::TensorShape { expected: format!("(Seq, Hidden = {})", self.sizes.hidden), found: found.to_vec() }),
                },
                Prompt::Text(text) => match &self.tokenizer {
                    Some(tokenizer) => tokenizer.encode(text).map_err(|error| E::Model(Box::new(error)))?,
                    None => return Err(E::Model(Box::new(Error::Tokenizer("the checkpoint has none; give token ids instead of text".into())))),
                },
            };
            if tokens.is_empty() {
                return Err(E::EmptyPrompt { invoke, prompt });
            }
            if tokens.len() > self.sizes.context {
                return Err(E::PromptTooLong { invoke, prompt, found: tokens.len(), limit: self.sizes.context, model: model() });
            }
            if let Some(&token) = tokens.iter().find(|&&token| token as usize >= self.sizes.vocab) {
                return Err(E::UnknownToken { token, invoke, prompt, vocab: self.sizes.vocab, model: model() });
            }
            all.push(tokens);
        }
        Ok(all)
    }
}

impl<N: Network> LanguageModel<N> {
    /// The token ids of every prompt of a graph, checked.
    fn all_tokens(&self, graph: &Graph) -> nnsight_core::Result<Vec<Vec<Vec<u32>>>> {
        let tokens = graph.invokes.iter().enumerate().map(|(index, invoke)| {
            let tokens = self.tokens(index, &invoke.prompts)?;
            let new = invoke.generation.as_ref().map_or(0, |generation| generation.max_new_tokens.saturating_sub(1));
            match tokens.iter().position(|tokens| tokens.len().saturating_add(new) > self.sizes.context) {
                None => Ok(tokens),
                Some(prompt) => Err(nnsight_core::Error::PromptTooLong {
                    invoke: index,
                    prompt,
                    found: tokens[prompt].len().saturating_add(new),
                    limit: self.sizes.context,
                    model: self.table.signature.clone(),
                }),
            }
        });
        tokens.collect()
    }
}

impl<N: Network> Traceable for LanguageModel<N> {
    type Network = N;

    fn table(&self) -> &Arc<SiteTable> {
        &self.table
    }

    fn run(&self, graph: Graph, watch: Watch<'_>) -> nnsight_core::Result<Vec<nnsight_core::Result<Saved>>> {
        self.run_with(&self.table, &[], graph, watch)
    }

    fn scan(&self, graph: Graph) -> nnsight_core::Result<Vec<Facts>> {
        self.scan_with(&self.table, graph)
    }
}

impl<N: Network> Host for LanguageModel<N> {
    fn run_with(
        &self,
        table: &SiteTable,
        guests: &[Guest<'_>],
        graph: Graph,
        watch: Watch<'_>,
    ) -> nnsight_core::Result<Vec<nnsight_core::Result<Saved>>> {
        let graph = self.edits.apply(graph)?;
        let request = Request { tokens: self.all_tokens(&graph)?, vocabulary: self, plan: self.plan, watch };
        match guests {
            // Who is told of tokens is told of them here.
            [] if request.watch.on_token.is_none() => {
                let Request { tokens, plan, watch: Watch { on_batch, .. }, .. } = request;
                among_workers(|| {
                    let watch = Watch { on_batch, ..Watch::default() };
                    execute(&self.network, table, &graph, Request { tokens, vocabulary: self, plan, watch })
                })
            }
            [] => execute(&self.network, table, &graph, request),
            guests => execute(&Hosting { model: &self.network, guests }, table, &graph, request),
        }
    }

    fn scan_with(&self, table: &SiteTable, graph: Graph) -> nnsight_core::Result<Vec<Facts>> {
        let graph = self.edits.apply(graph)?;
        let tokens = self.all_tokens(&graph)?;
        let lengths = tokens.iter().map(|prompts| prompts.iter().map(|prompt| Some(prompt.len())).collect()).collect::<Vec<_>>();
        scan(&graph, table, lengths)
    }
}

/// What is known of the values that a graph saves, where it could be run.
pub(crate) fn scan(graph: &Graph, table: &SiteTable, mut lengths: Vec<Vec<Option<usize>>>) -> nnsight_core::Result<Vec<Facts>> {
    nnsight_core::run::share_prompts(graph, &mut lengths);
    let facts = prepare(graph, table, &lengths)?;
    Ok(graph.saves.iter().map(|save| facts[save.index()].clone()).collect())
}

impl<N: Network> Vocabulary for LanguageModel<N> {
    fn ends(&self) -> &[u32] {
        &self.ends
    }

    fn decode(&self, tokens: &[u32]) -> nnsight_core::Result<String> {
        use nnsight_core::Error as E;
        match &self.tokenizer {
            Some(tokenizer) => tokenizer.decode(tokens).map_err(|error| E::Model(Box::new(error))),
            None => Err(E::Model(Box::new(Error::Tokenizer("the checkpoint has none, and so no text can be looked for".into())))),
        }
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
