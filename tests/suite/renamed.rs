//! The names of before are there for one version, deprecated, and do what the new ones do.
#![allow(deprecated)]

use nnsight::module::Role;
use nnsight::prelude::*;
use nnsight::run::{Observer, Past, Watch};
use nnsight::trace::Traceable;

use crate::shared::{identical, tiny_llama};

const PROMPT: [u32; 4] = [1, 2, 3, 4];

#[test]
fn reductions_that_keep_the_axis_have_their_old_names_in_a_trace() {
    let model = tiny_llama();
    macro_rules! same {
        ($($old:ident $new:ident),+) => {$(
            let (old, new) = trace!(model, PROMPT.to_vec(), {
                let h = model.layers[1].output;
                (h.$old(Seq), h.$new(Seq))
            })
            .unwrap();
            assert_eq!(old.dims(), [1, 1, 32], stringify!($old));
            assert!(identical(&old, &new), stringify!($old));
        )+};
    }
    same!(sum_keep sum_keepdim, mean_keep mean_keepdim, max_keep max_keepdim, min_keep min_keepdim);
    same!(var_keep var_keepdim, norm_keep norm_keepdim);
    let indices = trace!(model, PROMPT.to_vec(), {
        let h = model.layers[1].output;
        (h.argmax_keep(Hidden), h.argmax_keepdim(Hidden), h.argmin_keep(Hidden), h.argmin_keepdim(Hidden))
    })
    .unwrap();
    let entries = |x: &candle_core::Tensor| x.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(entries(&indices.0), entries(&indices.1));
    assert_eq!(entries(&indices.2), entries(&indices.3));
    assert_ne!(entries(&indices.0), entries(&indices.2));
}

#[test]
fn reductions_that_keep_the_axis_have_their_old_names_outside() {
    let model = tiny_llama();
    let h = trace!(model, PROMPT.to_vec(), { model.layers[1].output }).unwrap();
    macro_rules! same {
        ($($old:ident $new:ident),+) => {$(
            let (old, new) = (h.$old(Hidden).unwrap(), h.$new(Hidden).unwrap());
            assert_eq!(old.dims(), [1, 4, 1], stringify!($old));
            assert!(identical(&old.to_dtype(DType::F32).unwrap(), &new.to_dtype(DType::F32).unwrap()), stringify!($old));
        )+};
    }
    same!(sum_keep sum_keepdim, mean_keep mean_keepdim, max_keep max_keepdim, min_keep min_keepdim);
    same!(var_keep var_keepdim, norm_keep norm_keepdim, argmax_keep argmax_keepdim, argmin_keep argmin_keepdim);
}

#[test]
fn loops_have_their_old_names() {
    let model = tiny_llama();
    let (old, new) = trace!(model, PROMPT.to_vec(), {
        let h = model.layers[1].output;
        let old = repeat_while(h, |h| h.norm_all().gt(0.1), |h| h * 0.5);
        (old, while_loop(h, |h| h.norm_all().gt(0.1), |h| h * 0.5))
    })
    .unwrap();
    assert!(identical(&old, &new));
    let (old, new) = trace!(model, PROMPT.to_vec(), {
        let h = model.layers[1].output;
        let start = h.at(Seq, 0) * 0.0;
        let old = fold(h, Seq, start, |sum, row| GoOnIf(sum.norm_all().lt(0.01), sum + row));
        (old, fold(h, Seq, start, |sum, row| ContinueIf(sum.norm_all().lt(0.01), sum + row)))
    })
    .unwrap();
    assert!(identical(&old, &new));
}

#[test]
fn the_type_of_a_round_has_its_old_name() {
    fn first<'t, C, R>(round: GoOnIf<'t, C, R>) -> ContinueIf<'t, C, R> {
        round
    }
    let model = tiny_llama();
    let (sum, row) = trace!(model, PROMPT.to_vec(), {
        let h = model.layers[1].output;
        let never = h.norm_all().lt(0.0);
        (fold(h, Seq, h.at(Seq, 0) * 0.0, |sum, row| first(GoOnIf(never, sum + row))), h.at(Seq, 0))
    })
    .unwrap();
    assert!(identical(&sum, &row), "the first round is the last");
}

#[test]
fn roles_have_their_old_names() {
    assert_eq!(Role::Beside("layers.1.output"), Role::Probe("layers.1.output"));
    assert_eq!(Role::Through("layers.1.output"), Role::Splice("layers.1.output"));
    assert_eq!(Role::InPlaceOf("layers.1.mlp"), Role::Replace("layers.1.mlp"));
}

#[test]
fn options_observers_and_caches_have_their_old_names() {
    let folder = crate::shared::folder("tests/reference/llama");
    let model = Llama::<Dynamic>::load(Source::from(folder)).unwrap().with_plan(Optimizations::naive());
    let graph = graph!(model, PROMPT.to_vec(), { model.lm_head.output }).unwrap();
    let watch: Watch<'_> = Observer::default();
    let found = model.run(graph, watch).unwrap().remove(0).unwrap();
    let tiny = tiny_llama();
    let plain = trace!(tiny, PROMPT.to_vec(), { tiny.lm_head.output }).unwrap();
    assert_eq!(found.dims(), plain.dims());
    let _: nnsight::run::KvCache = Past::default();
}

#[test]
fn looking_at_all_prompts_has_its_old_names() {
    let model = tiny_llama();
    let tracer = nnsight::trace::tracer(model);
    nnsight::trace::invoke(model, &tracer, PROMPT.to_vec());
    let old = nnsight::trace::everything(model, &tracer).lm_head.output;
    let new = nnsight::trace::all_inputs(model, &tracer).lm_head.output;
    let (old, new) = nnsight::trace::run(model, &tracer, (old, new)).unwrap();
    let plain = trace!(model, PROMPT.to_vec(), { model.lm_head.output }).unwrap();
    assert!(identical(&old, &plain) && identical(&new, &plain));
    let (first, second) = (nnsight::trace::tracer(model), nnsight::trace::tracer(model));
    assert_eq!(first.everything(None), second.all_inputs(None));
    let settings = Generation { max_new_tokens: 2, ..Generation::default() };
    _ = nnsight::trace::everything_generating(model, &first, &settings);
    _ = nnsight::trace::all_inputs_generating(model, &second, &settings);
}
