//! Modules of the user's own, attached to a model.

use nnsight::candle_core::Tensor as Candle;
use nnsight::models::layers::Linear;
use nnsight::module::{Cx, Forward, Place, Role};
use nnsight::prelude::*;
use nnsight::{Module, dim};

use crate::shared::{difference, identical, numbers, tiny_llama};

const PROMPT: [u32; 5] = [3, 17, 5, 40, 22];

dim!(pub Features = 64);

/// `decoder(relu(encoder(x)))`
#[derive(Module)]
#[module(sites = SaeSites, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), pointwise(Hidden, Hidden))]
pub struct Sae<C: Signature> {
    /// To the features.
    #[child(pointwise)]
    encoder: Linear<C, Hidden, Features>,
    /// Back to the stream.
    #[tap(features: (Batch, Seq, Features))]
    #[child(pointwise)]
    decoder: Linear<C, Features, Hidden>,
    place: Place,
}

impl<C: Signature> Forward for Sae<C> {
    fn forward(&self, x: &Candle, cx: &mut Cx) -> Result<Candle, nnsight::TraceError> {
        let features = cx.call(&self.encoder, x)?.relu()?;
        let features = cx.tap(Self::FEATURES, features)?;
        cx.call(&self.decoder, &features)
    }
}

/// Two features for each channel, its positive and its negative part: decoding gives back what was encoded.
pub fn sae() -> Sae<Dynamic> {
    let mut encoder = vec![0f32; 32 * 64];
    let mut decoder = vec![0f32; 64 * 32];
    for channel in 0..32 {
        for (feature, sign) in [(channel, 1.0), (channel + 32, -1.0)] {
            encoder[channel * 64 + feature] = sign;
            decoder[feature * 32 + channel] = sign;
        }
    }
    Sae {
        encoder: Linear::new(Candle::from_vec(encoder, (32, 64), &Device::Cpu).unwrap(), None),
        decoder: Linear::new(Candle::from_vec(decoder, (64, 32), &Device::Cpu).unwrap(), None),
        place: Place::default(),
    }
}

#[test]
fn an_autoencoder_is_spliced_into_the_stream() {
    let llama = tiny_llama();
    let model = llama.attach("sae", Role::Splice("layers.1.output"), sae()).unwrap();
    let plain = trace!(llama, PROMPT.to_vec(), { llama.lm_head.output }).unwrap();
    let (stream, features, logits) =
        trace!(model, PROMPT.to_vec(), { (model.layers[1].output, model.attached.features, model.lm_head.output) }).unwrap();
    assert_eq!(features.dims(), [1, 5, 64]);
    assert!(difference(&logits, &plain) < 1e-5, "this one reconstructs without a loss");
    let positive = stream.relu().unwrap();
    assert!(difference(&features.narrow(2, 0, 32).unwrap(), &positive) < 1e-6);
    // A feature is ablated, and the model sees it.
    let (changed, next) = trace!(model, PROMPT.to_vec(), {
        model.attached.features.at(Features, 3) = 0.0;
        (model.lm_head.output, model.layers[2].input)
    })
    .unwrap();
    assert!(difference(&changed, &plain) > 1e-5);
    let channel = |x: &Candle, index: usize| numbers(&x.narrow(2, index, 1).unwrap());
    assert!(channel(&next, 3).iter().all(|&x| x <= 0.0));
    assert_eq!(channel(&next, 4), channel(&stream, 4));
    // The model itself is as before.
    assert!(identical(&trace!(llama, PROMPT.to_vec(), { llama.lm_head.output }).unwrap(), &plain));
}

#[test]
fn a_probe_stands_beside_and_changes_nothing() {
    let llama = tiny_llama();
    let model = llama.attach("probe", Role::Probe("layers.0.resid_mid"), sae()).unwrap();
    let (middle, seen, given, logits) = trace!(model, PROMPT.to_vec(), {
        model.attached.features *= 0.0;
        (model.layers[0].resid_mid, model.attached.input, model.attached.output, model.lm_head.output)
    })
    .unwrap();
    assert!(identical(&middle, &seen) && numbers(&given).iter().all(|&x| x == 0.0));
    assert!(identical(&logits, &trace!(llama, PROMPT.to_vec(), { llama.lm_head.output }).unwrap()));
    // An edit of it that only the model could see is refused: the model does not look at it.
    let error = trace!(model, PROMPT.to_vec(), {
        model.attached.features *= 0.0;
        model.lm_head.output
    })
    .unwrap_err()
    .to_string();
    assert!(error.contains("the edit of `probe.features` has no effect"), "{error}");
}

