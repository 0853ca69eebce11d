//! A kernel overwrites what nobody else holds, and nothing that somebody reads.

use nnsight::candle_core::Tensor as Candle;
use nnsight::prelude::*;

use crate::shared::{identical, tiny_gpt2, tiny_llama};

const TOKENS: [u32; 5] = [3, 7, 1, 9, 4];

/// What is read alone is what is read with everything else.
fn same(alone: &[Candle], together: &[Candle]) {
    assert_eq!(alone.len(), together.len());
    for (index, (alone, together)) in alone.iter().zip(together).enumerate() {
        assert!(identical(alone, together), "reading {index}");
    }
}

#[test]
fn an_output_of_llama_that_is_read_is_not_added_to() {
    let model = tiny_llama();
    let together = trace!(model, TOKENS.to_vec(), {
        let (a, m) = (model.layers[1].self_attn, model.layers[1].mlp);
        ((a.o_proj.output, a.output), (m.gate_proj.output, m.up_proj.output), (m.down_proj.output, m.output), model.layers[1].output)
    })
    .unwrap();
    let ((o_proj, attn), (gate, up), (down, mlp), layer) = together;
    let together =
        [o_proj.into_inner(), attn.into_inner(), gate.into_inner(), up.into_inner(), down.into_inner(), mlp.into_inner(), layer.into_inner()];
    let alone = [
        trace!(model, TOKENS.to_vec(), { model.layers[1].self_attn.o_proj.output }).unwrap().into_inner(),
        trace!(model, TOKENS.to_vec(), { model.layers[1].self_attn.output }).unwrap().into_inner(),
        trace!(model, TOKENS.to_vec(), { model.layers[1].mlp.gate_proj.output }).unwrap().into_inner(),
        trace!(model, TOKENS.to_vec(), { model.layers[1].mlp.up_proj.output }).unwrap().into_inner(),
        trace!(model, TOKENS.to_vec(), { model.layers[1].mlp.down_proj.output }).unwrap().into_inner(),
        trace!(model, TOKENS.to_vec(), { model.layers[1].mlp.output }).unwrap().into_inner(),
        trace!(model, TOKENS.to_vec(), { model.layers[1].output }).unwrap().into_inner(),
    ];
    same(&alone, &together);
}

#[test]
fn an_output_of_gpt2_that_is_read_is_not_added_to() {
    let model = tiny_gpt2();
    let together = trace!(model, TOKENS.to_vec(), {
        let (a, m) = (model.transformer.h[1].attn, model.transformer.h[1].mlp);
        ((a.c_proj.output, a.output), (m.c_proj.output, m.output), model.transformer.h[1].output)
    })
    .unwrap();
    let ((a_proj, attn), (m_proj, mlp), layer) = together;
    let together = [a_proj.into_inner(), attn.into_inner(), m_proj.into_inner(), mlp.into_inner(), layer.into_inner()];
    let alone = [
        trace!(model, TOKENS.to_vec(), { model.transformer.h[1].attn.c_proj.output }).unwrap().into_inner(),
        trace!(model, TOKENS.to_vec(), { model.transformer.h[1].attn.output }).unwrap().into_inner(),
        trace!(model, TOKENS.to_vec(), { model.transformer.h[1].mlp.c_proj.output }).unwrap().into_inner(),
        trace!(model, TOKENS.to_vec(), { model.transformer.h[1].mlp.output }).unwrap().into_inner(),
        trace!(model, TOKENS.to_vec(), { model.transformer.h[1].output }).unwrap().into_inner(),
    ];
    same(&alone, &together);
}

#[test]
fn a_reading_between_two_writes_keeps_what_it_read() {
    let model = tiny_llama();
    let (before, between, after) = trace!(model, TOKENS.to_vec(), {
        let before = model.layers[1].output;
        model.layers[1].output.at(Seq, 0) = 1.0;
        let between = model.layers[1].output;
        model.layers[1].output.at(Seq, 1) = 2.0;
        (before, between, model.layers[1].output)
    })
    .unwrap();
    let [before, between, after] = [before, between, after].map(|read| read.into_inner().get(0).unwrap().to_vec2::<f32>().unwrap());
    let of = |number: f32| vec![number; before[0].len()];
    assert!(before[0] != of(1.0) && before[1] != of(2.0));
    assert!(between[0] == of(1.0) && between[1..] == before[1..]);
    assert!(after[0] == of(1.0) && after[1] == of(2.0) && after[2..] == before[2..]);
}
