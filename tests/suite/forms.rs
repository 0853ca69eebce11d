//! The forms that are promised must compile, on a checkpoint's signature and on a dynamic one. What they do is tested elsewhere.

use nnsight::llama::Block;
use nnsight::prelude::*;

fn read_and_edit(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    let (hidden, logits): (Tensor<SmolLm2_135M, (Batch, Seq, Hidden)>, Tensor<SmolLm2_135M, (Batch, Seq, Vocab)>) =
        trace!(model, "The Eiffel Tower is in the city of", {
            model.layers[5].mlp.output *= 0.0;
            model.layers[10].output.at(Seq, -1) += 2.0;
            (model.layers[-1].output, model.lm_head.output)
        })?;
    println!("{hidden:?} {}", model.tokenizer().decode_top(&logits.at(Seq, -1), 5)?);
    Ok(())
}

fn patch(model: &Llama<SmolLm2_135M>, clean_prompt: &str, corrupted_prompt: &str) -> nnsight::Result<()> {
    let _patched = trace!(model, {
        let clean = invoke!(clean_prompt, { model.layers[14].output.at(Seq, 9) });
        invoke!(corrupted_prompt, {
            model.layers[14].output.at(Seq, 9) = clean;
            model.lm_head.output.at(Seq, -1)
        })
    })?;
    Ok(())
}

fn lens(model: &Llama<Dynamic>, prompt: &str) -> nnsight::Result<()> {
    let _lens =
        trace!(model, prompt, { model.layers.iter().map(|layer| model.lm_head(model.norm(layer.output)).softmax(Vocab)).collect::<Vec<_>>() })?;
    Ok(())
}

fn condition(model: &Gpt2<Gpt2Small>, prompt: &str, i: usize) -> nnsight::Result<()> {
    let _out = trace!(model, prompt, {
        let h = model.transformer.h[i].output;
        if h.mean_all().gt(0.0) {
            model.transformer.h[4].mlp.output = 0.0;
        }
        model.lm_head.output
    })?;
    Ok(())
}

#[intervene]
pub fn steer<C: Signature>(block: Block<C>, direction: Tensor<C, (Hidden,)>, strength: f64) {
    block.output.at(Seq, -1) += direction * strength;
}

fn steered(model: &Llama<SmolLm2_135M>, direction: &Tensor<SmolLm2_135M, (Hidden,)>) -> nnsight::Result<()> {
    let _logits = trace!(model, [1u32, 2, 3].as_slice(), {
        steer(model.layers[3], direction.clone(), 2.0);
        for layer in 4..model.layers.len() {
            model.layers[layer].output -= direction;
        }
        model.lm_head.output
    })?;
    Ok(())
}

#[derive(Save)]
struct Seen<'t, C: Signature> {
    hidden: Value<'t, C, (Batch, Seq, Hidden)>,
    heads: Vec<Value<'t, C, (Batch, Query, Key)>>,
}

fn saved(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    struct Counter {
        steps: usize,
    }
    let mut counter = Counter { steps: 0 };
    let seen = trace!(model, vec!["a".to_string()], {
        counter.steps += 1;
        let mut list = [0; 3];
        list[0] += 1;
        assert_eq!(list[0], 1);
        let heads = (0..9).map(|head| model.layers[2].self_attn.pattern.head(head)).collect();
        Seen { hidden: model.layers[3].output * 0.5, heads }
    })?;
    let _: Tensor<SmolLm2_135M, (Batch, Seq, Hidden)> = seen.hidden;
    println!("{} {}", seen.heads.len(), counter.steps);
    Ok(())
}

fn any<'t, C: Signature>(model: impl CausalLm<'t, C>, layer: usize) -> Value<'t, C, (Batch, Seq, Hidden)> {
    model.block(layer).resid_mid() + model.block(layer).mlp_out()
}

fn both(llama: &Llama<SmolLm2_135M>, gpt2: &Gpt2<Gpt2Small>) -> nnsight::Result<()> {
    let _ = trace!(llama, "x", { any(llama, 3) })?;
    let _ = trace!(gpt2, "x", { any(gpt2, 3) })?;
    Ok(())
}

fn largest(model: &Llama<Llama3_1_405B>) -> nnsight::Result<()> {
    let _ = trace!(model, "x", { (model.layers[125].output, model.layers[-126].self_attn.pattern.head(127)) })?;
    Ok(())
}

#[test]
fn the_promised_forms_compile() {
    let _ = (read_and_edit, patch, lens, condition, steered, saved, both, largest);
}
