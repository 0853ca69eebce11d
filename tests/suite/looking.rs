//! Looking at a model: its sites by name, other names, caches, and shapes without computing.

use nnsight::prelude::*;

use crate::shared::{EIFFEL, difference, identical, numbers, smollm2, tiny_gpt2, tiny_llama};

const PROMPT: [u32; 5] = [3, 17, 5, 40, 22];

#[test]
fn a_module_lists_its_sites() {
    let model = tiny_llama();
    let list = trace!(model, PROMPT.to_vec(), {
        let attention = model.layers[0].self_attn.sites();
        assert_eq!(attention.0[0], ("layers.0.self_attn.input".to_string(), "(Batch, Seq, Hidden = 32)".to_string()));
        let text = attention.to_string();
        for name in ["position_ids", "attention_mask", "q_proj.weight", "q_proj.output", "scores", "pattern", "z", "o_proj.input", "output"] {
            assert!(text.contains(&format!("layers.0.self_attn.{name} ")), "{name} in {text}");
        }
        assert!(text.contains("layers.0.self_attn.pattern         (Batch, Heads = 4, Query, Key)"), "{text}");
        let inputs = model.layers[0].self_attn.inputs().0.into_iter().map(|(path, _)| path).collect::<Vec<_>>();
        assert_eq!(inputs, ["input", "position_ids", "attention_mask"].map(|name| format!("layers.0.self_attn.{name}")));
        assert_eq!(model.layers[0].mlp.inputs().0.len(), 1);
        // What is inside of modules is listed with them.
        assert!(model.layers[1].sites().to_string().contains("layers.1.mlp.down_proj.input"));
        assert_eq!(model.sites().0.len(), nnsight::trace::Traceable::table(model_handle()).sites().len());
        model.layers[0].output
    });
    assert!(list.is_ok());
}

fn model_handle() -> &'static Llama<Dynamic> {
    tiny_llama()
}

#[test]
fn a_site_is_found_by_its_path() {
    let model = tiny_llama();
    let (by_path, relative, by_field) = trace!(model, PROMPT.to_vec(), {
        let by_path: Site<Dynamic, (Batch, Seq, Hidden)> = model.get("layers.1.mlp.output");
        let relative = model.layers[1].get::<(Batch, Seq, Hidden), Float>("mlp.output");
        (by_path, relative, model.layers[1].mlp.output)
    })
    .unwrap();
    assert!(identical(&by_path, &by_field) && identical(&relative, &by_field));
    let error = trace!(model, PROMPT.to_vec(), { model.get::<(Batch, Seq, Hidden), Float>("layers.1.mpl.output") }).unwrap_err().to_string();
    assert!(error.contains("looking.rs:") && error.contains("no site `layers.1.mpl.output`; there is `layers.1.mlp.output`"), "{error}");
    let error = trace!(model, PROMPT.to_vec(), { model.get::<(Batch, Hidden), Float>("layers.1.mlp.output") }).unwrap_err().to_string();
    assert!(error.contains("it holds (Batch, Seq, Hidden = 32), and is asked for as (Batch, Hidden)"), "{error}");
}

#[test]
fn sites_and_modules_have_other_names() {
    let mut model = Llama::<Dynamic>::load(Source::from(crate::shared::folder("tests/reference/llama"))).unwrap();
    model.alias("middle", "layers.1").unwrap();
    model.alias("stream", "model.layers.0.output").unwrap();
    model.alias("centre", "middle.mlp").unwrap();
    let (a, b, c) = trace!(model, PROMPT.to_vec(), {
        (
            model.get::<(Batch, Seq, Hidden), Float>("middle.mlp.output"),
            model.get::<(Batch, Seq, Hidden), Float>("stream"),
            model.get::<(Batch, Seq, Hidden), Float>("centre.output"),
        )
    })
    .unwrap();
    let expected = trace!(model, PROMPT.to_vec(), { (model.layers[1].mlp.output, model.layers[0].output) }).unwrap();
    assert!(identical(&a, &expected.0) && identical(&b, &expected.1) && identical(&c, &expected.0));
    assert!(model.alias("other", "layers.9").unwrap_err().to_string().contains("no site `layers.9`"));
    assert!(model.alias("middle", "layers.2").unwrap_err().to_string().contains("already the name"));
    assert!(model.alias("lm_head", "layers.2").is_err());
}