#[test]
fn a_transcoder_stands_in_for_a_module() {
    let llama = tiny_llama();
    let model = llama.attach("transcoder", Role::Replace("layers.1.mlp"), sae()).unwrap();
    let (input, output, features) =
        trace!(model, PROMPT.to_vec(), { (model.layers[1].mlp.input, model.layers[1].mlp.output, model.attached.features) }).unwrap();
    assert!(difference(&input, &output) < 1e-6, "this one gives what it is given");
    assert_eq!(features.dims(), [1, 5, 64]);
    let error = trace!(model, PROMPT.to_vec(), { model.layers[1].mlp.gate_proj.output }).unwrap_err().to_string();
    assert!(error.contains("site `layers.1.mlp.gate_proj.output` was not reached"), "{error}");
}

#[test]
fn attached_modules_are_attached_to_each_other_and_work_in_generations() {
    let llama = tiny_llama();
    let first = llama.attach("first", Role::Splice("layers.0.output"), sae()).unwrap();
    let model = nnsight::trace::Attached::new(&first, "second", Role::Splice("layers.0.output"), sae()).unwrap();
    let (tokens, a, b) = generate!(model, PROMPT.to_vec(), max_new_tokens = 3, {
        for step in model.steps(..) {
            step.attached.features.at(Features, 5) *= 1.0;
        }
        (model.tokens(), model.steps(..).map(|step| step.model.attached.output), model.steps(..).map(|step| step.attached.input))
    })
    .unwrap();
    let plain = generate!(llama, PROMPT.to_vec(), max_new_tokens = 3, { llama.tokens() }).unwrap();
    assert_eq!(difference(&tokens, &plain), 0.0);
    for (a, b) in a.iter().zip(&b) {
        assert!(identical(a, b), "the second takes what the first gives");
    }
}

#[test]
fn parts_of_an_attached_module_are_applied_by_hand() {
    let llama = tiny_llama();
    let model = llama.attach("sae", Role::Probe("layers.0.output"), sae()).unwrap();
    let (stream, again) = trace!(model, PROMPT.to_vec(), {
        let h = model.layers[2].output;
        (h, model.attached.decoder(model.attached.encoder(h).relu()))
    })
    .unwrap();
    assert!(difference(&stream, &again) < 1e-6);
}

#[test]
fn a_low_rank_adapter_is_trained_beside_a_module() {
    let llama = tiny_llama();
    // The adapter's weights are sites: their gradients come from the trace like any other.
    let model = llama.attach("adapter", Role::Probe("layers.1.mlp.input"), sae()).unwrap();
    let (loss, encoder, decoder) = trace!(model, PROMPT.to_vec(), {
        model.layers[1].mlp.output += model.attached.output;
        let loss = -model.lm_head.output.at(Seq, -1).log_softmax(Vocab).pick(Vocab, 11).sum_all();
        (loss, model.attached.encoder.weight.grad(loss), model.attached.decoder.weight.grad(loss))
    })
    .unwrap();
    assert!(loss.to_scalar::<f32>().unwrap() > 0.0);
    assert_eq!((encoder.dims(), decoder.dims()), (&[32, 64][..], &[64, 32][..]));
    assert!(numbers(&encoder).iter().any(|&x| x != 0.0) && numbers(&decoder).iter().any(|&x| x != 0.0));
}

#[test]
fn a_module_that_does_not_fit_is_refused() {
    let llama = tiny_llama();
    let says = |role: Role<'_>, name: &str, words: &str| {
        let error = llama.attach(name, role, sae()).err().unwrap().to_string();
        assert!(error.contains(words), "{error}");
    };
    says(Role::Splice("layers.1.mlp.act"), "sae", "cannot attach `sae` to `layers.1.mlp.act`: expected (Batch, Seq, Hidden = 32)");
    says(Role::Probe("layers.1.ouput"), "sae", "no site `layers.1.ouput`; there is `layers.1.output`");
    says(Role::Replace("layers.1.mpl"), "sae", "no site `layers.1.mpl`");
    says(Role::Probe("layers.1.output"), "lm_head", "already the name");
}

/// Calls its submodule twice in one pass.
#[derive(Module)]
#[module(sites = TwiceSites, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden))]
pub struct Twice<C: Signature> {
    /// Called twice.
    #[child(pointwise)]
    inner: Linear<C, Hidden, Hidden>,
    place: Place,
}

impl<C: Signature> Forward for Twice<C> {
    fn forward(&self, x: &Candle, cx: &mut Cx) -> Result<Candle, nnsight::TraceError> {
        let once = cx.call(&self.inner, x)?;
        cx.call(&self.inner, &once)
    }
}

#[test]
fn a_site_that_a_pass_comes_by_twice_is_refused() {
    let llama = tiny_llama();
    let inner = Linear::new(Candle::eye(32, DType::F32, &Device::Cpu).unwrap(), None);
    let model = llama.attach("twice", Role::Splice("layers.0.output"), Twice { inner, place: Place::default() }).unwrap();
    // Untouched, it runs.
    let (logits, plain) = (trace!(model, PROMPT.to_vec(), { model.lm_head.output }), trace!(llama, PROMPT.to_vec(), { llama.lm_head.output }));
    assert!(difference(&logits.unwrap(), &plain.unwrap()) < 1e-6);
    // An edit would reach the first call only.
    let error = trace!(model, PROMPT.to_vec(), {
        model.attached.inner.output *= 0.0;
        model.lm_head.output
    })
    .unwrap_err()
    .to_string();
    assert!(error.contains("the model passed `twice.inner.output` out of the order"), "{error}");
}

