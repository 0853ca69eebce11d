//! Interventions that a crate of its own publishes: generic over the checkpoint, or over the architecture.

use nnsight::llama::Block;
use nnsight::prelude::*;

nnsight::signature!(
    /// A tiny Llama that this crate knows.
    pub Tiny: Llama = "tiny.json"
);

nnsight::dim!(
    /// The features of a sparse autoencoder.
    pub Features = 24
);

/// Adds `strength` times a direction to the residual stream at the last position after a layer.
#[intervene]
pub fn steer<C: Signature>(block: Block<C>, direction: &Tensor<C, (Hidden,)>, strength: f64) {
    block.output.at(Seq, -1) += direction.clone() * strength;
}

/// Replaces what a layer leaves in the residual stream by what a sparse autoencoder makes of it; gives the features.
#[intervene]
pub fn splice<'t, C: Signature>(
    block: Block<'t, C>,
    encoder: &Tensor<C, (Hidden, Features)>,
    decoder: &Tensor<C, (Features, Hidden)>,
) -> Value<'t, C, (Batch, Seq, Features)> {
    let features = block.output.matmul(encoder.traced(block.output)).relu();
    block.output = features.matmul(decoder.traced(block.output));
    features
}

/// Zeroes the attention of every layer from `first` on, on any architecture.
#[intervene]
pub fn without_attention<'t, C: Signature>(model: impl CausalLm<'t, C>, first: usize) {
    for layer in first..model.layers().len() {
        let block = model.block(layer);
        block.attn_out() = 0.0;
    }
}

/// Doubles the last layer where the first is on average positive: literal layers are bounds on the signature.
#[intervene]
pub fn conditional<C: Signature + HasLayer<0> + HasLayer<-1>>(model: nnsight::llama::Model<C>) {
    if model.layers[0].output.mean_all().gt(0.0) {
        model.layers[-1].mlp.output *= 2.0;
    }
}