#[test]
fn the_names_of_transformer_lens_are_proved_and_typed() {
    let llama = Llama::<Dynamic>::load(Source::from(crate::shared::folder("tests/reference/llama"))).unwrap().with_transformer_lens_names().unwrap();
    let (by_name, typed, own, keys) = trace!(llama, PROMPT.to_vec(), {
        (
            llama.get::<(Batch, Seq, Hidden), Float>("blocks.1.hook_resid_post"),
            llama.blocks(1).hook_resid_post(),
            llama.layers[1].output,
            llama.get::<(Batch, KvHeads, Seq, HeadDim), Float>("blocks.2.attn.hook_k"),
        )
    })
    .unwrap();
    assert!(identical(&by_name, &own) && identical(&typed, &own));
    assert_eq!(keys.dims(), [1, 2, 5, 8]);
    let gpt2 = Gpt2::<Dynamic>::load(Source::from(crate::shared::folder("tests/reference/gpt2"))).unwrap().with_transformer_lens_names().unwrap();
    let (pattern, post, own) = trace!(gpt2, PROMPT.to_vec(), {
        (
            gpt2.get::<(Batch, Heads, Query, Key), Float>("blocks.0.attn.hook_pattern"),
            gpt2.blocks(0).hook_post(),
            (gpt2.transformer.h[0].attn.pattern, gpt2.transformer.h[0].mlp.c_proj.input),
        )
    })
    .unwrap();
    assert!(identical(&pattern, &own.0) && identical(&post, &own.1));
    let error = trace!(gpt2, PROMPT.to_vec(), { gpt2.get::<(Batch, Seq, Hidden), Float>("blocks.0.hook_resid_pots") }).unwrap_err().to_string();
    assert!(error.contains("there is `blocks.0.hook_resid_post`"), "{error}");
}

#[test]
fn a_cache_keeps_what_modules_give() {
    let model = tiny_llama();
    let (cache, mlp, head) = trace!(model, PROMPT.to_vec(), {
        let cache = model.cache(&Keep::outputs());
        (cache, model.layers[2].mlp.output, model.lm_head.output)
    })
    .unwrap();
    assert!(identical(cache.get("layers.2.mlp.output").unwrap(), &mlp));
    assert!(identical(cache.get("model.layers.2.mlp.output").unwrap(), &mlp));
    assert!(identical(&cache.field(model, |model| model.layers[2].mlp.output).unwrap(), &mlp));
    assert!(identical(&cache.field(model, |model| model.lm_head.output).unwrap(), &head));
    assert!(cache.get("layers.2.mlp.input").is_err());
    let error = cache.get("layers.2.mlp.ouput").unwrap_err().to_string();
    assert!(error.contains("was not kept; there is `layers.2.mlp.output`"), "{error}");
    // Every module that gives something: 3 layers of 12, embedding, norm and head.
    assert_eq!(cache.len(), 3 * 12 + 3);
}

#[test]
fn a_cache_keeps_some_modules_in_another_type() {
    let model = tiny_llama();
    let (inputs, some, inner, exact) = trace!(model, PROMPT.to_vec(), {
        (
            model.cache(&Keep::inputs().of(["layers.*"])),
            model.cache(&Keep::both().of(["layers.*.mlp", "lm_head"]).dtype(DType::F16).on_host()),
            model.layers[1].cache(&Keep::outputs().of(["**.q_proj"])),
            model.layers[1].mlp.output,
        )
    })
    .unwrap();
    assert_eq!(inputs.iter().map(|(path, _)| path).collect::<Vec<_>>(), ["layers.0.input", "layers.1.input", "layers.2.input"]);
    assert_eq!(some.len(), 8);
    let half = some.get("layers.1.mlp.output").unwrap();
    assert_eq!(half.dtype(), DType::F16);
    assert!(difference(half, &exact) < 1e-2);
    assert_eq!(inner.iter().map(|(path, _)| path).collect::<Vec<_>>(), ["layers.1.self_attn.q_proj.output"]);
    let error = trace!(model, PROMPT.to_vec(), { model.cache(&Keep::outputs().of(["layer.*"])) }).unwrap_err().to_string();
    assert!(error.contains("no module matches layer.*"), "{error}");
}