/// Gives every position the mean of all: what no layer of a causal model does by itself.
#[derive(Module)]
#[module(sites = MeanSites, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden))]
pub struct Mean<C: Signature> {
    /// Does nothing.
    #[child(pointwise)]
    inner: Linear<C, Hidden, Hidden>,
    place: Place,
}

impl<C: Signature> Forward for Mean<C> {
    fn forward(&self, x: &Candle, cx: &mut Cx) -> Result<Candle, nnsight::TraceError> {
        let x = cx.call(&self.inner, x)?;
        Ok(x.mean_keepdim(1)?.broadcast_as(x.shape())?.contiguous()?)
    }
}

#[test]
fn a_module_that_looks_at_all_positions_sees_all_of_them_in_every_run() {
    let llama = tiny_llama();
    let inner = Linear::new(Candle::eye(32, DType::F32, &Device::Cpu).unwrap(), None);
    let model = llama.attach("mean", Role::Splice("layers.1.output"), Mean { inner, place: Place::default() }).unwrap();
    let grid = sweep!(
        model,
        PROMPT.to_vec(),
        for position in 0..5 {
            model.layers[0].output.at(Seq, position) *= 2.0;
            model.lm_head.output.at(Seq, -1)
        }
    )
    .unwrap();
    for position in 0..5 {
        let alone = trace!(model, PROMPT.to_vec(), {
            model.layers[0].output.at(Seq, position) *= 2.0;
            model.lm_head.output.at(Seq, -1)
        });
        assert!(difference(&grid.get(position).unwrap(), &alone.unwrap()) < 1e-5, "position {position}");
    }
}

/// Counts how often a pass reaches it.
#[derive(Module)]
#[module(sites = CountSites, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden))]
pub struct Count<C: Signature> {
    /// Does nothing.
    #[child(pointwise)]
    inner: Linear<C, Hidden, Hidden>,
    passes: std::sync::atomic::AtomicUsize,
    place: Place,
}

impl<C: Signature> Forward for Count<C> {
    fn forward(&self, x: &Candle, cx: &mut Cx) -> Result<Candle, nnsight::TraceError> {
        self.passes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        cx.call(&self.inner, x)
    }
}

#[test]
fn a_generation_ends_where_nothing_more_is_needed() {
    let llama = tiny_llama();
    let inner = Linear::new(Candle::eye(32, DType::F32, &Device::Cpu).unwrap(), None);
    let count = Count { inner, passes: Default::default(), place: Place::default() };
    let model = llama.attach("count", Role::Probe("layers.2.output"), count).unwrap();
    let passes = || model.module().passes.swap(0, std::sync::atomic::Ordering::Relaxed);
    // The token of step 0 leads to step 1, which is left behind its first layer; 28 steps never begin.
    generate!(model, PROMPT.to_vec(), max_new_tokens = 30, min_new_tokens = 30, { model.step(1).layers[0].output }).unwrap();
    assert_eq!(passes(), 1);
    generate!(model, PROMPT.to_vec(), max_new_tokens = 30, min_new_tokens = 30, { model.step(1).layers[2].output }).unwrap();
    assert_eq!(passes(), 2);
    generate!(model, PROMPT.to_vec(), max_new_tokens = 5, min_new_tokens = 5, { model.tokens() }).unwrap();
    assert_eq!(passes(), 5);
}

/// What the neurons give goes through it.
#[derive(Module)]
#[module(sites = NeuronsSites, input: (Batch, Seq, Mlp), output: (Batch, Seq, Mlp))]
pub struct Neurons<C: Signature> {
    /// From neurons to neurons.
    #[child(pointwise)]
    inner: Linear<C, Mlp, Mlp>,
    place: Place,
}

impl<C: Signature> Forward for Neurons<C> {
    fn forward(&self, x: &Candle, cx: &mut Cx) -> Result<Candle, nnsight::TraceError> {
        cx.call(&self.inner, x)
    }
}

#[test]
fn a_module_is_run_where_the_model_would_not_stop_for_anybody_else() {
    let llama = tiny_llama();
    let inner = Linear::new(Candle::zeros((48, 48), DType::F32, &Device::Cpu).unwrap(), None);
    let model = llama.attach("neurons", Role::Splice("layers.1.mlp.act"), Neurons { inner, place: Place::default() }).unwrap();
    let output = trace!(model, PROMPT.to_vec(), { model.layers[1].mlp.output }).unwrap();
    assert!(numbers(&output).iter().all(|&x| x == 0.0));
}
