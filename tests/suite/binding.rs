//! A name in a block holds what its line says, whatever is edited later.

use nnsight::prelude::*;

use crate::shared::{difference, identical, numbers, tiny_llama};

type Hiddens = Tensor<Dynamic, (Batch, Seq, Hidden)>;

const PROMPT: [u32; 4] = [3, 17, 5, 40];

fn clean(layer: usize) -> Hiddens {
    let model = tiny_llama();
    trace!(model, PROMPT.to_vec(), { model.layers[layer].output }).unwrap()
}

fn is_zero(tensor: &candle_core::Tensor) -> bool {
    numbers(tensor).iter().all(|&x| x == 0.0)
}

#[derive(Save)]
struct Seen<'t> {
    before: Value<'t, Dynamic, (Batch, Seq, Hidden)>,
}

#[test]
#[allow(clippy::vec_init_then_push)]
fn a_name_holds_what_was_there_at_its_line() {
    let model = tiny_llama();
    let (before, pair, list, part, closure, seen, after) = trace!(model, PROMPT.to_vec(), {
        let before = model.layers[0].output;
        let pair = (model.layers[0].output, 1);
        let list = [model.layers[0].output, model.layers[0].output];
        let all = vec![model.layers[0].output];
        let part = model.layers[0].output.at(Seq, -1);
        let mut pushed = Vec::new();
        pushed.push(model.layers[0].output);
        let read = |layer: usize| model.layers[layer].output;
        let closure = read(0);
        let seen = Seen { before: model.layers[0].output };
        let chosen = if PROMPT.len() > 3 { model.layers[0].output } else { model.layers[1].output };
        let matched = match PROMPT.len() {
            4 => model.layers[0].output,
            _ => model.layers[1].output,
        };
        let inner = {
            let handle = model.layers[0];
            handle.output
        };
        let mapped = model.layers.iter().map(|layer| layer.output).collect::<Vec<_>>();
        model.layers[0].output = 0.0;
        let same = [list[0], list[1], all[0], pushed[0], closure, chosen, matched, inner, mapped[0]];
        (before, pair.0, same, part, closure, seen, model.layers[0].output)
    })
    .unwrap();
    let expected = clean(0);
    for found in [&before, &pair, &closure, &seen.before].into_iter().chain(&list) {
        assert!(identical(found, &expected));
    }
    assert!(identical(&part, &expected.at(Seq, -1)) && is_zero(&after));
}

#[test]
fn arithmetic_and_captures_use_what_was_read() {
    let model = tiny_llama();
    let (effect, captured, stopped) = trace!(model, PROMPT.to_vec(), {
        let h = model.layers[1].output;
        let twice = |factor: f64| h * factor;
        model.layers[1].output *= 0.0;
        let effect = h - model.layers[1].output;
        let captured = twice(2.0);
        let e = model.layers[1].output;
        stop!(model.layers[1].output);
        (effect, captured, e)
    })
    .unwrap();
    assert!(identical(&effect, &clean(1)) && identical(&captured, &(&*clean(1) * 2.0).unwrap()) && is_zero(&stopped));
}

#[test]
fn a_sum_in_a_variable_is_no_edit() {
    let model = tiny_llama();
    let (total, logits) = trace!(model, PROMPT.to_vec(), {
        let mut total = model.layers[0].output;
        total += model.layers[1].output;
        total *= 3.0;
        (total, model.lm_head.output)
    })
    .unwrap();
    let untouched = trace!(model, PROMPT.to_vec(), { model.lm_head.output }).unwrap();
    assert!(identical(&logits, &untouched));
    assert!(difference(&total, &((&*clean(0) + &*clean(1)).unwrap() * 3.0).unwrap()) < 1e-4);
}

#[test]
fn a_borrowed_place_is_edited() {
    #[intervene]
    fn half<C: Signature>(place: &mut Site<C, (Batch, Seq, Hidden)>) {
        *place *= 0.5;
        place.at(Seq, 0) = 7.0;
    }
    fn plain<C: Signature>(place: &mut Site<'_, C, (Batch, Seq, Hidden)>) {
        *place *= 2.0;
    }
    let model = tiny_llama();
    let (before, after, last) = trace!(model, PROMPT.to_vec(), {
        let before = model.layers[0].output;
        let place = &mut model.layers[0].output;
        *place += 1.0;
        half(place);
        plain(&mut model.layers[0].output);
        let last = &mut model.layers[1].output.at(Seq, -1);
        *last = 4.0;
        (before, model.layers[0].output, model.layers[1].output.at(Seq, -1))
    })
    .unwrap();
    let expected = (&*before + 1.0).unwrap();
    assert!(identical(&before, &clean(0)) && difference(&after.narrow(1, 1, 3).unwrap(), &expected.narrow(1, 1, 3).unwrap()) < 1e-6);
    assert!(numbers(&after.at(Seq, 0)).iter().chain(&numbers(&last)).all(|&x| x == 14.0 || x == 4.0));
}

