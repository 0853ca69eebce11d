//! What `docs/errors.md` says to write in place of what does not compile, compiled and run.

use nnsight::llama::Block;
use nnsight::prelude::*;

use crate::shared::{CLEAN, identical, numbers, smollm2};

#[test]
fn a_range_of_layers_is_a_slice_with_an_iterator() {
    let model = smollm2();
    let by_iterator = trace!(model, CLEAN, {
        for layer in model.layers[5..10].iter() {
            layer.mlp.output = 0.0;
        }
        model.lm_head.output.at(Seq, -1)
    })
    .unwrap();
    let by_index = trace!(model, CLEAN, {
        for index in 5..10 {
            model.layers[index].mlp.output = 0.0;
        }
        model.lm_head.output.at(Seq, -1)
    })
    .unwrap();
    let unedited = trace!(model, CLEAN, { model.lm_head.output.at(Seq, -1) }).unwrap();
    assert!(identical(&by_iterator, &by_index));
    assert!(!identical(&by_iterator, &unedited));
}

#[test]
fn conditions_are_combined_by_operators_of_values() {
    let model = smollm2();
    let (norm, between, outside) = trace!(model, CLEAN, {
        let norm = model.layers[3].output.norm_all();
        (norm, norm.gt(1.0) & norm.lt(2.0), norm.le(1.0) | !norm.lt(2.0))
    })
    .unwrap();
    let is_between = (1.0..2.0).contains(&numbers(&norm)[0]);
    assert_eq!(numbers(&between), [f64::from(is_between)]);
    assert_eq!(numbers(&outside), [f64::from(!is_between)]);
}

#[intervene]
fn ablate(layer: Block<SmolLm2_135M>) {
    layer.mlp.output = 0.0;
}

#[test]
fn a_function_with_intervene_edits_the_module_it_is_given() {
    let model = smollm2();
    let output = trace!(model, CLEAN, {
        ablate(model.layers[3]);
        model.layers[3].mlp.output
    })
    .unwrap();
    assert!(numbers(&output).iter().all(|&number| number == 0.0));
}

#[test]
fn references_to_strings_are_prompts_as_str() {
    let model = smollm2();
    let texts = [CLEAN.to_string(), "I feel".to_string()];
    let references = texts.iter().collect::<Vec<&String>>();
    let prompts = references.iter().map(|text| text.as_str()).collect::<Vec<_>>();
    let by_reference = trace!(model, prompts, { model.lm_head.output }).unwrap();
    let owned = trace!(model, &texts[..], { model.lm_head.output }).unwrap();
    assert!(identical(by_reference.padded(), owned.padded()));
}

#[test]
fn a_site_by_its_name_has_a_shape_and_a_kind() {
    let model = smollm2();
    let (named, field) =
        trace!(model, CLEAN, { (model.get::<(Batch, Seq, Hidden), Float>("layers.3.mlp.output"), model.layers[3].mlp.output) }).unwrap();
    assert!(identical(&named, &field));
}

#[test]
fn the_next_token_is_the_largest_logit_and_a_text_is_decoded_after_the_block() {
    let model = smollm2();
    let next = trace!(model, CLEAN, { model.lm_head.output.at(Seq, -1).argmax(Vocab) }).unwrap();
    let tokens = generate!(model, CLEAN, max_new_tokens = 1, { model.tokens() }).unwrap();
    assert_eq!(numbers(&tokens), numbers(&next));
    assert!(!model.tokenizer().decode(&tokens).unwrap().is_empty());
}

#[test]
fn an_entry_of_a_saved_tensor_is_taken_with_at() {
    let model = smollm2();
    let mary = model.tokenizer().token(" Mary").unwrap();
    let (logits, picked) = trace!(model, CLEAN, {
        let logits = model.lm_head.output.at(Seq, -1);
        (logits, logits.pick(Vocab, mary))
    })
    .unwrap();
    assert_eq!(numbers(&logits.at(Vocab, i64::from(mary))), numbers(&picked));
}

#[test]
fn a_difference_of_tensors_is_used_after_a_question_mark() {
    type Vector = Tensor<SmolLm2_135M, (Hidden,)>;
    fn steer(model: &Llama<SmolLm2_135M>) -> nnsight::Result<(Vector, Vector, Vector)> {
        let hidden = trace!(model, ["I love you", "I hate you"], { model.layers[9].output.at(Seq, -1) })?;
        let direction = (&hidden.at(Batch, 0) - &hidden.at(Batch, 1))?;
        let (before, after) = trace!(model, "I feel", {
            let before = model.layers[9].output.at(Seq, -1).value();
            model.layers[9].output += &direction * 3.0;
            (before, model.layers[9].output.at(Seq, -1))
        })?;
        Ok((before.at(Batch, 0), after.at(Batch, 0), direction))
    }
    let (before, after, direction) = steer(smollm2()).unwrap();
    for ((before, after), direction) in numbers(&before).iter().zip(numbers(&after)).zip(numbers(&direction)) {
        assert!((before + 3.0 * direction - after).abs() < 1e-3, "{before} {after} {direction}");
    }
}

#[test]
fn a_strength_of_type_f32_is_converted() {
    let model = smollm2();
    let direction = trace!(model, "I love this", { model.layers[9].output.at(Seq, -1).at(Batch, 0) }).unwrap();
    let strength = 1.5f32;
    let converted = trace!(model, CLEAN, {
        model.layers[9].output += &direction * f64::from(strength);
        model.lm_head.output.at(Seq, -1)
    })
    .unwrap();
    let literal = trace!(model, CLEAN, {
        model.layers[9].output += 1.5 * &direction;
        model.lm_head.output.at(Seq, -1)
    })
    .unwrap();
    assert!(identical(&converted, &literal));
}