#[test]
fn a_cache_sees_edits_and_skips_and_its_own_prompts() {
    let model = tiny_llama();
    let (before, after, other) = trace!(model, {
        let (before, after) = invoke!(PROMPT.to_vec(), {
            let before = model.cache(&Keep::outputs().of(["layers.1.mlp"]));
            model.layers[1].mlp.output = 0.0;
            model.layers[2].skip(model.layers[1].output);
            (before, model.cache(&Keep::outputs().of(["layers.1.mlp", "layers.*"])))
        });
        let other = invoke!(vec![9, 2], { model.cache(&Keep::outputs().of(["layers.1.mlp"])) });
        (before, after, other)
    })
    .unwrap();
    assert!(numbers(before.get("layers.1.mlp.output").unwrap()).iter().any(|&x| x != 0.0), "read before the edit");
    assert!(numbers(after.get("layers.1.mlp.output").unwrap()).iter().all(|&x| x == 0.0));
    assert!(identical(after.get("layers.2.output").unwrap(), after.get("layers.1.output").unwrap()));
    assert_eq!(other.get("layers.1.mlp.output").unwrap().dims(), [1, 2, 32]);
}

#[test]
fn a_cache_goes_over_all_steps_and_into_a_file() {
    let model = tiny_llama();
    let (cache, first, tokens) = generate!(model, PROMPT.to_vec(), max_new_tokens = 4, {
        (model.cache(&Keep::outputs().of(["layers.1"])), model.cache(&Keep::outputs().of(["layers.1"])), model.tokens())
    })
    .unwrap();
    let steps = cache.steps("layers.1.output").unwrap();
    assert_eq!(steps.iter().map(|step| step.dim(1).unwrap()).collect::<Vec<_>>(), [5, 1, 1, 1][..tokens.dim(1).unwrap()]);
    assert!(identical(&steps[1], &first.steps("layers.1.output").unwrap()[1]));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cache.safetensors");
    cache.save(&file).unwrap();
    let read = nnsight::candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    assert!(identical(&read["layers.1.output.0"], &steps[0]) && read.len() == steps.len());
}

#[test]
fn a_scan_gives_shapes_without_computing() {
    let model = smollm2();
    let scan = scan!(model, EIFFEL, {
        model.layers[3].output.at(Seq, -1) = 0.0;
        (model.layers[3].self_attn.pattern, model.lm_head.output.argmax(Vocab))
    })
    .unwrap();
    assert_eq!(scan.shapes(), [Some(vec![1, 9, 9, 9]), Some(vec![1, 9])]);
    assert_eq!(scan.to_string(), "(Batch = 1, Heads = 9, Query = 9, Key = 9)\n(Batch = 1, Seq = 9) Int\n");
    // And the error, if any.
    let error = scan!(model, EIFFEL, { model.layers[3].output.at(Seq, 9) }).unwrap_err().to_string();
    assert!(error.contains("looking.rs:"), "{error}");
    let error = scan!(model, EIFFEL, {
        model.layers[3].output = 0.0;
        model.layers[2].output
    });
    assert!(error.unwrap_err().to_string().contains("has no effect"));
}