#[test]
fn a_gradient_is_read_where_it_is_bound() {
    let model = tiny_llama();
    let (before, after) = trace!(model, PROMPT.to_vec(), {
        let loss = model.lm_head.output.at(Seq, -1).pick(Vocab, 3).sum_all();
        let h = model.layers[1].output;
        let before = h.grad(loss);
        h.grad(loss) *= 3.0;
        (before, h.grad(loss))
    })
    .unwrap();
    assert!(difference(&after, &(&*before * 3.0).unwrap()) < 1e-6 && !is_zero(&before));
}

#[test]
fn a_handle_that_a_method_returned_is_refused_after_an_edit() {
    fn stream<'t, C: Signature>(model: nnsight::llama::Model<'t, C>) -> Site<'t, C, (Batch, Seq, Hidden)> {
        model.layers[0].output
    }
    let model = tiny_llama();
    let stale = |error: nnsight::TraceError| {
        let text = error.to_string();
        assert!(text.contains("`layers.0.output`") && text.matches("binding.rs:").count() == 3, "{text}");
    };
    stale(
        trace!(model, PROMPT.to_vec(), {
            let h = model.block(0).resid_post();
            model.layers[0].output = 0.0;
            h
        })
        .unwrap_err(),
    );
    stale(
        trace!(model, PROMPT.to_vec(), {
            let h = model.get::<(Batch, Seq, Hidden), Float>("layers.0.output");
            h.at(Seq, 0) = 0.0;
            h * 1.0
        })
        .unwrap_err(),
    );
    stale(
        trace!(model, PROMPT.to_vec(), {
            let h = stream(model);
            model.layers[0].output = 0.0;
            h
        })
        .unwrap_err(),
    );
    // Read before the edit, or made after it, they are what they say.
    let (before, after) = trace!(model, PROMPT.to_vec(), {
        let before = stream(model).value();
        let place = stream(model);
        place.at(Seq, 0) = 1.0;
        place.at(Seq, 0) *= 2.0;
        (before, stream(model).at(Seq, 0))
    })
    .unwrap();
    assert!(identical(&before, &clean(0)) && numbers(&after).iter().all(|&x| x == 2.0));
}

#[test]
fn a_function_returns_what_was_there() {
    #[intervene]
    fn ablate<'t, C: Signature>(block: nnsight::llama::Block<'t, C>) -> Value<'t, C, (Batch, Seq, Hidden)> {
        let before = block.output;
        block.output = 0.0;
        before
    }
    #[intervene]
    fn place<'t, C: Signature>(block: nnsight::llama::Block<'t, C>) -> Site<'t, C, (Batch, Seq, Hidden)> {
        block.output
    }
    let model = tiny_llama();
    let (before, after) = trace!(model, PROMPT.to_vec(), {
        let before = ablate(model.layers[0]);
        place(model.layers[0]) += 2.0;
        (before, model.layers[0].output)
    })
    .unwrap();
    assert!(identical(&before, &clean(0)) && numbers(&after).iter().all(|&x| x == 2.0));
}

/// Fields of the model and of parameters are read by a method, all others after asking for their type: both say the same.
#[test]
fn a_field_is_read_whatever_it_belongs_to() {
    struct Counter<'a, P> {
        seen: &'a mut u64,
        name: String,
        place: P,
    }
    fn count(seen: &mut u64) -> u64 {
        *seen += 1;
        *seen
    }
    #[intervene]
    fn of_parameters<'t, C: Signature, P: Copy>(
        counter: Counter<'_, P>,
        block: &nnsight::llama::Block<'t, C>,
    ) -> (Value<'t, C, (Batch, Seq, Hidden)>, P, u64, String) {
        let before = block.output;
        let place = counter.place;
        count(counter.seen);
        let seen = count(counter.seen);
        block.output = 0.0;
        let name = counter.name;
        (before, place, seen, name)
    }
    let model = tiny_llama();
    let mut seen = 0;
    let (before, other, after, all, named) = trace!(model, PROMPT.to_vec(), {
        let counter = Counter { seen: &mut seen, name: "x".into(), place: 7u8 };
        let (before, seven, twice, name) = of_parameters(counter, &model.layers[0]);
        assert_eq!((seven, twice, name.as_str()), (7, 2, "x"));
        let list = &model.layers;
        let other = list[-1].output;
        let after = model.layers[0].output;
        let all = {
            // The model's name for something whose type is inferred later.
            let model = (model.layers[-1].output, Default::default());
            let inferred = model.1;
            let typed: u8 = inferred;
            let h = model.0;
            assert_eq!(typed, 0);
            h
        };
        let layer = model.layers[-1];
        layer.output = 1.0;
        (before, other, after, all, layer.output.at(Seq, 0))
    })
    .unwrap();
    assert_eq!(seen, 2);
    assert!(identical(&before, &clean(0)) && is_zero(&after) && identical(&other, &all));
    assert!(numbers(&named).iter().all(|&x| x == 1.0) && !is_zero(&all));
}
