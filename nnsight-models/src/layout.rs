//! Where an architecture keeps what TransformerLens has names for.

/// Where an architecture keeps what TransformerLens has names for.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The list of layers.
    pub layers: &'static str,
    /// The residual stream before the first.
    pub embed: &'static str,
    /// The norm after the last.
    pub norm: &'static str,
    /// The attention of a layer.
    pub attn: &'static str,
    /// Of the MLP, the module whose output is the neurons before their activation.
    pub pre: &'static str,
    /// Of the MLP, the module that takes what the neurons give.
    pub down: &'static str,
}

impl Layout {
    /// The names of TransformerLens for the sites of one layer, and the paths that they stand for.
    pub(crate) fn layer(&self, layer: usize) -> Vec<(String, String)> {
        let own = format!("{}.{layer}", self.layers);
        let Layout { attn, pre, down, .. } = self;
        let names = [
            ("hook_resid_pre", "input".to_string()),
            ("hook_resid_mid", "resid_mid".to_string()),
            ("hook_resid_post", "output".to_string()),
            ("hook_attn_out", format!("{attn}.output")),
            ("hook_mlp_out", "mlp.output".to_string()),
            ("attn.hook_q", format!("{attn}.q")),
            ("attn.hook_k", format!("{attn}.k")),
            ("attn.hook_v", format!("{attn}.v")),
            ("attn.hook_attn_scores", format!("{attn}.scores")),
            ("attn.hook_pattern", format!("{attn}.pattern")),
            ("attn.hook_z", format!("{attn}.z")),
            ("mlp.hook_pre", format!("mlp.{pre}.output")),
            ("mlp.hook_post", format!("mlp.{down}.input")),
        ];
        names.into_iter().map(|(name, path)| (format!("blocks.{layer}.{name}"), format!("{own}.{path}"))).collect()
    }
}