#[test]
fn the_largest_model_is_scanned_without_weights() {
    let started = std::time::Instant::now();
    let model = Llama::<Llama3_1_405B>::meta().unwrap();
    let scan = scan!(model, vec![1, 2, 3], {
        model.layers[100].mlp.output *= 0.0;
        let lens = model.layers.iter().map(|layer| model.lm_head(model.norm(layer.output)).softmax(Vocab)).collect::<Vec<_>>();
        (model.layers[125].self_attn.pattern, lens)
    })
    .unwrap();
    let took = started.elapsed();
    assert_eq!(scan.shapes()[0], Some(vec![1, 128, 3, 3]));
    assert_eq!(scan.shapes().len(), 127);
    assert_eq!(scan.shapes()[126], Some(vec![1, 3, 128256]));
    assert!(took.as_millis() < 200, "{took:?}");
    // Without a tokenizer, the length of a text is open.
    let scan = scan!(model, "How long is this?", { model.layers[0].output }).unwrap();
    assert_eq!(scan.to_string(), "(Batch = 1, Seq, Hidden = 16384)\n");
    let model = model.with_tokenizer(smollm2().tokenizer().clone());
    assert_eq!(scan!(model, EIFFEL, { model.layers[0].output }).unwrap().shapes(), [Some(vec![1, 9, 16384])]);
    let error = trace!(model, vec![1], { model.layers[0].output }).unwrap_err().to_string();
    assert!(error.contains("`Llama3_1_405B` was made without weights"), "{error}");
}

#[test]
fn the_same_names_serve_every_architecture() {
    fn neurons<'t, C: Signature>(model: impl CausalLm<'t, C>) -> Value<'t, C, (Batch, Seq)> {
        (model.block(1).mlp_pre().norm(nnsight::types::Mlp) + model.block(-1).attn().q().at(Heads, 0).norm(HeadDim)) * 1.0
    }
    let (llama, gpt2) = (tiny_llama(), tiny_gpt2());
    assert_eq!(trace!(llama, PROMPT.to_vec(), { neurons(llama) }).unwrap().dims(), [1, 5]);
    assert_eq!(trace!(gpt2, PROMPT.to_vec(), { neurons(gpt2) }).unwrap().dims(), [1, 5]);
}

/// Methods of one's own on the attention of every Llama.
trait ByHead<'t, C: Signature> {
    fn head_norms(&self, head: usize) -> Value<'t, C, (Batch, Seq)>;
}

impl<'t, C: Signature> ByHead<'t, C> for nnsight::llama::Attention<'t, C> {
    fn head_norms(&self, head: usize) -> Value<'t, C, (Batch, Seq)> {
        self.z.head(head).norm(HeadDim)
    }
}

#[test]
fn modules_have_methods_of_ones_own() {
    let model = tiny_llama();
    let (own, by_hand) =
        trace!(model, PROMPT.to_vec(), { (model.layers[1].self_attn.head_norms(2), model.layers[1].self_attn.z.at(Heads, 2).norm(HeadDim)) })
            .unwrap();
    assert!(identical(&own, &by_hand));
}

#[test]
fn what_is_inside_of_a_forward_pass_is_read_and_set_at_every_step() {
    let model = tiny_llama();
    let (tokens, patterns, third) = generate!(model, PROMPT.to_vec(), max_new_tokens = 4, min_new_tokens = 4, {
        for step in model.steps(..) {
            step.layers[1].self_attn.pattern.head(0) *= 0.5;
        }
        let sparse = model.steps([0, 2]).map(|step| step.layers[1].self_attn.z);
        (model.tokens(), model.steps(..).map(|step| step.layers[1].self_attn.pattern.head(0)), sparse)
    })
    .unwrap();
    assert_eq!(tokens.dims(), [1, 4]);
    for (step, pattern) in patterns.iter().enumerate() {
        let rows = numbers(&pattern.sum(2).unwrap());
        assert!(rows.iter().all(|sum| (sum - 0.5).abs() < 1e-5), "step {step}: {rows:?}");
    }
    assert_eq!(third.iter().map(|z| z.dim(2).unwrap()).collect::<Vec<_>>(), [5, 1]);
}
